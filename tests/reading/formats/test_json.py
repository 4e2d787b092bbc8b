"""A broken element of a JSON array costs itself; what is lost beyond it counts by its size."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from builders.documents import read
from hanllama import cli
from hanllama.reading import records
from hanllama.reading.formats import _source
from hanllama.talks.conversations import ConversationReader

BREAKS = {
    "a comma is missing": lambda text: text.replace(", ", " ", 1),
    "a colon is missing": lambda text: text.replace(":", "", 1),
    "a quotation mark inside": lambda text: text.replace("第", '"第', 1),
    "cut in half": lambda text: text[: len(text) // 2],
    "never closed": lambda text: text[:-1],
    "an escape that is none": lambda text: text.replace("第", "\\x", 1),
    "as Python prints it": lambda text: text.replace('"', "'"),
}


def array(elements: list[Any], broken: int, how: str, between: str = ",\n") -> str:
    texts = [json.dumps(element, ensure_ascii=False) for element in elements]
    texts[broken] = BREAKS[how](texts[broken])
    return "[" + between.join(texts) + "]"


@pytest.mark.parametrize("how", sorted(BREAKS))
@pytest.mark.parametrize("broken", [0, 31, 199])
def test_a_broken_element_costs_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: int, how: str
) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    elements = [{"id": n, "text": f"第{n}篇 [,", "turns": turns} for n in range(200)]
    for chunk, between in ((2**20, ",\n"), (97, ", ")):
        monkeypatch.setattr(_source, "CHUNK_BYTES", chunk)
        (tmp_path / "a.json").write_text(array(elements, broken, how, between), encoding="utf-8")
        documents, (reject,) = read(tmp_path)
        assert [d.id for d in documents] == [str(n) for n in range(200) if n != broken]
        assert reject.line == broken + 1 and reject.reason.startswith("invalid JSON")


def test_two_broken_neighbours_are_two(tmp_path: Path) -> None:
    texts = [f'{{"text": "{n}"}}' for n in range(10)]
    texts[4:6] = ['{"text": "四}', '{"text" "五"}']
    (tmp_path / "a.json").write_text(f"[{','.join(texts)}]", encoding="utf-8")
    documents, rejects = read(tmp_path)
    assert len(documents) == 8 and [r.line for r in rejects] == [5, 6]


def test_elements_that_cannot_be_found_again_count_by_their_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each has another first field, so that none begins as those before it did."""
    texts = [json.dumps({f"k{n}": 1, "text": f"第{n:04d}篇"}) for n in range(1000)]
    texts[31] = texts[31][:-5]
    (tmp_path / "a.json").write_text(f"[{', '.join(texts)}]", encoding="utf-8")
    documents, rejects = read(tmp_path)
    assert len(documents) == 31
    assert 900 < len(rejects) < 1100
    assert cli.main(["clean", str(tmp_path / "a.json"), "--output", str(tmp_path / "o")]) == 2
    assert "max-quarantine-share" in capsys.readouterr().err


def test_arrays_end_to_end_are_all_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"text": "一"}]\n\ufeff[{"text": "二"}]', encoding="utf-8")
    documents, rejects = read(tmp_path)
    assert [d.text for d in documents] == ["一", "二"] and not rejects


@pytest.mark.parametrize("suffix", [".json", ".json.gz"])
def test_nothing_is_lost_where_a_chunk_ends_inside_of_a_character(
    tmp_path: Path, suffix: str
) -> None:
    pack = gzip.compress if suffix.endswith(".gz") else bytes
    for before in range(2**20 - 14, 2**20 - 7):
        lines = ('{"text":"' + "a" * before + '中"}\n{"text":"二"}\n').encode()
        (tmp_path / f"a{suffix}").write_bytes(pack(lines))
        documents, rejects = read(tmp_path)
        assert [len(d.text) for d in documents] == [before + 1, 1] and not rejects
    one = ('{"text":\n"' + "a" * (2**20 - 11) + '中"\n}').encode()
    (tmp_path / f"a{suffix}").write_bytes(pack(one))
    assert [len(d.text) for d in read(tmp_path)[0]] == [2**20 - 10]


def test_a_conversation_across_a_chunk_is_kept(tmp_path: Path) -> None:
    for name, begin in (("lines", '{"instruction":"'), ("array", '[{"instruction":"')):
        long = "a" * (2**20 - len(begin) - 1) + "中"
        end = '"}]' if name == "array" else '"}\n{"instruction":"二","output":"2"}\n'
        path = tmp_path / f"{name}.json"
        path.write_text(f'{begin}{long}","output":"好{end}', encoding="utf-8")
        reader = ConversationReader([str(path)])
        first = next(iter(reader))
        assert first.messages[0]["content"] == long
        assert len(list(reader)) == (1 if name == "array" else 2) and not reader.quarantine.count


def test_lines_behind_empty_ones_keep_their_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\n\n{"text": "一"}\n{"a": 1}\n', encoding="utf-8")
    (document,), (reject,) = read(tmp_path)
    assert document.id.endswith("a.json:3") and reject.line == 4


def test_files_joined_with_their_marks_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "一"}\n\ufeff{"text": "二"}\n', encoding="utf-8")
    (tmp_path / "b.json").write_bytes(b"\xef\xbb\xbf \n")
    documents, rejects = read(tmp_path)
    assert [d.text for d in documents] == ["一", "二"]
    assert [r.reason for r in rejects] == ["empty file"]


def test_a_row_group_that_cannot_be_read_counts_by_its_rows(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"第{n}行" * 20 for n in range(100)]})
    pq.write_table(table, path, row_group_size=50, use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[4:60] = bytes(56)
    path.write_bytes(data)
    documents, rejects = read(tmp_path)
    assert len(documents) == 50 and [r.line for r in rejects] == list(range(1, 51))
    assert records.files([str(path)]) == [path]
