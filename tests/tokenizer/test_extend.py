"""Extending a vocabulary: old ids stay, back ends agree, and the audit says what is wrong."""

from __future__ import annotations

import html
import io
import json
from pathlib import Path

import pytest
import sentencepiece
import tokenizers

from builders import folders
from hanllama import cli
from hanllama.base import fs
from hanllama.tokenizer import chat, fuzz, hf, llama_cpp, own_process
from hanllama.tokenizer.load import load_tokenizer

# Whom an audit asks here: llama.cpp is a dev extra.
BACK_ENDS = ["sentencepiece", "transformers", *([] if llama_cpp.missing() else ["llama.cpp"])]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.tokenizer(tmp_path_factory.mktemp("extend") / "base")


def pieces_file(path: Path, *pieces: object) -> Path:
    path.write_text("".join(json.dumps({"piece": p}) + "\n" for p in pieces), encoding="utf-8")
    return path


def extend(base: Path, *words: object, output: Path) -> int:
    return cli.main(["tokenizer", "extend", str(base), *map(str, words), "--output", str(output)])


def test_new_pieces_come_last_and_old_ids_stay(base: Path, tmp_path: Path) -> None:
    pieces = pieces_file(tmp_path / "p.jsonl", "龙", "凤", "龙凤", "呈", "龙凤呈")
    assert extend(base, "--pieces", pieces, output=tmp_path / "new") == 0
    old, new = load_tokenizer(base), load_tokenizer(tmp_path / "new")
    assert new.vocab_size == old.vocab_size + 5
    assert new.encode_raw(["龙凤呈"])[0].tolist()[-1] == old.vocab_size + 4
    record = fs.read_json(tmp_path / "new" / "extension.json")
    assert (record["asked"], record["added"], record["overlapping"]) == (5, 5, 0)
    for text in (folders.text(5, 50), "hello, world 123"):
        assert new.encode(text) == old.encode(text)
    fs.verify_sums(tmp_path / "new")


def test_what_the_base_folder_says_beyond_its_model_stays(base: Path, tmp_path: Path) -> None:
    """Special tokens on top of the pieces, roles and the chat template: no piece takes an id."""
    words = ["tokenizer", "import", str(base), "--output", str(tmp_path / "base")]
    words += ["--special", "<工具>", "<|turn|>", "--eos", "<|turn|>", "--bos", "<|im_start|>"]
    assert cli.main(words) == 0
    template = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"
    (tmp_path / "base" / "chat_template.jinja").write_text(template, encoding="utf-8")
    pieces = pieces_file(tmp_path / "p.jsonl", "龙", "<|turn|>")
    assert extend(tmp_path / "base", "--pieces", pieces, output=tmp_path / "new") == 0
    old, new = load_tokenizer(tmp_path / "base"), load_tokenizer(tmp_path / "new")
    assert new.special_tokens == old.special_tokens
    assert new.special_tokens["<|turn|>"] == new.eos_id == old.vocab_size - 1
    assert new.special_roles == old.special_roles and new.bos_id == 4
    assert new.encode_raw(["龙"])[0].tolist()[-1] == old.vocab_size == new.vocab_size - 1
    assert chat.of_folder(tmp_path / "new") == template
    record = fs.read_json(tmp_path / "new" / "extension.json")
    assert (record["base_vocabulary"], record["added"], record["overlapping"]) == (
        old.vocab_size,
        1,
        1,
    )
    assert fs.read_json(tmp_path / "new" / "audit.json")["new_pieces"] == 1
    transformers = pytest.importorskip("transformers", reason="the outside oracle is a dev extra")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    for text in ("龙在河边。<|turn|>", ""):
        assert new.encode(text) == theirs(text, split_special_tokens=True).input_ids


def test_a_base_without_a_begin_token(tmp_path: Path) -> None:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(folders.text(0, 500).split("\n")),
        model_writer=out,
        model_type="bpe",
        vocab_size=350,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        bos_id=-1,
        minloglevel=2,
    )
    (tmp_path / "a.model").write_bytes(out.getvalue())
    pieces = pieces_file(tmp_path / "p.jsonl", "龙")
    assert extend(tmp_path / "a.model", "--pieces", pieces, output=tmp_path / "new") == 0
    new = load_tokenizer(tmp_path / "new")
    assert new.bos_id is None and not new.adds_bos and new.vocab_size == 351


def test_every_back_end_agrees_with_safe_scores(base: Path, tmp_path: Path) -> None:
    words = ["，。", "你好", "好世", "你", "世界", "界", "世", "aa", "aaa", "the", "th", "▁the"]
    pieces = pieces_file(tmp_path / "p.jsonl", *words)
    assert extend(base, "--pieces", pieces, output=tmp_path / "new") == 0
    found = fs.read_json(tmp_path / "new" / "audit.json")
    assert found["disagreements"] == {name: [] for name in BACK_ENDS}
    assert found["round_trip_failures"] == []
    transformers = pytest.importorskip("transformers", reason="the outside oracle is a dev extra")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "new")
    oracle = sentencepiece.SentencePieceProcessor(
        model_file=str(tmp_path / "new" / "tokenizer.model")
    )
    ours = load_tokenizer(tmp_path / "new")
    for text in fuzz.strings(1500, seed=9):
        ids = ours.encode(text)
        assert ids == [1, *oracle.encode(text)], repr(text)
        assert ids == theirs(text, split_special_tokens=True).input_ids, repr(text)


def test_safe_scores_differ_where_the_base_has_one_of_a_billion(base: Path, tmp_path: Path) -> None:
    """As Llama-2's runs of spaces: 32 bits hold no two scores there that are less than 64 apart."""
    proto = hf.parse_model((base / "tokenizer.model").read_bytes(), "the base")
    next(p for p in reversed(proto.pieces) if p.type == hf.NORMAL).score = -1e9
    (tmp_path / "low.model").write_bytes(proto.SerializeToString())
    pieces = pieces_file(tmp_path / "p.jsonl", "世界", "界人", "人们", "们好")
    assert extend(tmp_path / "low.model", "--pieces", pieces, output=tmp_path / "new") == 0
    made = hf.parse_model((tmp_path / "new" / "tokenizer.model").read_bytes(), "the new one")
    scores = [p.score for p in made.pieces if p.type == hf.NORMAL and p.score <= -1e9]
    added = fs.read_json(tmp_path / "new" / "extension.json")["added"]
    assert len(scores) == 1 + added and scores == sorted(set(scores), reverse=True)
    ours = load_tokenizer(tmp_path / "new")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "new" / "tokenizer.json"))
    for text in ("世界人们好", "界人们好世界人", "人们好人"):
        ids = theirs.encode(text, add_special_tokens=False).ids
        assert ours.encode_raw([text])[0].tolist() == ids


def test_characters_that_pieces_are_built_of_are_added(base: Path, tmp_path: Path) -> None:
    pieces = pieces_file(tmp_path / "p.jsonl", "饕餮")
    assert extend(base, "--pieces", pieces, output=tmp_path / "new") == 0
    record = fs.read_json(tmp_path / "new" / "extension.json")
    assert (record["added"], record["characters_added_for_them"]) == (3, 2)
    assert fs.read_json(tmp_path / "new" / "audit.json")["unreachable"] == []


def test_zero_scores_are_the_published_way_and_the_audit_tells(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = pieces_file(tmp_path / "p.jsonl", "你", "好", "你好", "好你")
    words = ["--pieces", pieces, "--scores", "zero"]
    assert extend(base, *words, output=tmp_path / "new") == 0
    path = tmp_path / "new" / "tokenizer.model"
    proto = hf.parse_model(path.read_bytes(), str(path))
    assert [p.score for p in proto.pieces[-4:]] == [0, 0, 0, 0]
    found = fs.read_json(tmp_path / "new" / "audit.json")
    assert found["disagreements"]["sentencepiece"] == []
    # Equal scores depend on the place in the text, which transformers' BPE cannot express.
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(path))
    text = "好你好你好"
    library = __import__("tokenizers").Tokenizer.from_file(str(path.with_name("tokenizer.json")))
    differ = library.encode(text, add_special_tokens=False).ids != oracle.encode(text)
    assert differ or found["disagreements"]["transformers"] == []


def test_a_piece_that_no_merge_can_build_is_called_unreachable(base: Path, tmp_path: Path) -> None:
    pieces = pieces_file(tmp_path / "p.jsonl", *"琵琶骨头汤", "琵琶", "琵琶骨头汤")
    assert extend(base, "--pieces", pieces, output=tmp_path / "new") == 0
    found = fs.read_json(tmp_path / "new" / "audit.json")
    assert found["unreachable"] == ["琵琶骨头汤"]


def test_a_piece_that_lets_typed_text_become_a_special_token_is_named(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, new, typable in [
        ("begins", ["<", "s", ">", "<s"], {"<s>": ["<s", ">"]}),
        ("ends", ["<", "/s>", "龙"], {"</s>": ["<", "/s>"]}),
        ("no piece", ["<s", "龙"], {"<s>": ["<s", ">"]}),  # its end is only a character
        ("none", ["<", "s", "龙"], {}),
    ]:
        pieces = pieces_file(tmp_path / f"{name}.jsonl", *new)
        assert extend(base, "--pieces", pieces, output=tmp_path / name) == 0
        said = capsys.readouterr().out
        record = fs.read_json(tmp_path / name / "extension.json")
        assert record["typable_in_llama_cpp"] == typable
        for special, (left, right) in typable.items():
            assert f"token {special} in llama.cpp, which joins {left!r} and {right!r}" in said
        assert ("warning" in said) == bool(typable)
        if not llama_cpp.missing():  # and the audit has asked it; no merge builds "/s>" there
            differing = fs.read_json(tmp_path / name / "audit.json")["disagreements"]["llama.cpp"]
            assert bool(differing) == (name in ("begins", "no piece"))
            assert all(any(special in text for special in typable) for text in differing)


@pytest.mark.skipif(bool(llama_cpp.missing()), reason="llama.cpp's packages are a dev extra")
def test_a_back_end_that_breaks_down_is_said_and_ends_nothing(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An assertion of llama.cpp's ends the process that asks it, here as if at once."""
    monkeypatch.setattr(own_process.sys, "executable", "/bin/false")
    pieces = pieces_file(tmp_path / "p.jsonl", "龙")
    assert extend(base, "--pieces", pieces, output=tmp_path / "new") == 0
    said = capsys.readouterr().out
    assert "differs in llama.cpp      not asked\n" in said
    assert "every string comes back; llama.cpp was not asked: its process ended" in said
    assert "llama.cpp" not in fs.read_json(tmp_path / "new" / "audit.json")["disagreements"]


def test_a_back_end_that_is_not_installed_is_named_in_terminal_json_and_html(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llama_cpp, "missing", lambda: ["xllamacpp", "gguf"])
    pieces = pieces_file(tmp_path / "p.jsonl", "龙")
    assert extend(base, "--pieces", pieces, output=tmp_path / "new") == 0
    why = "xllamacpp and gguf not installed; pip install 'hanllama[dev]'"
    verdict = (
        "the same ids in sentencepiece, transformers; every string comes back;"
        f" llama.cpp was not asked: {why}"
    )
    held = fs.read_json(tmp_path / "new" / "audit.json")
    assert held["unasked"] == {"llama.cpp": why} and held["verdict"] == verdict
    assert verdict in capsys.readouterr().out
    page = html.unescape((tmp_path / "new" / "report.html").read_text(encoding="utf-8"))
    assert verdict in page and "every back end" not in page


def test_the_audit_asks_about_the_pieces_of_the_vocabulary(base: Path, tmp_path: Path) -> None:
    """Two that overlap, of equal score, in none of the other strings: 甲乙丙 has two ways."""
    proto = hf.parse_model((base / "tokenizer.model").read_bytes(), "the base")
    for piece in ("甲", "乙", "丙", "乙丙", "甲乙"):
        proto.pieces.add(piece=piece, score=-1e6, type=hf.NORMAL)
    (tmp_path / "tied.model").write_bytes(proto.SerializeToString())
    words = ["tokenizer", "import", str(tmp_path / "tied.model"), "--output", str(tmp_path / "t")]
    assert cli.main(words) == 0
    differing = fs.read_json(tmp_path / "t" / "audit.json")["disagreements"]
    assert any("甲乙丙" in text for text in differing.pop("transformers"))
    assert not any(differing.values())


def test_english_cut_differently_is_found_with_its_cause(base: Path, tmp_path: Path) -> None:
    pieces = pieces_file(tmp_path / "p.jsonl", *"the", "th", "the")
    assert extend(base, "--pieces", pieces, output=tmp_path / "new") == 0
    found = fs.read_json(tmp_path / "new" / "audit.json")
    assert len(found["changed_english"]) > 5
    assert {"th", "the"} < set(found["changed_by"])
    pieces = pieces_file(tmp_path / "q.jsonl", "龘")
    assert extend(base, "--pieces", pieces, output=tmp_path / "han") == 0
    assert fs.read_json(tmp_path / "han" / "audit.json")["changed_english"] == []


def test_characters_by_frequency_or_by_standard(base: Path, tmp_path: Path) -> None:
    assert extend(base, "--chars", 3755, output=tmp_path / "standard") == 0
    new = load_tokenizer(tmp_path / "standard")
    for character in "啊座人":  # the first and the last of level 1, and one between
        assert new.encode_raw([character])[0].size <= 2
    text = tmp_path / "text.txt"
    text.write_text("龘龘龘靐靐齉 " * 30, encoding="utf-8")
    assert extend(base, "--train", text, "--chars", 2, output=tmp_path / "own") == 0
    own = load_tokenizer(tmp_path / "own")
    assert own.encode_raw(["龘靐"])[0].tolist()[-2:] == [own.vocab_size - 2, own.vocab_size - 1]


def test_pieces_trained_on_own_text(base: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("琵琶行，大珠小珠落玉盘。\n" * 50, encoding="utf-8")
    assert extend(base, "--train", text, "--size", 20, output=tmp_path / "new") == 0
    found = fs.read_json(tmp_path / "new" / "audit.json")
    before, after = found["tokens_per_character"]
    assert found["text"] == "text.txt" and after < before
    record = fs.read_json(tmp_path / "new" / "extension.json")
    assert record["asked"] == 20 and record["overlapping"] >= 2, "in the base: the space, 。"
    assert record["added"] == 20 - record["overlapping"] + record["characters_added_for_them"]


@pytest.mark.parametrize(
    ("size", "message", "works"),
    [
        (5, "--size 5 is too small: the characters of this text alone take 12; raise it,", 12),
        (500, "--size 500 is larger than this text supports; the largest that works is 28 ", 28),
    ],
)
def test_a_size_that_the_text_cannot_have_is_named_as_it_was_given(
    base: Path,
    tmp_path: Path,
    size: int,
    message: str,
    works: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("琵琶行，大珠小珠落玉盘。\n" * 50, encoding="utf-8")
    assert extend(base, "--train", text, "--size", size, output=tmp_path / "new") == 2
    said = capsys.readouterr().err
    assert message in said and "vocab_size" not in said
    assert extend(base, "--train", text, "--size", works, output=tmp_path / "new") == 0
    assert fs.read_json(tmp_path / "new" / "extension.json")["asked"] == works


@pytest.mark.parametrize("words", [("--size", 20), ("--chars", 2)])
def test_unusable_records_of_the_text_are_counted_once(
    base: Path, tmp_path: Path, words: tuple[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.jsonl"
    line = json.dumps({"text": "琵琶行，大珠小珠落玉盘。"}) + "\n"
    text.write_text(line * 50 + "no JSON\n" * 3, encoding="utf-8")
    assert extend(base, "--train", text, *words, output=tmp_path / "new") == 0
    said = capsys.readouterr().out
    assert said.count("unusable records") == 1
    assert f"unusable records    3 (3 x invalid JSON; first: {text}, line 51)\n" in said
    pieces = pieces_file(tmp_path / "p.jsonl", "龙")
    assert extend(base, "--pieces", pieces, "--text", text, output=tmp_path / "read") == 0
    assert "unusable records    3 (" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"piece": ""}', "line 2: the piece is empty"),
        ('{"piece": 7}', 'line 2: needs .* not {"piece": 7}'),
        ('{"word": "好"}', "line 2: needs"),
        ("好", "line 2: invalid JSON: 好"),
        ('{"piece": "\\ud800"}', "line 2: .* half a surrogate"),
        ('{"piece": "龙"}', "line 2: '龙' stands on line 1 already"),
    ],
)
def test_bad_pieces_are_named_by_line_and_value(
    base: Path, tmp_path: Path, line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"piece": "龙"}\n' + line + "\n", encoding="utf-8")
    assert extend(base, "--pieces", path, output=tmp_path / "new") == 2
    assert __import__("re").search(message, capsys.readouterr().err)
    assert not (tmp_path / "new").exists()


def test_bytes_that_are_no_text_are_named_by_line(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes('{"piece": "龙"}\n'.encode() + b'{"piece": "\xff"}\n')
    assert extend(base, "--pieces", path, output=tmp_path / "new") == 2
    assert "p.jsonl, line 2: line is not valid UTF-8" in capsys.readouterr().err


def test_a_pieces_file_of_windows(base: Path, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + '{"piece": "龙"}\r\n{"piece": "凤"}\r\n'.encode())
    assert extend(base, "--pieces", path, output=tmp_path / "new") == 0
    assert fs.read_json(tmp_path / "new" / "extension.json")["added"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "new pieces come from one of"),
        (["--chars", "5", "--pieces", "p"], "not --pieces and --chars"),
        (["--size", "500"], "needs --train"),
        (["--train", "x"], "come from one of"),
        (["--chars", "9999"], "6,763 characters of GB 2312"),
        (["--from", "nowhere.model"], "nowhere.model does not exist"),
        (["--pieces", "nowhere.jsonl"], "nowhere.jsonl cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(
    base: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extend(base, *words, output=tmp_path / "new") == 2
    assert message in capsys.readouterr().err


def test_a_base_that_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "fake.model"
    path.write_text("not a model", encoding="utf-8")
    assert extend(path, "--chars", 10, output=tmp_path / "new") == 2
    assert "is not a SentencePiece model" in capsys.readouterr().err


def test_nothing_new_is_an_error(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extend(base, "--from", base, output=tmp_path / "new") == 2
    assert "nothing to add" in capsys.readouterr().err


def test_llama2_with_the_chinese_pieces_has_49953(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "tokenizers"
    words = ["--from", folder / "chinese_sp_20k.model"]
    assert extend(folder / "llama2_tokenizer.model", *words, output=tmp_path / "new") == 0
    assert load_tokenizer(tmp_path / "new").vocab_size == 49953
    found = fs.read_json(tmp_path / "new" / "audit.json")
    assert (found["new_pieces"], found["overlapping_pieces"]) == (17953, 2047)
    assert {"越来越", "意大利"} < set(found["unreachable"])
    assert found["disagreements"] == {name: [] for name in BACK_ENDS}
