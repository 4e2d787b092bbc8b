"""The demo corpus is written reproducibly, and a model's stories are measured honestly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hanllama import cli
from hanllama.base import fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.reading import records
from hanllama.stories import grammar
from hanllama.stories.commands import CheckConfig, StoriesConfig, check, stories


def read(path: Path) -> list[records.Document]:
    with records.Quarantine() as quarantine:
        documents = list(records.read([str(path)], quarantine))
    assert quarantine.count == 0
    return documents


def samples(path: Path, texts: list[str]) -> Path:
    lines = [json.dumps({"prompt": text[:4], "text": text[4:]}) for text in texts]
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_the_corpus_is_one_document_a_story_and_the_same_bytes_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["corpus", "stories", "--count", "50", "--seed", "3", "--output"]
    assert cli.main([*words, str(tmp_path / "a")]) == 0
    assert cli.main([*words, str(tmp_path / "b")]) == 0
    assert "50 stories of seed 3" in capsys.readouterr().out
    fs.verify_sums(tmp_path / "a")
    name = "part-00000.jsonl"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    documents = read(tmp_path / "a")
    assert [d.text for d in documents] == [s.text for s in grammar.stories(50, 3)]
    assert len({d.id for d in documents}) == 50
    assert cli.main([*words, str(tmp_path / "c.jsonl.zst")]) == 0
    assert read(tmp_path / "c.jsonl.zst") == documents


def test_the_words_of_the_stories_are_listed_once_for_a_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "words.txt"
    assert cli.main(["corpus", "words", "--output", str(output)]) == 0
    found = output.read_text().split("\n")[:-1]
    assert found == sorted(set(found)) and min(map(len, found)) == 2
    assert {"小狐狸", "亮亮", "苹果", "草地"} <= set(found)
    written = "".join(story.text for story in grammar.stories(3000, seed=1))
    assert [word for word in found if word not in written] == []
    assert cli.main(["corpus", "words", "--output", str(output)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["corpus", "words", "--output", str(output), "--force", "true"]) == 0
    assert cli.main(["corpus", "words", "--output", str(tmp_path / "words.csv")]) == 2


def test_an_existing_output_stays_unless_forced(tmp_path: Path) -> None:
    for name in ("folder", "file.jsonl"):
        output = str(tmp_path / name)
        stories(StoriesConfig(output, count=3, seed=1))
        with pytest.raises(InputError, match="--force"):
            stories(StoriesConfig(output, count=3, seed=2))
        assert read(tmp_path / name)[0].source == "stories-1"
        stories(StoriesConfig(output, count=3, seed=2, force=True))
        assert read(tmp_path / name)[0].source == "stories-2"
    (tmp_path / "mine").mkdir()
    with pytest.raises(InputError, match="not written by hanllama"):
        stories(StoriesConfig(str(tmp_path / "mine"), count=3, force=True))
    with pytest.raises(ConfigError, match="count must be int of 1 or more, not 0"):
        StoriesConfig("x", count=0)


def test_check_counts_what_parses_what_is_new_and_what_is_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = [story.text for story in grammar.stories(60, 0)]
    new = [story.text for story in grammar.stories(40, 1)]
    stories(StoriesConfig(str(tmp_path / "corpus"), count=60, seed=0))
    broken = new[0][: len(new[0]) // 2]
    texts = [training[7], *new[1:5], broken, "随便写的话。"]
    found = check(
        CheckConfig(str(samples(tmp_path / "s.jsonl", texts)), (str(tmp_path / "corpus"),))
    )
    assert (found.samples, found.parsed, len(found.failures)) == (7, 5, 2)
    assert sum(found.plots.values()) == 5
    assert found.withheld.total() == 0  # the generator withholds them from what it writes
    assert found.copied is not None
    assert found.copied[0] == (len(training[7]), training[7])
    for (length, copy), text in zip(found.copied, texts, strict=True):
        assert length == len(text) and copy in text
        assert any(copy in story for story in training)
    shown = capsys.readouterr().out
    assert "5 of 7 samples parse under the grammar (71.4%)" in shown
    assert f"{len(training[7])} characters, of a sample of {len(training[7])}" in shown


def test_a_pair_withheld_from_training_is_noticed(tmp_path: Path) -> None:
    """Put a withheld noun behind its verb in a story, as a model that generalizes would."""
    changed = []
    for story in grammar.stories(400, 5):
        verdict = grammar.check(story.text)
        for verb, noun in verdict.pairs:
            for other_verb, other_noun in grammar.WITHHELD:
                if verb == other_verb:
                    text = story.text.replace(noun, other_noun)
                    if grammar.check(text).ok:
                        changed.append(text)
    assert changed, "no story has room for a withheld pair"
    found = check(CheckConfig(str(samples(tmp_path / "s.jsonl", changed[:5]))))
    assert found.parsed == found.with_withheld == len(changed[:5])
    assert set(found.withheld) <= grammar.WITHHELD and found.withheld


def test_plain_text_samples_stand_between_blank_lines(tmp_path: Path) -> None:
    texts = [story.text for story in grammar.stories(3, 0)]
    (tmp_path / "s.txt").write_text("\n\n".join(texts) + "\n\n", encoding="utf-8")
    assert check(CheckConfig(str(tmp_path / "s.txt"))).parsed == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no samples"),
        ('{"text": "一"}\n{"story": "二"}\n', "line 2: not a sample"),
        ('{"text": "一"}\nnonsense\n', "line 2: invalid JSON"),
        ('{"text": 3}\n', "line 1: not a sample"),
    ],
)
def test_what_is_no_sample_is_an_error_with_its_line(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "s.jsonl").write_text(content)
    with pytest.raises(InputError, match=message):
        check(CheckConfig(str(tmp_path / "s.jsonl")))
    with pytest.raises(InputError, match="cannot be read"):
        check(CheckConfig(str(tmp_path / "absent.jsonl")))
