"""The table: what lies on it has the mass that MuJoCo would give it, what does not is out of the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from smolpilot.environments.simulators.gl import choose_gl
from smolpilot.environments.simulators.so101.looks import BEAUTY, FRONT, Looks
from smolpilot.environments.simulators.so101.table import (
    BIN_HEIGHT_M,
    BIN_M,
    COLORS,
    SHAPES,
    SLOTS,
    Stagehand,
    Thing,
    assets,
    build,
)


@pytest.fixture(scope="module")
def world() -> tuple[Any, Any]:
    """MuJoCo and the compiled model."""
    choose_gl()
    import mujoco

    return mujoco, build(mujoco, 0, (48, 64))


def body(mujoco: Any, model: Any, name: str) -> int:
    return int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, name))


@pytest.mark.parametrize("shape", SHAPES)
def test_mass_and_inertia_are_those_of_the_shape(world: tuple[Any, Any], shape: str) -> None:
    mujoco, _ = world
    one = SHAPES[shape]
    size = " ".join(map(str, one.size))
    alone = mujoco.MjModel.from_xml_string(
        f'<mujoco><worldbody><body><freejoint/><geom type="{one.kind}" size="{size}" density="500"/></body></worldbody>'
        "</mujoco>"
    )
    assert one.mass == pytest.approx(alone.body_mass[1], rel=1e-6)
    np.testing.assert_allclose(np.sort(one.inertia), np.sort(alone.body_inertia[1]), rtol=1e-5)
    assert 0.003 < one.mass < 0.02


def test_what_is_placed_stays_there_and_the_rest_is_out_of_sight(world: tuple[Any, Any]) -> None:
    mujoco, model = world
    data, hand = mujoco.MjData(model), Stagehand(mujoco, model)
    things = [Thing("red", "cube", 0.2, 0.05, 0.3), Thing("blue", "ball", 0.25, -0.08, 0.0)]
    hand.place(data, things, (0.15, -0.15))
    for _ in range(480):
        mujoco.mj_step(model, data)
    for slot, thing in enumerate(things):
        assert data.xpos[hand.bodies[slot]] == pytest.approx(
            (thing.x, thing.y, SHAPES[thing.shape].half_height), abs=2e-3
        )
        shown = [name for name in SHAPES if model.geom_rgba[_geom(mujoco, model, slot, name)][3] > 0]
        assert shown == [thing.shape]
        assert model.geom_rgba[_geom(mujoco, model, slot, thing.shape)][:3] == pytest.approx(COLORS[thing.color])
        assert model.body_mass[hand.bodies[slot]] == pytest.approx(SHAPES[thing.shape].mass)
    for slot in range(len(things), SLOTS):
        assert data.xpos[hand.bodies[slot]][2] == pytest.approx(-5.0, abs=0.01), "it does not fall for ever"
        assert not any(model.geom_contype[_geom(mujoco, model, slot, name)] for name in SHAPES)
    assert data.xpos[body(mujoco, model, "bin")][:2] == pytest.approx((0.15, -0.15))
    hand.place(data, [], None)
    mujoco.mj_forward(model, data)
    assert data.xpos[body(mujoco, model, "bin")][2] < -1


def test_a_thing_that_falls_into_the_bin_stays_in_it(world: tuple[Any, Any]) -> None:
    mujoco, model = world
    data, hand = mujoco.MjData(model), Stagehand(mujoco, model)
    hand.place(data, [Thing("green", "cylinder", 0.2, 0.0, 0.0)], (0.2, 0.0))
    at = model.jnt_qposadr[model.body_jntadr[hand.bodies[0]]]
    data.qpos[at + 2] = 0.08
    for _ in range(480):
        mujoco.mj_step(model, data)
    where = data.xpos[hand.bodies[0]]
    assert np.abs(where[:2] - (0.2, 0.0)).max() < BIN_M
    assert 0.003 < where[2] < BIN_HEIGHT_M + SHAPES["cylinder"].half_height


def test_visible_meshes_are_coarse_and_those_that_touch_as_they_come(world: tuple[Any, Any]) -> None:
    mujoco, model = world
    faces = {
        mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_MESH, mesh): int(model.mesh_facenum[mesh])
        for mesh in range(model.nmesh)
    }
    folder = assets() / "assets"
    fine = {name: (folder / f"{name}.stl").stat().st_size // 50 for name in faces}
    touching = [name for name in faces if "_part" in name]
    assert touching
    assert all(abs(faces[name] - fine[name]) <= 2 for name in touching)
    assert sum(faces[name] for name in faces if name not in touching) < 0.1 * sum(fine.values())


def test_looks_differ_by_as_much_as_they_say(world: tuple[Any, Any]) -> None:
    mujoco, model = world
    looks = Looks(mujoco, model)
    front = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "front")
    wrist = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "wrist_cam")
    looks.plain()
    plain = model.cam_pos[front].copy(), model.cam_quat[front].copy(), model.cam_pos[wrist].copy()
    assert plain[0] == pytest.approx(FRONT[0])
    tables, turns = set(), []
    for seed in range(60):
        looks.draw(np.random.default_rng(seed))
        assert np.abs(model.cam_pos[front] - plain[0]).max() <= 0.02
        assert np.abs(model.cam_pos[wrist] - plain[2]).max() <= 0.004
        turns.append(np.degrees(2 * np.arccos(min(1.0, abs(model.cam_quat[front] @ plain[1])))))
        tables.add(tuple(np.round(model.mat_rgba[model.geom_matid[looks._table]][:3], 3)))
    assert 1.0 < max(turns) < 8.0
    assert len(tables) > 30
    looks.plain()
    assert model.cam_quat[front] == pytest.approx(plain[1])
    beauty = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "beauty")
    assert model.cam_pos[beauty] == pytest.approx(BEAUTY[0])


def _geom(mujoco: Any, model: Any, slot: int, shape: str) -> int:
    return int(mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_GEOM, f"thing{slot}.{shape}"))
