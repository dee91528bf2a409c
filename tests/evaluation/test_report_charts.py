"""The charts of the reports: ticks, gaps, what is left of long lines and of values without bounds."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from smolpilot.evaluation.reports.charts import (
    Axis,
    Chart,
    Row,
    axis_of,
    bar_rows,
    interval_rows,
    stacked_rows,
    strip_rows,
)


def numbers(path: str) -> list[float]:
    return [float(one) for one in re.findall(r"-?\d+(?:\.\d+)?", path)]


def lines(svg: str) -> list[str]:
    return [one.attrib["d"] for one in ElementTree.fromstring(svg).iter("path") if "line" in one.attrib["class"]]


def test_ticks_are_round_and_written_short() -> None:
    assert [text for _, text in Axis("x", -0.1, 1.05).ticks()] == ["0.00", "0.25", "0.50", "0.75", "1.00"]
    assert [text for _, text in Axis("x", 0, 3.2, whole=True).ticks()] == ["0", "1", "2", "3"]
    assert Axis("x", -2000, 2000).ticks()[0][1].startswith("−")
    assert [text for _, text in Axis("x", 8, 1500, log=True).ticks()] == ["10", "30", "100", "300", "1,000"]
    assert len(Axis("x", 4.1, 4.9, log=True).ticks()) >= 3  # no round power is in it
    assert [text for _, text in Axis("x", 0, 4e7).ticks()][-1] == "4e+07"


@pytest.mark.parametrize("values", [[], [np.nan, np.inf], [0.0, 0.0], [5.0], [-1e30, 1e30]])
@pytest.mark.parametrize("log", [False, True])
def test_an_axis_holds_whatever_comes(values: list[float], log: bool) -> None:
    axis = axis_of("x", [np.array(values)], log=log)
    assert axis.low < axis.high
    assert np.isfinite([place for place, _ in axis.ticks()]).all()


def test_a_gap_stays_a_gap_and_a_long_line_keeps_its_extremes() -> None:
    x, y = np.arange(3000.0), np.zeros(3000)
    y[1234], y[2345], y[700:900] = 1.0, -1.0, np.nan
    chart = Chart(Axis("x", 0, 3000), Axis("y", -1, 1))
    chart.line(x, y, "policy")
    (path,) = lines(chart.svg())
    heights = numbers(path)[1::2]
    assert (min(heights), max(heights)) == (22.0, 220 - 36.0)
    assert path.count("M") == 2
    assert len(heights) < 260


def test_wild_values_stay_numbers_that_a_browser_reads() -> None:
    chart = Chart(Axis("x", 0, 1), Axis("y", 0, 1))
    chart.line([0, 0.5, 1], [0.5, 1e300, -1e300], "policy")
    assert max(map(abs, numbers(lines(chart.svg())[0]))) < 1000


def test_rows_are_well_formed_whatever_their_names_are() -> None:
    bad = "<b>&\"' \x00\u202e" + "x" * 300
    axis = Axis(bad, 0, 100)
    for svg in (
        interval_rows([Row(bad, "policy", 50, (10, 90)), Row("none", "floor", None)], axis),
        bar_rows([Row(bad, "policy", 20, marks=[("hold", 30), ("mean", None), ("mean", float("nan"))])], axis),
        stacked_rows([(bad, [("both", 3), ("neither", 0)])], axis),
        strip_rows([(bad, [(10, 20, 0.5)]), ("none", [])], axis, "clamped", marks=[("seam", 40)]),
    ):
        root = ElementTree.fromstring(svg.replace("\x00", ""))
        assert root.attrib["role"] == "img"
        assert not list(root.iter("b"))
        assert "\u202e" not in svg
        assert "nan" not in svg


def test_a_strip_is_where_its_stretch_is_and_darker_the_stronger_it_is() -> None:
    svg = strip_rows([("pan", [(0, 50, 0.0), (50, 100, 1.0)])], Axis("time", 0, 100), "clamped", marks=[("seam", 50)])
    first, second = (one.attrib for one in ElementTree.fromstring(svg).iter("rect"))
    left, width = float(first["x"]), float(first["width"])
    assert (float(second["x"]), float(second["width"])) == pytest.approx((left + width, width))
    assert (first["fill-opacity"], second["fill-opacity"]) == ("0.30", "1.00")
    assert numbers(lines(svg)[0])[0] == pytest.approx(left + width)


def test_many_uprights_are_one_element() -> None:
    chart = Chart(Axis("x", 0, 10), Axis("y", 0, 1))
    chart.uprights([0, 5, 10], "seam")
    (path,) = lines(chart.svg())
    assert path.count("M") == path.count("V") == 3
    places = numbers(path)[::3]
    assert places[1] == pytest.approx((places[0] + places[2]) / 2)
