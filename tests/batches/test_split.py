"""Promises of `batches/split.py`: a pure choice, about the wanted share, never a copy."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from hanllama.base.errors import ConfigError, InputError
from hanllama.batches import split as splitting
from hanllama.batches.split import Sketch, cut_tail, sketch_part
from hanllama.reading.records import Document


def prose(seed: int, characters: int) -> str:
    """Random Han characters in lines: no two such texts share a 13-gram."""
    draw = random.Random(seed)
    text = "".join(chr(draw.randint(0x4E00, 0x9FA5)) for _ in range(characters))
    return "\n".join(text[i : i + 40] for i in range(0, len(text), 40))


def corpus(count: int, characters: int = 2000) -> list[Document]:
    return [Document(prose(i, characters), id=f"book-{i}") for i in range(count)]


def choose(
    documents: list[Document], share: float, seed: int = 0, batch: int = 7, **options: int
) -> splitting.Holdout:
    sketch = Sketch(**options)
    for at in range(0, len(documents), batch):
        sketch.add(sketch_part(documents[at : at + batch], seed))
    return sketch.choose(share)


def test_the_choice_is_a_function_of_corpus_and_seed_alone() -> None:
    documents = corpus(200)
    chosen = choose(documents, 0.05)
    assert choose(documents, 0.05, batch=200) == choose(documents, 0.05, batch=1) == chosen
    assert choose(documents, 0.05, seed=1).documents != chosen.documents
    assert 10 <= len(chosen.documents) <= 11 and chosen.note == ""


def test_the_order_of_the_corpus_does_not_matter() -> None:
    documents = corpus(100)
    names = {documents[i].id for i in choose(documents, 0.05).documents}
    turned = documents[::-1]
    assert {turned[i].id for i in choose(turned, 0.05).documents} == names


@pytest.mark.parametrize("filter_bits", [4, 20])  # 4: nearly everything passes the filter
def test_how_copies_are_looked_for_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, filter_bits: int
) -> None:
    documents = corpus(60, 400)
    documents += [replace(d, id=f"copy-{d.id}", text=d.text + "。") for d in documents[:30]]
    chosen = choose(documents, 0.2)
    assert chosen.refused, "nothing of it is a copy"
    monkeypatch.setattr(splitting, "_FILTER_BITS", filter_bits)
    monkeypatch.setattr(splitting, "_HITS_AT_ONCE", 1)
    assert choose(documents, 0.2) == chosen


def test_a_second_edition_stays_in_training() -> None:
    documents = corpus(40)
    first = choose(documents, 0.03).documents[0]
    # The same book from elsewhere: other line breaks, other punctuation, 3 % misprints.
    draw = random.Random(0)
    text = documents[first].text.replace("\n", "")
    text = "".join(chr(draw.randint(0x4E00, 0x9FA5)) if draw.random() < 0.03 else c for c in text)
    text = "，".join(text[i : i + 9] for i in range(0, len(text), 9))
    chosen = choose([*documents, Document(text, id="other edition")], 0.03)
    assert first not in chosen.documents and 40 not in chosen.documents
    assert chosen.refused >= 1 and chosen.documents


def test_a_chapter_contained_in_an_anthology_stays_in_training() -> None:
    documents = corpus(40)
    first = choose(documents, 0.03).documents[0]
    anthology = prose(1000, 6000) + documents[first].text + prose(1001, 6000)
    chosen = choose([*documents, Document(anthology, id="anthology")], 0.03)
    assert first not in chosen.documents and chosen.documents


def test_a_short_quotation_does_not_refuse_a_book() -> None:
    documents = corpus(40)
    first = choose(documents, 0.03).documents[0]
    quoting = prose(1000, 3000) + documents[first].text[:300]
    assert first in choose([*documents, Document(quoting, id="essay")], 0.03).documents


def test_exact_copies_of_short_texts_stay_in_training() -> None:
    poems = [Document(f"{prose(i, 10)}。", id=f"poem-{i}") for i in range(100)]
    doubled = poems + [replace(p, id=p.id + "-again") for p in poems[:50]]
    chosen = choose(doubled, 0.1)
    assert chosen.documents and all(50 <= i < 100 for i in chosen.documents)


def test_copies_are_still_found_when_few_ngrams_are_kept() -> None:
    documents = corpus(60, 4000)
    documents += [replace(d, id=d.id + "-again", text=d.text + "。") for d in documents[:30]]
    chosen = choose(documents, 0.1, max_grams=12_000)
    assert chosen.documents and all(30 <= i < 60 for i in chosen.documents)


def test_thinning_keeps_the_same_ngrams_whenever_it_happens() -> None:
    documents = corpus(60, 4000)
    few, many = Sketch(max_grams=12_000), Sketch(max_grams=12_000)
    for d in documents:
        few.add(sketch_part([d], 0))
    many.add(sketch_part(documents, 0))
    assert few.kept_of == many.kept_of >= 16
    hinted = Sketch(max_grams=12_000)
    for d in documents:
        hinted.add(sketch_part([d], 0, kept_of=hinted.kept_of))
    assert (np.concatenate(hinted._grams) == np.concatenate(many._grams)).all()
    assert (np.concatenate(few._grams) == np.concatenate(many._grams)).all()
    assert np.concatenate(few._counts).tolist() == np.concatenate(many._counts).tolist()


def test_a_batch_hashes_each_document_as_alone() -> None:
    texts = [prose(1, 100), "短", "", "正好十三个字的一句话在此啊哈", prose(2, 30), "。，！" * 9]
    together = sketch_part([Document(t) for t in texts], 0)
    alone = [sketch_part([Document(t)], 0) for t in texts]
    assert together.counts.tolist() == [int(p.counts[0]) for p in alone]
    assert together.grams.tolist() == [g for p in alone for g in p.grams.tolist()]
    assert together.counts.tolist() == [88, 0, 0, 2, 18, 0]


def test_a_great_novel_is_not_held_out_for_one_percent() -> None:
    for seed in range(5):
        documents = [Document(prose(999, 30_000), id="great novel"), *corpus(100)]
        chosen = choose(documents, 0.02, seed=seed)
        held = sum(len(documents[i].text) for i in chosen.documents)
        total = sum(len(d.text) for d in documents)
        assert 0 not in chosen.documents
        assert 0.02 * total <= held <= 0.03 * total


def test_a_single_book_gives_its_end_and_says_so() -> None:
    book = Document(prose(0, 10_000), id="book")
    chosen = choose([book], 0.01)
    assert chosen.documents == (0,) and chosen.tail_characters == len(book.text) // 100
    assert "end of one document" in chosen.note
    cut = cut_tail(book.text, chosen.tail_characters)
    assert book.text[cut - 1] == "\n" and 0 < len(book.text) - cut <= chosen.tail_characters


def test_two_editions_of_one_book_are_said_to_be_such() -> None:
    text = prose(0, 5000)
    chosen = choose([Document(text, id="a"), Document(text + "完", id="b")], 0.01)
    assert len(chosen.documents) == 1 and "repeats 100%" in chosen.note


def test_a_corpus_of_templates_is_split_and_the_reader_told() -> None:
    template = prose(0, 400)
    documents = [Document(template + prose(i + 1, 100), id=str(i)) for i in range(300)]
    chosen = choose(documents, 0.02)
    held = sum(len(documents[i].text) for i in chosen.documents)
    total = sum(len(d.text) for d in documents)
    assert 0.02 * total <= held <= 0.04 * total
    assert "partly memory" in chosen.note


def test_nothing_is_held_out_where_nothing_is_wanted_and_nonsense_is_refused() -> None:
    assert choose(corpus(3), 0.0).documents == ()
    with pytest.raises(ConfigError, match="holdout"):
        choose(corpus(3), 0.5)
    with pytest.raises(InputError, match="too small"):
        choose([Document("字", id="a")], 0.01)


def test_a_text_of_one_line_is_cut_between_characters() -> None:
    assert cut_tail("一二三四五六七八九十", 2) == 8
    assert cut_tail("一二三四五\n六七八九", 6) == 6
    assert cut_tail("一二三四五六七八九\n", 2) == 8
