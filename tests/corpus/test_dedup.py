"""Promises of `hanllama dedup`: what goes, what stays, what is said of it."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hanllama import cli
from hanllama.base import config, fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.corpus.dedup import exact_loops as loops
from hanllama.corpus.dedup import scan, work
from hanllama.corpus.dedup.dedup import dedup
from hanllama.corpus.dedup.options import DedupConfig
from hanllama.corpus.dedup.work import SegmentWriter
from hanllama.reading import records

HAN = [chr(code) for code in range(0x4E00, 0x4E00 + 3000)]


def prose(seed: int, length: int) -> str:
    """Random Han characters: two such texts share nothing."""
    return "".join(random.Random(seed).choices(HAN, k=length))


def substituted(text: str, share: float, seed: int = 0) -> str:
    """The text with so many of its characters replaced."""
    rng = random.Random(seed)
    return "".join(rng.choice(HAN) if rng.random() < share else c for c in text)


def corpus(path: Path, texts: dict[str, str]) -> Path:
    lines = (json.dumps({"text": t, "id": i}, ensure_ascii=False) for i, t in texts.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def run(*inputs: Path, output: Path, **options: Any) -> dict[str, str]:
    """Deduplicate, check the folder's checksums and that the work folder has gone."""
    values = {"inputs": [str(i) for i in inputs], "output": str(output), **options}
    dedup(config.load(DedupConfig, values, "test"))
    fs.verify_sums(output)
    assert not output.with_name(f"{output.name}.partial").exists()
    return documents(output)


def documents(folder: Path) -> dict[str, str]:
    lines = [x for p in sorted(folder.glob("part-*.jsonl")) for x in p.read_bytes().split(b"\n")]
    return {d["id"]: d["text"] for d in map(json.loads, filter(None, lines))}


def clusters(folder: Path) -> dict[str, dict[str, Any]]:
    """{the id that stays: its cluster}."""
    lines = (folder / "clusters.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    return {c["kept"]["id"]: c for c in map(json.loads, lines) if "kept" in c}


# --- exact ---------------------------------------------------------------------------------------


def test_copies_that_differ_in_white_space_alone_go(tmp_path: Path) -> None:
    texts = {
        "a": "第一行。\n第二行。",
        "b": "　　第一行。\r\n\n  第二行。\t",
        "c": "第一行。第二行！",
    }
    kept = run(corpus(tmp_path / "in.jsonl", texts), output=tmp_path / "out")
    assert list(kept) == ["a", "c"] and kept["a"] == texts["a"]
    (removed,) = clusters(tmp_path / "out")["a"]["removed"]
    assert (removed["id"], removed["how"], removed["similarity"]) == ("b", "exact", 1.0)
    everything = run(
        tmp_path / "in.jsonl", output=tmp_path / "all",
        exact_documents=False, method="none", containment=0,
    )  # fmt: skip
    assert everything == texts


def test_a_thousand_copies_are_one_document_and_all_counted(tmp_path: Path) -> None:
    texts = {f"copy-{i}": "同一篇短文。" for i in range(1500)} | {"other": "另一篇短文。"}
    kept = run(corpus(tmp_path / "in.jsonl", texts), output=tmp_path / "out")
    assert list(kept) == ["copy-0", "other"]
    cluster = clusters(tmp_path / "out")["copy-0"]
    assert cluster["members"] == 1499 and len(cluster["removed"]) == 1000


def test_ids_sources_and_texts_may_hold_any_character_and_none_is_lost(tmp_path: Path) -> None:
    text = prose(1, 70)
    odd = ["\0", "\0\0", "a\0", "a", "", "\u2028", "\x85\x1f", '"\\', "\ud800", "a"]
    texts = ["\0" + text, "\0" + text, text + "\0", "\0", "\0\0", "\0", "x\0y", "x\0y", "y", "y\0"]
    source = tmp_path / "in.jsonl"
    rows = [{"text": t, "id": i, "source": i} for t, i in zip(texts, odd, strict=True)]
    source.write_text("".join(json.dumps(r) + "\n" for r in rows))
    dedup(
        config.load(
            DedupConfig,
            {"inputs": [str(source)], "output": str(tmp_path / "out"), "method": "none"},
            "test",
        )
    )
    lines = (tmp_path / "out" / "part-00000.jsonl").read_bytes().split(b"\n")[:-1]
    place = f"{tmp_path.name}/in.jsonl"
    rows[4] |= {"id": f"{place}:5", "source": place}  # none given
    rows[8] |= {"id": f"{place}:9", "source": place}  # half a surrogate pair is none
    assert [json.loads(line) for line in lines] == [rows[n] for n in (0, 2, 3, 4, 6, 8, 9)]
    removed = {
        (c["kept"]["id"], c["kept"]["source"], c["kept"]["text"], r["id"], r["text"])
        for c in clusters(tmp_path / "out").values()
        for r in c["removed"]
    }
    start = ("\0" + text)[:80]
    assert removed == {
        ("\0", "\0", start, "\0\0", start),
        ("a", "a", "\0", "\u2028", "\0"),
        ("\x85\x1f", "\x85\x1f", "x\0y", '"\\', "x\0y"),
    }


# --- boilerplate lines ---------------------------------------------------------------------------

ADVERT = "本站小说全部由网友上传，版权归原作者所有，请勿转载。"


@pytest.mark.parametrize("keep", ["none", "first"])
def test_a_line_of_many_documents_goes_and_others_stay_as_they_are(
    tmp_path: Path, keep: str
) -> None:
    texts = {}
    for i in range(14):
        lines = [prose(i, 40), f"  {ADVERT}　", prose(100 + i, 40)]
        texts[str(i)] = "\n\n".join(lines if i < 11 else [*lines[::2], ADVERT[:19]])
    texts["twice"] = f"{prose(50, 40)}\n{ADVERT}\n{ADVERT}"
    source = corpus(tmp_path / "in.jsonl", texts)
    options = {"line_documents": 11, "exact_lines": True, "line_keep": keep, "method": "none"}
    kept = run(source, output=tmp_path / "out", **options)
    assert list(kept) == list(texts)
    expected = {i: t.replace(f"\n  {ADVERT}　\n", "\n") for i, t in texts.items()}
    expected["twice"] = prose(50, 40)
    if keep == "first":
        expected["0"] = texts["0"]
    assert kept == expected
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["lines"]["first"] == {ADVERT: 13 - (keep == "first")}
    (line,) = (tmp_path / "out" / "clusters.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    expected_line = {"how": "line", "text": ADVERT, "removed": report["lines"]["removed"]}
    assert json.loads(line) == expected_line
    # One document more than the limit is needed.
    assert run(source, output=tmp_path / "more", **{**options, "line_documents": 12}) == texts


def test_a_document_of_nothing_but_boilerplate_goes(tmp_path: Path) -> None:
    texts = {str(i): f"{prose(i, 60)}\n{ADVERT}" for i in range(12)} | {"advert": ADVERT}
    source = corpus(tmp_path / "in.jsonl", texts)
    kept = run(source, output=tmp_path / "out", exact_lines=True)
    assert "advert" not in kept and len(kept) == 12
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["stages"][-1]["stage"] == "nothing else left"
    assert report["stages"][-1]["characters"] == sum(map(len, kept.values()))


def test_lines_of_one_letter_over_and_over_are_told_apart() -> None:
    """Rulers, tables, 哈哈哈: they differ in their length, or in a letter at an end."""
    from hanllama.corpus.dedup.scan import lines_of

    bodies = [letter * n for letter in ("-", "=", " -", "哈", "…") for n in range(1, 90)]
    ends = ["", "+", "-", "|", "。", "x"]
    lines = {b for start in ends for body in bodies for e in ends if (b := start + body + e)}
    text = "\n".join(sorted({line.strip() for line in lines})).encode()
    hashes, _ = lines_of(np.frombuffer(text, dtype=np.uint8), np.array([len(text)]), 1)
    assert len(hashes) == len(set(hashes.tolist())) == text.count(b"\n") + 1 > 10_000


def test_what_is_left_beside_boilerplate_counts_unless_it_is_white_space(tmp_path: Path) -> None:
    white = [" \u3000\t", "\u2028", "\x85\xa0", "\u2003\n\u1680", "\x1c\r", "\n" * 500]
    others = ["€", "、", "\u200b", "é", "x", "字", "\x00", "𠮷", "\u3000" * 70 + "、"]
    texts = {str(n): f"{ADVERT}\n{rest}" for n, rest in enumerate(white + others)}
    source = corpus(tmp_path / "in.jsonl", texts)
    kept = run(source, output=tmp_path / "out", exact_lines=True, exact_documents=False)
    assert list(kept.values()) == others


@pytest.mark.parametrize("keep", ["none", "first"])
def test_boilerplate_of_many_jobs_is_told_once_and_counted_right(
    keep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory: each line's text is stored by the document that has it first, elsewhere a number."""
    monkeypatch.setattr(work, "SEGMENT_BYTES", 3000)
    monkeypatch.setattr("hanllama.corpus.dedup.scan._JOB_BYTES", 1000)
    adverts = [prose(1000 + n, 30) for n in range(5)]
    rng, texts = random.Random(0), {}
    for i in range(80):
        shared = [line for line in adverts for _ in range(rng.randrange(3))]
        texts[str(i)] = "\n".join([*shared, prose(i, 60)])
    times = Counter(line for text in texts.values() for line in text.split("\n")[:-1])
    stored = []
    before = SegmentWriter.flush

    def flush(self: SegmentWriter) -> None:
        stored.extend(b.arrays["told"].tobytes() for b in self._held if "told" in b.arrays)
        before(self)

    monkeypatch.setattr(SegmentWriter, "flush", flush)
    source = corpus(tmp_path / "in.jsonl", texts)
    run(source, output=tmp_path / "out", exact_lines=True, line_keep=keep, method="none")
    lines = (tmp_path / "out" / "clusters.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    told = list(dict.fromkeys(x for t in texts.values() for x in t.split("\n")[:-1]))
    assert [(x["text"], x["removed"]) for x in map(json.loads, lines)] == [
        (line, times[line] - (keep == "first")) for line in told
    ]
    assert len(stored) > 5 and sorted(b"".join(stored)) == sorted("".join(adverts).encode())


# --- near duplicates -----------------------------------------------------------------------------


def test_minhash_finds_copies_with_every_tenth_character_replaced(tmp_path: Path) -> None:
    texts = {f"book-{i}": prose(i, 1500) for i in range(60)}
    copies = {f"copy-{i}": substituted(texts[f"book-{i}"], 0.1, i) for i in range(30)}
    one = corpus(tmp_path / "one.jsonl", texts)
    two = corpus(tmp_path / "two.jsonl", copies)
    kept = run(one, two, output=tmp_path / "out", containment=0)
    assert set(texts) <= set(kept)
    assert len(kept) <= 62  # 97 %, and a little more, is what 152 bands of 4 find at this rate
    for identity, cluster in clusters(tmp_path / "out").items():
        (removed,) = cluster["removed"]
        assert removed["how"] == "minhash" and removed["id"] == identity.replace("book", "copy")
        assert 0.3 <= removed["similarity"] <= 0.55


def test_simhash_finds_what_differs_in_a_few_characters_and_nothing_else(tmp_path: Path) -> None:
    texts = {f"book-{i}": prose(i, 3000) for i in range(40)}
    texts |= {f"near-{i}": prose(i, 1500) + "改" + prose(i, 3000)[1501:] for i in range(20)}
    texts |= {f"far-{i}": substituted(texts[f"book-{i}"], 0.1, i) for i in range(20, 40)}
    source = corpus(tmp_path / "in.jsonl", texts)
    kept = run(source, output=tmp_path / "out", method="simhash", containment=0)
    assert not any(i.startswith("near") for i in kept)
    assert sum(i.startswith("far") for i in kept) == 20
    assert {c["removed"][0]["how"] for c in clusters(tmp_path / "out").values()} == {"simhash"}


def test_punctuation_width_and_case_make_no_other_text(tmp_path: Path) -> None:
    text = prose(1, 300) + "Llama 2024"
    other = "，".join(text[i : i + 7] for i in range(0, 300, 7)) + "ｌｌａｍａ（２０２４）。"
    kept = run(corpus(tmp_path / "a.jsonl", {"a": text, "b": other}), output=tmp_path / "out")
    assert list(kept) == ["b"]  # as long in letters: then the longer, and b holds two more
    assert clusters(tmp_path / "out")["b"]["removed"][0]["similarity"] > 0.9


def test_short_documents_are_compared_exactly_only(tmp_path: Path) -> None:
    texts = {
        "a": "床前看月光，疑是地上霜。",
        "b": "床前看月光，疑是地上雪。",
        "c": "床前看月光，疑是地上霜。 ",
    }
    assert list(run(corpus(tmp_path / "a.jsonl", texts), output=tmp_path / "out")) == ["a", "b"]


def test_what_resembles_only_a_removed_document_stays(tmp_path: Path) -> None:
    """a ~ b ~ c, but a and c are different texts: c is not removed for a."""
    a, c = prose(1, 2000), prose(2, 1200)
    texts = {"a": a + a, "b": a[:1400] + c[:1100], "c": c}
    source = corpus(tmp_path / "in.jsonl", texts)
    kept = run(source, output=tmp_path / "out", containment=0)
    assert list(kept) == ["a", "c"]
    assert list(clusters(tmp_path / "out")) == ["a"]


# --- which copy stays ----------------------------------------------------------------------------


def test_the_copy_that_stays_follows_the_stated_order(tmp_path: Path) -> None:
    text = prose(1, 900)
    one = corpus(tmp_path / "one.jsonl", {"short": text[:850], "broken": text + "\ufffd" * 9})
    two = corpus(tmp_path / "two.jsonl", {"long": text + prose(2, 50), "latin": text + "a" * 50})

    def survivor(*keep: str) -> str:
        options = {"keep": list(keep)} if keep else {}
        (kept,) = run(one, two, output=tmp_path / "-".join(["out", *keep]), **options)
        return kept

    assert survivor() == "short"  # the earlier input, then the clean copy
    assert survivor("input", "longer") == "broken"
    assert survivor("clean", "longer", "han") == "long"
    assert survivor("longer") == "long"  # of two equally long ones the first
    assert survivor("longer", "han") == "long"


# --- containment ---------------------------------------------------------------------------------


def test_a_work_inside_collected_works_goes_and_the_collection_stays(tmp_path: Path) -> None:
    story = "\n".join(prose(i, 400) for i in range(20))
    collected = prose(100, 9000) + substituted(story, 0.03) + prose(101, 30_000)
    half = story[:4000] + prose(102, 8000)
    texts = {"story": story, "collected": collected, "half": half, "other": prose(103, 6000)}
    source = corpus(tmp_path / "in.jsonl", texts)
    kept = run(source, output=tmp_path / "out")
    assert list(kept) == ["collected", "half", "other"]
    (removed,) = clusters(tmp_path / "out")["collected"]["removed"]
    assert removed["id"] == "story" and removed["how"] == "contained"
    assert removed["similarity"] == 1.0  # of its chapters
    assert list(run(source, output=tmp_path / "off", containment=0)) == list(texts)
    assert len(run(source, output=tmp_path / "low", containment=0.3)) == 2


def test_editions_that_contain_each_other_are_one_work(tmp_path: Path) -> None:
    """A third of the first's characters is in neither copy's order of the other: Jaccard is low."""
    chapters = [prose(i, 4000) for i in range(6)]
    first = "".join(chapters)
    second = "".join(substituted(c, 0.09, i) for i, c in enumerate(chapters[::-1]))
    one = corpus(tmp_path / "one.jsonl", {"second": second})
    two = corpus(tmp_path / "two.jsonl", {"first": first + prose(50, 300)})
    kept = run(one, two, output=tmp_path / "out", method="none")
    assert list(kept) == ["second"]  # the preferred input, though the other is longer
    assert clusters(tmp_path / "out")["second"]["removed"][0]["how"] == "contained"


def test_a_copy_of_a_contained_work_points_to_what_stays(tmp_path: Path) -> None:
    story = prose(1, 6000)
    texts = {"story": story, "copy": story + " ", "collected": prose(2, 5000) + story}
    kept = run(corpus(tmp_path / "in.jsonl", texts), output=tmp_path / "out", threshold=0.9)
    assert list(kept) == ["collected"]
    cluster = clusters(tmp_path / "out")["collected"]
    assert [(r["id"], r["how"], r.get("of")) for r in cluster["removed"]] == [
        ("story", "contained", None),
        ("copy", "exact", "story"),
    ]


# --- contracts -----------------------------------------------------------------------------------


def mixture(folder: Path) -> list[Path]:
    """Two corpora with copies, near copies, contained works and boilerplate."""
    books = {f"a{i}": prose(i, 300 + 97 * i % 2900) for i in range(80)}
    books |= {f"advert-{i}": f"{prose(500 + i, 200)}\n{ADVERT}" for i in range(20)}
    other = {f"copy-{i}": books[f"a{i}"] + " " for i in range(10)}
    other |= {f"near-{i}": substituted(books[f"a{i}"], 0.05, i) for i in range(10, 40)}
    other |= {"collected": "\n".join(books[f"a{i}"] for i in range(40, 70))}
    other |= {f"new-{i}": prose(1000 + i, 700) for i in range(20)}
    return [corpus(folder / "a" / "a.jsonl", books), corpus(folder / "b" / "b.jsonl", other)]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("method", ["minhash", "simhash"])
def test_deduplicating_the_result_removes_nothing(tmp_path: Path, method: str) -> None:
    inputs = mixture(tmp_path)
    once = run(*inputs, output=tmp_path / "once", method=method, exact_lines=True)
    twice = run(tmp_path / "once", output=tmp_path / "twice", method=method, exact_lines=True)
    assert len(once) < 161 and twice == once
    assert (tmp_path / "twice" / "clusters.jsonl").read_bytes() == b""


def test_small_memory_small_segments_and_workers_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = mixture(tmp_path)
    run(*inputs, output=tmp_path / "one", exact_lines=True, workers=1)
    run(*inputs, output=tmp_path / "two", exact_lines=True, workers=2)
    monkeypatch.setattr(work, "SEGMENT_BYTES", 50_000)
    monkeypatch.setattr("hanllama.corpus.dedup.scan._JOB_BYTES", 20_000)
    monkeypatch.setattr(work, "_SORTING_BYTES", 2**21)  # so that there are many partitions
    run(*inputs, output=tmp_path / "small", exact_lines=True, workers=1)
    monkeypatch.setattr(work, "SEGMENT_BYTES", 2**40)
    monkeypatch.setattr(work, "SEGMENT_ARRAYS", 1000)
    run(*inputs, output=tmp_path / "few rows", exact_lines=True, workers=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "few rows")
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert contents(tmp_path / "one") == contents(tmp_path / "small")


def test_the_checksums_of_many_parts_are_those_of_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hanllama.corpus.parts.PART_BYTES", 20_000)
    inputs = mixture(tmp_path)
    kept = run(*inputs, output=tmp_path / "out", workers=1)  # which checks them
    names = [line.split("  ")[1] for line in (tmp_path / "out" / fs.SUMS).read_text().splitlines()]
    parts = sorted(path.name for path in (tmp_path / "out").glob("part-*.jsonl"))
    assert len(parts) > 10 and len(kept) > 50 and set(parts) < set(names)


def test_plain_and_odd_json_lines_are_written_as_the_general_reader_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans of bytes hold the records that lines hold; a line is what json.dumps makes of one."""
    text = '他说："好\\ 𠮷\t。"\u2028\x7f\r'
    rows = [
        {"text": text, "id": "a", "source": "s"},
        {"id": "b", "text": text + "1", "category": "c", "extra": 'x"\n', "licence": "cc"},
        {"text": text + "2", "id": "", "source": ""},
        {"text": text + "3\x01", "id": 10**20},
        {"text": text + "4", "id": 'a"b', "license": "mit"},
        {"text": text + "5", "meta": {"text": "no"}, "n": None},
    ]
    lines = [json.dumps(r, ensure_ascii=False).encode() for r in rows]
    lines += [
        json.dumps({"text": text + "6"}).encode(),
        b' { "text" : "7\\/" , "id":"x" } ',
        b'{"text": "8"}\r',
        b'{"text": "9", "text": "10"}',
        b"", b"  ", b"null", b"[]", b"{}", b'{"text": "a"},', b'{"text": "a"', b'{"text": 1}',
        b'{"text": "\xed\xa0\x80"}', b'{"text": "\xc0\x80"}', b'{"text": "\xf4\x90\x80\x80"}',
        b'{"text": "\xe4\xb8"}', b'{"text": "a\x01"}', b'{"text": "\\ud800"}', b'{"text": "a\\',
    ]  # fmt: skip
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\n".join(lines))
    options = {"max_quarantine_share": 0.9, "workers": 1}
    run(source, output=tmp_path / "plain", **options)
    monkeypatch.setattr(scan, "parts", lambda path, span_bytes: records.pieces(path))
    run(source, output=tmp_path / "general", **options)
    assert contents(tmp_path / "plain") == contents(tmp_path / "general")
    written = (tmp_path / "plain" / "part-00000.jsonl").read_bytes().split(b"\n")[:-1]
    assert len(written) == 10 and written[0] == lines[0]
    with records.Quarantine() as quarantine:
        read = list(records.read([str(source)], quarantine))
    entries = [{"text": d.text, "id": d.id, "source": d.source} for d in read]
    entries = [
        entry | {k: v for k in ("category", "licence") if (v := getattr(d, k))}
        for entry, d in zip(entries, read, strict=True)
    ]
    assert written == [json.dumps(entry, ensure_ascii=False).encode() for entry in entries]


def test_damaged_utf8_is_judged_as_the_general_reader_judges_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte replaced at random in each of many lines, by every kind of byte that UTF-8 knows."""
    draw = random.Random(0)
    kinds = bytes([0x20, 0x7F, 0x80, 0x9F, 0xA0, 0xBF, 0xC0, 0xC2, 0xE0, 0xE3, 0xED, 0xEE, 0xEF])
    kinds += bytes([0xF0, 0xF4, 0xF5, 0xFF])
    lines = []
    for number in range(3000):
        text = "".join(draw.choices("中文é𠮷a\u0800\ud7ff\uffff　", k=draw.randint(1, 60)))
        line = bytearray(json.dumps({"text": f"{number}{text}"}, ensure_ascii=False).encode())
        line[draw.randrange(len(line))] = draw.choice(kinds)
        lines.append(bytes(line))
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"\n".join(lines))
    options = {"max_quarantine_share": 1.0, "workers": 1, "method": "none", "containment": 0.0}
    run(source, output=tmp_path / "plain", **options)
    monkeypatch.setattr(scan, "parts", lambda path, span_bytes: records.pieces(path))
    run(source, output=tmp_path / "general", **options)
    assert contents(tmp_path / "plain") == contents(tmp_path / "general")
    report = json.loads((tmp_path / "plain" / "report.json").read_text())
    assert report["quarantined"]["line is not valid UTF-8"] > 500


@pytest.mark.parametrize("keep", ["none", "first"])
def test_cut_lines_and_every_way_to_store_them_give_what_the_general_reader_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str
) -> None:
    """Boilerplate among escapes, at each end, in plain, odd and compressed lines, in many spans."""
    draw = random.Random(0)
    adverts = [
        ADVERT,
        '他说"本站"\\n，请点击此处下载全本电子书并收藏。',
        "\t版权所有，未经许可不得以任何方式转载。",
    ]
    rows = []
    for number in range(900):
        parts = [prose(number % 400, 30), *draw.choices(adverts, k=draw.randint(0, 3)), "\\"]
        text = "\n".join([*draw.sample(parts, len(parts)), *draw.choices(["", ADVERT, "\n"])])
        record: dict[str, Any] = {"text": text}
        record |= draw.choice([{}, {"id": f"r{number}"}, {"id": "甲", "source": "站"}, {"n": 1}])
        rows.append(json.dumps(record, ensure_ascii=draw.random() < 0.1).encode())
        rows += draw.choices([b"", b"{broken", b" "], k=draw.random() < 0.05)
    source = tmp_path / "in" / "a.jsonl"
    source.parent.mkdir()
    source.write_bytes(b"\xef\xbb\xbf" + b"\n".join(rows))
    (source.parent / "b.jsonl.gz").write_bytes(gzip.compress(b"\n".join(rows[::-3]), mtime=0))
    options = {"exact_lines": True, "line_keep": keep, "workers": 1, "line_characters": 15}
    monkeypatch.setattr("hanllama.corpus.dedup.scan._JOB_BYTES", 5000)
    run(source.parent, output=tmp_path / "spans", **options)
    monkeypatch.setattr(scan, "parts", lambda path, span_bytes: records.pieces(path))
    run(source.parent, output=tmp_path / "general", **options)
    assert contents(tmp_path / "spans") == contents(tmp_path / "general")
    report = json.loads((tmp_path / "spans" / "report.json").read_text())
    assert set(report["lines"]["first"]) == {advert.strip() for advert in adverts}
    assert report["quarantined"]["invalid JSON"] > 10


def test_lines_cut_out_of_many_documents_at_once_are_cut_as_out_of_one() -> None:
    rng = random.Random(5)
    lines = ["", "\u3000 ", "好", "雨停了，路上没有人。", "\t", "x" * 70, "\u2028"]
    for _ in range(300):
        texts = ["\n".join(rng.choices(lines, k=rng.randint(1, 9))) for _ in range(5)]
        data = [text.encode() for text in texts]
        cuts = []  # document, begin, end
        for number, text in enumerate(data):
            at = 0
            for line in text.splitlines(keepends=True) if b"\n" in text else [text]:
                if rng.random() < 0.4:
                    cuts.append((number, at, at + len(line)))
                at += len(line)
        places = np.array(cuts, dtype=np.int64).reshape(-1, 3)
        out = np.zeros(sum(map(len, data)) + loops.BLOCK, dtype=np.uint8)
        ends, characters = np.zeros(5, dtype=np.int64), np.array([len(text) for text in texts])
        blank = np.zeros(5, dtype=bool)
        size = loops.without_cuts(
            np.frombuffer(bytearray(b"".join(data)), dtype=np.uint8),
            np.cumsum([len(text) for text in data]), places, out, ends, characters, blank,
        )  # fmt: skip
        expected = [
            scan.without(text, places[places[:, 0] == number, 1:])
            if number in places[:, 0] else text
            for number, text in enumerate(data)
        ]  # fmt: skip
        assert out[:size].tobytes() == b"".join(expected)
        assert ends.tolist() == np.cumsum([len(text) for text in expected]).tolist()
        assert characters.tolist() == [len(text.decode()) for text in expected]
        touched = set(places[:, 0].tolist())
        assert all(blank[n] for n in touched if not expected[n].decode().strip())


def test_a_line_too_long_for_a_record_is_named_and_the_lines_after_it_keep_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hanllama.reading.formats._lines.MAX_RECORD_BYTES", 3000)
    monkeypatch.setattr("hanllama.corpus.dedup.scan._JOB_BYTES", 1000)
    texts = [prose(i, 8000 if i == 20 else 90) for i in range(40)]
    source = tmp_path / "in.jsonl"
    source.write_text("\n".join(json.dumps({"text": t}, ensure_ascii=False) for t in texts))
    kept = run(source, output=tmp_path / "out", workers=1)
    place = f"{tmp_path.name}/in.jsonl"
    assert list(kept) == [f"{place}:{i + 1}" for i in range(40) if i != 20]
    (reject,) = (tmp_path / "out" / "quarantine.jsonl").read_bytes().split(b"\n")[:-1]
    assert (json.loads(reject)["line"], json.loads(reject)["file"]) == (21, str(source))


def test_groups_too_large_to_pair_off_are_searched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty variants of each of three texts, where only groups of two are paired off."""
    texts = {f"{v}-{i}": substituted(prose(i, 600), 0.03, v) for i in range(3) for v in range(40)}
    source = corpus(tmp_path / "in.jsonl", texts)
    whole = run(source, output=tmp_path / "whole")
    monkeypatch.setattr("hanllama.corpus.dedup.near.LARGEST_GROUP", 2)
    monkeypatch.setattr("hanllama.corpus.dedup.contained.RARE", 2)
    cut = run(source, output=tmp_path / "cut", workers=1)
    assert len(whole) == len(cut) == 3
    assert run(tmp_path / "cut", output=tmp_path / "again", workers=1) == cut


def test_the_report_counts_every_document_and_escapes_what_it_shows(tmp_path: Path) -> None:
    texts = {"<b>a</b>": prose(1, 100), "b": prose(1, 100) + "\n", "c": prose(2, 100)}
    one = corpus(tmp_path / "one.jsonl", texts)
    two = corpus(tmp_path / "two.jsonl", {"d": prose(2, 100), "e": prose(3, 100)})
    with open(two, "a", encoding="utf-8") as out:
        out.write("\n{broken")
    kept = run(one, two, output=tmp_path / "out", max_quarantine_share=0.5)
    assert list(kept) == ["<b>a</b>", "c", "e"]
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(s["documents"], s["removed"]) for s in report["stages"]] == [
        (5, 0), (3, 2), (3, 0), (3, 0)
    ]  # fmt: skip
    assert report["stages"][-1]["characters"] == 300 == report["kept"]["characters"]
    assert report["corpora"][0] == {
        "corpus": str(one), "documents": 3, "removed_within": 1, "removed_across": 0, "kept": 2
    }  # fmt: skip
    assert report["corpora"][1]["removed_across"] == 1
    assert report["quarantined"] == {"invalid JSON": 1}
    assert b"invalid JSON" in (tmp_path / "out" / "quarantine.jsonl").read_bytes()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "&lt;b&gt;a&lt;/b&gt;" in page and "<b>a</b>" not in page


# --- what a user can get wrong -------------------------------------------------------------------


def test_errors_say_what_and_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = corpus(tmp_path / "in" / "a.jsonl", {"a": "一篇文章。"})
    out = tmp_path / "out"

    def fails(*words: str) -> str:
        assert cli.main(["dedup", *words, "--output", str(out)]) == 2
        return capsys.readouterr().err

    assert "does not exist" in fails(str(tmp_path / "absent"))
    assert "cannot be -" in fails("-")
    assert "did you mean 'longer'" in fails(str(source), "--keep", "longest")
    assert "at most 4096 slots" in fails(str(source), "--bands", "2000")
    assert "distance must be int from 0 to 8, not 20" in fails(str(source), "--distance", "20")
    assert "--text-field" in fails(str(source), "--text-field", "content")
    (tmp_path / "in" / "empty.jsonl").write_text("")
    assert "holds no document" in fails(str(tmp_path / "in" / "empty.jsonl"))
    assert not out.exists()
    inside = str(tmp_path / "in" / "out")
    assert cli.main(["dedup", str(tmp_path / "in"), "--output", inside]) == 2
    assert "lies inside the input" in capsys.readouterr().err
    run(source, output=out)
    assert "--force replaces it" in fails(str(source))


@pytest.mark.parametrize("name", ["threshold", "containment", "memory", "workers", "rows"])
def test_impossible_options_are_refused_before_anything_is_read(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        config.load(DedupConfig, {"inputs": ["x"], "output": "y", name: -1}, "test")


def test_an_input_that_changes_while_it_is_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hanllama.corpus.dedup import dedup as running

    source = corpus(tmp_path / "in.jsonl", {"a": prose(1, 100), "b": prose(2, 100)})
    before = running._removed

    def meddle(*arguments: Any) -> Any:
        result = before(*arguments)
        corpus(source, {"a": prose(1, 100)})
        return result

    monkeypatch.setattr(running, "_removed", meddle)
    with pytest.raises(InputError, match="changed while it was being read"):
        run(source, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()

    def exchange(*arguments: Any) -> Any:  # as many documents, as many bytes
        result = before(*arguments)
        corpus(source, {"a": prose(3, 100)})
        return result

    monkeypatch.setattr(running, "_removed", exchange)
    with pytest.raises(InputError, match="changed while it was being read"):
        run(source, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_input_that_changes_inside_a_character_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a line said, and where, is remembered in bytes: they may cut a new character in two."""
    from hanllama.corpus.dedup import dedup as running

    source = tmp_path / "in.jsonl"
    was = '{"text": "AAAA AAAA", "s": "aa", "id": "bbb"}\n' * 2
    becomes = '{"text": "AAAA AAAA", "s": "a", "id": "中b"}\n' * 2
    assert len(was.encode()) == len(becomes.encode())
    source.write_text(was, encoding="utf-8")
    before = running._removed

    def meddle(*arguments: Any) -> Any:
        result = before(*arguments)
        source.write_text(becomes, encoding="utf-8")
        return result

    monkeypatch.setattr(running, "_removed", meddle)
    with pytest.raises(InputError, match="changed while it was being read"):
        run(source, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_editions_and_contained_works_of_the_real_novels(shared_data: Path, tmp_path: Path) -> None:
    """春风沉醉的晚上 inside its author's collected works, and two editions of a novel."""
    messy, novels = shared_data / "messy", shared_data / "pretrain" / "novels"
    paths = [
        messy / "yudafu_chunfeng.utf8.txt",
        novels / "yudafu_daquanji.txt",
        messy / "sanguo_orig.gbk.txt",
        novels / "sanguo.txt",
        novels / "laoshe_luotuoxiangzi.txt",
    ]
    kept = run(*paths, output=tmp_path / "out")
    assert {Path(i).name for i in kept} == {
        "yudafu_daquanji.txt", "sanguo_orig.gbk.txt", "laoshe_luotuoxiangzi.txt"
    }  # fmt: skip
