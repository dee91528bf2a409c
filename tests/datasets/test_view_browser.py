"""The page in a real browser: Debian's headless Chromium, driven by Playwright, the page opened from the disk."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from smolpilot.datasets import DatasetWriter, read_meta
from smolpilot.datasets.check import Finding
from smolpilot.datasets.view import write_page

FPS, LENGTHS = 10, (20, 16, 12)
FINDINGS = [
    Finding("jumps", "error", "the arm jumps", "smolpilot dataset exclude", episode=1, frame=5, joint="lift"),
    Finding("idle", "warning", "stands still", "", episode=1, frame=8, last=15),
    Finding("variety", "info", "a start like that of episode 0", "", episode=1),
    Finding("texts", "warning", "few <b>instructions</b>", ""),
]


def gray(camera: str, episode: int, frame: int) -> int:
    """A level that tells episode and frame apart; the cameras run in opposite directions."""
    step = frame if camera == "front" else LENGTHS[episode] - 1 - frame
    return 30 + 10 * step + 3 * episode


def make_page(root: Path, lengths: tuple[int, ...], codec: Any) -> Path:
    cameras = {"front": (64, 64), "wrist": (64, 96)}
    joints = ["pan", "lift"]
    with DatasetWriter(
        root / "set", fps=FPS, state_names=joints, action_names=joints, cameras=cameras, codec=codec
    ) as writer:
        for episode, length in enumerate(lengths):
            for frame in range(length):
                pictures = {
                    f"observation.images.{name}": np.full((*size, 3), gray(name, episode, frame), dtype=np.uint8)
                    for name, size in cameras.items()
                }
                state = np.array([episode + frame / 10, -frame], dtype=np.float32)
                values = {"observation.state": state, "action": state + 1, "task": f"do {'abc'[episode]}"}
                writer.add_frame({**values, **pictures})
            writer.end_episode()
    episodes = list(range(len(lengths)))
    write_page(read_meta(root / "set"), root / "page", episodes=episodes, findings=FINDINGS)
    return root / "page"


@pytest.fixture(scope="module")
def page_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_page(tmp_path_factory.mktemp("view"), LENGTHS, "h264")


@pytest.fixture
def page(browser: Any, page_folder: Path, watched: Callable[[Any], None]) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    tab = context.new_page()
    watched(tab)
    tab.goto((page_folder / "index.html").as_uri())
    settled(tab)
    yield tab
    context.close()


def settled(page: Any) -> None:
    """Wait until all videos show the frame that was last asked for."""
    page.wait_for_function(
        """() => { const videos = [...document.querySelectorAll('video')];
        const frame = smolpilot.player.frame;
        return videos.length === 2 && videos.every(v => v.readyState >= 2 && !v.seeking && v.wanted === frame); }"""
    )


def shown(page: Any, camera: str, wanted: float) -> float:
    """The gray that the camera's video shows: a seek ends before its frame is painted, so wait for `wanted` a while."""
    until = time.monotonic() + 20
    while True:
        picture = page.locator(f'video[data-camera="{camera}"]').screenshot()
        level = float(np.asarray(Image.open(io.BytesIO(picture)).convert("L"))[20:40, 20:40].mean())
        if abs(level - wanted) < 2.5 or time.monotonic() > until:
            return level


def expect_frame(page: Any, episode: int, frame: int) -> None:
    """Read-out, time of the videos, their images and the values beside the curves are those of this frame."""
    settled(page)
    assert page.locator("#title").text_content() == f"Episode {episode}"
    last = LENGTHS[episode] - 1
    assert page.locator("#readout").text_content() == f"frame {frame} of 0 to {last}, {frame / FPS:.2f} s"
    times = page.evaluate("() => [...document.querySelectorAll('video')].map(v => v.currentTime)")
    first, at_rest = (np.isclose(times, (frame + share) / FPS, rtol=0, atol=1e-3) for share in (0.5, 0.4))
    assert (first | at_rest).all()
    for camera in ("front", "wrist"):
        wanted = gray(camera, episode, frame)
        assert shown(page, camera, wanted) == pytest.approx(wanted, abs=2.5)
    value = page.locator('.chart[data-joint="pan"] .value .state').text_content()
    assert float(value.removeprefix("state ")) == pytest.approx(episode + frame / 10, abs=1e-4)


def cursors(page: Any) -> list[float]:
    return list(page.evaluate("() => [...document.querySelectorAll('.cursor')].map(c => Number(c.getAttribute('x1')))"))


def test_opens_at_the_first_episode(page: Any) -> None:
    expect_frame(page, 0, 0)
    assert page.title() == "set: smolpilot dataset view"
    assert page.locator("#episodes button").all_text_contents()[0] == "Episode 020 frames: do a"
    assert page.locator("#instruction").text_content() == "“do a”"
    assert page.locator(".chart h3 b").all_text_contents() == ["pan", "lift"]


def test_choosing_an_episode_changes_videos_curves_and_instruction(page: Any) -> None:
    sources = page.evaluate("() => [...document.querySelectorAll('video')].map(v => v.src)")
    curve = page.locator('.chart[data-joint="pan"] .curve.state').get_attribute("d")
    page.locator("#episodes button").nth(2).click()
    page.wait_for_function("() => document.querySelector('#title').textContent === 'Episode 2'")
    expect_frame(page, 2, 0)
    assert page.locator("#instruction").text_content() == "“do c”"
    assert page.locator("#episodes button[aria-current=true]").get_attribute("data-episode") == "2"
    changed = page.evaluate("() => [...document.querySelectorAll('video')].map(v => v.src)")
    assert all(old != new for old, new in zip(sources, changed, strict=True))
    path = page.locator('.chart[data-joint="pan"] .curve.state').get_attribute("d")
    assert path != curve
    assert path.count("L") == LENGTHS[2] - 1


@pytest.mark.parametrize("place", ["#timeline", '.chart[data-joint="lift"] > div'])
def test_clicking_and_dragging_seeks_all_videos(page: Any, place: str) -> None:
    box = page.locator(place).bounding_box()
    left, span, y = box["x"] + 56, box["width"] - 66, box["y"] + 15
    page.mouse.click(left + span * 7 / 19, y)
    expect_frame(page, 0, 7)
    at = cursors(page)
    page.mouse.move(left + span * 7 / 19, y)
    page.mouse.down()
    for step in np.linspace(7, 16, 30):
        page.mouse.move(left + span * step / 19, y)
    page.mouse.up()
    expect_frame(page, 0, 16)
    assert len(at) == 3
    assert all(new > old for old, new in zip(at, cursors(page), strict=True))
    page.mouse.move(left, y)
    expect_frame(page, 0, 16)


def test_keys_step_through_frames_and_episodes(page: Any) -> None:
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect_frame(page, 0, 2)
    page.keyboard.press("End")
    expect_frame(page, 0, 19)
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.querySelector('#title').textContent === 'Episode 1'")
    expect_frame(page, 1, 0)
    assert page.evaluate("() => smolpilot.player.frame") == 0


def test_the_frame_that_a_seek_rests_at_is_shown_once_more(page: Any) -> None:
    page.wait_for_function("() => smolpilot.player.videos.every(v => v.share === 0.4 && !v.seeking)")
    page.evaluate(
        """() => { window.seeks = 0;
        smolpilot.player.videos[0].addEventListener('seeking', () => { window.seeks += 1; }); }"""
    )
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => smolpilot.player.videos.every(v => v.share === 0.4 && !v.seeking)")
    expect_frame(page, 0, 1)
    page.wait_for_timeout(500)
    assert page.evaluate("() => window.seeks") == 2, "once for the key, once at rest, and no more"


def test_playing_moves_videos_and_cursor_together_and_stops_at_the_end(page: Any) -> None:
    page.select_option("#speed", "0.25")
    page.keyboard.press("Space")
    assert page.locator("#play").text_content() == "Pause"
    page.select_option("#speed", "4")
    page.wait_for_function("() => smolpilot.player.frame > 4")
    page.wait_for_function("() => !smolpilot.player.playing")
    assert page.locator("#play").text_content() == "Play"
    expect_frame(page, 0, 19)


def test_a_video_that_ends_before_the_others_does_not_stop_them(page: Any) -> None:
    page.keyboard.press("Space")
    # As under load: the clock is at its end while the other camera still plays.
    page.evaluate(
        """async () => {
        const player = smolpilot.player, video = player.videos[0];
        cancelAnimationFrame(player.loop);
        const ended = new Promise(done => video.addEventListener('ended', done, {once: true}));
        video.currentTime = video.duration;
        await ended;
        player.loop = requestAnimationFrame(now => player.tick(now)); }"""
    )
    assert not page.evaluate("() => smolpilot.player.videos[1].ended")
    page.wait_for_function("() => !smolpilot.player.playing")
    expect_frame(page, 0, 19)


def test_findings_are_on_the_time_line_in_the_list_and_in_words(page: Any) -> None:
    assert page.locator("#general summary").text_content() == "1 about the whole dataset"
    assert "few <b>instructions</b>" in page.locator("#general li").text_content()
    assert page.locator("#episodes .count").all_text_contents() == ["", " ▲1 ◆1 ●1", ""]
    assert page.locator("#timeline .mark").count() == 0
    page.locator("#episodes button").nth(1).click()
    page.wait_for_selector("#timeline path.mark.error")
    assert page.locator("#timeline path.mark").count() == 2
    texts = page.locator("#findings li").all_text_contents()
    assert texts[0].split() == ["error", "frame", "5:", "the", "arm", "jumps", "smolpilot", "dataset", "exclude"]
    assert texts[1].split() == ["warning", "frames", "8", "to", "15:", "stands", "still"]
    stretch = page.locator("#timeline rect.stretch")
    assert stretch.count() == 1, "the jump is one frame, the waiting lasts from 8 to 15"
    place = page.locator("#timeline path.mark.warning").get_attribute("transform")
    axis = page.locator("#timeline").bounding_box()["width"] - 66
    assert float(place.removeprefix("translate(").split(",")[0]) == pytest.approx(56 + axis * 8 / 15, abs=1)
    assert float(stretch.get_attribute("x")) == pytest.approx(56 + axis * 8 / 15, abs=1)
    assert float(stretch.get_attribute("width")) == pytest.approx(axis * 7 / 15, abs=1)
    assert page.locator('.chart[data-joint="lift"] path.mark.error').count() == 1
    assert page.locator('.chart[data-joint="pan"] path.mark').count() == 0
    page.locator("#timeline path.mark.error").click()
    expect_frame(page, 1, 5)
    page.locator("#findings button").nth(1).click()
    expect_frame(page, 1, 8)


def test_an_address_opens_episode_and_frame(page: Any) -> None:
    page.goto(page.url.split("#")[0] + "#episode=2&frame=7")
    page.wait_for_function("() => document.querySelector('#title').textContent === 'Episode 2'")
    expect_frame(page, 2, 7)
    assert page.url.endswith("#episode=2&frame=7")


def test_searching_narrows_episodes_and_joints(page: Any) -> None:
    page.fill("#search", "do b")
    visible = page.locator("#episodes button:visible")
    assert visible.count() == 1
    assert visible.get_attribute("data-episode") == "1"
    page.fill("#joints", "lift")
    assert page.locator(".chart:visible h3 b").all_text_contents() == ["lift"]


@pytest.mark.parametrize("codec", ["av1", "hevc"])
def test_videos_of_other_codecs_play(browser: Any, tmp_path: Path, codec: str) -> None:
    tab = browser.new_page()
    tab.goto((make_page(tmp_path, LENGTHS[:1], codec) / "index.html").as_uri() + "#frame=11&episode=0")
    expect_frame(tab, 0, 11)
    note = tab.locator("#notes").text_content()
    assert ("Camera front is shown as h264 (hevc does not play in every browser)." in note) == (codec == "hevc")
    tab.close()
