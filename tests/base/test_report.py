"""Report cards: what a reader may rely on when a page is opened."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hanllama.base import report
from hanllama.base.card import Card
from hanllama.base.report import chart, facts, histogram, note, table, text

EVIL = "<script>alert('x')</script>\"&'"


class _Elements(HTMLParser):
    """Every element of a page with its attributes, and whether each is closed in order."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _whole_page(word: str) -> str:
    line = {word: ([1.0, 2.0], [3.0, 4.0]), word + "2": ([1.0], [math.nan])}
    blocks = [
        chart(line, title=word, x=word, y=word),
        histogram([1, 2, 3], title=word, x=word, y=word),
        table([[word, 1]], headings=[word, word], title=word),
        facts({word: word}),
        note(word, "bad"),
        text(word, title=word),
        word,
    ]
    card = Card(word, word)
    card.section(word, *blocks)
    return card.page()


def _paths(svg: str) -> list[list[tuple[float, float]]]:
    """The drawn lines of the series, as points in the chart's own units."""
    group = "".join(re.findall(r'<g class="s\d">(.*?)</g>', svg, re.S))
    drawn = re.findall(r'<path d="M([\d.\- L]+)', group)
    return [[tuple(map(float, p.split())) for p in d.split("L")] for d in drawn]  # type: ignore[misc]


def test_everything_from_data_is_escaped_everywhere() -> None:
    html = _whole_page(EVIL)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 15
    assert not [tag for tag, _ in _Elements(html).found if tag == "script"]


def test_a_page_is_one_file_that_loads_nothing() -> None:
    html = _whole_page("x")
    elements = _Elements(html)
    assert not [tag for tag, _ in elements.found if tag in {"link", "script", "img", "iframe"}]
    for tag, attributes in elements.found:
        assert not {"src", "href", "srcset"} & set(attributes), tag
    assert "url(" not in html and "@import" not in html
    assert "http://" not in html and "https://" not in html
    assert "default-src 'none'" in html


def test_a_page_has_both_colour_schemes_and_prints() -> None:
    html = _whole_page("x")
    assert "prefers-color-scheme: dark" in html and "@media print" in html


def test_writing_replaces_the_file_in_one_step(tmp_path: Path) -> None:
    target = tmp_path / "new" / "report.html"
    Card("一").write(target.parent)
    card = Card("二")
    card.section("样本", "祥子")
    card.write(target.parent)
    html = target.read_text(encoding="utf-8")
    assert "二" in html and "祥子" in html and "一</h1>" not in html
    assert [p.name for p in target.parent.iterdir()] == ["report.html"]


def test_a_chart_draws_its_values_where_they_belong() -> None:
    ((low, middle, high),) = _paths(chart({"a": ([0, 5, 10], [0, 5, 10])}, title="", x="", y=""))
    assert low[0] == report.LEFT and high[0] == report.WIDTH - report.RIGHT
    assert middle[0] == pytest.approx((low[0] + high[0]) / 2, abs=0.2)
    assert middle[1] == pytest.approx((low[1] + high[1]) / 2, abs=0.2)
    assert low[1] > high[1], "a larger value stands higher"


def test_a_log_axis_puts_equal_ratios_at_equal_distances() -> None:
    svg = report.bars([1, 10, 100], [5, 5], title="", x="", log_x=True)
    one, two = map(float, re.findall(r'class="bar" d="M[\d. ]+v[-\d.]+h([\d.]+)', svg))
    assert one == pytest.approx(two, abs=0.2)


def test_non_finite_values_interrupt_the_line_and_are_counted() -> None:
    ys = [1.0, 2.0, math.nan, 3.0, math.inf, -math.inf, 2.0]
    svg = chart({"loss": (range(7), ys)}, title="", x="", y="")
    assert [len(p) for p in _paths(svg)] == [2, 1, 1]
    assert svg.count('class="dot"') == 2, "a lone point has no length, so it is a dot"
    assert "3 not drawable" in svg
    assert svg.count('class="gap"') == 3
    assert not re.search(r'(?:d|cx|cy|x|y)="[^"]*(?:nan|inf)', svg)


def test_a_chart_without_a_finite_value_says_so() -> None:
    for ys in ([math.nan, math.inf], []):
        assert "no finite values" in chart({"a": (range(len(ys)), ys)}, title="t", x="", y="")
    assert "no finite values" in chart({}, title="t", x="", y="")


def test_thinning_keeps_every_extreme_and_both_ends() -> None:
    ys = [math.sin(i / 4000) for i in range(50_000)]
    ys[31_415], ys[20_000] = 40.0, -40.0
    (points,) = _paths(chart({"a": (range(50_000), ys)}, title="", x="", y=""))
    assert len(points) <= report.MAX_POINTS
    heights = sorted(y for _, y in points)
    assert heights[0] < heights[1] and heights[-1] > heights[-2], "both spikes are there"
    assert points[0][0] == report.LEFT and points[-1][0] == report.WIDTH - report.RIGHT


def test_a_broken_long_series_is_still_thinned() -> None:
    ys = [float(i % 7) if i % 50 else math.nan for i in range(30_000)]
    drawn = _paths(chart({"a": (range(30_000), ys)}, title="", x="", y=""))
    assert sum(map(len, drawn)) < 2 * report.MAX_POINTS + 600 * 4


def test_a_zigzag_is_drawn_faint_under_its_trend() -> None:
    noisy = [5 + (-1) ** i for i in range(1000)]
    smooth = [math.exp(-i / 300) for i in range(1000)]
    assert chart({"a": (range(1000), noisy)}, title="", x="", y="").count('class="faint"') == 1
    assert 'class="faint"' not in chart({"a": (range(1000), smooth)}, title="", x="", y="")


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 10, ["0", "2", "4", "6", "8", "10"]),
        (0, 6000, ["0", "1k", "2k", "3k", "4k", "5k", "6k"]),
        (1.93, 2.11, ["1.95", "2.00", "2.05", "2.10"]),
        (0, 5e-4, ["0", "1e-4", "2e-4", "3e-4", "4e-4", "5e-4"]),
        (0.55, 1.6, ["0.6", "0.8", "1.0", "1.2", "1.4", "1.6"]),
        (-1, 1, ["-1.0", "-0.5", "0", "0.5", "1.0"]),
        (0, 2.5e6, ["0", "500k", "1.0M", "1.5M", "2.0M", "2.5M"]),
    ],
)
def test_ticks_stand_at_round_values(low: float, high: float, labels: list[str]) -> None:
    assert [label for _, label in report._linear_ticks(low, high)] == labels


def test_a_constant_series_and_a_single_point_have_axes() -> None:
    for values in ([5.0] * 3, [0.0], [1e9]):
        svg = chart({"a": (range(len(values)), values)}, title="", x="", y="")
        assert svg.count('class="ytick"') >= 2


def test_a_histogram_counts_every_value_once() -> None:
    svg = histogram([1, 1, 2, 3, 10, math.nan], title="", x="", bins=3)
    counts = [int(c) for c in re.findall(r": (\d+)</title>", svg)]
    assert counts == [4, 0, 1]
    assert "1 not drawable" in svg


def test_a_histogram_of_one_value_or_none_is_drawn() -> None:
    assert histogram([7] * 5, title="", x="").count('<path class="bar"') == 40
    assert "no values" in histogram([], title="", x="")


def test_a_table_aligns_numbers_and_keeps_the_order() -> None:
    html = table([["a", 1234567, None], ["b", 0.123456, True]], headings=["n", "v", "w"])
    assert re.findall(r"<td[^>]*>([^<]*)", html) == ["a", "1,234,567", "–", "b", "0.1235", "yes"]
    assert html.count('class="number"') == 3


def test_a_row_of_the_wrong_length_is_a_bug_and_fails() -> None:
    with pytest.raises((ValueError, IndexError)):
        table([["a"]], headings=["n", "v"])
