"""Whether a policy can act in an environment: the same joints in the same order and units, and the cameras it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from smolpilot.common.errors import SmolpilotError, UsageError
from smolpilot.contracts import Embodiment, EnvironmentSpec
from smolpilot.datasets.simulation_record import drawn_otherwise, otherwise_text
from smolpilot.robots.mapping import placeholder_names
from smolpilot.robots.profile import spellings

if TYPE_CHECKING:
    from smolpilot.contracts import PolicySpec
    from smolpilot.robots import Joint


def embodiment_in(environment: EnvironmentSpec) -> Embodiment:
    """What a policy is opened for that will act in an environment."""
    _check_spec(environment)
    profile = environment.profile
    return Embodiment(
        owner=f"the environment {environment.name}",
        cameras=environment.cameras,
        state_names=tuple(joint.name for joint in profile.state_joints),
        action_names=tuple(joint.name for joint in profile.action_joints),
        profile=profile,
        rate=environment.rate,
        instructions=environment.instructions,
        max_steps=environment.max_steps,
        action_range=environment.action_range,
        rest=environment.rest,
    )


def check_fit(spec: PolicySpec, environment: EnvironmentSpec) -> None:
    """UsageError, with both sides by name, when the policy is for other joints, units or cameras."""
    _check_spec(environment)
    own, profile = spec.profile, environment.profile
    sides: tuple[tuple[str, int, Sequence[str], Sequence[Joint], Sequence[Joint]], ...] = (
        ("state", spec.state_dim, (), own.state_joints if own else (), profile.state_joints),
        ("action", spec.action_dim, spec.action_names, own.action_joints if own else (), profile.action_joints),
    )
    for what, width, told, joints, wanted in sides:
        names = [joint.name for joint in joints] or list(told)
        if width != len(wanted) or not _same_names(names, wanted):
            raise UsageError(
                f"The policy {spec.name} does not fit the environment {environment.name}: its {what} has {width} values"
                f"{_listed(names)}, the environment's {len(wanted)}{_listed([joint.name for joint in wanted])}.",
                expected=f"a policy for the robot '{environment.profile.name}', with its joints in that order",
                fix="take the environment of the policy's robot (--env), or train on datasets of this one",
            )
        for joint, other in zip(joints, wanted, strict=False):
            if joint.unit != other.unit and "unknown" not in (joint.unit, other.unit):
                raise UsageError(
                    f"The policy {spec.name} does not fit the environment {environment.name}: its {what} has "
                    f"{joint.name} in {joint.unit}, the environment's has it in {other.unit}.",
                    expected="the same units on both sides",
                    fix="train with --robot and --units that say the dataset's units",
                )
    missing = [camera for camera in spec.cameras if camera not in environment.cameras]
    if missing:
        raise UsageError(
            f"The policy {spec.name} reads the camera {', '.join(missing)}; the environment {environment.name} has "
            f"{', '.join(environment.cameras) or 'none'}.",
            expected=f"the cameras of the policy: {', '.join(spec.cameras)}",
            fix="say which of them takes its place: --camera-map NAME=SLOT ...",
        )


def check_simulation(
    spec: PolicySpec, environment: EnvironmentSpec, facts: Mapping[str, Any], *, allowed: bool = False
) -> list[str]:
    """UsageError where the policy learned from images of this environment that were drawn or computed otherwise.

    facts: `render` and `physics` of the environment, as it states them. Where it is `allowed`, a warning that says so.
    Nothing is said of policies whose lineage names no simulation, or another one.
    """
    trained = spec.facts.lineage.get("simulation")
    if not isinstance(trained, Mapping) or trained.get("env") != environment.name:
        return []
    differences = drawn_otherwise(trained, facts)
    if not differences:
        return []
    recorded, now = otherwise_text(differences)
    found = f"The policy {spec.name} learned from a recording with {recorded}; this {environment.name} has {now}."
    if allowed:
        return [found]
    settings = trained.get("settings") or {}
    same = " ".join(f"{name}={str(settings[name]).lower()}" for name in differences if name in settings)
    raise UsageError(
        found,
        expected="the rendering and the physics of the recording, since they change what the policy sees",
        fix=(f"--env-settings {same}, or " if same else "") + "--mixed-rendering to score it all the same",
    )


def _check_spec(found: object) -> None:
    if not isinstance(found, EnvironmentSpec):
        raise SmolpilotError(
            f"The environment has a spec of type {type(found).__name__}.",
            expected="an EnvironmentSpec (smolpilot.contracts)",
        )


def _same_names(names: Sequence[str], joints: Sequence[Joint]) -> bool:
    """Whether the names, where there are any that tell, are those of the joints in their order."""
    if not names or placeholder_names(names):
        return True
    return len(names) == len(joints) and all(
        bool({joint.name, *joint.aliases} & {name, *spellings(name)}) for name, joint in zip(names, joints, strict=True)
    )


def _listed(names: Sequence[str]) -> str:
    return f" ({', '.join(names)})" if names else ""
