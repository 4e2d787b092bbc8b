"""A slip in a text table of the stories is an error that names its file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hanllama.base.errors import InputError
from hanllama.stories import tables
from hanllama.stories.tables import BANKS, PLOTS, read_banks, read_phrases, read_plots

FOLDER = Path(tables.__file__).parent


def plots(path: Path) -> Any:
    return read_plots(path, BANKS)


def phrases(path: Path) -> Any:
    return read_phrases(path, PLOTS)


@pytest.mark.parametrize(
    ("read", "name", "old", "new", "says"),
    [
        (read_banks, "words.txt", "盏 灯笼", "灯笼", "columns cl n+"),
        (read_banks, "words.txt", "湖边 湖边\n", "湖边 湖边 湖里\n", "columns n in"),
        (read_banks, "words.txt", "\n@animal\n", "\n@animals\n", "@child"),
        (read_banks, "words.txt", "[glad:", "[sad:", "second section"),
        (read_banks, "words.txt", "[hero: he cl kind n+]", "", "before the first"),
        (plots, "plots.txt", "{hero}{sad}极了", "{hero}{sad.v}极了", "{sad.v}"),
        (plots, "plots.txt", "{hero}{sad}极了", "{hero}{sed}极了", "{sed.n}"),
        (plots, "plots.txt", "{hero}{sad}极了", "{hero}{sad极了", "brace"),
        (plots, "plots.txt", "[friend: game]", "[friend: gmae]", "gmae"),
        (plots, "plots.txt", "¶\n", "¶\n\n", "no sentence"),
        (phrases, "phrases.txt", "用上{words}", "用上{word}", "words"),
        (phrases, "phrases.txt", "lost 找东西", "last 找东西", "themes"),
        (phrases, "phrases.txt", "color lost", "colour lost", "colour"),
        (phrases, "phrases.txt", "color lost", "color lots", "lots"),
        (phrases, "phrases.txt", "{hero}要{plant}。", "{hero}要{plants}。", "plants"),
    ],
)
def test_a_slip_is_named_with_its_line(
    tmp_path: Path, read: Callable[[Path], Any], name: str, old: str, new: str, says: str
) -> None:
    right = (FOLDER / name).read_text(encoding="utf-8")
    at = right.index(old)
    wrong = tmp_path / name
    wrong.write_text(right[:at] + new + right[at + len(old) :], encoding="utf-8")
    with pytest.raises(InputError) as raised:
        read(wrong)
    message = str(raised.value)
    lines = range(right[:at].count("\n") + 1, right[:at].count("\n") + 3)
    assert says in message
    if "second" not in says and "before" not in says:
        assert any(f"{wrong}, line {line}:" in message for line in lines)
    assert f"{wrong}, line " in message


@pytest.mark.parametrize("name", ["words.txt", "plots.txt", "phrases.txt"])
def test_blank_lines_and_comments_between_sections_change_nothing(
    tmp_path: Path, name: str
) -> None:
    right = (FOLDER / name).read_text(encoding="utf-8")
    (tmp_path / name).write_text(right.replace("\n[", "\n\n# 注\n\n["), encoding="utf-8")
    readers: dict[str, Callable[[Path], Any]] = {
        "words.txt": lambda path: [list(map(vars, bank)) for bank in read_banks(path).values()],
        "plots.txt": lambda path: [(plot.name, plot.steps) for plot in plots(path)],
        "phrases.txt": phrases,
    }
    assert readers[name](tmp_path / name) == readers[name](FOLDER / name)
