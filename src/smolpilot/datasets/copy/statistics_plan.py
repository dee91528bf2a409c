"""The statistics of the result: stored ones that are of the content, others computed; and what became of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smolpilot.common.statistics import PackedStatistics, Statistics, StatisticsPacker, merge_fitting
from smolpilot.datasets.format.versions import FORMATS, WrittenVersion

from .copy_plan import PlacedEpisode, SourceFile
from .proof.derived import Derived, depth_keys, in_lerobot_form, is_image, judge_images, judge_whole, usable
from .source import Extras

_RENUMBERED = ("index", "episode_index", "task_index")
_LACKING = "lacking, or NaN or infinite"


class StatisticsPlan:
    """Decides for each feature of each episode, then for the whole; `derived` tells of it."""

    def __init__(self, extras: Mapping[int, Extras], files: Mapping[Path, SourceFile]) -> None:
        self._extras, self._files = extras, files
        self._depth: dict[int, set[str]] = {}
        self._kept: dict[int, PackedStatistics] = {}
        self._packer = StatisticsPacker()
        self.derived = Derived()

    def stored(self, one: PlacedEpisode) -> Statistics:
        """The source's statistics of an episode that may still hold: those of columns are judged by their rows."""
        packed = self._kept.get(one.index)
        if packed is None:
            packed = self._kept[one.index] = self._packer.pack(dict(self._candidates(one)))
        return packed.unpack()

    def columns(self, one: PlacedEpisode) -> PackedStatistics:
        """Those of `stored` that are of table columns."""
        features = one.plan.source.features
        stored = self.stored(one)
        return self._packer.pack({name: stats for name, stats in stored.items() if not is_image(name, features)})

    def pictures(self, one: PlacedEpisode) -> list[str]:
        """Keys of cameras whose statistics have to be computed; never of distances: those are not made up."""
        features, stored, depth = one.plan.source.features, self.stored(one), self._depth_of(one)
        return [n for n in features if is_image(n, features) and n not in stored and n not in depth]

    def of_episode(
        self, one: PlacedEpisode, computed: Mapping[str, Mapping[str, Any]], wrong: Mapping[str, str]
    ) -> PackedStatistics:
        """Statistics of an episode in the order of the features: `computed` from its content, else as stored."""
        for name, reason in wrong.items():
            self.derived.note_wrong(name, reason)
        fresh: Statistics = {
            name: {key: np.atleast_1d(np.asarray(value, dtype=np.float64)) for key, value in stats.items()}
            for name, stats in computed.items()
        }
        self.derived.missing |= dict.fromkeys(name for name in fresh if name not in self.derived.wrong)
        kept = {name: stats for name, stats in self.stored(one).items() if name not in fresh}
        del self._kept[one.index]
        self.derived.carried |= dict.fromkeys(kept)
        merged = {**kept, **fresh}
        order = [*one.plan.source.features, *merged]
        return self._packer.pack({name: merged[name] for name in dict.fromkeys(order) if name in merged})

    def of_whole(
        self, placed: Sequence[PlacedEpisode], episodes: Iterable[Statistics], *, same: bool, version: WrittenVersion
    ) -> Statistics:
        """Statistics of all episodes; `same`: the source's own are kept where they are of its content.

        v2.1 keeps none of the whole: its readers merge those of the episodes.
        """
        merged = merge_fitting(episodes)
        source = placed[0].plan.source
        if not same or not source.format.whole_statistics or len(placed) != len(source.episodes):
            return merged
        features, depth = source.features, self._depth_of(placed[0])
        found = dict(merged)
        for name, stats in source.statistics.items():
            picture = is_image(name, features)
            if name not in features:
                self.derived.unused[name] = None
                continue
            if name not in merged or name in depth:
                # Distances and what has no numbers in a row: nothing to judge them by.
                if usable(stats):
                    found[name] = in_lerobot_form(stats, picture=picture)
                continue
            reason = judge_whole(stats, merged[name], picture=picture)
            if reason:
                self.derived.whole[name] = reason
            else:
                kept = {key: value for key, value in stats.items() if np.isfinite(value).all()}
                found[name] = {**merged[name], **in_lerobot_form(kept, picture=picture)}
        return found if FORMATS[version].whole_statistics else merged

    def _candidates(self, one: PlacedEpisode) -> Iterator[tuple[str, dict[str, Any]]]:
        source, depth = one.plan.source, self._depth_of(one)
        features = source.features
        # Taken out: of large datasets they are most of what is in memory.
        packed = self._extras[id(source)].statistics.pop(one.plan.episode, None)
        for name, stats in packed.unpack().items() if packed is not None else ():
            if name in source.without:
                continue
            if name not in features and self._files[one.rows.path].schema.get_field_index(name) < 0:
                self.derived.unused[name] = None
                continue
            picture = is_image(name, features)
            changed = one.plan.change is not None or (one.numbers is not None and name in _RENUMBERED)
            if changed and not picture:
                continue
            reason = "" if usable(stats) else _LACKING
            if picture and not reason:
                reason = judge_images(stats, depth=name in depth)
            if reason:
                self.derived.note_wrong(name, reason)
            else:
                yield name, in_lerobot_form(stats, picture=picture)

    def _depth_of(self, one: PlacedEpisode) -> set[str]:
        source = one.plan.source
        found = self._depth.get(id(source))
        if found is None:
            found = self._depth[id(source)] = depth_keys(self._extras[id(source)].info, source.features)
        return found
