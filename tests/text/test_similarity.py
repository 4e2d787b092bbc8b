"""ROUGE-L against a plain table, against all texts, however long."""

from __future__ import annotations

import random
import time

import pytest

from hanllama.text.similarity import Kept, symbols_of


def _rouge_l(a: list[str], b: list[str]) -> float:
    """By the textbook's table."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = row
        row = [0]
        for place, y in enumerate(b):
            row.append(before[place] + 1 if x == y else max(row[place], before[place + 1]))
    return 2 * row[-1] / (len(a) + len(b))


def test_a_hand_worked_number() -> None:
    kept = Kept()
    kept.add("写一首关于春天的诗")
    # 9 symbols each, 7 in common: all but 秋 and 歌.
    assert kept.nearest("写一首关于秋天的歌") == (pytest.approx(14 / 18), 0)
    assert kept.nearest("写一首，关于春天的诗！")[0] == 1.0
    assert kept.nearest("。。。") == (0.0, -1) == Kept().nearest("诗")


def test_latin_words_are_one_symbol_and_width_and_case_do_not_count() -> None:
    assert symbols_of("用Ｐｙｔｈｏｎ 写 quick-sort，3.5 次") == [
        *("用", "python", "写", "quick", "sort", "3", "5", "次")
    ]


@pytest.mark.parametrize("least", [0.0, 0.7])
def test_it_is_the_textbooks_over_words_of_a_machine_and_beyond(least: float) -> None:
    draw = random.Random(7)
    letters = "天地玄黄宇宙洪荒日月盈昃"
    texts = [
        "".join(draw.choice(letters[: draw.randint(2, 12)]) for _ in range(draw.randint(1, 300)))
        for _ in range(24)
    ]
    texts += [t[: len(t) * 4 // 5] + t[len(t) * 9 // 10 :] for t in texts[:8]]
    kept = Kept()
    for number, text in enumerate(texts):
        scores = [_rouge_l(list(text), list(other)) for other in texts[:number]]
        best = max(scores, default=0.0)
        found, which = kept.nearest(text, least)
        if best >= least and best > 0:
            assert found == pytest.approx(best) and scores[which] == pytest.approx(best)
        else:
            assert (found, which) == (0.0, -1)
        kept.add(text)
    for length in (63, 64, 65, 127, 128, 129):
        text = (letters * 20)[:length]
        kept.add(text)
        assert kept.nearest(text)[0] == 1.0


def test_thousands_are_compared_in_milliseconds() -> None:
    draw = random.Random(1)
    letters = [chr(0x4E00 + n) for n in range(2000)]
    kept = Kept()
    for _ in range(20_000):
        kept.add("".join(draw.choices(letters, k=draw.randint(10, 60))))
    kept.nearest("热身", 0.7)
    begin = time.process_time()
    for _ in range(20):
        kept.nearest("".join(draw.choices(letters, k=40)), 0.7)
    assert (time.process_time() - begin) / 20 < 0.1
