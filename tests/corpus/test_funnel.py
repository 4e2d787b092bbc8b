"""Counts of jobs add up to those of the whole, and the examples show what was changed."""

from __future__ import annotations

import json

import pytest

from hanllama.corpus.funnel import (
    MAX_GROUPS,
    OTHERS,
    FileTally,
    Funnel,
    Groups,
    Lengths,
    Tally,
    bin_edges,
    first_change,
)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("一\n二二\n三", "一\n二\n三", ("二二", "二")),
        ("一\n广告\n广告二\n三", "一\n三", ("广告\n广告二", "")),
        ("一\n三", "一\n新\n三", ("", "新")),
        ("一\n三\n\n", "一\n三", ("", "")),
        ("abc", "", ("abc", "")),
    ],
)
def test_the_first_change_is_shown(before: str, after: str, expected: tuple[str, str]) -> None:
    assert first_change(before, after) == expected


def test_a_change_late_in_a_book_of_one_line_is_shown() -> None:
    before = "长" * 300_000 + "错字" + "尾" * 500
    old, new = first_change(before, before.replace("错", ""))
    assert "错字" in old and "错" not in new and len(old) <= 200


def test_tallies_of_jobs_add_up_in_order() -> None:
    whole, first, second = Tally(), Tally(), Tally()
    for number, part in enumerate([first] * 4 + [second] * 3):
        for tally in (whole, part):
            tally.kept(str(number), f"{number} ", str(number))
            tally.dropped_for("short", str(number), "x")
    first.add(second)
    assert first.as_dict() == whole.as_dict()
    assert [change["id"] for change in whole.changes] == ["0", "1", "2"]


def test_a_funnel_goes_on_from_its_state() -> None:
    def counted() -> Funnel:
        return Funnel([("short", {"least": 3}, Tally())], ignored=["a.jpg"])

    funnel, other = counted(), counted()
    for text in ("一篇文章。\n", "a"):
        funnel.rules[0][2].kept(text, text, text.strip())
        funnel.rules[0][2].dropped_for("short", text, text)
        funnel.lengths.count(len(text))
        funnel.kept.scripts.count(text)
        funnel.kept.lengths.count(len(text))
        funnel.kept.groups["licence"].count("", len(text))
    funnel.add_files([FileTally("a", "gbk", 2, 20), FileTally("b", "", 1, 5)])
    other.restore(json.loads(json.dumps(funnel.state())))
    assert other.as_dict() == funnel.as_dict() and other.ignored == ["a.jpg"]
    for one in (funnel, other):
        one.add_files([FileTally("b", "utf-8", 1, 1)])
        one.lengths.count(1)
        one.kept.scripts.count("b")
        one.end_file()
    assert other.as_dict() == funnel.as_dict() and other.encodings == {"gbk": 1, "utf-8": 1}


def test_a_file_that_goes_on_in_the_next_job_is_one_file() -> None:
    funnel = Funnel([])
    funnel.add_files([FileTally("a", "", 0, 0, 1), FileTally("b", "gbk", 2, 20)])
    funnel.add_files([FileTally("b", "gbk", 1, 5), FileTally("c", "utf-8", 1, 1)])
    funnel.end_file()
    assert funnel.n_files == 3 and (funnel.documents, funnel.characters) == (4, 26)
    assert funnel.encodings == {"none": 1, "gbk": 1, "utf-8": 1}
    assert funnel.files[1] == FileTally("b", "gbk", 3, 25)


def test_a_length_stands_in_the_bin_whose_edges_hold_it() -> None:
    for characters in (1, 2, 9, 10, 11, 999, 1000, 1001, 123_456):
        lengths = Lengths()
        lengths.count(characters)
        (place,) = lengths.bins
        low, high = bin_edges(place, place)
        assert low * 0.999999 <= characters < high * 1.000001


def test_names_beyond_the_limit_are_counted_together() -> None:
    groups = Groups()
    for number in range(MAX_GROUPS + 50):
        groups.count(f"site{number}", 10)
    groups.count("site0", 1)
    assert groups.counts[OTHERS] == [50, 500] and groups.counts["site0"] == [2, 11]
