"""A zip archive is a folder: its members are read, refused or saved one by one, by name."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from builders.documents import SENTENCE, read
from hanllama.reading import records
from hanllama.reading.formats import _archives, _source

BOOK = (SENTENCE + "\n") * 40


def archive(members: list[tuple[str, bytes]], codec: str = "utf-8") -> bytes:
    """A zip whose names are in `codec` without the mark of UTF-8, as old tools write it."""
    out = io.BytesIO()
    stand_ins = []
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for number, (name, data) in enumerate(members):
            stand_in = f"{number:04d}".ljust(len(name.encode(codec)), "~")
            stand_ins.append((stand_in.encode(), name.encode(codec)))
            zipped.writestr(stand_in, data)
    packed = out.getvalue()
    for stand_in, name in stand_ins:
        packed = packed.replace(stand_in, name)
    return packed


@pytest.mark.parametrize("codec", ["gbk", "utf-8"])
def test_members_are_files_with_the_names_they_were_given(tmp_path: Path, codec: str) -> None:
    members = [
        ("小说/第一章 渡口.txt", BOOK.encode("gbk")),
        ("小说/第二章 春天.md", BOOK.encode()),
        ("小说/记录集.jsonl", b'{"text": "a"}\n{"text": 1}\n'),
        ("小说/封面图片.jpg", b"x"),
        ("小说/report.html", b"x"),
        ("__MACOSX/小说/._第一章.txt", b"x"),
        ("小说/.隐藏的.txt", b"x"),
        ("小说/空的文件夹/", b""),
        ("小说/里面还有.zip", b"x"),
        ("小说/里面还有.txt.gz", b"x"),
    ]
    file = tmp_path / "书.ZIP"
    file.write_bytes(archive(members, codec))
    documents, rejects = read(tmp_path)
    place = f"{tmp_path.name}/书.ZIP!小说/"
    assert [(d.id, d.source, d.encoding) for d in documents] == [
        (place + "第一章 渡口.txt", place + "第一章 渡口.txt", "gbk"),
        (place + "第二章 春天.md", place + "第二章 春天.md", "utf-8"),
        (place + "记录集.jsonl:1", place + "记录集.jsonl", "utf-8"),
    ]
    assert [d.text for d in documents] == [BOOK, BOOK, "a"]
    nested = "an archive inside of an archive: unpack it first"
    assert [(r.file, r.line, r.reason) for r in rejects] == [
        (f"{file}!小说/记录集.jsonl", 2, "field 'text' is not text"),
        (f"{file}!小说/里面还有.zip", 1, nested),
        (f"{file}!小说/里面还有.txt.gz", 1, nested),
    ]
    ignored = records.survey([str(tmp_path)]).ignored
    assert [str(path) for path in ignored] == [f"{file}!小说/封面图片.jpg"]


def test_every_format_may_be_a_member(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = io.BytesIO()
    pq.write_table(pa.table({"text": ["一", "二", None]}), table, row_group_size=2)
    members = [
        ("a.json", b'[{"text": "x"}]'),
        ("b.csv", "text\n甲\n乙\n".encode("gbk")),
        ("c.parquet", table.getvalue()),
        ("d.html", f"<p>{SENTENCE}</p>".encode()),
    ]
    (tmp_path / "a.zip").write_bytes(archive(members))
    documents, rejects = read(tmp_path)
    assert [d.text for d in documents] == ["x", "甲", "乙", "一", "二", SENTENCE + "\n"]
    assert [(r.line, r.reason) for r in rejects] == [(3, "field 'text' is null")]


def test_a_download_that_broke_off_is_refused_and_counts_by_its_members(tmp_path: Path) -> None:
    texts = [os.urandom(3000).hex() + "\n" + SENTENCE for _ in range(5)]
    names = [f"第{n}章的正文.txt" for n in range(5)]
    packed = archive([(n, t.encode()) for n, t in zip(names, texts, strict=True)], "gbk")
    (tmp_path / "cut.zip").write_bytes(packed[: int(len(packed) * 0.7)])
    documents, rejects = read(tmp_path)
    assert not documents
    assert [(r.file, r.line) for r in rejects] == [
        (str(tmp_path / "cut.zip"), number) for number in (1, 2, 3, 4)
    ]
    assert "fetch it again" in rejects[0].reason and "zip -FF cut.zip" in rejects[0].reason


@pytest.mark.parametrize("data", [b"", b"no archive at all", b"PK\x03\x04", b"PK\x05\x06" * 30])
def test_what_is_no_archive_is_named(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    documents, (reject,) = read(tmp_path)
    assert not documents and reject.file == str(tmp_path / "a.zip")
    assert "not a zip archive" in reject.reason


def test_a_damaged_member_does_not_cost_the_others(tmp_path: Path) -> None:
    packed = bytearray(archive([("a.txt", os.urandom(5000).hex().encode()), ("b.txt", b"good")]))
    packed[2000] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(packed)
    documents, (reject,) = read(tmp_path)
    assert [d.text for d in documents] == ["good"]
    assert reject.file == f"{tmp_path / 'a.zip'}!a.txt" and "damaged" in reject.reason


def test_encrypted_members_are_named(tmp_path: Path) -> None:
    packed = bytearray(archive([("a.txt", b"secret"), ("b.txt", b"good")]))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        packed[packed.index(magic) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(packed)
    documents, (reject,) = read(tmp_path)
    assert [d.text for d in documents] == ["good"]
    assert reject.reason == "encrypted: unpack it with its password first"


def test_a_bomb_costs_itself_alone(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("bomb.txt", bytes(40 * 2**20))
        zipped.writestr("good.txt", BOOK)
    documents, (reject,) = read(tmp_path)
    assert [d.text for d in documents] == [BOOK]
    assert reject.file.endswith("a.zip!bomb.txt") and "decompression bomb" in reject.reason


def test_members_that_overlap_are_counted_together(tmp_path: Path) -> None:
    """A thousand entries for the same bytes: each passes, together they are a bomb."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("a.txt", os.urandom(2**19).hex())
        zipped.filelist *= 1000
    documents, (reject,) = read(tmp_path)
    assert not documents
    assert reject.reason == f"{_archives._BOMB} the archive's size"


def test_a_member_longer_than_it_says_is_not_followed(tmp_path: Path) -> None:
    """The directory says 10 bytes; what comes out must not be 30 MB."""
    data = bytearray(archive([("a.txt", b"x" * (30 * 2**20))]))
    entry = data.index(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(data)
    documents, (reject,) = read(tmp_path)
    assert not documents and "damaged" in reject.reason


def test_the_limit_of_one_document_holds_for_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_source, "MAX_DOCUMENT_BYTES", 2**20)
    (tmp_path / "a.zip").write_bytes(archive([("a.txt", os.urandom(2**20).hex().encode())]))
    documents, (reject,) = read(tmp_path)
    assert not documents and reject.reason.startswith("longer than 1 MiB as one document")


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz"])
def test_a_tar_archive_is_read_like_a_zip(tmp_path: Path, suffix: str) -> None:
    out = io.BytesIO()
    mode = "w:" if suffix == ".tar" else "w:gz"
    with tarfile.open(fileobj=out, mode=mode, encoding="gbk") as packed:  # type: ignore[call-overload]
        for name, data in [
            ("小说/第一章.txt", BOOK.encode("gbk")),
            ("小说/里面.zip", b"x"),
            ("记录.jsonl", b'{"text": "a"}\n{"text": 1}\n'),
        ]:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            packed.addfile(entry, io.BytesIO(data))
    file = tmp_path / f"书{suffix}"
    file.write_bytes(out.getvalue())
    documents, rejects = read(tmp_path)
    place = f"{tmp_path.name}/书{suffix}!"
    assert [(d.text, d.id) for d in documents] == [
        (BOOK, f"{place}小说/第一章.txt"),
        ("a", f"{place}记录.jsonl:1"),
    ]
    assert [r.file.partition("!")[2] for r in rejects] == ["小说/里面.zip", "记录.jsonl"]
    file.write_bytes(out.getvalue()[:-700] if suffix == ".tar" else out.getvalue()[:-60])
    _, rejects = read(tmp_path)
    assert any("cut short" in r.reason for r in rejects) or suffix == ".tar"
