"""The digests of a bundle, in its `smolpilot.json`: of every file that a policy is loaded from, compared at loading."""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smolpilot.common.atomic import write_text_atomic
from smolpilot.common.errors import CheckpointError, UsageError
from smolpilot.common.hashing import DIGESTS, Differences, content_digest, differences, digests_of, is_sealed, sealed
from smolpilot.common.progress import is_rank_zero
from smolpilot.robots.demonstrated import FILE
from smolpilot.smolvla.config.json_file import read_json
from smolpilot.smolvla.config.vlm_folder import FILES

FACTS, ROBOT, LIMITS, VLM = "smolpilot.json", "robot.yaml", FILE, "vlm"
# What a policy is loaded from, here or by LeRobot; notes, logs and a training's state may lie beside it.
_COUNTED = (
    "config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json", "policy_*.json",
    "policy_*.safetensors", "adapter_config.json", "adapter_model.safetensors", ROBOT,
    LIMITS,
)  # fmt: skip


class NoDigestsWarning(UserWarning):
    """The files of a policy have no digests to be compared with; the command line says it as a note."""

    label = "note"


@dataclass
class Comparison:
    """How many files were as they had been written; None where the folder has no digests."""

    files: int | None = None

    @property
    def text(self) -> str:
        """For the report."""
        return "none" if self.files is None else f"{self.files} files, all as they were written"


def counted_files(folder: Path) -> list[str]:
    """The files that digests are kept of, as paths in the folder."""
    found = [path.name for pattern in _COUNTED for path in folder.glob(pattern) if path.is_file()]
    return found + [f"{VLM}/{name}" for name in FILES if (folder / VLM / name).is_file()]


def with_digests(facts: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The content of `smolpilot.json` with the digests of the folder's files as they lie there now."""
    return sealed(facts, FACTS, digests_of(folder, counted_files(folder)))


@contextmanager
def compared(folder: Path) -> Iterator[Comparison]:
    """Compare the files that the block loads a policy from with their digests: CheckpointError where they differ.

    What loading itself finds is said too, as it is nearer to the cause. Without digests one line says so, once.
    """
    result = Comparison()
    try:
        with ThreadPoolExecutor(1) as beside:
            # Beside the loading, which mostly waits for memory; what is found is asked for again below, and known then.
            beside.submit(_differences, folder)
            yield result
    except (UsageError, OSError):
        raise
    except Exception as error:
        if found := _differences(folder):
            raise damaged(folder, found, error) from error
        raise
    found = _differences(folder)
    if found:
        raise damaged(folder, found)
    if found is None:
        _warn(folder)
    else:
        result.files = 1 + len(counted_files(folder))


def check_digests(folder: Path) -> None:
    """CheckpointError where files of a bundle are not as its digests say."""
    with compared(folder):
        pass


def renew(folder: Path) -> Differences | None:
    """Write the digests of a bundle's files as they are; returns what is not as the old ones said, None without any.

    The caller has loaded the policy before: a bundle that does not load is not sealed.
    """
    facts = read_json(folder / FACTS)
    found = differences(facts, FACTS, folder, counted_files(folder)) if is_sealed(facts) else None
    _write(folder, with_digests(facts, folder))
    return found


def replace_files(folder: Path, texts: Mapping[str, str]) -> None:
    """Replace text files of a bundle and renew their digests; after a kill at any moment the bundle is whole.

    CheckpointError where one of them is damaged: its new digest would hide that.
    """
    facts = read_json(folder / FACTS) if (folder / FACTS).is_file() else {}
    if not is_sealed(facts):
        for name, text in texts.items():
            write_text_atomic(folder / name, text)
        return
    found = differences(facts, FACTS, folder, [name for name in counted_files(folder) if name in texts])
    touched = Differences(found.changed, tuple(name for name in found.missing if name in texts), found.added)
    if touched:
        raise damaged(folder, touched)
    old = {name: digest for name, digest in facts[DIGESTS].items() if name != FACTS}
    new = {name: content_digest(text.encode()) for name, text in texts.items()}
    # Both are right until the files are replaced.
    both = {name: [*(old[name] if isinstance(old[name], list) else [old[name]]), new[name]] for name in new}
    _write(folder, sealed(facts, FACTS, {**old, **both}))
    for name, text in texts.items():
        write_text_atomic(folder / name, text)
    _write(folder, sealed(facts, FACTS, {**old, **new}))


def damaged(folder: Path, found: Differences, error: Exception | None = None) -> CheckpointError:
    """The error for a bundle whose files differ from their digests; `error` is what its loading raised."""
    are = f"{found.count} files of {folder} are" if found.count != 1 else f"A file of {folder} is"
    what = f"{are} not as the bundle was written ({found.text()})"
    again = "copy or download the bundle again"
    seal = f"smolpilot bundle seal {shlex.quote(str(folder))}"
    if not isinstance(error, CheckpointError):
        return CheckpointError(
            f"{what}: damaged, or changed since.",
            expected=f"the files that {FACTS} holds digests of, byte for byte",
            fix=f"{again}; or, if the change is meant: {seal}",
        )
    own = f"; or, if the change is your own: {error.fix}; then {seal}" if error.fix else ""
    return CheckpointError(f"{what}: {error.found}", expected=error.expected, fix=again + own)


def _differences(folder: Path) -> Differences | None:
    """What is not as the digests say; None without digests."""
    try:
        facts = read_json(folder / FACTS) if (folder / FACTS).is_file() else {}
    except CheckpointError:  # loading has said so
        return None
    return differences(facts, FACTS, folder, counted_files(folder)) if is_sealed(facts) else None


def _warn(folder: Path) -> None:
    if not is_rank_zero():
        return
    if (folder / FACTS).is_file():
        text = f"has no digests, so that damage is not seen: smolpilot bundle seal {shlex.quote(str(folder))} adds them"
    else:
        text = "is no bundle of smolpilot and has no digests, so that damage is not seen"
    warnings.warn(f"{folder} {text}", NoDigestsWarning, stacklevel=2)


def _write(folder: Path, facts: Mapping[str, Any]) -> None:
    write_text_atomic(folder / FACTS, json_file_text(facts))


def json_file_text(values: Mapping[str, Any]) -> str:
    """A JSON file of a bundle, as people read it."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
