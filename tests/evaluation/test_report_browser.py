"""The reports in a real browser: headless Chromium, as wide as a desk and as a phone, both languages and themes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from smolpilot.evaluation import RolloutResult, write_demo_report, write_eval_report, write_rollout_report
from smolpilot.evaluation.reports import write_stages_page

from .helpers_report import (
    make_metrics,
    make_predictions,
    make_results,
    make_runs,
    make_stages,
    with_floors,
    with_images,
    with_language,
)

KINDS = ("eval", "rollout", "stages", "demo")
LONG = "lift_the_very_long_named_box_without_any_space_in_its_name_and_put_it_onto_the_shelf_over_there" * 2
Opened = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One page of each kind, of a robot with 26 joints and an environment with long words."""
    root = tmp_path_factory.mktemp("reports")
    for kind in KINDS:
        (root / kind).mkdir()
    scored = make_predictions(26, episodes=2, length=120)
    scored.joints[3] = LONG
    write_eval_report(root / "eval", scored, make_metrics(scored))
    runs = with_images(make_runs(30, texts=("transfer the cube", LONG)), 3)
    document = with_floors(make_results(runs, video_episodes=3)) | {"warnings": [LONG]}
    document = with_language(document, ("transfer the cube", LONG))
    spec = SimpleNamespace(rate=50.0, labels=document["labels"])
    write_rollout_report(
        root / "rollout", cast(RolloutResult, SimpleNamespace(runs=runs, document=document, spec=spec, told=[]))
    )
    write_stages_page(root / "stages", make_stages(["red", LONG, "blue", "green", "white"]))
    write_demo_report(
        root / "demo" / "report.html", eval_dir=root / "eval", rollouts={"first": root / "rollout"}, commands=[LONG]
    )
    return root


@pytest.fixture
def opened(browser: Any, folder: Path, watched: Callable[[Any], None]) -> Iterator[Opened]:
    """Opens a page, which is watched."""
    contexts = []

    def opened(
        kind: str, *, width: int = 1280, scheme: str = "light", locale: str = "en-US", script: bool = True
    ) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme, locale=locale, java_script_enabled=script
        )
        contexts.append(context)
        page = context.new_page()
        watched(page)
        page.goto((folder / kind / "report.html").as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_lies_beside_the_screen(opened: Opened, kind: str, width: int) -> None:
    page = opened(kind, width=width)
    for language in ("en", "zh"):
        page.locator(f'.languages button[value="{language}"]').click()
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        found = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert found == [width, width], language
        # A wide table scrolls in its own box; a chart is as wide as its figure.
        assert page.evaluate("[...document.querySelectorAll('table')].every(one => one.closest('.scroll'))")
        beyond = (
            "[...document.querySelectorAll('figure > svg')].every(one => one.scrollWidth <= one.parentNode.clientWidth)"
        )
        assert page.evaluate(beyond)


@pytest.mark.parametrize("kind", KINDS)
def test_light_and_dark_are_those_of_the_reader(opened: Opened, kind: str) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        page = opened(kind, scheme=scheme)
        # Ground and ink of the page, and the text of its first chart.
        grounds[scheme] = page.evaluate(
            """() => ["body", "body", "figure > svg text"].map((one, i) =>
            getComputedStyle(document.querySelector(one))[["backgroundColor", "color", "fill"][i]])
            .map(text => text.match(/\\d+/g).slice(0, 3).reduce((sum, one) => sum + Number(one), 0) / 3)"""
        )
    assert grounds["light"][0] > 200 > 128 > grounds["light"][1]
    assert grounds["dark"][0] < 60 < 128 < grounds["dark"][1]
    assert grounds["light"][2] < 128 < grounds["dark"][2]


@pytest.mark.parametrize("kind", KINDS)
def test_the_language_is_the_readers_and_can_be_changed(opened: Opened, kind: str) -> None:
    shown = "[document.documentElement.lang, document.title, document.querySelector('main').innerText]"
    english, chinese = (opened(kind, locale=locale).evaluate(shown) for locale in ("en-US", "zh-CN"))
    assert (english[0], chinese[0]) == ("en", "zh")
    assert english[1] != chinese[1]
    own = [text.replace("中文", "") for text in (english[2], chinese[2])]
    assert not any("\u4e00" <= letter <= "\u9fff" for letter in own[0])
    assert sum("\u4e00" <= letter <= "\u9fff" for letter in own[1]) > 100
    page = opened(kind, locale="de-DE")
    assert page.evaluate("document.documentElement.lang") == "en"
    page.get_by_role("button", name="中文").press("Enter")
    assert page.evaluate(shown) == chinese
    assert page.get_by_role("button", name="中文").get_attribute("aria-pressed") == "true"


def test_without_scripts_the_page_is_english_and_complete(opened: Opened) -> None:
    page = opened("rollout", script=False)
    assert page.locator(".languages").is_hidden()
    text = page.locator("main").inner_text()
    assert "Policy and floors" in text
    assert "策略与下限" not in text
    assert page.locator("figure > svg").count() > 5


def test_a_table_is_sorted_with_the_keyboard_too(opened: Opened) -> None:
    page = opened("rollout")
    table = page.locator("#rates ~ .scroll table").first
    header = table.locator("th", has_text="success rate")
    rates = "one => [...one.tBodies[0].rows].map(row => Number(row.cells[3].dataset.v))"
    before = table.evaluate(rates)
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert (table.evaluate(rates), header.get_attribute("aria-sort")) == (sorted(before), "ascending")
    page.keyboard.press("Enter")
    assert (table.evaluate(rates), header.get_attribute("aria-sort")) == (sorted(before, reverse=True), "descending")
    names = table.locator("th", has_text="policy").first
    names.get_by_role("button").click()
    assert header.get_attribute("aria-sort") is None
    found = table.evaluate("one => [...one.tBodies[0].rows].map(row => row.cells[0].innerText)")
    assert found == sorted(found, key=str.casefold)


def test_the_average_stays_below_when_joints_are_sorted(opened: Opened) -> None:
    page = opened("eval")
    table = page.locator("table:has(tr.total)").first
    table.locator("th", has_text="RMSE").get_by_role("button").click()
    assert table.evaluate("one => one.tBodies[0].rows[one.tBodies[0].rows.length - 1].className") == "total"
    found = table.evaluate("one => [...one.tBodies[0].rows].slice(0, -1).map(row => Number(row.cells[3].dataset.v))")
    assert found == sorted(found)
    assert len(found) == 26


def test_videos_play_and_links_lead_to_files(opened: Opened, folder: Path) -> None:
    page = opened("rollout")
    videos = page.locator("video")
    assert videos.count() >= 2
    assert videos.first.evaluate(
        """async video => { video.preload = "auto"; video.load(); await new Promise(done => video.onloadeddata = done);
        return video.videoWidth > 0 && video.poster.startsWith("data:image/jpeg"); }"""
    )
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map(one => one.getAttribute('href'))")
    files = [link for link in links if not link.startswith("#")]
    assert any(link.startswith("videos/") for link in files)
    assert all((folder / "rollout" / link).is_file() for link in files)
    assert all(page.locator(link).count() == 1 for link in links if link.startswith("#"))


def test_in_print_the_folded_parts_are_open_and_the_ground_is_white(opened: Opened) -> None:
    page = opened("eval", scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() == 1
    assert page.locator(".languages").is_hidden()
