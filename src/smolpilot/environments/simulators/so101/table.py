"""The scene: the arm of so101-nexus, a table, four things that can be of any shape and color, a bin, and cameras.

One model for all episodes: what a scene needs less of is parked out of sight, so that nothing is compiled between them.
Everything in meters; the arm's base is at the origin and looks along x, y is to its left.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .meshes import coarse_mesh

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
COLORS = {
    "red": (0.80, 0.10, 0.10), "green": (0.12, 0.58, 0.20), "blue": (0.12, 0.28, 0.80),
    "yellow": (0.92, 0.80, 0.10), "orange": (0.95, 0.45, 0.08), "purple": (0.48, 0.18, 0.60),
}  # fmt: skip
SLOTS = 4
BIN_M, BIN_WALL_M, BIN_HEIGHT_M = 0.045, 0.003, 0.025  # half its inner width, half a wall, its walls
TIMESTEP_S, SUBSTEPS, RATE = 1 / 240, 8, 30.0
FRONT_FOVY = 42.6  # degrees: a webcam of 78 diagonally, 4:3 of its 16:9 sensor
_DENSITY = 500.0  # kg/m^3: wood


@dataclass(frozen=True)
class Shape:
    """Half sizes in m, as MuJoCo has them, and what a gripper has to know: half the width it closes on, the height."""

    kind: str  # MuJoCo's
    size: tuple[float, float, float]
    half_width: float
    half_height: float
    flat: bool  # another thing can stand on it, and it on others

    @property
    def mass(self) -> float:
        a, b, c = self.size
        volume = {"box": 8 * a * b * c, "cylinder": 2 * np.pi * a**2 * b, "sphere": 4 / 3 * np.pi * a**3}[self.kind]
        return float(_DENSITY * volume)

    @property
    def inertia(self) -> Any:
        """Its principal moments [3]."""
        a, b, c = self.size
        if self.kind == "box":
            return self.mass / 3 * np.array([b * b + c * c, a * a + c * c, a * a + b * b])
        if self.kind == "cylinder":
            across = self.mass * (3 * a * a + 4 * b * b) / 12
            return np.array([across, across, self.mass * a * a / 2])
        return np.full(3, 0.4 * self.mass * a * a)


SHAPES = {
    "cube": Shape("box", (0.0125, 0.0125, 0.0125), 0.0125, 0.0125, True),
    "brick": Shape("box", (0.0200, 0.0100, 0.0125), 0.0100, 0.0125, True),
    "cylinder": Shape("cylinder", (0.0130, 0.0150, 0.0), 0.0130, 0.0150, True),
    "ball": Shape("sphere", (0.0140, 0.0, 0.0), 0.0140, 0.0140, False),
}


@dataclass(frozen=True)
class Thing:
    """One object of a scene: where it is, how it is turned about the vertical, and what it is called."""

    color: str
    shape: str
    x: float
    y: float
    turn: float

    @property
    def name(self) -> str:
        return f"{self.color} {self.shape}"


def assets() -> Path:
    """The folder of so101-nexus's model; ImportError without the package. Nothing of the package is executed."""
    found = importlib.util.find_spec("so101_nexus")
    if found is None or found.origin is None:
        raise ImportError("No module named 'so101_nexus'")
    return Path(found.origin).parent / "assets" / "SO101_menagerie"


def build(mujoco: Any, msaa: int, size: tuple[int, int]) -> Any:
    """The compiled model. size: height and width of the largest image."""
    folder = assets()
    spec = mujoco.MjSpec.from_file(str(folder / "so101.xml"))
    for mesh in spec.meshes:
        name = Path(mesh.file).stem
        mesh.name = name
        if "_part" not in name:  # those that touch things stay as they are
            vertices, triangles = coarse_mesh(folder / "assets" / mesh.file)
            mesh.file, mesh.uservert, mesh.userface = "", vertices.reshape(-1), triangles.reshape(-1)
    spec.option.timestep = TIMESTEP_S
    spec.visual.quality.offsamples, spec.visual.quality.shadowsize = msaa, 2048
    spec.visual.global_.offheight, spec.visual.global_.offwidth = size
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.35] * 3, [0.25] * 3
    spec.visual.headlight.specular = [0.0] * 3
    # What is parked counts for MuJoCo's own guess of how large all is, by which near things are cut off.
    spec.stat.extent, spec.stat.center = 0.8, [0.2, 0.0, 0.1]
    spec.visual.map.znear, spec.visual.map.shadowclip = 0.01, 0.8
    _add_table(mujoco, spec)
    _add_cameras(mujoco, spec)
    for slot in range(SLOTS):
        _add_thing(mujoco, spec, slot)
    _add_bin(mujoco, spec)
    return spec.compile()


def _add_table(mujoco: Any, spec: Any) -> None:
    world = spec.worldbody
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.75, 0.78, 0.82], rgb2=[0.45, 0.47, 0.50], width=64, height=384,
    )  # fmt: skip
    for name, builtin, other in (("plain", "FLAT", 1.0), ("checker", "CHECKER", 0.82), ("gradient", "GRADIENT", 0.7)):
        spec.add_texture(
            name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=getattr(mujoco.mjtBuiltin, f"mjBUILTIN_{builtin}"),
            rgb1=[1.0] * 3, rgb2=[other] * 3, width=256, height=256, mark=mujoco.mjtMark.mjMARK_RANDOM, random=0.02,
            markrgb=[0.85] * 3,
        )  # fmt: skip
        material = spec.add_material(name=name, texrepeat=[8, 8], reflectance=0.0, specular=0.1)
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    world.add_geom(
        name="table", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.45, 0.5, 0.02], pos=[0.25, 0, -0.02], material="plain",
        friction=[0.8, 0.005, 0.0005], condim=4,
    )  # fmt: skip
    world.add_geom(
        name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[3, 3, 0.1], pos=[0, 0, -0.75], rgba=[0.5, 0.5, 0.5, 1],
        contype=0, conaffinity=0,
    )  # fmt: skip
    world.add_light(name="lamp", pos=[0.3, 0.3, 1.4], dir=[-0.1, -0.2, -1], diffuse=[0.6] * 3, specular=[0.1] * 3)


def _add_cameras(mujoco: Any, spec: Any) -> None:
    for name in ("front", "beauty"):
        spec.worldbody.add_camera(name=name, pos=[0.5, 0, 0.5], fovy=FRONT_FOVY)


def _add_thing(mujoco: Any, spec: Any, slot: int) -> None:
    """A body with a geom of each shape, of which one at a time is there."""
    body = spec.worldbody.add_body(name=f"thing{slot}", pos=_parked(slot), gravcomp=1.0)
    body.add_freejoint(name=f"thing{slot}")
    kinds = {"box": mujoco.mjtGeom.mjGEOM_BOX, "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER,
             "sphere": mujoco.mjtGeom.mjGEOM_SPHERE}  # fmt: skip
    for name, shape in SHAPES.items():
        body.add_geom(
            name=f"thing{slot}.{name}", type=kinds[shape.kind], size=list(shape.size), density=_DENSITY, condim=6,
            friction=[1.0, 0.01, 0.002],
        )  # fmt: skip


def _add_bin(mujoco: Any, spec: Any) -> None:
    body = spec.worldbody.add_body(name="bin", mocap=True, pos=_parked(-1))
    inner, wall, height = BIN_M, BIN_WALL_M, BIN_HEIGHT_M
    sides = {
        "floor": ((0, 0, 0.0015), (inner, inner, 0.0015)),
        "left": ((0, inner + wall, height / 2), (inner + 2 * wall, wall, height / 2)),
        "right": ((0, -inner - wall, height / 2), (inner + 2 * wall, wall, height / 2)),
        "far": ((inner + wall, 0, height / 2), (wall, inner, height / 2)),
        "near": ((-inner - wall, 0, height / 2), (wall, inner, height / 2)),
    }
    for name, (pos, size) in sides.items():
        body.add_geom(
            name=f"bin.{name}", type=mujoco.mjtGeom.mjGEOM_BOX, pos=list(pos), size=list(size),
            rgba=[0.93, 0.93, 0.90, 1], condim=4, friction=[0.8, 0.005, 0.0005],
        )  # fmt: skip


def _parked(slot: int) -> tuple[float, float, float]:
    """Where nobody sees it."""
    return float(slot), 0.0, -5.0


class Stagehand:
    """Puts things where a scene wants them, and parks the others."""

    def __init__(self, mujoco: Any, model: Any) -> None:
        self._mujoco, self._model = mujoco, model
        self._spare = mujoco.MjData(model)  # which `mj_setConst` may overwrite: an episode's own is not touched
        self.bodies = [self._id("BODY", f"thing{slot}") for slot in range(SLOTS)]
        self._geoms = [{name: self._id("GEOM", f"thing{slot}.{name}") for name in SHAPES} for slot in range(SLOTS)]
        self.bin = int(model.body_mocapid[self._id("BODY", "bin")])

    def place(self, data: Any, things: list[Thing], bin_at: tuple[float, float] | None) -> None:
        """Set poses; the simulation is at rest."""
        model = self._model
        for slot, body in enumerate(self.bodies):
            thing = things[slot] if slot < len(things) else None
            for name, geom in self._geoms[slot].items():
                here = thing is not None and thing.shape == name
                model.geom_contype[geom] = model.geom_conaffinity[geom] = int(here)
                model.geom_rgba[geom] = (*COLORS[thing.color], 1.0) if here and thing is not None else (0, 0, 0, 0)
            at = model.jnt_qposadr[model.body_jntadr[body]]
            data.qpos[at : at + 7] = (*_parked(slot), 1, 0, 0, 0)
            if thing is not None:
                shape = SHAPES[thing.shape]
                model.body_mass[body], model.body_inertia[body] = shape.mass, shape.inertia
                model.body_ipos[body], model.body_iquat[body] = 0, (1, 0, 0, 0)
                half = thing.turn / 2
                data.qpos[at : at + 7] = (thing.x, thing.y, shape.half_height + 1e-4, np.cos(half), 0, 0, np.sin(half))
            # What is parked must not fall for ever.
            model.body_gravcomp[body] = float(thing is None)
        data.mocap_pos[self.bin] = _parked(-1) if bin_at is None else (*bin_at, 0.0)
        data.mocap_quat[self.bin] = (1, 0, 0, 0)
        self._mujoco.mj_setConst(model, self._spare)

    def _id(self, kind: str, name: str) -> int:
        return int(self._mujoco.mj_name2id(self._model, getattr(self._mujoco.mjtObj, f"mjOBJ_{kind}"), name))
