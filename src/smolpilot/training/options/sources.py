"""The datasets that a run draws its samples from (`--mixture`). Loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from smolpilot.common.errors import UsageError
from smolpilot.common.option_types import PositiveSize


@dataclass(frozen=True)
class Source:
    """One dataset of a mixture."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}  # an unknown key of a YAML file is refused

    dataset: Path
    """Folder of a LeRobot dataset."""
    weight: PositiveSize | None = None
    """Share of the samples, relative to the other sources. Default (for all of them): by their number of frames."""
    episodes: str | None = None
    """Episodes to use, such as `0-40,45`. Default: all."""
    instruction: str | None = None
    """Text that replaces the recorded instructions."""
    name: str | None = None
    """What reports call it. Default: the folder's name."""

    @property
    def title(self) -> str:
        return self.name or self.dataset.name


def check_sources(sources: Sequence[Source]) -> None:
    """Refuse contradictory weights; a UsageError says which."""
    weights = [source.weight for source in sources]
    if any(weight is None for weight in weights) and any(weight is not None for weight in weights):
        raise UsageError("--mixture gives a weight to some of its datasets only.", fix="weigh all of them, or none")
    for source in sources:
        if source.instruction is not None and not source.instruction.strip():
            raise UsageError(f"--mixture gives {source.dataset} an empty instruction.", fix="leave it out")
    places = [(source.dataset.expanduser().absolute(), source.episodes) for source in sources]
    if len(set(places)) < len(places):
        raise UsageError("--mixture names the same episodes of a dataset twice.", fix="give it one larger weight")


def titles(sources: Sequence[Source]) -> list[str]:
    """A different name for each source."""
    names = [source.title for source in sources]
    return [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, 1)]


def _read(words: list[str]) -> tuple[Source, ...]:
    sources = []
    for word in words:
        path, sign, weight = word.rpartition("=")
        try:
            sources.append(Source(Path(path), float(weight)) if sign else Source(Path(word)))
        except ValueError as error:
            raise ValueError(f"'{word}' is not of the form DATASET=WEIGHT") from error
    return tuple(sources)


def _words(sources: Any) -> list[str]:
    return [str(s.dataset) if s.weight is None else f"{s.dataset}={s.weight}" for s in sources]


# On the command line `data/red=0.2 data/blue=0.8`; a list of mappings in YAML.
Sources = Annotated[
    tuple[Source, ...],
    tyro.constructors.PrimitiveConstructorSpec[Any](
        nargs="*",
        metavar="DATASET[=WEIGHT] ...",
        instance_from_str=_read,
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(item, Source) for item in value),
        str_from_instance=_words,
    ),
    tyro.conf.arg(help_behavior_hint=lambda default: f"(default: {default})" if default else "(default: none)"),
]
