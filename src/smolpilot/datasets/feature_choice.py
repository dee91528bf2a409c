"""Which features a copy of a recording keeps: `--features KEY …` or `--without KEY …`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from smolpilot.common.errors import SmolpilotError, UsageError, did_you_mean
from smolpilot.common.keys import IMAGES, camera_name, image_key
from smolpilot.common.safe_paths import OwnFiles

from .format.features import NEEDED
from .format.files import open_parquet, read_json
from .format.paths import require_own_meta

ALWAYS_KEPT = NEEDED


@dataclass(frozen=True)
class FeatureChoice:
    """`features`: keep only these, beside state, action and index columns; `without`: keep all but these.

    Keys are those of `meta/info.json`, names of cameras, or columns of the tables that `info.json` does not name.
    """

    features: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def dropped(self, known: Iterable[str]) -> frozenset[str]:
        """The keys among `known` that are left out.

        Raises UsageError for an unknown key, for both choices at once, and where state, action or an index column
        would be left out.
        """
        there = list(known)
        if self.features and self.without:
            raise UsageError(
                "--features and --without are given both.", expected="what is kept, or what is left out", fix="Use one."
            )
        if self.features:
            kept = {_resolved(key, there, "--features") for key in self.features}
            return frozenset(key for key in there if key not in kept and key not in ALWAYS_KEPT)
        gone = {_resolved(key, there, "--without") for key in self.without}
        for key in ALWAYS_KEPT:
            if key in gone:
                raise UsageError(
                    f"--without {key}: this column cannot be left out.",
                    expected="a feature beside state, action and the index columns: no sample is whole without those",
                )
        return frozenset(gone)


def dropped_features(choice: FeatureChoice, *paths: str | Path) -> frozenset[str]:
    """What `choice` leaves out of the datasets at `paths`; a key has to be in one of them at least.

    A path that is no dataset counts as one without features: whoever reads it says what is wrong with it.
    """
    if not choice.features and not choice.without:
        return frozenset()
    known: dict[str, None] = {}
    for path in paths:
        known |= dict.fromkeys(_keys(Path(path).expanduser()))
    return choice.dropped(known) if known else frozenset()


def _keys(root: Path) -> list[str]:
    """Features by `info.json`, and the columns of the first table that can be read."""
    try:
        require_own_meta(root)
        features = read_json(root / "meta" / "info.json", "dataset description").get("features")
    except SmolpilotError:
        return []
    found = list(features) if isinstance(features, dict) else []
    places = OwnFiles(root)
    for path in (root / "data").rglob("*.parquet"):
        if not places.why_not(path):
            with suppress(SmolpilotError):
                return [*found, *open_parquet(path, "data file").schema_arrow.names]
    return found


def _resolved(key: str, known: list[str], option: str) -> str:
    if key in known:
        return key
    if image_key(key) in known:
        return image_key(key)
    cameras = [camera_name(one) for one in known if one.startswith(f"{IMAGES}.")]
    raise UsageError(
        f"{option} {key}: there is no such feature.", expected="features of meta/info.json, or cameras by name",
        fix=did_you_mean(key, [*cameras, *known]),
    )  # fmt: skip
