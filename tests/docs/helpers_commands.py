"""How each command of the documents is run: as it stands, smaller, or only read by the real parser, and why."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from smolpilot.cli.main import main
from smolpilot.datasets import DatasetWriter, read_meta
from smolpilot.environments.tabletop.recording import record
from smolpilot.robots import RobotProfile
from smolpilot.runtime.calibration import write_calibration
from smolpilot.runtime.emulator.spec import EmulatorSpec, calibration_of, make_bus
from smolpilot.smolvla import new_policy, save_bundle


@dataclass(frozen=True)
class Run:
    """`change`: words that stand for others here, for the names of this place or for less work; `more`: words behind.

    `code` is the exit status; `fresh` says what is removed first, as one of the commands may have made it.
    """

    change: dict[str, str] = field(default_factory=dict)
    more: str = ""
    code: int = 0
    fresh: tuple[str, ...] = ()


@dataclass(frozen=True)
class Read:
    """Only its options are read; `why`."""

    why: str
    change: dict[str, str] = field(default_factory=dict)


SHORT = {"20000": "1", "1000": "2", "32": "2", "64": "2"}
HUB = {"lerobot/smolvla_base": "POLICY"}
REPAIRED = Run({"PATH": "BROKEN", "SRC": "BROKEN"}, fresh=("DST",))
COPY = Run(fresh=("DST",))
ONE = Run({"N": "1"}, fresh=("DST",))
RENAMED = Run({"INDEX=new text": "0=new text"}, fresh=("DST",))
METAWORLD = "needs Meta-World: tests/environments/simulated/test_metaworld.py runs it where it is, and in a stand-in"
TRAINED = "--batch-size 2 --eval-frames 2 --device cpu"

COMMANDS: dict[str, Run | Read] = {
    # README
    "doctor": Run(),
    "robot list": Run(),
    "robot show NAME": Run({"NAME": "so101"}),
    "dataset info DATA": Run(),
    "dataset info PATH": Run(),
    "preflight --dataset DATA": Run(),
    "train --dataset DATA --robot unitree_g1_inspire --preset tiny --from-scratch --out runs/first --steps 1000 "
    "--chunk-size 100 --held-out 0.2 --weight-decay 0.1 --augment crop=0.9 color=0.9 blur=0.2 erase=0.3":
        Run(SHORT, TRAINED),
    "train --dataset DATA --robot so101 --policy lerobot/smolvla_base --out runs/first --steps 20000 --batch-size 32":
        Run({**SHORT, **HUB, "DATA": "SO101", "runs/first": "runs/tuned"}, TRAINED),
    "eval runs/first/checkpoints/best --dataset DATA --out runs/first/eval": Run(more="--max-frames 1 --device cpu"),
    "dataset check DATA --html findings.html": Run(),
    "dataset repair DATA FIXED": Run({"DATA": "BROKEN"}),
    "dataset convert DATA AS_V30": Run({"DATA": "OLD"}),
    "dataset convert AS_V30 BACK --to v2.1": Run(),
    "dataset compare DATA BACK": Run({"DATA": "OLD"}),
    "dataset view DATA": Run(),
    "dataset stats DATA --recompute": Run(),
    "dataset tasks DATA": Run(),
    "dataset split DATA PARTS --parts train=0.8 val=0.2": Run(),
    "dataset merge BOTH DATA MORE": Run(),
    "dataset exclude DATA WITHOUT --episodes 3,7-9": Run(),
    "dataset rename DATA NAMED --feature state=observation.state actions=action": Run({"DATA": "OTHER"}),
    "train --resume --out runs/first": Run(),
    "train --config run.yaml": Run(),
    "train --stages stages.yaml --out runs/sequence": Run(more="--device cpu", fresh=("runs/sequence",)),
    "bundle seal DIR": Run(),
    "bundle localize DIR": Run(),
    "demo": Read("ten minutes; tests/cli/test_demo_cli.py runs all of its steps, small"),
    "demo --quick --out quick": Read("a minute and a half; tests/cli/test_demo_cli.py runs all of its steps, small"),
    "status RUN": Run(),
    "eval POLICY": Run({}, "--dataset SO101 --episodes 0 --out REPORT --max-frames 1 --device cpu",
                       fresh=("REPORT",)),
    "rollout POLICY --env NAME":
        Run({"POLICY": "TABLETOP", "--env": "--env", "NAME": "tabletop"},
            "--out REPORT --episodes 1 --video-episodes 1", fresh=("REPORT",)),
    "bench BUNDLE": Run(more="--repeats 1 --device cpu"),
    "bench POLICY": Run(more="--repeats 1 --device cpu"),
    "bench BUNDLE --against hold-state": Run(more="--repeats 1 --device cpu"),
    "eval ACT_CHECKPOINT --dataset DATA --episodes all --out reports/act":
        Read("LeRobot writes such a checkpoint: tests/oracle/test_act_cli_oracle.py runs it"),
    "eval hold-state --dataset DATA --episodes all --out reports/still": Run(more="--max-frames 2"),
    "export BUNDLE --out DIR": Read("as `export` of docs/export.md, which is run"),
    "bundle PATH": Run({"PATH": "BUNDLE"}),
    "schema FILE": Run({"FILE": "train"}),
    "robot emulate so101 --link arm": 
        Read("runs until Ctrl-C: `make_arm` has one, tests/cli/test_robot_setups_cli.py runs it"),
    "robot find --port arm": Run(),
    "robot new arm.yaml --profile so101 --driver feetech --port arm --calibration arm.calibration.json "
    "--start-pose shoulder_lift=-90 elbow_flex=90":
        Run({"shoulder_lift=-90": "shoulder_lift=-3", "elbow_flex=90": "elbow_flex=3"}),
    "robot check arm.yaml": Run(),
    "robot watch arm.yaml": Run(),
    "robot move arm.yaml shoulder_pan=30 gripper=80":
        Run({"shoulder_pan=30": "shoulder_pan=3", "gripper=80": "gripper=52"}),
    "robot park arm.yaml": Run(),
    "robot check arm.yaml --policy BUNDLE": Run({"BUNDLE": "hold-state"}),
    "run BUNDLE --robot arm.yaml": Read("as the dry run of the next one"),
    "run BUNDLE --robot arm.yaml --go --speed 0.25 --hold-to-run m":
        Read("needs a terminal, and somebody who holds a key: tests/runtime/robot_run has keys"),
    'run demo/run --robot tabletop-emulated --instruction "touch the red block" --seconds 6':
        Run({"demo/run": "TABLETOP", "6": "1"}, "--device cpu --out runs/dry"),
    'run demo/run --robot tabletop-emulated --instruction "touch the red block" --go': Read("needs a terminal"),
    'run demo/run --robot tabletop-emulated --instruction "touch the red block" --unattended --go --episodes 2 '
    "--seconds 8 --schedule async": Read("takes half a minute: the way to the start pose and back, twice"),
    "run BUNDLE --robot SETUP": Read("the form of the others"),
    # docs
    "robot emulate FILE": Read("as `robot emulate so101`"),
    "robot check tabletop-emulated --out cameras.png": Run(),
    "robot move so101-emulated shoulder_pan=30 elbow_flex=-20":
        Run({"shoulder_pan=30": "shoulder_pan=3", "elbow_flex=-20": "elbow_flex=-2"}),
    "robot new FILE": Read("asks; with options it is run"),
    "robot check SETUP": Run({"SETUP": "arm.yaml"}),
    "robot watch SETUP": Run({"SETUP": "arm.yaml"}),
    "robot move SETUP JOINT=VALUE": Run({"SETUP": "arm.yaml", "JOINT=VALUE": "shoulder_pan=0"}),
    "robot park SETUP --release": Run({"SETUP": "arm.yaml"}),
    "robot show so101": Run(),
    "robot new my_arm.yaml --profile so101 --driver feetech --port /dev/ttyACM0 --calibration my_arm":
        Run({"my_arm.yaml": "new_arm.yaml", "/dev/ttyACM0": "arm", "my_arm": "arm.calibration.json"}),
    "robot check my_arm.yaml --policy BUNDLE": Run({"my_arm.yaml": "arm.yaml", "BUNDLE": "hold-state"}),
    "run BUNDLE --robot my_arm.yaml": Read("as the dry run of README"),
    "run BUNDLE --robot my_arm.yaml --go --speed 0.25 --hold-to-run m": Read("needs a terminal"),
    "run BUNDLE --robot my_arm.yaml --go --episodes 10 --seconds 30 --out runs/pick":
        Run({"BUNDLE": "hold-state", "my_arm.yaml": "arm.yaml", "10": "1", "30": "1"},
            "--unattended --start-pose here --log-only"),
    "robot park my_arm.yaml": Run({"my_arm.yaml": "arm.yaml"}),
    "status runs/pick": Run(),
    "robot report runs/pick": Run(),
    "robot profile check my_arm.yaml": Run(),
    "": Run(),
    "dataset check PATH [--strict] [--json] [--html FILE] [--robot PROFILE] [--jobs N]":
        Run({"FILE": "page.html", "PROFILE": "unitree_g1_inspire", "N": "1"}, code=1),  # short episodes
    "dataset repair SRC DST [--dry-run] [--json]": REPAIRED,
    "dataset view PATH --findings FILE": Run({"FILE": "findings.json"}),
    "dataset repair PATH DST": REPAIRED,
    "dataset repair SRC DST": REPAIRED,
    "dataset convert PATH DST": COPY,
    "dataset convert PATH DST --reencode": COPY,
    "dataset convert PATH DST --without KEY": Run({"KEY": "observation.images.side"}, fresh=("DST",)),
    "dataset convert SRC DST --without KEY": Run({"KEY": "observation.images.side"}, fresh=("DST",)),
    "dataset rename PATH DST --feature KEY=NEW": Run({"PATH": "OTHER", "KEY=NEW": "actions=action"}, fresh=("DST",)),
    "dataset rename SRC DST --feature OLD=NEW": Run({"SRC": "OTHER", "OLD=NEW": "actions=action"}, fresh=("DST",)),
    "dataset rename SRC DST --feature state=observation.state": Run({"SRC": "OTHER"}, fresh=("DST",)),
    "dataset exclude PATH DST --episodes N": ONE,
    "dataset tasks PATH DST --rename INDEX='new text'": RENAMED,
    "dataset view PATH": Run(more="--out PAGE"),
    "export runs/first --to onnx --out policy_onnx --dataset data/pick_cube":
        Run({"runs/first": "POLICY"}, "--frames 1"),
    "bench BUNDLE --against lerobot": Read("needs LeRobot; tests/oracle runs it"),
    "bench BUNDLE --dataset DATA --cameras 1 --num-steps 4 --engine fast int8 --json":
        Run({"int8": "exact"}, "--repeats 1 --device cpu"),  # int8 needs 8-bit dot products
    "eval BUNDLE --dataset DATA --engine int8 --out reports/int8": Read("needs 8-bit dot products: test_bench.py"),
    "rollout BUNDLE --engine int8 --calibrate-on DATA --out reports/int8_rollout": Read("needs 8-bit dot products"),
    "eval --engine fast": Run({"--engine": "POLICY --engine"},
                              "--dataset SO101 --episodes 0 --out REPORT --max-frames 1 --device cpu",
                              fresh=("REPORT",)),
    "rollout --engine fast": Run({"--engine": "TABLETOP --engine"}, "--out REPORT --episodes 1 --video-episodes 0",
                                 fresh=("REPORT",)),
    "train --resume --out runs/sequence": Run(),
    "status runs/sequence": Run(),
    "train --dataset DATA --policy POLICY --steps 20000 --seeds 0,1,2 --out runs/recipe":
        Run({**SHORT, "DATA": "data/red"}, TRAINED),
    "rollout runs/recipe --out reports/recipe":
        Read("needs seeds of the simulation's robot: tests/cli/test_rollout_cli.py has a recipe"),
    "train --resume --out runs/recipe": Run(),
    "status runs/recipe": Run(),
    "train --mixture data/red=0.2 data/blue=0.8 --policy POLICY --steps 20000 --out runs/joint": Run(SHORT, TRAINED),
    "train --mixture data/red data/blue data/yellow --balance tasks --policy POLICY --steps 20000 --out runs/joint":
        Run({**SHORT, "runs/joint": "runs/balanced"}, TRAINED),
    # Two steps learn nothing, which is what the status 1 says.
    "train --overfit --dataset DATA --policy lerobot/smolvla_base":
        Run({**HUB, "DATA": "data/red"}, "--steps 2 --device cpu", code=1),
    "train --help": Run(),
    "train --help-all": Run(),
    "--help": Run(),
    "completion bash": Run(),
    "schema train": Run(),
    "schema stages": Run(),
    "schema profile": Run(),
    "schema profile --out profile.schema.json": Run(),
    "bundle DIR": Run(),
    "train --resume --out RUN": Run(),
    "watch RUN": Run(),
    "plugins --check": Run(),
    "eval hold-state --dataset DATA --episodes all --out reports/held": Run(more="--max-frames 2"),
    "eval mean-action --dataset DATA --episodes all --out reports/mean": Run(more="--max-frames 2"),
    "bench BUNDLE --against hold-state mean-action": Run(more="--repeats 1 --device cpu"),
    "rollout hold-state --env cart --out reports/still":
        Read("the package is not installed here: tests/environments/test_own_environment.py runs it"),
    "rollout hold-state --env gymnasium --env-settings id=gym_pusht:gym_pusht/PushT-v0 robot=pusht state=agent_pos "
    "images=image:pixels success=is_success options=obs_type:pixels_agent_pos --out reports/gymnasium":
        Run(more="--episodes 1 --video-episodes 0"),
    "rollout POLICY --env examples/mountain_car.yaml --out reports/car":
        Read("needs a policy of that car: tests/environments/test_described.py has one"),
    "rollout POLICY --env examples/mountain_car.yaml --env-python sims/gym --out reports/car":
        Read("needs such an interpreter: tests/environments/test_described.py makes one"),
    "rollout BUNDLE --env pusht --out reports/pusht": Read("needs a policy of that robot"),
    "rollout BUNDLE --env aloha --env-settings task=insertion --episodes 50 --jobs 2 --out reports/aloha":
        Read("needs a policy of that robot: tests/evaluation/test_rollout_workers.py has --jobs"),
    "rollout random --env tabletop --episodes 50 --out reports/random": Run(more="--episodes 2 --video-episodes 0"),
    "rollout demo/run --env tabletop --language --out reports/language":
        Run({"demo/run": "TABLETOP"}, "--episodes 2 --video-episodes 0 --device cpu"),
    "rollout random --env tabletop --language --out reports/deaf": Run(more="--episodes 2 --video-episodes 0"),
    "rollout BUNDLE --env aloha --out reports/second --against reports/first":
        Read("needs a policy of that robot: tests/cli/test_floors_cli.py has --against"),
    "rollout BUNDLE --env aloha --out reports/ours --against outputs/eval/eval_info.json":
        Read("needs LeRobot's file, too: the same test"),
    "rollout BUNDLE --env aloha --env-python sims/aloha --out reports/aloha":
        Read("needs a policy of that robot: tests/environments/test_worker.py has another interpreter"),
    "rollout POLICY --env NAME --out DIR": Read("the form of the others"),
    "record --env aloha --expert --env-settings shadows=false msaa=0 width=128 height=128 --episodes 50 --jobs 2 --out "
    "data/aloha": Run({"width=128": "width=16", "height=128": "height=16", "50": "1"}),
    "record --env aloha --expert --env-settings width=128 height=128 shadows=false msaa=0 max_steps=350 --episodes 160 "
    "--jobs 2 --out data/cubes": Run({"width=128": "width=16", "height=128": "height=16", "160": "2"}),
    "record --env aloha --expert --env-settings width=128 height=128 shadows=false msaa=0 max_steps=80 --keep-failures "
    "--episodes 500 --seed 1000 --jobs 2 --out data/reach":
        Run({"width=128": "width=16", "height=128": "height=16", "500": "2"}),
    "train --mixture data/reach=0.6 data/cubes=0.4 --robot aloha --preset tiny --from-scratch --chunk-size 50 "
    "--n-action-steps 25 --batch-size 64 --steps 4000 --ema 0.998 --held-out 0.05 --out runs/cubes":
        Run({"4000": "1", "64": "2"}, "--device cpu --eval-frames 2"),
    "rollout runs/cubes/checkpoints/best --env aloha --env-settings width=128 height=128 shadows=false msaa=0 "
    "max_steps=350 --episodes 100 --jobs 2 --out reports/cubes":
        Run({"width=128": "width=16", "height=128": "height=16", "100": "1"}, "--video-episodes 0 --device cpu"),
    "env check pusht": Run(more="--episodes 1"),
    "record --env pusht --expert --env-settings keypoints=true width=64 height=64 --out data/people":
        Run(more="--episodes 2"),
    "train --dataset data/people --robot data/people/meta/smolpilot_profile.yaml --preset tiny --from-scratch "
    "--chunk-size 16 --n-action-steps 8 --batch-size 64 --steps 4000 --ema 0.998 --held-out 0.05 --out runs/people":
        Run({"4000": "1", "64": "2"}, "--device cpu --eval-frames 2"),
    "rollout runs/people/checkpoints/best --env pusht --env-settings keypoints=true width=64 height=64 --episodes 50 "
    "--jobs 2 --out reports/people": Run({"50": "1"}, "--video-episodes 0 --device cpu"),
    "record --env NAME --expert": Run({"NAME": "tabletop"}, "--episodes 1 --out RECORDED", fresh=("RECORDED",)),
    "record --env pusht --expert --env-settings width=96 height=96 --out data/pusht": Run(more="--episodes 1"),
    "env list": Run(),
    "env check aloha": Run(more="--episodes 1"),
    "env check aloha --demonstrations data/cubes":
        Read("needs a recording: tests/environments/gates/test_dataset_replays.py makes one"),
    "env check pusht --episodes 206": Run({"206": "2"}),
    "env check aloha --env-settings task=insertion --episodes 50 --jobs 2":
        Read("takes a quarter of a minute: tests/environments/gates/test_gate.py has a shorter one"),
    "env check so101/pick_up": Run(more="--episodes 1"),
    "record --env so101 --expert --env-settings task=touch,pick_up colors=red,blue shapes=cube things=2 width=128 "
    "height=96 --episodes 400 --jobs 2 --out data/so101":
        Run({"width=128": "width=32", "height=96": "height=24", "400": "2"}),
    "rollout BUNDLE --env so101/pick_up --episodes 50 --jobs 2 --out reports/so101":
        Read("needs a policy of that robot: tests/environments/simulated/test_so101.py has one without weights"),
    "env replay data/so101 --episode 3 --out episode-3.mp4": Run({"3": "1"}),
    "env install libero sims/libero": Read("needs the package index and 2 GB: scripts/nightly.sh libero runs it"),
    "env check libero/libero_spatial/0 --env-python sims/libero":
        Read("needs that interpreter: tests/environments/simulated/test_libero.py has a stand-in"),
    "rollout BUNDLE --env libero/libero_spatial/0 --env-python sims/libero --episodes 50 --jobs 2 --out "
    "reports/spatial-0": Read("needs that interpreter: tests/environments/simulated/test_libero.py has a stand-in"),
    "rollout BUNDLE --env libero/libero_spatial_swap/0 --env-python sims/libero --episodes 50 --jobs 2 --out "
    "reports/swap-0": Read("the same"),
    "rollout hold-state --env libero/libero_spatial/0 --env-python sims/libero --episodes 2 --jobs 1 --out "
    "reports/still":
        Read("the same; scripts/nightly.sh libero runs one"),
    "record --env so101/touch --expert --env-settings colors=red,blue shapes=cube things=2 width=128 height=96 "
    "--episodes 200 --jobs 2 --out data/touch":
        Run({"width=128": "width=32", "height=96": "height=24", "200": "2"}),
    "env replay data/touch --episode 3 --out replay.mp4": Run({"3": "1"}),
    "rollout random --env libero/libero_goal/0 --env-python sims/libero --episodes 2 --out reports/libero":
        Read("the same; scripts/nightly.sh libero runs one"),
    "env install aloha sims/aloha": Read("needs the package index: tests/cli/test_env_cli.py runs it without"),
    "env install metaworld sims/metaworld": Read("needs the package index: scripts/nightly.sh metaworld runs it"),
    "env list --env-python sims/metaworld": Read(METAWORLD),
    "env check metaworld/drawer-open --env-python sims/metaworld": Read(METAWORLD),
    "record --env metaworld/drawer-open --expert --env-python sims/metaworld --env-settings width=128 height=128 "
    "shadows=false --episodes 80 --out data/drawer-open": Read(METAWORLD),
    "rollout hold-state --env metaworld/drawer-open --env-python sims/metaworld --episodes 5 --out reports/still":
        Read(METAWORLD),
    "record --env metaworld/button-press-topdown --expert --env-python sims/metaworld --env-settings width=128 "
    "height=128 shadows=false --episodes 80 --out data/button": Read(METAWORLD),
    "dataset merge data/two data/drawer-open data/button": Read(METAWORLD),
    "train --dataset data/two --robot metaworld --preset tiny --from-scratch --balance tasks --out runs/two":
        Read(METAWORLD),
    "rollout runs/two/checkpoints/best --env metaworld/drawer-open --env-python sims/metaworld --env-settings "
    "width=128 height=128 shadows=false --out reports/drawer-open": Read(METAWORLD),
}  # fmt: skip

G1, SO = RobotProfile.load("unitree_g1_inspire"), RobotProfile.load("so101")


def write(path: Path, profile: RobotProfile, *, episodes: int = 3, length: int = 8, task: str = "touch it",
          cameras: tuple[str, ...] = ("front",), phase: float = 0.0) -> Path:  # fmt: skip
    """Joints that swing within the limits of a robot."""
    names = [joint.name for joint in profile.joints]
    ends = np.array([joint.position_limits or (-1.0, 1.0) for joint in profile.joints], dtype=np.float64)
    with DatasetWriter(path, fps=profile.rate, state_names=names, action_names=names,
                       cameras=dict.fromkeys(cameras, (32, 32)), robot_type=profile.robot_types[0]) as to:  # fmt: skip
        for episode in range(episodes):
            for frame in range(length):
                swing = np.sin(frame / 40 + 0.3 * episode + phase + np.arange(len(names)))
                values = (ends.mean(axis=1) + 0.35 * np.ptp(ends, axis=1) * swing).astype(np.float32)
                picture = np.full((32, 32, 3), 90 + 8 * episode, np.uint8)
                picture[frame : frame + 8, 4:12] = 220
                to.add_frame({"observation.state": values, "action": values, "task": task,
                              **{f"observation.images.{name}": picture for name in cameras}})  # fmt: skip
            to.end_episode()
    return path


@contextlib.contextmanager
def make_arm(root: Path) -> Iterator[None]:
    """What `smolpilot robot emulate so101 --link arm` gives, for as long as it runs."""
    spec = EmulatorSpec(profile=SO)
    write_calibration(root / "arm.calibration.json", calibration_of(spec))
    with make_bus(spec, link=root / "arm"):
        yield


def make_place(root: Path, documents: Path) -> None:
    """The folders and files that the commands name, under the names that they give them."""
    write(root / "DATA", G1, episodes=10)
    for name in ("PATH", "SRC"):
        write(root / name, G1, cameras=("front", "side"))
    write(root / "MORE", G1, phase=0.5)
    write(root / "SO101", SO)
    for number, name in enumerate(("red", "blue", "yellow", "pick", "place", "pick_cube")):
        write(root / "data" / name, SO, task=f"touch the {name} block", phase=0.3 * number, episodes=4)
    assert main(["dataset", "convert", str(root / "DATA"), str(root / "OLD"), "--to", "v2.1"]) == 0
    features = ["observation.state=state", "action=actions"]
    assert main(["dataset", "rename", str(root / "DATA"), str(root / "OTHER"), "--feature", *features]) == 0
    shutil.copytree(root / "OLD", root / "BROKEN")
    info = root / "BROKEN" / "meta" / "info.json"
    info.write_text(info.read_text().replace('"total_frames": 80', '"total_frames": 81'))
    policy = new_policy("tiny", meta=read_meta(root / "SO101"), profile=SO, device="cpu")
    save_bundle(policy, root / "POLICY")
    save_bundle(new_policy("tiny", meta=read_meta(root / "DATA"), profile=G1, device="cpu"), root / "BUNDLE")
    shutil.copytree(root / "BUNDLE", root / "DIR")
    record(root / "SHOWN", 1)
    table = RobotProfile.load("tabletop")
    save_bundle(new_policy("tiny", meta=read_meta(root / "SHOWN"), profile=table, device="cpu"), root / "TABLETOP")
    (root / "RUN").symlink_to(root / "runs" / "first")
    (root / "findings.json").write_text('{"findings": []}')
    (root / "run.yaml").write_text(
        "dataset: data/red\npreset: tiny\nfrom_scratch: true\nsteps: 1\nbatch_size: 2\nout: runs/file\ndevice: cpu\n"
        "held_out: 0\nchunk_size: 4\n"
    )
    _write_stages(root, documents)


def _write_stages(root: Path, documents: Path) -> None:
    """The file of docs/stages.md itself, with a policy and a robot that are here, and one step for twenty passes."""
    text = block(documents / "stages.md", "yaml")
    for old, new in (
        ("  policy: lerobot/smolvla_base # or preset: tiny with from_scratch: true",
         "  preset: tiny\n  from_scratch: true\n  chunk_size: 8\n  batch_size: 2\n  eval_frames: 2"),
        ("robot: kuavo", "robot: so101"), ("frames: 500", "frames: 2"), ("resamples: 2000", "resamples: 5"),
        ("episodes: 0-199", "episodes: 0-3"), ("epochs: 20 ", "steps: 1 "), ("epochs: 20\n", "steps: 1\n"),
        ("    freeze: vision-language", "    freeze: nothing"), ("otherwise: stop", "otherwise: continue"),
        ("retries: 1", "retries: 0"),
    ):  # fmt: skip
        assert old in text, f"docs/stages.md does not say {old!r} any more: change this list"
        text = text.replace(old, new)
    (root / "stages.yaml").write_text(text)


def block(document: Path, language: str, number: int = 0) -> str:
    """The content of a code block of a document."""
    parts = document.read_text(encoding="utf-8").split(f"```{language}\n")[1:]
    return parts[number].partition("```")[0]
