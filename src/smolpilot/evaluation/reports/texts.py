"""The wording of the reports in both languages: a page holds both, and shows one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import markupsafe
import yaml

from smolpilot.common.text import PAGE_LIMIT, plain, pluralize

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Both:
    """One text in English and Chinese; a template shows it as two elements, of which the page's language picks one."""

    en: str
    zh: str

    def __html__(self) -> str:
        return self._markup("span")

    def __str__(self) -> str:
        return self.en

    @property
    def svg(self) -> markupsafe.Markup:
        """The same inside a `<text>` of an SVG."""
        return markupsafe.Markup(self._markup("tspan"))

    def _markup(self, tag: str) -> str:
        # A number and its per cent sign stay in one line.
        texts = (plain(text, PAGE_LIMIT).replace(" %", "\xa0%") for text in (self.en, self.zh))
        en, zh = map(markupsafe.escape, texts)
        if en == zh:
            return str(en)
        return f'<{tag} class="en" lang="en">{en}</{tag}><{tag} class="zh" lang="zh">{zh}</{tag}>'


Text = Both | str
"""A text of the reports, or one of a file, which is the same in both languages."""


def say(key: str, /, **values: Any) -> Both:
    """The text of texts.yaml under `key`, with its placeholders filled; KeyError for an unknown one."""
    entry = _texts()[key]
    return Both(*(entry[language].format_map(_in(language, values)) for language in LANGUAGES))


def counted(number: int, noun: str) -> Both:
    """`3 episodes`: the noun is a key of texts.yaml under `noun.`."""
    entry = _texts()[f"noun.{noun}"]
    return Both(pluralize(number, entry["en"]), f"{number:,} {entry['zh']}")


def known(prefix: str, name: str) -> Text:
    """The text under `prefix.name` where there is one, else the name itself with spaces: a key of a document."""
    entry = _texts().get(f"{prefix}.{name}")
    return name.replace("_", " ") if entry is None else Both(entry["en"], entry["zh"])


def listed(texts: list[Text]) -> Both:
    """The texts one behind the other, with the comma of each language."""
    return Both(", ".join(_one(text, "en") for text in texts), "、".join(_one(text, "zh") for text in texts))


def joined(*texts: Text) -> Both:
    """Sentences one behind the other: with a space in English, without one in Chinese."""
    kept = [text for text in texts if text]
    return Both(" ".join(_one(text, "en") for text in kept), "".join(_one(text, "zh") for text in kept))


def english(text: str) -> markupsafe.Markup:
    """A sentence that there is in English only: whoever reads the page in Chinese sees it, marked as English."""
    return markupsafe.Markup('<span lang="en" dir="auto">{}</span>').format(plain(text, PAGE_LIMIT))


def _in(language: str, values: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: _one(value, language) if isinstance(value, Both | str) else value for name, value in values.items()}
    return {name: f"{value:,}" if isinstance(value, int) else value for name, value in shown.items()}


def _one(text: Text, language: str) -> str:
    return str(getattr(text, language)) if isinstance(text, Both) else plain(text, PAGE_LIMIT)


@cache
def _texts() -> dict[str, dict[str, str]]:
    content = (Path(__file__).parent / "texts.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, str]] = yaml.safe_load(content)
    return found
