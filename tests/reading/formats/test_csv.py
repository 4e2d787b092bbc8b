"""Rows of a table are records, in any encoding, and a row that is none costs itself."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from builders.documents import SENTENCE, read
from hanllama.reading import records
from hanllama.reading.records import Fields


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "gbk", "utf-16"])
def test_rows_go_over_lines_inside_of_quotes(tmp_path: Path, codec: str) -> None:
    table = f'id, text,category\r\n1,"{SENTENCE}\n二，""三""",史\r\n\r\n2,{SENTENCE},\r\n3\r\n'
    (tmp_path / "a.csv").write_bytes(table.encode(codec))
    documents, (reject,) = read(tmp_path)
    assert [(d.text, d.id, d.category) for d in documents] == [
        (f'{SENTENCE}\n二，"三"', "1", "史"),
        (SENTENCE, "2", ""),
    ]
    assert documents[0].encoding == {"utf-8-sig": "utf-8", "utf-16": "utf-16-le"}.get(codec, codec)
    assert (reject.line, reject.reason) == (5, "no field 'text'")


def test_rows_that_are_none_are_counted_with_their_number_and_beginning(tmp_path: Path) -> None:
    lines = ["text,id", "一,1", "二,2,2", '"三"x,3', "四,4", '"五,5', "六,6"]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    documents, rejects = read(tmp_path)
    assert [d.id for d in documents] == ["1", "4"]
    assert [(r.line, r.reason.partition(":")[0], r.raw) for r in rejects] == [
        (3, "more fields than the 2 of the header", "二,2,2\n"),
        (4, "not a row of CSV", '"三"x,3\n'),
        (6, "not a row of CSV", '"五,5\n六,6\n'),  # both its lines count
        (7, "not a row of CSV", '"五,5\n六,6\n'),
    ]


def test_a_mark_that_is_never_closed_counts_by_the_rows_it_takes(tmp_path: Path) -> None:
    lines = ["text"] + [f"第{n}行" for n in range(1000)]
    lines[31] = '"' + lines[31]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    documents, rejects = read(tmp_path)
    assert len(documents) == 30 and len(rejects) == 970


def test_a_line_longer_than_the_limit_is_named_and_so_is_the_row_it_tears(tmp_path: Path) -> None:
    long = "字" * (12 * 2**20)
    (tmp_path / "a.csv").write_text(f'text\n好\n"{long[:20]}\n{long}"\n末\n', encoding="utf-8")
    documents, rejects = read(tmp_path)
    assert [d.text for d in documents] == ["好"]
    torn = "not a row of CSV: unexpected end of data"
    assert sorted(r.reason for r in rejects) == ["longer than 32 MiB", torn, torn]
    assert rejects[0].raw.endswith("末\n")


def test_damaged_bytes_cost_a_line(tmp_path: Path) -> None:
    rows = [f"{SENTENCE},{number}".encode() for number in range(300)]
    rows[100] = b"\xff\xfe" + rows[100]
    (tmp_path / "a.csv").write_bytes(b"text,id\n" + b"\n".join(rows))
    documents, (reject,) = read(tmp_path)
    assert [d.id for d in documents] == [str(n) for n in range(300) if n != 100]
    assert reject.line == 102 and "not valid utf-8" in reject.reason
    assert reject.raw.startswith("\\xff\\xfe")


def test_tables_by_tabs_know_no_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tid\n"开头\t1\n一，"二"\t2\n', encoding="utf-8")
    documents, rejects = read(tmp_path)
    assert [(d.text, d.id) for d in documents] == [('"开头', "1"), ('一，"二"', "2")]
    assert not rejects


def test_a_table_without_rows_or_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,id\n")
    assert read(tmp_path) == ([], [])
    (tmp_path / "a.csv").write_text("")
    assert [r.reason for r in read(tmp_path)[1]] == ["no header"]


def test_fields_are_named_and_pieces_are_of_a_megabyte(tmp_path: Path) -> None:
    out = io.StringIO()
    out.write("正文,编号,出处,类别,许可\n")
    for number in range(30_000):
        out.write(f"{SENTENCE},{number},某书,史,CC0\n")
    (tmp_path / "a.csv").write_text(out.getvalue(), encoding="utf-8")
    fields = Fields("正文", "编号", "出处", "类别", "许可")
    documents, rejects = read(tmp_path, fields=fields)
    assert not rejects and len(documents) == 30_000
    last = documents[-1]
    assert (last.id, last.source, last.category, last.licence) == ("29999", "某书", "史", "CC0")
    assert len(list(records.pieces(tmp_path / "a.csv"))) > 3
