"""Compression around any format: damage costs what is damaged, and no bomb goes off."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from builders.documents import SENTENCE, read
from hanllama.reading import records
from hanllama.reading.formats import _source
from hanllama.reading.records import Document


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as out:
        out.write(data)
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


PACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


def random_lines(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return ["".join(chr(rng.randrange(0x4E00, 0x9FA5)) for _ in range(500)) for _ in range(count)]


@pytest.mark.parametrize("suffix", PACK)
def test_any_format_may_be_compressed_and_streams_may_follow_each_other(
    tmp_path: Path, suffix: str
) -> None:
    pack = PACK[suffix]
    first, second = (SENTENCE + "一\n").encode(), (SENTENCE + "二\n").encode()
    (tmp_path / f"a.TXT{suffix.upper()}").write_bytes(pack(first) + pack(second))
    rows = [f'{{"text": "{i}"}}\n'.encode() for i in range(3)]
    (tmp_path / f"b.jsonl{suffix}").write_bytes(pack(rows[0]) + pack(rows[1] + rows[2]))
    (tmp_path / f"c.json{suffix}").write_bytes(pack(b'[{"text": "x"}, {"text": "y"}]'))
    (tmp_path / f"d.csv{suffix}").write_bytes(pack(b"id,text\n1,one\n2,two\n"))
    documents, rejects = read(tmp_path)
    assert not rejects
    assert [d.text for d in documents] == [
        (first + second).decode(), "0", "1", "2", "x", "y", "one", "two",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("codec", ["utf-8", "utf-16-le", "utf-16-be"])
def test_of_a_truncated_book_the_whole_lines_are_kept(
    tmp_path: Path, suffix: str, codec: str
) -> None:
    texts = random_lines(400)
    mark = "\ufeff" if codec != "utf-8" else ""
    whole = (mark + "\n".join(texts)).encode(codec)
    packed = PACK[suffix](whole)
    for cut in (len(packed) * 3 // 4, len(packed) * 3 // 4 + 1, len(packed) - 3):
        book = tmp_path / f"book-{cut}.txt{suffix}"
        book.write_bytes(packed[:cut])
        (document,), (reject,) = read(book)
        kept = document.text.split("\n")[:-1]
        assert kept == texts[: len(kept)] and len(kept) > 200
        if codec == "utf-8":
            assert reject.line == len(kept) + 1
        assert "cut short" in reject.reason and reject.file == str(book)


@pytest.mark.parametrize("suffix", PACK)
def test_of_truncated_records_what_can_be_read_is_kept(tmp_path: Path, suffix: str) -> None:
    texts = random_lines(400, seed=1)
    whole = tmp_path / f"whole.jsonl{suffix}"
    records.write_jsonl(whole, (Document(text) for text in texts))
    data = whole.read_bytes()
    cut = tmp_path / f"cut.jsonl{suffix}"
    cut.write_bytes(data[: len(data) * 3 // 4])
    documents, (reject,) = read(cut)
    assert [d.text for d in documents] == texts[: len(documents)]
    assert 200 < len(documents) < 400
    assert reject.line == len(documents) + 1 and "cut short" in reject.reason


@pytest.mark.parametrize("suffix", PACK)
def test_a_flipped_bit_is_noticed(tmp_path: Path, suffix: str) -> None:
    # Without a checksum, as zstd may be written, only a flip that breaks the stream can be seen.
    packed = bytearray(PACK[suffix]("\n".join(random_lines(50)).encode()))
    packed[2] ^= 0x55
    (tmp_path / f"a.txt{suffix}").write_bytes(packed)
    documents, (reject,) = read(tmp_path)
    assert documents == [] and "damaged" in reject.reason


@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_is_named_and_not_held_in_memory(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"bomb.txt{suffix}").write_bytes(PACK[suffix](bytes(40 * 2**20)))
    (tmp_path / "good.txt").write_text(SENTENCE)
    documents, (reject,) = read(tmp_path)
    assert [d.text for d in documents] == [SENTENCE]
    assert "decompression bomb" in reject.reason and reject.file.endswith(f"bomb.txt{suffix}")
    monkeypatch.setattr(_source, "MAX_RATIO", 10**9)
    monkeypatch.setattr(_source, "MAX_DOCUMENT_BYTES", 2**21)
    _, (reject,) = read(tmp_path / f"bomb.txt{suffix}")
    assert reject.reason == "longer than 2 MiB as one document: split it into files"


def test_what_compresses_well_and_is_small_is_no_bomb(tmp_path: Path) -> None:
    text = (SENTENCE + "\n") * 20_000
    packed = lzma.compress(text.encode())
    assert len(text.encode()) > 500 * len(packed)
    (tmp_path / "a.txt.xz").write_bytes(packed)
    assert [d.text for d in read(tmp_path)[0]] == [text]


def test_an_xz_header_that_asks_for_gigabytes_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 3 * 2**29}]
    small = lzma.compress(SENTENCE.encode(), filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}])
    try:
        packed = lzma.compress(SENTENCE.encode(), filters=filters)
    except MemoryError:
        pytest.skip("this machine cannot make such a file")
    assert packed != small
    (tmp_path / "a.txt.xz").write_bytes(packed)
    documents, (reject,) = read(tmp_path)
    assert not documents and "Memory usage limit" in reject.reason


def test_empty_lines_without_end_do_not_become_one_piece(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"\n" * (3 * 2**20)))
    pieces = list(records.pieces(tmp_path / "a.jsonl.gz"))
    assert len(pieces) >= 3
    assert sum(piece.size for piece in pieces) == (tmp_path / "a.jsonl.gz").stat().st_size


# --- standard input ------------------------------------------------------------------------------


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize("suffix", ["", *PACK])
@pytest.mark.parametrize(
    ("data", "texts"),
    [
        (b'{"text": "\xe4\xb8\x80"}\n{"text": "\xe4\xba\x8c"}\n', ["一", "二"]),
        (b'\xef\xbb\xbf \n[ {"text": "\xe4\xb8\x80"},\n {"text": "\xe4\xba\x8c"}]', ["一", "二"]),
        ("[第一章] 渡口\n二".encode("gbk"), ["[第一章] 渡口\n二"]),
        (SENTENCE.encode("utf-16"), [SENTENCE]),
    ],
    ids=["lines", "array", "text", "utf-16"],
)
def test_standard_input_is_told_by_its_first_bytes(
    monkeypatch: pytest.MonkeyPatch, suffix: str, data: bytes, texts: list[str]
) -> None:
    stdin(monkeypatch, PACK[suffix](data) if suffix else data)
    documents, rejects = read("-")
    assert [d.text for d in documents] == texts and not rejects
    assert documents[0].source == "stdin"


def test_standard_input_that_cannot_be_read_is_a_reject(monkeypatch: pytest.MonkeyPatch) -> None:
    for data, reason in (
        (b"PK\x03\x04....", "cannot be read from a pipe"),
        (b"PAR1....", "cannot be read from a pipe"),
        (b"", "empty file"),
        (gzip.compress(SENTENCE.encode())[:30], "cut short"),
    ):
        stdin(monkeypatch, data)
        documents, (reject,) = read("-")
        assert not documents and reason in reject.reason and reject.file == "-"


# --- memory --------------------------------------------------------------------------------------

_READ = """
import resource, sys
from pathlib import Path
from hanllama.reading import records
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[2]), int(sys.argv[2])))
with records.Quarantine() as quarantine:
    print(sum(1 for _ in records.read([sys.argv[1]], quarantine)), quarantine.count)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_memory_does_not_grow_with_the_input(tmp_path: Path, kind: str) -> None:
    """200 MB of records in gzip are read by a process that may have 100 MB beyond its imports."""
    path = tmp_path / f"a.{kind}.gz"
    text = SENTENCE * 9
    count = 200_000
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write({"jsonl": b"", "json": b"[", "csv": b"id,text\n"}[kind])
        for number in range(count):
            record = json.dumps({"text": f"{number} {text}"}, ensure_ascii=False)
            line = f'{number},"{text}\n{number}"' if kind == "csv" else record
            out.write((line + (",\n" if kind == "json" else "\n")).encode())
        out.write(b'{"text": "end"}]' if kind == "json" else b"")
    assert len(text.encode()) * count > 180e6
    limit = _baseline() + 100 * 2**20
    words = [sys.executable, "-c", _READ, str(path), str(limit)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(count + (kind == "json")), "0"]
    words[-1] = str(_baseline() + 2**20)
    assert subprocess.run(words, capture_output=True).returncode != 0, "the limit limits nothing"


def _baseline() -> int:
    """The address space of a process that imported what reading imports."""
    show = "import re; print(re.search(r'VmPeak:\\s+(\\d+)', open('/proc/self/status').read())[1])"
    code = f"from hanllama.reading import records; records._formats(); {show}"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(out.stdout) * 1024
