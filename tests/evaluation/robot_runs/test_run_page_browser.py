"""The page of a robot run in a real browser: as wide as a desk and as a phone, both languages and themes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from smolpilot.evaluation.robot_runs import write_run_report

from .helpers_robot_runs import example_run

LONG = "the_very_long_name_of_a_joint_without_any_space_in_it_that_no_chart_has_room_for" * 2
JOINTS = [f"joint_{number}" for number in range(25)]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a robot with 26 joints."""
    folder = example_run(tmp_path_factory.mktemp("runs") / "wide", seconds=3.0, joints=[LONG, *JOINTS])
    return write_run_report(folder)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_lies_beside_the_screen_in_either_language(
    browser: Any, watched: Callable[[Any], None], page_file: Path, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, locale="en-US")
    page = context.new_page()
    watched(page)
    page.goto(page_file.as_uri())
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    for language, heading in (("en", "Commanded and measured"), ("zh", "指令与实测")):
        page.locator(f'.languages button[value="{language}"]').click()
        assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [width, width], language
        assert page.evaluate("[...document.querySelectorAll('table')].every(one => one.closest('.scroll'))")
        beyond = (
            "[...document.querySelectorAll('figure > svg')].every(one => one.scrollWidth <= one.parentNode.clientWidth)"
        )
        assert page.evaluate(beyond)
        text = page.locator("main").inner_text()
        assert heading in text
    assert "Commanded and measured" not in text
    links = page.evaluate("[...document.querySelectorAll('a[href]')].map(one => one.getAttribute('href'))")
    assert all(page.locator(link).count() == 1 for link in links if link.startswith("#"))
    assert all((page_file.parent / link).is_file() for link in links if not link.startswith("#"))
    context.close()


def test_joints_are_sorted_by_their_jerk(browser: Any, watched: Callable[[Any], None], page_file: Path) -> None:
    context = browser.new_context(locale="en-US")
    page = context.new_page()
    watched(page)
    page.goto(page_file.as_uri())
    table = page.locator("#joints ~ .scroll table").first
    table.locator("th", has_text="RMS jerk, commanded").get_by_role("button").click()
    found = table.evaluate("one => [...one.tBodies[0].rows].map(row => Number(row.cells[6].dataset.v))")
    assert found == sorted(found)
    assert len(found) == 26
    context.close()
