"""The language model is the textbook's, its thresholds are stored, its folder is checked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hanllama.base.errors import CorruptError, InputError
from hanllama.corpus.quality import lm_fit, ngram_lm
from hanllama.corpus.quality.commands import lm
from hanllama.corpus.quality.folder import Reference
from hanllama.corpus.quality.options import LmConfig
from hanllama.corpus.rules import Drop
from hanllama.corpus.rules.perplexity import Rule

LINES = ["天上有云", "天上有鸟", "水里有鱼", "鱼在水里", "天黑了", "鸟飞了", "天上有云有鸟"] * 3 + [
    "云飞了",
    "鱼飞了",
]


def fitted(order: int, min_count: int, limit: int = 10**6) -> ngram_lm.LanguageModel:
    characters = lm_fit.CharacterCounts()
    characters.add("\n".join(LINES))
    vocabulary = characters.vocabulary(1000)
    counts = lm_fit.NgramCounts(order, vocabulary, limit)
    for line in LINES:
        counts.add(line)
    counts.finish()
    model = lm_fit.estimate(counts, len(vocabulary) + 2, min_count)
    return ngram_lm.LanguageModel(order, vocabulary, model.arrays, Reference(0, ()), {})


def textbook(order: int, min_count: int, vocabulary: str) -> Callable[[str, str], float]:
    """p(symbol | context) by the recursion of Chen & Goodman, with dictionaries and no tables."""
    raw: Counter[str] = Counter()
    for line in LINES:
        padded = "$" * (order - 1) + "".join(c if c in vocabulary else "?" for c in line) + "$"
        raw.update(padded[i : i + order] for i in range(len(padded) - order + 1))
    counts = {order: dict(raw)}
    for n in range(order - 1, 0, -1):
        shorter: Counter[str] = Counter()
        for gram, count in counts[n + 1].items():
            at_start = n > 1 and gram[1] == "$"
            shorter[gram[1:]] += count if at_start else 1
        counts[n] = dict(shorter)
    kept: dict[int, set[str]] = {}
    for n in range(order, 0, -1):
        least = min_count if n >= 3 else 0
        kept[n] = {g for g, c in counts[n].items() if c >= least}
        kept[n] |= {g[:-1] for g in kept.get(n + 1, ())} & set(counts[n])
    taken = {n: lm_fit.discounts(lm_fit_counts(counts[n])) for n in counts}

    def p(symbol: str, context: str) -> float:
        n = len(context) + 1
        symbols = [*vocabulary, "$", "?"]
        lower = p(symbol, context[1:]) if context else 1 / len(symbols)
        seen = {s: counts[n].get(context + s, 0) for s in symbols}
        total = sum(seen.values())
        if not total:
            return lower
        own = {
            s: c - min(c, taken[n][min(c, 3) - 1]) if c and context + s in kept[n] else 0.0
            for s, c in seen.items()
        }
        return own[symbol] / total + (1 - sum(own.values()) / total) * lower

    return p


def lm_fit_counts(counts: dict[str, int]) -> list[int]:
    return [sum(c == k for c in counts.values()) for k in (1, 2, 3, 4)]


@pytest.mark.parametrize("min_count", [1, 2, 4])
@pytest.mark.parametrize("order", [3, 4, 5])
def test_it_is_the_textbook_s_model_and_every_context_adds_up_to_one(
    order: int, min_count: int
) -> None:
    model = fitted(order, min_count)
    p = textbook(order, min_count, model.characters)
    symbols = [*model.characters, "$", "?"]
    for context in ("$$$$", "$$天上", "天上有云", "鱼鱼鱼鱼", "$$$鸟"):
        assert sum(p(s, context[5 - order :]) for s in symbols) == pytest.approx(1, abs=1e-9)
    for line in (*LINES, "鱼飞了天上", "鸟有云鱼在", "了了了了了了", "天X"):
        known = "".join(c if c in model.characters else "?" for c in line)
        padded = "$" * (order - 1) + known + "$"
        expected = sum(
            -math.log(p(padded[i + order - 1], padded[i : i + order - 1]))
            for i in range(len(known) + 1)
        )
        expected += known.count("?") * math.log(ngram_lm.UNSEEN)
        assert model.score(line).nats == pytest.approx(expected, abs=1e-4), line


def test_lines_are_independent_and_blank_ones_cost_nothing() -> None:
    model = fitted(4, 1)
    together = model.score("天上有云\n\n  \n　　鱼在水里 \n")
    apart = [model.score(line) for line in ("天上有云", "鱼在水里")]
    assert together.nats == pytest.approx(sum(s.nats for s in apart))
    assert together.symbols == sum(s.symbols for s in apart) == 10
    assert model.score(" \n").perplexity == 1


def test_a_full_table_forgets_the_rarest_and_still_scores() -> None:
    model = fitted(3, 1, limit=12)
    assert math.isfinite(model.score("天上有云").nats)
    assert model.score("天上有云").perplexity < model.score("鱼云了天").perplexity


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lm")
    lines = [f"{a}在{b}{c}。" for a in "猫狗鸟鱼" for b in "水屋树山" for c in "跑睡飞吃"]
    (path / "good.txt").write_text("\n".join(lines * 250), encoding="utf-8")
    config = LmConfig(inputs=(str(path / "good.txt"),), output=str(path / "model"), heldout=0.4)
    lm(config)
    return path / "model"


def test_a_threshold_is_a_stored_percentile_and_the_rule_twice_is_once(folder: Path) -> None:
    model = ngram_lm.load(str(folder))
    low, high = model.reference.at(5), model.reference.at(95)
    assert 1 < low <= high
    assert Rule(model=str(folder), percentile=95)._limit == high  # type: ignore[attr-defined]
    rule = Rule(model=str(folder), maximum=20, scope="lines", shortest=3)
    text = "猫在水跑。\n乱七八糟的东西乱七八糟\n鸟在山飞。"
    once = rule(text)
    assert isinstance(once, str) and "乱" not in once
    assert rule(once) == once
    assert Rule(model=str(folder), shortest=3)("乱七八糟的东西") == Drop("perplexity too high")


def test_a_flipped_bit_and_a_wrong_kind_are_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    data = bytearray((copy / "slots.npy").read_bytes())
    data[-1] ^= 1
    (copy / "slots.npy").write_bytes(data)
    with pytest.raises(CorruptError, match=r"slots\.npy is corrupt"):
        Rule(model=str(copy))
    from hanllama.corpus.rules.quality_classifier import Rule as Other

    with pytest.raises(InputError, match="kind lm, not classifier"):
        Other(model=str(folder))
