"""Drawings put what they draw where it belongs, in well-formed SVG."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from lorarank.estimate.recommendation import Interval, LowRank, Reading
from lorarank.report.drawing import charts
from lorarank.report.drawing.svg import Scale, element, label, number, path, picture, steps
from lorarank.runs import Loss, Truncation, TruncationPoint
from lorarank.sweep.outcome import Trained, outcome

CURVE = Truncation(
    1,
    "weight",
    16,
    60,
    tuple(TruncationPoint(k, Loss(2 + e, 0.1), Loss(e, 0.002)) for k, e in ((1, 0.2), (2, 0.05), (4, 0.009), (8, 0.0))),
    (),
)


def drawn(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def marks(svg: str, class_: str) -> list[tuple[float, float]]:
    """Centres of the circles of a class."""
    return [
        (float(node.attrib["cx"]), float(node.attrib["cy"]))
        for node in drawn(svg).iter("circle")
        if node.attrib["class"] == class_
    ]


def test_the_truncation_curve_falls_and_marks_the_chosen_point() -> None:
    svg = charts.truncation("c", CURVE, 1.0, 4, 0.01, near=False)
    dots = marks(svg, "dot")
    assert [round(x) for x, _ in dots] == [46, 126, 207, 288, 368]  # equal steps for equal doublings
    assert [y for _, y in dots[:4]] == sorted(y for _, y in dots[:4])  # down the page is down the loss
    assert marks(svg, "mark") == [dots[2]]
    assert "k = 1: 20% ± 0.2%" in svg
    assert "keep rank 4" in svg


def test_near_the_limit_what_lies_outside_is_cut_and_has_no_dot() -> None:
    svg = charts.truncation("c", CURVE, 1.0, 4, 0.01, near=True)
    assert len(marks(svg, "dot")) == 3
    assert 'clip-path="url(#c-c)"' in svg
    (limit,) = re.findall(r'd="M46 ([\d.]+)L368 [\d.]+" class="limit"', svg)
    mark = marks(svg, "mark")[0][1]
    assert mark > float(limit) > charts.TOP  # the chosen point lies below the limit


def test_a_low_rank_loses_by_the_law_and_the_answer_is_marked_on_it() -> None:
    svg = charts.low_rank("l", LowRank(1, 0.04, 0.005, 4.0, 4, 4.0, 4, 2, 16), 4)
    (measured,), (mark,) = marks(svg, "dot"), marks(svg, "mark")
    (limit,) = (float(y) for y in re.findall(r'd="M54 ([\d.]+)L360 [\d.]+" class="limit"', svg))
    assert measured[1] < mark[1] == pytest.approx(limit, abs=0.05)  # 4 % at r = 1 is 1 % at r = 4
    assert "4% at r = 1, measured" in svg
    assert "r = 2: 2% (1.2% to 3%)" in svg  # 3.02 % by the power 1.3, 4.98 % by 0.75
    assert "r = 4</text>" in svg


def test_bands_are_one_and_two_standard_errors_wide() -> None:
    svg = charts.truncation("c", CURVE, 1.0, 4, 0.01, near=True)
    heights = []
    for class_ in ("band faint", "band"):
        (points,) = re.findall(f'd="M([^"]*)Z" class="{class_}"', svg)
        ys = [float(point.split()[1]) for point in points.split("L")]
        heights.append(abs(ys[2] - ys[-3]))
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2)
    assert heights[1] > 1


def test_points_that_are_no_numbers_are_left_out() -> None:
    points = (*CURVE.points, TruncationPoint(12, Loss(math.nan, math.nan), Loss(math.nan, math.nan)))
    svg = charts.truncation("c", Truncation(1, "weight", 16, 60, points, ()), 1.0, 4, 0.01, near=False)
    assert "nan" not in svg


def test_the_rank_line_shows_answer_interval_and_readings() -> None:
    interval = Interval(4, 8, (Reading("90% energy", 8), Reading("85% energy", 4), Reading("capacity floor", 4)))
    svg = charts.rank_line("l", 8, interval, 8)
    (mark,) = marks(svg, "mark")
    readings = marks(svg, "dot")
    assert readings[0][0] == mark[0]
    assert readings[1][0] == readings[2][0] < mark[0]
    assert readings[1][1] != readings[2][1]  # beside each other, not on top
    assert "from 4 to 8" in svg


def test_a_scree_plot_falls_and_marks_the_rank() -> None:
    svg = charts.scree("s", "q_proj", "layer 0", (4.0, 2.0, 1.0, 0.0), 2)
    (line,) = re.findall(r'd="M([^"]*)" class="line"', svg)
    ys = [float(point.split()[1]) for point in line.split("L")]
    assert len(ys) == 3  # zero has no logarithm
    assert ys == sorted(ys)
    assert ys[1] - ys[0] == pytest.approx(ys[2] - ys[1], abs=0.2)  # halves are equal steps
    assert "rank 2" in svg


@pytest.mark.parametrize("values", [(), (0.0, 0.0), (1.0,)])
def test_a_scree_plot_of_nothing_is_still_a_picture(values: tuple[float, ...]) -> None:
    assert drawn(charts.scree("s", "q", "q", values, None)).tag == "svg"


def test_thinned_spectra_keep_both_ends_and_go_up() -> None:
    for count in (1, 48, 49, 64, 256, 5000):
        chosen = charts.thinned(count)
        assert (chosen[0], chosen[-1]) == (0, count - 1)
        assert chosen == sorted(set(chosen))
        assert len(chosen) <= charts.MOST_POINTS


def test_parameters_are_marked_where_they_are() -> None:
    svg = charts.parameters("p", 1000, [(8, "r = 8")])
    assert marks(svg, "mark") == [marks(svg, "dot")[3]]


def test_the_loss_by_rank_marks_what_suffices() -> None:
    points = [Trained(r, 1e-3, 0, (loss, loss + 0.1), 1.0, 9.0) for r, loss in ((1, 1.2), (2, 1.005), (4, 1.0))]
    svg = charts.loss_by_rank("s", outcome((2.0, 2.1), (1, 1), points, 100))
    assert marks(svg, "mark") == [marks(svg, "dot")[1]]
    assert "r = 2 suffices" in svg


@pytest.mark.parametrize("ranks", [(1,), (1, 2)])
def test_ranks_that_diverged_are_left_out_of_the_picture(ranks: tuple[int, ...]) -> None:
    points = [Trained(r, 1e-3, 0, (1.0 if r in ranks else math.nan,) * 2, 1.0, 9.0) for r in (1, 2, 4)]
    svg = charts.loss_by_rank("s", outcome((2.0, 2.1), (1, 1), points, 100))
    assert len(marks(svg, "dot")) == len(ranks)
    assert "nan" not in svg


def test_seeds_as_measured_lie_inside_the_picture() -> None:
    """What a seed does to all ranks is in the dots of the seeds, and not in the line."""
    points = [Trained(r, 1e-3, s, (1 + 0.1 / r + 0.5 * s,) * 2, 1.0, 9.0) for r in (1, 2) for s in (0, 1, 2)]
    svg = charts.loss_by_rank("s", outcome((4.0, 4.1), (1, 1), points, 100))
    heights = [y for _, y in marks(svg, "seed")]
    assert len(set(heights)) == 6


def test_pictures_are_well_formed_whatever_a_name_holds() -> None:
    hostile = "</title><script>\"'&\x1b[31m\u202e\x00"
    svg = charts.scree("s", hostile, hostile, (2.0, 1.0), 1)
    assert "<script" not in svg
    assert all(character.isprintable() for character in svg)
    assert [node.tag for node in drawn(svg)][:2] == ["title", "desc"]


def test_attributes_and_text_are_escaped() -> None:
    assert element("a", title='"><b') == '<a title="&quot;&gt;&lt;b"/>'
    assert "<b>" not in label(0, 0, "<b>")
    assert drawn(picture("k", "a&b", "<c>", "", 1, 1)).find("title").text == "a&b"  # type: ignore[union-attr]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.68, 0.9), (-0.02, 0.04), (0, 16.2), (5, 5), (0, 1e-9)])
def test_steps_are_round_and_inside(low: float, high: float) -> None:
    found = steps(low, high)
    assert 1 <= len(found) <= 6
    assert all(low - 1e-12 <= step <= high + 1e-12 for step in found)


def test_a_scale_keeps_its_ends_and_its_order() -> None:
    across = Scale(1, 256, 10, 90, log=True)
    assert (across(1), across(256), across(16)) == (10, 90, 50)
    assert across(0.1) == 10
    assert Scale(0, 1, 0, 10, open=True)(2) == 20
    assert Scale(3, 3, 0, 10)(3) == 5


def test_paths_and_numbers_are_short() -> None:
    assert path([], "line") == ""
    assert path([(1.0, 2.04), (3, 4)], "line") == '<path d="M1 2L3 4" class="line"/>'
    assert number(-0.01) == "0"
