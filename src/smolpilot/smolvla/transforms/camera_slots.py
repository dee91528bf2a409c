"""Which camera of a dataset, robot or environment fills which camera slot of a policy: one rule for all verbs.

SmolVLA has no weights per slot, but it sees the slots in one order: exchanged cameras are other inputs. So a pair comes
from a name, from the only possibility there is, or from the user; never from the order alone. `resolve_camera_map`
decides, the rest of this file says what it found. Loads no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from smolpilot.common.errors import TransformError, UsageError, did_you_mean
from smolpilot.common.keys import plain_camera

if TYPE_CHECKING:
    from smolpilot.contracts.policy import Embodiment

# Robot camera -> slot; None: the robot has the camera, the policy does not use it.
type CameraMap = dict[str, str | None]

UNUSED = "none"  # on the command line: the camera is left out
TYPED = "the map"  # the owner where cameras are known only from what was typed
NEW = "new"  # when fine-tuning: a further slot, behind the policy's own, with the camera's name


@dataclass
class Pairing:
    """`map` in the order of the slots, then the cameras that are not used; `notes` and `warnings` say how it came."""

    map: CameraMap
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)  # slots that the policy does not have yet

    @property
    def options(self) -> dict[str, str]:
        """What to type for `--camera-map` to get the same."""
        return {
            camera: UNUSED if slot is None else NEW if slot in self.new else slot for camera, slot in self.map.items()
        }


def camera_text(camera_map: Mapping[str, str | None]) -> str:
    """`front -> camera1, side -> not used`, for every verb the same."""
    return ", ".join(f"{camera} -> {slot or 'not used'}" for camera, slot in camera_map.items())


def typed_camera_map(pairs: Mapping[str, str]) -> CameraMap:
    """The option as it was typed, with None for `none`."""
    return {camera: None if slot == UNUSED else slot for camera, slot in pairs.items()}


def resolve_camera_map(
    cameras: Sequence[str],
    slots: Sequence[str] | None,
    *,
    given: Mapping[str, str | None] | None = None,
    saved: Mapping[str, str | None] | None = None,
    fine_tuning: bool = False,
    owner: str = "the dataset",
) -> Pairing:
    """Pair `cameras` (of `owner`) with the camera slots of a policy.

    slots: those that need a camera, in the policy's order; None: a policy from scratch, whose slots are made here.
    given: what the user typed (slot, None for a camera that is left out, `new` when fine-tuning); it may name some
    cameras only. saved: the policy's own map, kept where it names a camera of `owner`. Then come equal names, where
    `image`, `observation.image` and `observation.images.image` are one. What is left is paired only where there is one
    possibility. fine_tuning: the policy may be trained with fewer cameras than it has slots.
    Raises UsageError: a name that is on neither side, a slot that is filled twice or not at all, and cameras and slots
    that no name brings together; its fix is a `--camera-map` of the real names.
    """
    if not cameras:
        raise UsageError(f"{owner[0].upper()}{owner[1:]} has no camera.", expected="at least one: SmolVLA sees images")
    match = _Matching(list(cameras), slots, fine_tuning, owner)
    for camera, slot in (given or {}).items():
        match.take_typed(camera, slot)
    for camera, slot in (saved or {}).items():
        match.take_saved(camera, slot)
    for camera in match.left_cameras:
        match.take_equal(camera)
    match.take_the_only_one()
    match.finish(typed=bool(given))
    return match.pairing()


def pair_embodiment(
    slots: Sequence[str],
    embodiment: Embodiment | None,
    given: Mapping[str, str | None],
    saved: Mapping[str, str | None] | None = None,
) -> Pairing:
    """The cameras of what a policy will drive in the policy's slots, by `resolve_camera_map`.

    Without an embodiment the cameras are those that were typed; without any typed, the saved map or the slots' names.
    """
    if not slots:
        return Pairing(dict.fromkeys(embodiment.cameras if embodiment is not None else ()))
    if embodiment is not None:
        return resolve_camera_map(embodiment.cameras, slots, given=given, saved=saved, owner=embodiment.owner)
    if given:
        return resolve_camera_map(list(given), slots, given=given, saved=saved, owner=TYPED)
    return Pairing(dict(saved) if saved is not None else {slot: slot for slot in slots})


def check_camera_map(camera_map: Mapping[str, str | None], slots: Sequence[str]) -> None:
    """TransformError unless every camera of a whole map lands in one of `slots` and each of them is filled once."""
    if not slots:
        raise TransformError("The policy has no camera.", expected="at least one image input")
    for camera, slot in camera_map.items():
        if slot is not None and slot not in slots:
            raise TransformError(
                _no_slot(camera, slot), expected=f"one of {_listed(slots)}", fix=did_you_mean(slot, slots)
            )
    try:
        if not camera_map:
            raise _unfilled(slots, slots, TYPED, camera_map)
        resolve_camera_map(list(camera_map), slots, given=camera_map, owner=TYPED)
    except UsageError as error:
        raise TransformError(error.found, expected=error.expected, fix=error.fix) from error


class _Matching:
    """The pairs found so far, and what is left on both sides."""

    def __init__(self, cameras: list[str], slots: Sequence[str] | None, fine_tuning: bool, owner: str) -> None:
        self.cameras, self.slots = cameras, list(slots or ())
        self.scratch, self.fine_tuning, self.owner = slots is None, fine_tuning, owner
        self.found: CameraMap = {}
        self.filled: dict[str, str] = {}
        self.new: list[str] = []
        self.notes: list[str] = []
        self.warnings: list[str] = []

    @property
    def left_cameras(self) -> list[str]:
        return [camera for camera in self.cameras if camera not in self.found]

    @property
    def left_slots(self) -> list[str]:
        return [slot for slot in self.slots if slot not in self.filled]

    def take_typed(self, name: str, slot_name: str | None) -> None:
        camera = _same(name, self.cameras)
        if camera is None:
            raise UsageError(
                f"The camera map names '{name}', which {self.owner} does not have.",
                expected=f"cameras of {self.owner}: {_listed(self.cameras)}",
                fix=f"{did_you_mean(name, self.cameras)} As in --camera-map {self._example()}",
            )
        if camera in self.found:
            raise UsageError(f"The camera map names '{camera}' twice.", fix="give it one slot")
        if slot_name is None:
            self.found[camera] = None
            return
        slot = _same(slot_name, self.slots)
        if slot is None and self.scratch:
            slot = slot_name
        if slot is None and slot_name == NEW and self.fine_tuning:
            slot = _same(camera, self.slots) or camera
            if slot not in self.slots:
                self.new.append(slot)
        if slot is None:
            more = f" (or {camera}={NEW}, for a further slot)" if self.fine_tuning else ""
            near = did_you_mean(slot_name, self.slots)
            raise UsageError(
                _no_slot(camera, slot_name),
                expected=f"one of {_listed(self.slots)}, or {UNUSED}",
                fix=f"{near} As in --camera-map {self._example()}{more}",
            )
        self._pair(camera, slot)

    def take_saved(self, name: str, slot: str | None) -> None:
        camera = _same(name, self.cameras)
        if camera is None or camera in self.found:
            return
        if slot is None:
            self.found[camera] = None
            self.notes.append(f"{self.owner}'s camera '{camera}' is not used, as in the policy's own map")
        elif slot in self.left_slots:
            self._pair(camera, slot)
            if plain_camera(camera) != plain_camera(slot) and _OWN_MAP not in self.notes:
                self.notes.append(_OWN_MAP)

    def take_equal(self, camera: str) -> None:
        slot = _same(camera, self.left_slots)
        if slot is not None:
            self._pair(camera, slot)

    def take_the_only_one(self) -> None:
        """One camera and one slot are left: a pair, unless the policy is to run and knows other cameras by name."""
        cameras, slots = self.left_cameras, self.left_slots
        if not (len(cameras) == 1 and slots):
            return
        alone = len(self.cameras) == 1
        if (alone and len(self.slots) == 1) or (self.fine_tuning and (alone or len(slots) == 1)):
            self._pair(cameras[0], slots[0])
            why = "there is one camera" if alone else "no other is left"
            self.warnings.append(f"camera '{cameras[0]}' fills slot '{slots[0]}', since {why}: the names differ")

    def finish(self, *, typed: bool) -> None:
        """Refuse what several pairs are possible for; say what stays unused or empty."""
        cameras, slots = self.left_cameras, self.left_slots
        if cameras and typed and (self.scratch or (self.fine_tuning and not slots)):
            raise self._unsaid(cameras[0])
        if cameras and slots:
            raise self._undecided(cameras, slots)
        if slots and not self.fine_tuning:
            raise _unfilled(slots, self.slots, self.owner, self.cameras, self._more_cameras())
        for camera in cameras:
            if self.scratch:
                self._pair(camera, camera)
                continue
            self.found[camera] = None
            more = f" (--camera-map {camera}={NEW} adds one)" if self.fine_tuning else ""
            text = f"{self.owner}'s camera '{camera}' is not used: the policy has no slot for it{more}"
            (self.warnings if self.fine_tuning else self.notes).append(text)
        if not self.filled:
            raise UsageError(
                "The camera map uses no camera.",
                expected="at least one camera -> slot: SmolVLA sees images",
                fix=f"--camera-map {self._example()}",
            )
        if slots:
            self.warnings.append(
                f"slot {_listed(slots)} of the policy stays empty: {self.owner} has no camera for it, and the new "
                "policy has no such slot"
            )

    def pairing(self) -> Pairing:
        if self.scratch:
            return Pairing(self.found)
        order = [*self.slots, *self.new]
        used = {self.filled[slot]: slot for slot in order if slot in self.filled}
        unused = dict.fromkeys(camera for camera in self.cameras if self.found[camera] is None)
        return Pairing({**used, **unused}, self.notes, self.warnings, self.new)

    def _pair(self, camera: str, slot: str) -> None:
        if slot in self.filled:
            raise UsageError(
                f"Cameras '{self.filled[slot]}' and '{camera}' are both mapped to slot '{slot}'.",
                expected="one camera for each slot",
                fix=f"--camera-map {self._example()}" if self.slots else "give each camera a slot of its own name",
            )
        self.found[camera], self.filled[slot] = slot, camera

    def _undecided(self, cameras: list[str], slots: list[str]) -> UsageError:
        if len(cameras) < len(slots) and not self.fine_tuning:
            return UsageError(
                f"The policy sees {len(self.slots)} cameras (slots {_listed(self.slots)}), {self.owner} has "
                f"{len(self.cameras)} ({_listed(self.cameras)}).",
                expected="a camera for each slot",
                fix=self._more_cameras(),
            )
        return UsageError(
            f"No name says which camera fills which slot of the policy: {self.owner} has {_listed(cameras)}, the "
            f"policy the slots {_listed(slots)}.",
            expected="each camera in the slot where the policy saw the same view in its training",
            fix=f"--camera-map {self._example()} (this order, if it is the right one; NAME={UNUSED} leaves a camera "
            "out)",
        )

    def _more_cameras(self) -> str:
        if self.owner == TYPED:
            return f"--camera-map CAMERA=SLOT for each of {_listed(self.slots)}"
        if len(self.cameras) >= len(self.slots):
            return f"--camera-map {self._example()}"
        example = " ".join(f"{camera}={slot}" for camera, slot in zip(self.cameras, self.slots, strict=False))
        return (
            f"use datasets with all {len(self.slots)} cameras, or fine-tune the policy on these: smolpilot train "
            f"--policy ... --dataset ... --camera-map {example}"
        )

    def _unsaid(self, camera: str) -> UsageError:
        slot = next(iter(self.left_slots), "SLOT" if self.scratch else NEW)
        return UsageError(
            f"The camera map says nothing about {self.owner}'s camera '{camera}'.",
            expected=f"a slot, or {UNUSED} for a camera that is not used",
            fix=f"add {camera}={slot} or {camera}={UNUSED} to --camera-map",
        )

    def _example(self) -> str:
        """A whole map of the real names: what is decided, then the rest in order."""
        cameras, slots = self.left_cameras, self.left_slots
        pairs: dict[str, str] = {camera: slot or UNUSED for camera, slot in self.found.items()}
        pairs |= dict(zip(cameras, slots, strict=False))
        pairs |= dict.fromkeys(cameras[len(slots) :], UNUSED)
        return " ".join(f"{camera}={pairs[camera]}" for camera in self.cameras)


_OWN_MAP = "the policy's own camera map is kept"


def _no_slot(camera: str, slot: str) -> str:
    return f"Camera '{camera}' is mapped to '{slot}', which is no camera slot of the policy."


def _unfilled(
    slots: Sequence[str], needed: Sequence[str], owner: str, cameras: Iterable[str], fix: str = ""
) -> UsageError:
    return UsageError(
        f"No camera is mapped to slot {_listed(slots)}; {owner} has {_listed(cameras) or 'no camera'}.",
        expected=f"a camera for each of {_listed(needed)}",
        fix=fix or f"--camera-map CAMERA=SLOT for each of {_listed(needed)}",
    )


def _same(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` that means the same camera: by its whole name, else without `observation.(images.)`."""
    names = list(names)
    if name in names:
        return name
    plain = [other for other in names if plain_camera(other) == plain_camera(name)]
    return plain[0] if len(plain) == 1 else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
