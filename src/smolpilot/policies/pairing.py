"""Which camera of an embodiment fills which image input of a policy that brings no camera map of its own. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from smolpilot.contracts.policy import Embodiment, PolicyOptions
from smolpilot.smolvla.transforms.camera_slots import TYPED, Pairing, resolve_camera_map


def pair(slots: Sequence[str], options: PolicyOptions, embodiment: Embodiment | None) -> Pairing:
    """The embodiment's cameras (else those that were typed, else the slots' own names) -> the slots.

    Raises UsageError as `resolve_camera_map` does.
    """
    if not slots:
        return Pairing(dict.fromkeys(embodiment.cameras if embodiment is not None else ()))
    if embodiment is not None:
        return resolve_camera_map(embodiment.cameras, slots, given=options.camera_map, owner=embodiment.owner)
    if options.camera_map:
        return resolve_camera_map(list(options.camera_map), slots, given=options.camera_map, owner=TYPED)
    return Pairing({slot: slot for slot in slots})
