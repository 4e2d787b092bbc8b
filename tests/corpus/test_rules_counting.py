"""The rules that count: kinds of characters, repetition, terms of a list."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hanllama
from hanllama.base import config
from hanllama.base.errors import ConfigError
from hanllama.corpus.rules import (
    Drop,
    _characters,
    _ngrams,
    han_ratio,
    repeated_characters,
    repeated_lines,
    repeated_ngrams,
    sensitive_terms,
)
from hanllama.text.letters import code_points

# --- kinds -------------------------------------------------------------------------------------


def test_kinds_of_characters_counted_by_hand() -> None:
    found = _characters.count("他说：“OK，3个！”\n　𠮷〇々 ½Ⅲ＋→😀～\u200b")
    assert (found.han, found.letters, found.digits) == (6, 2, 3)
    assert (found.punctuation, found.symbols, found.other) == (6, 3, 1)
    assert found.total == 21


def test_counts_do_not_depend_on_where_a_block_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "天地玄黄，abc 123。😀" * 50
    whole = _characters.count(text)
    monkeypatch.setattr(_characters, "_BLOCK", 7)
    assert _characters.count(text) == whole


def test_a_lone_surrogate_is_counted_and_stops_nothing() -> None:
    assert _characters.count("字\ud800").total == 2
    assert han_ratio.Rule(shortest=1)("字\ud800") == "字\ud800"


# --- n-grams -----------------------------------------------------------------------------------


def top_share(text: str, n: int) -> float:
    """The definition: occurrences of one n-gram that do not overlap, most of all n-grams."""
    best = 0
    for gram in {text[i : i + n] for i in range(len(text) - n + 1)}:
        best = max(best, text.count(gram))  # str.count does not overlap either
    return best * n / len(text) if best > 1 else 0.0


def duplicate_share(text: str, n: int) -> float:
    """The definition: characters inside an n-gram that began further left as well."""
    seen: set[str] = set()
    covered = np.zeros(len(text), dtype=bool)
    for i in range(len(text) - n + 1):
        gram = text[i : i + n]
        covered[i : i + n] |= gram in seen
        seen.add(gram)
    return float(covered.mean())


@settings(max_examples=150, deadline=None)
@given(st.text("甲乙丙", min_size=1, max_size=120) | st.text("甲乙", min_size=1, max_size=60))
def test_compiled_shares_are_those_of_the_definition(text: str) -> None:
    tops, duplicates = _ngrams.repetition(code_points(text), (2, 3, 5), (2, 3, 4, 7))
    assert tops.tolist() == pytest.approx([top_share(text, n) for n in (2, 3, 5)])
    assert duplicates.tolist() == pytest.approx([duplicate_share(text, n) for n in (2, 3, 4, 7)])


def test_shares_of_a_real_looking_text_are_those_of_the_definition() -> None:
    rng = random.Random(3)
    words = ["".join(chr(0x4E00 + rng.randrange(3000)) for _ in range(4)) for _ in range(12)]
    text = "".join(rng.choice(words) for _ in range(400))
    tops, duplicates = _ngrams.repetition(
        code_points(text), repeated_ngrams.TOP, repeated_ngrams.DUPLICATE
    )
    assert tops.tolist() == pytest.approx([top_share(text, n) for n in repeated_ngrams.TOP])
    wanted = [duplicate_share(text, n) for n in repeated_ngrams.DUPLICATE]
    assert duplicates.tolist() == pytest.approx(wanted)
    assert wanted[0] > 0.2


def test_a_long_text_is_measured_in_blocks_of_equal_cost() -> None:
    """A book in which one block of three is a loop has about a third of the loop's share."""
    rng = random.Random(1)
    prose = [chr(0x4E00 + rng.randrange(6000)) for _ in range(2 * _ngrams.BLOCK)]
    loop = list("天地玄黄宇宙洪荒") * (_ngrams.BLOCK // 8)
    points = code_points("".join(prose + loop))
    (top,), (duplicate,) = _ngrams.repetition(points, (5,), (8,))
    assert top == pytest.approx(5 / 8 / 3, rel=0.01)
    assert duplicate == pytest.approx(1 / 3, rel=0.01)


def test_an_empty_text_repeats_nothing() -> None:
    tops, duplicates = _ngrams.repetition(code_points(""), (3,), (8,))
    assert (tops.tolist(), duplicates.tolist()) == ([0.0], [0.0])


def test_without_numba_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ConfigError, match=r"pip install 'hanllama\[data\]'"):
        repeated_ngrams.Rule()


def test_nothing_can_be_cached_and_the_rule_works_all_the_same(tmp_path: Path) -> None:
    """A package folder and a home that cannot be written: files stand where folders would be."""
    package = tmp_path / "site" / "hanllama"
    source = Path(hanllama.__file__).parent
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "corpus" / "rules" / "__pycache__").write_text("in the way")
    (tmp_path / "home").write_text("in the way")
    code = (
        "import hanllama.corpus.rules._ngrams as g\n"
        "from hanllama.corpus.rules import repeated_ngrams\n"
        "print(g.__file__); print(repeated_ngrams.Rule()('限时特价，' * 40).reason)"
    )
    home = str(tmp_path / "home")
    env = {**os.environ, "PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    env |= {"HOME": home, "XDG_CACHE_HOME": home, "LOCALAPPDATA": home, "USERPROFILE": home}
    env.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, reason = done.stdout.splitlines()
    assert Path(where).is_relative_to(package) and reason == "top 3-grams"
    assert not list(package.rglob("*.nb*"))


# --- runs and lines ----------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.text("哈啊1 \n", max_size=80), st.integers(2, 4))
def test_shortening_runs_leaves_none_and_takes_nothing_else(text: str, maximum: int) -> None:
    rule = repeated_characters.Rule(maximum=maximum)
    once = rule(text)
    assert isinstance(once, str)
    assert rule(once) == once
    for unit in ("哈", "啊", "哈啊", "啊哈"):
        assert unit * (maximum + 1) not in once
    assert [c for c in once if c in "1 \n"] == [c for c in text if c in "1 \n"]


def test_a_run_of_two_that_ends_in_a_run_of_one_is_shortened_in_one_go() -> None:
    rule = repeated_characters.Rule(maximum=10)
    once = rule("乙甲" * 20 + "甲" * 10)
    assert once == rule(once) == "乙甲" * 9 + "乙" + "甲" * 10


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["走。", "来！", "", "　", "　走。"]), max_size=14))
def test_collapsing_lines_is_done_once_and_for_all(lines: list[str]) -> None:
    rule = repeated_lines.Rule(lines=1.0, line_characters=1.0, paragraphs=1, paragraph_characters=1)
    once = rule("\n".join(lines))
    assert isinstance(once, str)
    assert rule(once) == once
    left = [line.strip() for line in once.split("\n") if line.strip()]
    assert all(len(set(left[i : i + 3])) > 1 for i in range(len(left) - 2))
    assert set(left) == {line.strip() for line in lines if line.strip()}


def test_shares_of_repeated_lines_by_hand() -> None:
    share, characters = repeated_lines.repeated(["天亮了。", "好", "好", "天亮了。", "走"])
    assert share == pytest.approx(2 / 5)
    assert characters == pytest.approx(5 / 11)


def test_no_novel_and_no_chapter_of_one_is_dropped(shared_data: Path) -> None:
    rules = {
        "han_ratio": han_ratio.Rule(),
        "repeated_lines": repeated_lines.Rule(),
        "repeated_ngrams": repeated_ngrams.Rule(),
    }
    dropped: Counter[str] = Counter()
    for path in sorted((shared_data / "pretrain" / "novels").glob("*.txt"))[::3]:
        text = path.read_text(encoding="utf-8")
        for part in (text, *(text[i : i + 3000] for i in range(0, len(text), 3000))):
            dropped.update(name for name, rule in rules.items() if isinstance(rule(part), Drop))
    assert dropped == Counter()


# --- terms of a list ---------------------------------------------------------------------------


def test_terms_come_from_a_file_with_comments(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_text("\ufeff# 我的词表\n赌局  # 常见\n\nCasino\n", encoding="utf-8")
    rule = config.load(
        sensitive_terms.Rule, {"file": str(path), "action": "mask"}, "sensitive_terms"
    )
    assert rule("去casino，不去赌局，也不是赌 局") == "去******，不去**，也不是赌 局"


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "cannot be read"), (b"\xff\xfe\x00", "not UTF-8"), (b"# nothing\n", "no term")],
)
def test_a_list_that_is_none_is_refused(
    content: bytes | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "terms.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        sensitive_terms.Rule(file=str(path))


def test_a_rule_without_a_list_says_how_to_give_one() -> None:
    with pytest.raises(ConfigError, match="needs a list"):
        sensitive_terms.Rule()


def test_a_mask_inside_a_term_ends() -> None:
    rule = sensitive_terms.Rule(terms=("**", "甲*", "甲"), action="mask")
    assert rule("甲甲乙") == "**乙"


@settings(max_examples=200, deadline=None)
@given(
    st.text("甲乙丙a\n", max_size=40),
    st.lists(st.text("甲乙a", min_size=1, max_size=3), min_size=1, max_size=4),
)
def test_no_term_is_left_and_other_lines_are(text: str, terms: list[str]) -> None:
    masked = sensitive_terms.Rule(terms=tuple(terms), action="mask")(text)
    assert isinstance(masked, str) and len(masked) == len(text)
    assert not any(term in masked for term in terms)
    cut = sensitive_terms.Rule(terms=tuple(terms), action="line")(text)
    assert isinstance(cut, str)
    wanted = [line for line in text.split("\n") if not any(term in line for term in terms)]
    assert [line for line in cut.split("\n") if line] == [line for line in wanted if line]


def test_a_thousand_terms_cost_hardly_more_than_ten() -> None:
    """Counted in comparisons, not seconds: what is looked at are terms with that beginning."""
    terms = [chr(0x4E00 + i) + chr(0x5000 + i) for i in range(1000)]
    finder = sensitive_terms._Finder(terms, "test")
    assert max(len(found) for found in finder._by_first.values()) == 1
    text = "".join(terms[::100]) + "龘" * 100
    assert len(finder(text)) == 10
