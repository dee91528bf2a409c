"""Fixtures for all rooms: a tiny recording with real encoded video, and the real one where it is present."""

from __future__ import annotations

import atexit
import contextlib
import fnmatch
import json
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

# Two workers on two cores: one thread each, also in the processes they start, or they fight for the cores.
# Here and not in `pytest_configure`: a folder's own conftest may load torch before that, and a worker with two
# threads adds up in another order than the processes it starts.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"

JOINTS = ["pan", "lift", "gripper"]
CAMERAS = {"front": (48, 64), "wrist": (48, 64)}
TASKS = ["touch the red block", "touch the blue block"]
FPS = 10


def scene(camera: int, task: int, state: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A picture [48, 64, 3] uint8 in which a colored block stands where the state says."""
    picture = np.full((48, 64, 3), 60 + 60 * camera, dtype=np.uint8)
    x, y = int(24 + 20 * state[0]), int(18 + 14 * state[1])
    picture[y : y + 8, x : x + 8] = (220, 40, 40) if task == 0 else (40, 40, 220)
    return picture


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--allowed-skips", type=Path, metavar="FILE",
        help="fail when a test is skipped for a reason that this list does not have (tests/allowed_skips.txt)",
    )  # fmt: skip


def skips_beyond(config: pytest.Config) -> list[str]:
    """`place: reason` of each skip that the list of --allowed-skips does not have; also those of other workers."""
    path, reporter = config.getoption("--allowed-skips"), config.pluginmanager.get_plugin("terminalreporter")
    if path is None or reporter is None:
        return []
    lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    found = []
    for report in reporter.stats.get("skipped", ()):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not any(line and fnmatch.fnmatchcase(reason, line) for line in lines):
            found.append(f"{report.nodeid}: {reason}")
    return found


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    # In a worker there is no reporter, and nothing is found.
    if skips_beyond(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if found := skips_beyond(config):
        terminalreporter.section("skipped for a reason that is not allowed", red=True)
        terminalreporter.write_line(f"add the reason to {config.getoption('--allowed-skips')}, or mend the test:")
        for line in found:
            terminalreporter.write_line(line)


_SCHEDULING = (os.sched_getscheduler(0), os.sched_getparam(0)) if hasattr(os, "sched_getscheduler") else None


@pytest.fixture(autouse=True)
def own_scheduling() -> Iterator[None]:
    """LeRobot's recorder makes the thread that opens SVT-AV1 a real-time one for good (FIFO, 99), where it may: every
    process of the machine would wait for the rest of the tests, emulated servos of another worker first."""
    yield
    if _SCHEDULING is not None and os.sched_getscheduler(0) != _SCHEDULING[0]:
        os.sched_setscheduler(0, *_SCHEDULING)


def pytest_configure(config: pytest.Config) -> None:
    # Frame caches of the tests are not the user's.
    folder = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="smolpilot-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 joints, two cameras 48x64, 2 tasks, 6 episodes of 18 to 23 frames of smooth motion, 10 fps, h264."""
    from smolpilot.datasets import DatasetWriter

    path = tmp_path_factory.mktemp("data") / "tiny"
    with DatasetWriter(
        path, fps=FPS, state_names=JOINTS, action_names=JOINTS, cameras=CAMERAS, robot_type="toy_arm"
    ) as writer:
        for episode in range(6):
            task = episode % 2
            length = 18 + episode
            for frame in range(length):
                phase = (frame + np.array([0, 1])[:, None]) / length * np.pi + 0.3 * episode
                state, following = (
                    np.array([np.sin(p), np.cos(p) * (1 - 2 * task), 0.5 + 0.4 * np.sin(2 * p)], dtype=np.float32)
                    for p in phase[:, 0]
                )
                writer.add_frame(
                    {
                        "observation.state": state,
                        "action": following,
                        "observation.images.front": scene(0, task, state),
                        "observation.images.wrist": scene(1, task, state),
                        "task": TASKS[task],
                    }
                )
            writer.end_episode()
    return path


@pytest.fixture(scope="session")
def unsealed() -> Callable[[Path], Path]:
    """Takes the digests out of a bundle, so that a test may change its files and see what else looks at them."""

    def take_out(bundle: Path) -> Path:
        path = bundle / "smolpilot.json"
        facts = json.loads(path.read_text())
        facts.pop("digests")
        path.write_text(json.dumps(facts))
        return bundle

    return take_out


@contextmanager
def _few_files(room: int) -> Iterator[None]:
    """Room for so many more open files than there are."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, before[1]))
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        for _ in range(room):
            os.close(held.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for descriptor in held:
            os.close(descriptor)


@pytest.fixture(scope="session")
def few_files() -> Callable[[int], AbstractContextManager[None]]:
    """Leaves room for so many more open files than there are."""
    return _few_files


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real recordings, beside the repository or named by SMOLPILOT_REAL_DATA; skips without it."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    path = Path(os.environ.get("SMOLPILOT_REAL_DATA", default))
    if not path.is_dir():
        pytest.skip("no real recordings here (SMOLPILOT_REAL_DATA)")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need the package playwright")
    chromium = os.environ.get("SMOLPILOT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium here (apt install chromium, or SMOLPILOT_CHROMIUM)")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def watched() -> Iterator[Callable[[Any], None]]:
    """Watches a page of the browser: in the end none has complained or asked for anything from elsewhere."""
    complaints: list[str] = []
    requests: list[str] = []

    def watch(page: Any) -> None:
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))

    yield watch
    assert complaints == []
    assert all(url.startswith(("file://", "data:")) for url in requests)
