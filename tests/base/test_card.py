"""Report cards: said once, shown on the terminal, on the page and as JSON."""

from __future__ import annotations

import html
import json
from pathlib import Path

import pytest

from hanllama.base import report
from hanllama.base.card import Card, aligned

EVIL = "\x1b[2J<b>\u202e"


def _card(word: str) -> Card:
    card = Card("A card")
    card.section("Numbers")
    card.facts({"documents": 12_345, word: 1})
    card.table([(word, 7), ("a\nb", 1000)], ["name", "count"], word)
    card.counts("dropped", {word: 3, "long": 1}, "records")
    card.note(word, "bad")
    card.section("Pictures", report.histogram([1, 2], title="lengths", x="characters"))
    card.section("Nothing to show")
    card.counts("quarantined", {}, "records")
    card.table([], ["name"])
    return card


def test_terminal_page_and_json_say_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = _card("河")
    card.write(tmp_path, {"n": 1}, "found.json")
    card.print()
    page = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    shown = capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text()) == {"n": 1}
    for figure in ("12,345", "河", "1,000", "dropped"):
        assert figure in page and figure in shown
    assert "dropped: 3 x 河 (75.00 %); 1 x long (25.00 %)\n" in shown and "75.00 %" in page
    assert "<svg" in page and "<svg" not in shown


def test_what_is_empty_is_not_shown() -> None:
    card = _card("x")
    assert "Nothing to show" not in card.page() and "quarantined" not in "".join(card.lines)


def test_data_acts_neither_on_a_terminal_nor_on_a_page() -> None:
    card = _card(EVIL)
    shown = "\n".join(card.lines)
    assert "\x1b" not in shown and "\u202e" not in shown and r"\u{1b}[2J" in shown
    assert "<b>\u202e" not in card.page()


def test_columns_stand_under_each_other_also_with_chinese_text() -> None:
    rows = [("石头", 5, "3.50 %"), ("a", 1000, "-")]
    assert aligned(rows, ["名", "count", "share"]) == [
        "名    count   share",
        "石头      5  3.50 %",
        "a     1,000       -",
    ]
    assert aligned([("a\nb", "x"), ("c", "")]) == ["a b  x", "c"]
