"""Contact sheet: one PNG with the newest image of every camera, and what is to be known of it beneath."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smolpilot.common.text import plain

from .check_rules import CameraDetails

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from smolpilot.contracts.observation import Image

_TILE = 400, 300
_CAPTION = 44
_GAP = 12
_PAPER, _INK, _EMPTY, _TROUBLE = "white", "black", (225, 225, 225), (180, 30, 30)


@dataclass(frozen=True, eq=False)
class SheetTile:
    """A camera on the sheet: its newest image uint8 [h, w, 3], None where none came."""

    details: CameraDetails
    image: Image | None


def contact_sheet(tiles: Sequence[SheetTile], title: str) -> bytes:
    """The PNG of all cameras, at most three side by side; a camera without image is a gray tile that says so."""
    from PIL import Image, ImageDraw, ImageFont

    columns = max(1, min(3, math.ceil(math.sqrt(len(tiles)))))
    rows = math.ceil(len(tiles) / columns)
    width, height = _TILE[0] + _GAP, _TILE[1] + _CAPTION + _GAP
    sheet = Image.new("RGB", (columns * width + _GAP, rows * height + _GAP + 30), _PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(18), ImageFont.load_default(14)
    draw.text((_GAP, 10), plain(title, 80), _INK, font=large)
    for i, tile in enumerate(tiles):
        x, y = _GAP + i % columns * width, 30 + _GAP + i // columns * height
        if tile.image is None:
            draw.rectangle((x, y, x + _TILE[0], y + _TILE[1]), _EMPTY)
            draw.text((x + 20, y + _TILE[1] // 2 - 8), "no image", _TROUBLE, font=large)
        else:
            picture = _fitted(Image.fromarray(tile.image))
            sheet.paste(picture, (x + (_TILE[0] - picture.width) // 2, y + (_TILE[1] - picture.height) // 2))
        draw.text((x, y + _TILE[1] + 4), plain(tile.details.spec.name, 40), _INK, font=large)
        draw.text((x, y + _TILE[1] + 26), plain(_facts(tile.details), 60), _INK, font=small)
    content = io.BytesIO()
    sheet.save(content, "PNG")
    return content.getvalue()


def _fitted(picture: Picture) -> Picture:
    """Enlarged or reduced to the tile, in its own proportions."""
    from PIL.Image import Resampling

    factor = min(_TILE[0] / picture.width, _TILE[1] / picture.height)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Resampling.NEAREST if factor > 2 else Resampling.LANCZOS)


def _facts(camera: CameraDetails) -> str:
    if camera.size is None or camera.fps is None or camera.age is None:
        return camera.problem or "no image came"
    return f"{camera.size[0]}x{camera.size[1]}   {camera.fps:.1f} of {camera.spec.fps:g} fps   {_age(camera.age)} old"


def _age(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
