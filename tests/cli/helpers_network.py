"""Run as a script in a network namespace of its own: every verb and every mode of the engine, watched.

    unshare -rn python helpers_network.py FOLDER [strace ...]     opens the namespace's door, then starts itself watched
    python helpers_network.py FOLDER --watched                    the verbs; writes FOLDER/seen.json

`--lerobot` as the first word after FOLDER: LeRobot beside a policy instead of all verbs.

The only interface is `lo`, and the default route leads into it: whatever anything here sends, native code too, is
counted there, names that are looked up as well.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WATCHED = (
    "socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname",
    "socket.gethostbyaddr", "socket.getnameinfo", "urllib.Request", "http.client.connect",
)  # fmt: skip

LOCAL, HUB_ID = "local", "some-org/some-model"


class Route(ctypes.Structure):
    """`struct rtentry` of <net/route.h>."""

    _fields_ = [
        ("pad1", ctypes.c_ulong), ("dst", ctypes.c_char * 16), ("gateway", ctypes.c_char * 16),
        ("mask", ctypes.c_char * 16), ("flags", ctypes.c_ushort), ("pad2", ctypes.c_short), ("pad3", ctypes.c_ulong),
        ("pad4", ctypes.c_void_p), ("metric", ctypes.c_short), ("dev", ctypes.c_char_p), ("mtu", ctypes.c_ulong),
        ("window", ctypes.c_ulong), ("irtt", ctypes.c_ushort),
    ]  # fmt: skip


def open_door() -> None:
    """`ip link set lo up; ip route add default dev lo`, without that program."""
    up, add_route, set_flags = 1, 0x890B, 0x8914
    nowhere = struct.pack("=H14x", socket.AF_INET)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        fcntl.ioctl(asked, set_flags, struct.pack("16sH22x", b"lo", up))
        route = Route(flags=up, dev=b"lo")
        for name in ("dst", "gateway", "mask"):
            ctypes.memmove(ctypes.addressof(route) + getattr(Route, name).offset, nowhere, 16)
        fcntl.ioctl(asked, add_route, bytes(memoryview(route)))


def packets() -> int:
    """How many packets this namespace has tried to send."""
    line = next(line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("lo:"))
    return int(line.split(":")[1].split()[9])


def verbs(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """(name, command) of every verb, in an order in which each finds what it needs."""
    demo, data = folder / "demo", str(folder / "demo" / "recordings")
    bundle = str(demo / "run" / "checkpoints" / "best")

    def new(name: str) -> str:
        return str(folder / "out" / name)

    # Records, trains, evaluates and rolls out.
    yield "demo", ["demo", "--out", str(demo), "--demonstrations", "4", "--steps", "2", "--rollouts", "1",
                   "--robot-episodes", "0"]  # fmt: skip
    yield "doctor", ["doctor", "--dataset", data]
    yield "robot", ["robot", "show", "so101"]
    dry = ["--robot", "so101-emulated", "--unattended", "--seconds", "1", "--out", new("run")]
    yield "run", ["run", "hold-state", *dry]
    yield "dataset info", ["dataset", "info", data]
    yield "dataset check", ["dataset", "check", data, "--html", new("check.html"), "--jobs", "1"]
    yield "dataset stats", ["dataset", "stats", data, "--recompute", "--jobs", "1"]
    yield "dataset tasks", ["dataset", "tasks", data]
    yield "dataset convert", ["dataset", "convert", data, new("v21"), "--to", "v2.1", "--jobs", "1"]
    yield "dataset compare", ["dataset", "compare", data, new("v21"), "--jobs", "1"]
    yield "dataset repair", ["dataset", "repair", new("v21"), new("repaired"), "--jobs", "1"]
    yield "dataset exclude", ["dataset", "exclude", data, new("fewer"), "--episodes", "0", "--jobs", "1"]
    yield "dataset split", ["dataset", "split", data, new("parts"), "--parts", "a=0.5", "b=0.5", "--jobs", "1"]
    yield "dataset merge", ["dataset", "merge", new("merged"), new("parts/a"), new("parts/b"), "--jobs", "1"]
    yield (
        "dataset rename",
        [
            "dataset",
            "rename",
            data,
            new("renamed"),
            "--feature",
            "observation.images.top=observation.images.up",
            "--jobs",
            "1",
        ],
    )
    yield "dataset view", ["dataset", "view", data, "--out", new("page"), "--episodes", "0", "--no-check"]
    yield "preflight", ["preflight", "--dataset", data, "--policy", bundle]
    yield (
        "train",
        ["train", "--dataset", data, "--policy", bundle, "--out", new("tuned"), "--steps", "1", "--batch-size", "2"],
    )
    yield "status", ["status", new("tuned")]
    yield "watch", ["watch", new("tuned")]
    yield "bench", ["bench", bundle, "--engine", "plain", "exact", "fast", "--repeats", "1"]
    yield "bench torch", ["bench", bundle, "--engine", "fast", "--backend", "torch", "--repeats", "1"]
    yield "bench int8", ["bench", bundle, "--engine", "int8", "--dataset", data, "--repeats", "1"]
    for precision in ("fp32", "int8"):
        yield (
            f"export {precision}",
            [
                "export",
                bundle,
                "--out",
                new(f"onnx-{precision}"),
                "--precision",
                precision,
                "--dataset",
                data,
                "--frames",
                "1",
                "--calibration-frames",
                "2",
            ],
        )
    copy = folder / "out" / "bundle"
    shutil.copytree(Path(bundle).resolve(), copy)
    yield "bundle", ["bundle", str(copy)]
    yield "bundle localize", ["bundle", "localize", str(copy)]
    for kind, local in (("adapter", adapter(folder / "adapter", copy)), ("checkpoint", bare(folder / "bare", copy))):
        for words in (
            ["bundle"], ["bundle", "localize"], ["preflight", "--dataset", data, "--policy"],
            ["train", "--dataset", data, "--out", new("never"), "--steps", "1", "--policy"],
            ["eval", "--dataset", data, "--out", new("never")], ["rollout", "--episodes", "1", "--out", new("never")],
            ["bench"], ["export", "--out", new("never")],
        ):  # fmt: skip
            yield f"{LOCAL} {kind}: {words[0]} {words[1] if len(words) == 2 else ''}".strip(), [*words, str(local)]


def beside_lerobot(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """What loads LeRobot, after a policy for it was made."""
    data, run = str(folder / "data"), str(folder / "run")
    yield "record", ["record", "--out", data, "--episodes", "2"]
    yield (
        "train",
        [
            "train",
            "--dataset",
            data,
            "--robot",
            "tabletop",
            "--preset",
            "tiny",
            "--from-scratch",
            "--out",
            run,
            "--steps",
            "1",
            "--batch-size",
            "2",
        ],
    )
    yield "bench", ["bench", run, "--engine", "plain", "--repeats", "1", "--against", "lerobot"]


def bare(folder: Path, bundle: Path) -> Path:
    """A checkpoint as LeRobot writes it: its tokenizer and its vision-language model are named by a hub id."""
    folder.mkdir()
    for name in ("model.safetensors", "policy_preprocessor.json", "policy_postprocessor.json"):
        shutil.copy(bundle / name, folder / name)
    for path in bundle.glob("policy_*.safetensors"):
        shutil.copy(path, folder / path.name)
    config = json.loads((bundle / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vlm_model_name": HUB_ID}))
    before = json.loads((folder / "policy_preprocessor.json").read_text())
    for step in before["steps"]:
        if "tokenizer_name" in step.get("config", {}):
            step["config"]["tokenizer_name"] = HUB_ID
    (folder / "policy_preprocessor.json").write_text(json.dumps(before))
    return folder


def adapter(folder: Path, bundle: Path) -> Path:
    """A LoRA folder whose base is named by a hub id."""
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir()
    for name in ("smolpilot.json", "policy_preprocessor.json", "policy_postprocessor.json"):
        shutil.copy(bundle / name, folder / name)
    config = {"peft_type": "LORA", "base_model_name_or_path": HUB_ID, "r": 2, "lora_alpha": 4}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(
        {f"base_model.model.x.lora_{side}.weight": np.zeros((2, 2), np.float32) for side in "AB"},
        folder / "adapter_model.safetensors",
    )
    return folder


def run(folder: Path, commands: Iterator[tuple[str, list[str]]]) -> None:
    """All verbs in this process; what they ended with, and what was seen."""
    running, events = "import", []

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED:
            own = [argument.family for argument in arguments if isinstance(argument, socket.socket)]
            if socket.AF_UNIX not in own:
                events.append([running, event, str(arguments[-2:])])

    sys.addaudithook(watch)
    from smolpilot.cli.main import main

    (folder / "out").mkdir()
    codes, sent = {}, {}
    for running, command in commands:
        before = packets()
        codes[running] = main(command)
        sent[running] = packets() - before
    (folder / "seen.json").write_text(json.dumps({"codes": codes, "packets": sent, "events": events}))


if __name__ == "__main__":
    place, *words = sys.argv[1:]
    lerobot = ["--lerobot"] if "--lerobot" in words else []
    if "--watched" in words:
        run(Path(place), beside_lerobot(Path(place)) if lerobot else verbs(Path(place)))
    else:
        open_door()
        watcher = [word for word in words if word != "--lerobot"]
        command = [*watcher, sys.executable, __file__, place, "--watched", *lerobot]
        os.execvp(command[0], command)
