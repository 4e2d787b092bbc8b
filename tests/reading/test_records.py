"""Text of any kind and encoding becomes documents; what cannot be used is named, never lost."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from builders.documents import read
from hanllama import cli
from hanllama.base.errors import InputError
from hanllama.reading import records
from hanllama.reading.formats import _source
from hanllama.reading.records import Document, Quarantine

SIMPLIFIED = (
    "那一年冬天来得很早，河面结了一层薄冰；老船工把船拖上岸，用草绳一道一道地捆好，对他的孙子说：“我们等"
    "开春再下水，现在就先回家去。”\n孩子问了许多话：鱼在冰下面冷不冷，船会不会想念水，还有没有人来过河。\n"
)
TRADITIONAL = "國破山河在，城春草木深。\n感時花濺淚，恨別鳥驚心。\n烽火連三月，家書抵萬金。\n"


# --- encodings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("codec", "text", "reported"),
    [
        ("utf-8", SIMPLIFIED, "utf-8"),
        ("utf-8-sig", SIMPLIFIED, "utf-8-sig"),
        ("gbk", SIMPLIFIED, "gbk"),
        ("gbk", TRADITIONAL, "gbk"),
        ("gb18030", SIMPLIFIED + "𠮷", "gb18030"),
        ("cp950", TRADITIONAL, "big5"),
        ("big5hkscs", TRADITIONAL + "佢哋喺度𠵱家", "big5hkscs"),
        ("utf-16-le", SIMPLIFIED, "utf-16-le"),
        ("utf-16-be", TRADITIONAL, "utf-16-be"),
        ("utf-16-le", "plain ASCII, two bytes each\n", "utf-16-le"),
        ("utf-16", SIMPLIFIED, "utf-16-le"),
        ("utf-32-le", "\ufeff" + SIMPLIFIED, "utf-32-le"),
        ("gbk", "ASCII almost to the end, as in a program's log. " * 40 + "完成", "gbk"),
    ],
)
def test_each_encoding_is_recognized_on_the_whole_file(
    tmp_path: Path, codec: str, text: str, reported: str
) -> None:
    (tmp_path / "a.txt").write_bytes(text.encode(codec))
    (document,), rejects = read(tmp_path)
    assert (document.text, document.encoding, rejects) == (
        text.removeprefix("\ufeff"),
        reported,
        [],
    )


def test_short_texts_are_recognized_too() -> None:
    """14 bytes of GBK come out of charset guessers as Korean."""
    rng = random.Random(0)
    sentences = (SIMPLIFIED + TRADITIONAL).replace("\n", "")
    for _ in range(200):
        start = rng.randrange(len(sentences) - 7)
        text = sentences[start : start + 7]
        for codec in ("gbk", "utf-16-le", "utf-8"):
            assert records.decode(text.encode(codec))[0] == text, (text, codec)


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + random.Random(1).randbytes(5000),
        gzip.compress(SIMPLIFIED.encode() * 50),
        bytes(1000),
        ("naïve café, déjà vu, façade " * 20).encode("latin-1"),
        ("Привет, как дела? " * 20).encode("cp1251"),
    ],
    ids=["png", "gzip", "zeros", "latin-1", "cyrillic"],
)
def test_what_is_no_chinese_text_is_refused_not_guessed(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match="convert it to UTF-8"):
        records.decode(data)
    (tmp_path / "a.txt").write_bytes(data)
    documents, (reject,) = read(tmp_path)
    assert not documents
    assert reject.file.endswith("a.txt") and "not text in UTF-8" in reject.reason


@pytest.mark.parametrize("codec", ["utf-8", "gbk"])
def test_one_damaged_byte_costs_a_line_not_a_book(tmp_path: Path, codec: str) -> None:
    lines = [line.encode(codec) for line in (SIMPLIFIED * 60).split("\n")[:-1]]
    lines[77] = lines[77][:9] + b"\xff\xff" + lines[77][9:]
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    (document,), (reject,) = read(tmp_path)
    good = (SIMPLIFIED * 60).split("\n")[:-1]
    assert document.text.split("\n") == good[:77] + good[78:]
    assert reject.line == 78 and "\\xff\\xff" in reject.raw


def test_the_real_gbk_books_read_right(shared_data: Path) -> None:
    (document,), rejects = read(shared_data / "messy" / "hanshu_orig.gbk.txt")
    assert not rejects and document.encoding == "gb18030"
    assert "高祖，沛丰邑中阳里人也，姓刘氏。母媪尝息大泽之陂，梦与神遇" in document.text
    (document,), rejects = read(shared_data / "messy" / "sanguo_orig.gbk.txt")
    assert not rejects and document.encoding == "gb18030"
    assert "滚滚长江东逝水，浪花淘尽英雄。是非成败转头空" in document.text


# --- kinds of files ----------------------------------------------------------------------------


def test_a_book_is_one_document_and_a_line_of_jsonl_is_one(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(SIMPLIFIED, encoding="utf-8")
    (tmp_path / "notes.MD").write_text("# 题\n\n文", encoding="utf-8")
    lines = [{"text": "一", "id": 7, "source": "baike", "category": "史"}, {"text": "二"}]
    (tmp_path / "c.jsonl").write_text("\n".join(json.dumps(x) for x in lines), encoding="utf-8")
    folder = tmp_path.name
    documents, rejects = read(tmp_path)
    assert not rejects
    assert documents == [
        Document(SIMPLIFIED, f"{folder}/book.txt", f"{folder}/book.txt"),
        Document("一", "7", "baike", "史"),
        Document("二", f"{folder}/c.jsonl:2", f"{folder}/c.jsonl"),
        Document("# 题\n\n文", f"{folder}/notes.MD", f"{folder}/notes.MD"),
    ]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_what_write_jsonl_writes_read_reads(tmp_path: Path, suffix: str) -> None:
    documents = [
        Document("一\u2028行\x85一\x0b行\n二行", "a", "某处"),  # separators that are not \n
        Document('𠮷 👨‍👩‍👧 \\ " \x7f\x00', "b", "某处", "杂"),
        Document("", "c", "某处"),
    ]
    path = tmp_path / f"a.jsonl{suffix}"
    assert records.write_jsonl(path, iter(documents)) == 3
    first = path.read_bytes()
    assert read(path) == (documents, [])
    records.write_jsonl(path, documents)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_write_jsonl_leaves_the_old_file_when_the_documents_fail(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    records.write_jsonl(path, [Document("旧")])

    def failing() -> Any:
        yield Document("新")
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError):
        records.write_jsonl(path, failing())
    assert [d.text for d in read(path)[0]] == ["旧"]
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("chunk", [7, 64, 2**20])
def test_a_json_array_gives_its_elements_however_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(_source, "CHUNK_BYTES", chunk)
    elements: list[Any] = [{"text": f"第{i}篇 ] , [ 文" + "长" * i} for i in range(60)]
    elements[5:8] = [None, 12345678, {"story": "x"}]
    (tmp_path / "a.json").write_text(json.dumps(elements, indent=1, ensure_ascii=False))
    documents, rejects = read(tmp_path)
    assert [d.text for d in documents] == [
        e["text"] for e in elements if isinstance(e, dict) and "text" in e
    ]
    assert [(r.line, r.reason) for r in rejects] == [
        (6, "null"),
        (7, "not a JSON object"),
        (8, "no field 'text'"),
    ]
    assert documents[-1].id.endswith("a.json:60")


def test_other_json_is_lines_or_one_object(tmp_path: Path) -> None:
    (tmp_path / "lines.json").write_text('{"text": "一"}\n{"text": "二"}\n')
    (tmp_path / "object.json").write_text('{\n "text":\n "三"\n}\n')
    (tmp_path / "damaged.json").write_text('{"text": "四\n{"text": "五"}\n')
    documents, rejects = read(tmp_path)
    assert sorted(d.text for d in documents) == sorted("一二三五")
    assert [(r.line, r.reason) for r in rejects] == [(1, "invalid JSON")]


def test_a_json_array_cut_short_keeps_what_it_had(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes('[{"text": "一"}, {"text": "二"}, {"text": "三'.encode()[:-1])
    documents, (reject,) = read(tmp_path)
    assert [d.text for d in documents] == ["一", "二"]
    assert reject.line == 3 and "from this element on" in reject.reason


def test_parquet_is_read_by_row_groups_with_its_fields(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["一", None, "三", "四"],
            "id": [1, 2, 3, 4],
            "source": ["书"] * 4,
            "score": [0.5] * 4,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    documents, rejects = read(tmp_path)
    assert [(d.text, d.id, d.source) for d in documents] == [
        ("一", "1", "书"),
        ("三", "3", "书"),
        ("四", "4", "书"),
    ]
    assert [(r.line, r.reason) for r in rejects] == [(2, "field 'text' is null")]
    documents, rejects = read(tmp_path, fields="story_zh")
    assert not documents and [r.line for r in rejects] == [1, 2, 3, 4]
    (tmp_path / "a.parquet").write_bytes(b"PAR1 not really")
    documents, (reject,) = read(tmp_path)
    assert not documents and "not a Parquet file" in reject.reason


@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b'{"text": "\xe4\xb8\x80"}\n{"text": "\xe4\xba\x8c"}\n', ["一", "二"]),
        ("一\n二".encode("gbk"), ["一\n二"]),
    ],
)
def test_standard_input_is_read(
    monkeypatch: pytest.MonkeyPatch, data: bytes, texts: list[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    documents, rejects = read("-")
    assert [d.text for d in documents] == texts and not rejects
    assert documents[0].source == "stdin"
    with pytest.raises(InputError, match="cannot be mixed"):
        read("-", "a.txt")


# --- damage ------------------------------------------------------------------------------------


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text(SIMPLIFIED)
    os.symlink("nowhere.txt", tmp_path / "dangling.txt")
    os.mkfifo(tmp_path / "pipe.txt")  # opening it would wait for ever
    documents, rejects = read(tmp_path)
    assert [d.text for d in documents] == [SIMPLIFIED]
    assert sorted(Path(r.file).name for r in rejects) == ["dangling.txt", "pipe.txt"]
    assert all("cannot be read" in r.reason for r in rejects)


def test_quarantine_holds_file_line_reason_and_the_beginning(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "ok"}\n\n{"text": "\xff\xfe"}\n{"x": 1}\n{"text"')
    out = tmp_path / "out" / "quarantine.jsonl"
    with Quarantine(out) as quarantine:
        list(records.read([str(tmp_path / "a.jsonl")], quarantine))
    entries = [json.loads(line) for line in out.read_bytes().split(b"\n")[:-1]]
    file = str(tmp_path / "a.jsonl")
    assert entries == [
        {
            "file": file,
            "line": 3,
            "reason": "line is not valid UTF-8",
            "raw": '{"text": "\\xff\\xfe"}',
        },
        {"file": file, "line": 4, "reason": "no field 'text'", "raw": '{"x": 1}'},
        {"file": file, "line": 5, "reason": "invalid JSON", "raw": '{"text"'},
    ]
    assert quarantine.reasons.total() == quarantine.count == 3
    assert quarantine.first is not None and quarantine.first.line == 3


# --- which files -------------------------------------------------------------------------------


def test_files_are_found_sorted_once_and_without_what_is_no_corpus(tmp_path: Path) -> None:
    hidden = [".hidden.txt", ".cache/x.txt"]
    beside = ["quarantine.jsonl", "out.quarantine.jsonl", "report.html", "report.json"]
    beside += ["manifest.json", "SHA256SUMS"]
    corpus = ["b/2.txt", "b/10.txt", "a.jsonl", "c.TXT.GZ"]
    for name in [*corpus, *hidden, *beside, "picture.png"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    os.symlink(tmp_path, tmp_path / "b" / "loop")
    os.symlink(tmp_path / "a.jsonl", tmp_path / "z.jsonl")
    survey = records.survey([str(tmp_path)])
    names = [p.relative_to(tmp_path).as_posix() for p in survey.files]
    assert names == ["a.jsonl", "b/10.txt", "b/2.txt", "c.TXT.GZ"]
    assert sorted(p.name for p in survey.ignored) == ["loop", "picture.png"]
    assert records.files([str(tmp_path), str(tmp_path / "a.jsonl")]) == list(survey.files)
    assert records.files([str(tmp_path / "b" / "*.txt")]) == [
        tmp_path / "b" / "10.txt",
        tmp_path / "b" / "2.txt",
    ]
    assert len(records.files([str(tmp_path / "**" / "*.txt")])) == 2


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Root may read everything; as nobody it may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "a.txt").write_text(SIMPLIFIED)
        for closed in ("closed", "unlisted"):
            (folder / closed).mkdir()
            (folder / closed / "inside.txt").write_text(SIMPLIFIED)
        for kind in ("txt", "jsonl.gz", "zip", "parquet", "epub"):
            (folder / f"secret.{kind}").write_text("x")
            (folder / f"secret.{kind}").chmod(0)
        (folder / "closed").chmod(0)
        (folder / "unlisted").chmod(0o744)  # its names can be seen, its files not
        with without_privileges():
            size = records.survey([name]).size
            documents, rejects = read(folder)
            alone, (reject,) = read(folder / "closed")
        (folder / "closed").chmod(0o700)
    assert size == len(SIMPLIFIED.encode()) + 5
    assert [d.text for d in documents] == [SIMPLIFIED]
    assert sorted(Path(r.file).relative_to(folder).as_posix() for r in rejects) == [
        "closed",
        *sorted(f"secret.{kind}" for kind in ("epub", "jsonl.gz", "parquet", "txt", "zip")),
        "unlisted/inside.txt",
    ]
    assert all("Permission denied" in r.reason for r in [*rejects, reject]) and not alone


def test_a_loop_of_folders_and_a_loop_of_links_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.txt").write_text(SIMPLIFIED)
    os.symlink(tmp_path, tmp_path / "a" / "b" / "up")
    os.symlink(tmp_path / "a", tmp_path / "again")
    os.symlink("self.txt", tmp_path / "self.txt")
    documents, (reject,) = read(tmp_path)
    assert len(documents) == 1
    loops = records.survey([str(tmp_path)]).ignored
    assert sorted(loops) == [tmp_path / "a" / "b" / "up", tmp_path / "again"]
    assert reject.file.endswith("self.txt") and "symbolic links" in reject.reason


def test_a_file_whose_name_is_gbk_on_disk_is_named_right(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), "骆驼渡口.txt".encode("gbk"))
    with open(path, "wb") as out:
        out.write(SIMPLIFIED.encode())
    documents, rejects = read(tmp_path)
    assert [d.id for d in documents] == [f"{tmp_path.name}/骆驼渡口.txt"] and not rejects


def test_fields_are_mapped_and_tinystories_are_read(tmp_path: Path) -> None:
    record = {
        "story": "A boat.", "story_zh": "一条船。", "summary": "船", "source": "gpt",
        "instruction": {"prompt:": "写", "words": ["船"]}, "license": "CC-BY", "n": 2**70,
    }  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps([record]))
    fields = records.Fields(text="story_zh", id="n", category="summary")
    with Quarantine() as quarantine:
        (document,) = records.read([str(tmp_path)], quarantine, fields=fields)
        assert list(records.read([str(tmp_path)], quarantine, "story_zh"))
    assert document == Document("一条船。", str(2**70), "gpt", "船", licence="CC-BY")
    assert json.loads(records.document_line(document))["licence"] == "CC-BY"


def test_nothing_to_read_is_an_error_that_says_what_would_be_read(tmp_path: Path) -> None:
    with Quarantine() as quarantine:
        with pytest.raises(InputError, match="does not exist"):
            records.read([str(tmp_path / "absent")], quarantine)
        with pytest.raises(InputError, match=r"no file to read.*\.parquet .*\.txt"):
            records.read([str(tmp_path)], quarantine)
        with pytest.raises(InputError, match="no file matches"):
            records.read([str(tmp_path / "*.txt")], quarantine)
        (tmp_path / "a.doc").write_text("x")
        with pytest.raises(InputError, match=r"a\.doc: cannot read files of this kind"):
            records.read([str(tmp_path / "a.doc")], quarantine)


# --- names that are not UTF-8 --------------------------------------------------------------------


@pytest.fixture
def gbk(tmp_path: Path) -> Path:
    """A folder as `unzip` leaves an archive of GBK: a book, records, a picture, what is no text."""
    folder = tmp_path / as_gbk("小说集")
    folder.mkdir()
    (folder / as_gbk("红楼梦.txt")).write_text(SIMPLIFIED, encoding="utf-8")
    (folder / as_gbk("记录.jsonl")).write_text('{"text": "一"}\n{"a": 1}\n', encoding="utf-8")
    (folder / as_gbk("坏的.txt")).write_bytes(random.Random(1).randbytes(500))
    (folder / as_gbk("封面.xyz")).write_bytes(b"x")
    return folder


def as_gbk(name: str) -> str:
    return os.fsdecode(name.encode("gbk"))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
@pytest.mark.parametrize("verb", ["clean", "dedup", "decontaminate"])
def test_files_with_names_in_gbk_are_read_and_named(
    gbk: Path, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / as_gbk("出来")
    (exam := tmp_path / as_gbk("考题.csv")).write_text(f"question,A\n{SIMPLIFIED[:40]},B\n")
    more = {
        "clean": ["--rules", "none", "--max-quarantine-share", "0.9"],
        "dedup": ["--max-quarantine-share", "0.9"],
        "decontaminate": ["--eval", str(exam), "--remove", "passages"],
    }
    assert cli.main([verb, str(gbk), "--output", str(output), *more[verb]]) == 0
    said = "".join(capsys.readouterr())
    written = [path.read_bytes().decode("utf-8") for path in output.iterdir()]
    for text in (said, *written):
        assert "\\udc" not in text and not any(0xDC80 <= ord(c) <= 0xDCFF for c in text)
    (part,) = output.glob("part-*.jsonl")
    sources = {json.loads(line)["source"] for line in part.read_text("utf-8").splitlines()}
    assert sources == {"小说集/红楼梦.txt", "小说集/记录.jsonl"}
    rejects = (output / "quarantine.jsonl").read_text("utf-8").splitlines()
    shown = sorted(json.loads(line)["file"].rpartition("小说集/")[2] for line in rejects)
    assert shown == ["坏的.txt", "记录.jsonl"]
    again = cli.main(["clean", str(tmp_path / as_gbk("没有")), "--output", str(tmp_path / "x")])
    assert again == 2 and "没有 does not exist" in capsys.readouterr().err
