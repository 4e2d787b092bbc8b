"""Promises of `tokenizer import`: the ids of the source in every back end, or strings named."""

from __future__ import annotations

import base64
import html
import io
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import tokenizers

from hanllama import cli
from hanllama.base.errors import ConfigError, CorruptError, InputError
from hanllama.tokenizer import chat, fuzz, hf, tiktoken_file
from hanllama.tokenizer.algorithms import _sentencepiece
from hanllama.tokenizer.import_ import TokenizerImportConfig, take_over
from hanllama.tokenizer.load import load_tokenizer
from hanllama.tokenizer.train import TokenizerTrainConfig, settings_of

LINES = [
    "从前有一只小兔子，它住在森林里。",
    "小兔子说：“你好，世界！”",
    "  def add(a, b): return a + b  # 12345",
    "The quick brown fox jumps over the lazy dog.",
] * 20
STRINGS = fuzz.strings(250, seed=5)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SentencePiece BPE model, a lone file of an odd name."""
    path = tmp_path_factory.mktemp("model") / "spiece_bpe.model"
    options = TokenizerTrainConfig(inputs=("-",), output="-", vocab_size=420, threads=1)
    path.write_bytes(_sentencepiece.train(LINES, settings_of(options), "bpe"))
    return path


def imported(source: Path, folder: Path, **options: Any) -> Path:
    return take_over(TokenizerImportConfig(source=str(source), output=str(folder), **options))


def auto(folder: Path) -> Any:
    transformers = pytest.importorskip("transformers", reason="the outside oracle is a dev extra")
    return transformers.AutoTokenizer.from_pretrained(folder)


def assert_ids_of_auto_tokenizer(folder: Path) -> None:
    ours, theirs = load_tokenizer(folder), auto(folder)
    assert len(theirs) == ours.vocab_size
    assert (theirs.eos_token_id, theirs.pad_token_id) == (ours.eos_id, ours.pad_id)
    for text in STRINGS:
        ids = ours.encode(text)
        assert ids == theirs(text, split_special_tokens=True).input_ids, repr(text)


# --- SentencePiece -------------------------------------------------------------------------------


def test_a_lone_model_keeps_its_ids_in_every_back_end(model: Path, tmp_path: Path) -> None:
    folder = imported(model, tmp_path / "t")
    assert (folder / "tokenizer.model").read_bytes() == model.read_bytes()
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(model))
    ours = load_tokenizer(folder)
    for text in STRINGS:
        assert ours.encode(text) == [1, *oracle.encode(text)], repr(text)
        assert ours.decode(ours.encode(text)) == text.replace("▁", " ")
    assert_ids_of_auto_tokenizer(folder)


def test_special_tokens_lie_on_top_in_their_order(model: Path, tmp_path: Path) -> None:
    names = ("[MASK]", "[gMASK]", "<sop>")
    folder = imported(model, tmp_path / "t", special=names)
    ours = load_tokenizer(folder)
    size = load_tokenizer(imported(model, tmp_path / "bare")).vocab_size
    assert [ours.special_tokens[name] for name in names] == [size, size + 1, size + 2]
    assert ours.vocab_size == size + 3
    for text in ("[gMASK]<sop>你好", "a[MASK]"):
        assert max(ours.encode(text)) < size, "typed, they stay text"
        assert ours.decode(ours.encode(text)) == text
    assert ours.decode([size, *ours.encode("你好")[1:], size + 2]) == "你好"
    assert_ids_of_auto_tokenizer(folder)


def test_the_roles_may_be_given(model: Path, tmp_path: Path) -> None:
    options = {"special": ("<|end|>",), "eos": "<|end|>", "pad": "<unk>", "add_bos": False}
    ours = load_tokenizer(imported(model, tmp_path / "t", **options))
    assert ours.eos_id == ours.vocab_size - 1 and ours.pad_id == 0
    assert ours.encode("你好")[0] != ours.bos_id
    with pytest.raises(ConfigError, match=r"--eos '<.nowhere.>' is not in the vocabulary"):
        imported(model, tmp_path / "u", eos="<|nowhere|>")
    assert not (tmp_path / "u").exists()


def test_the_begin_token_that_was_asked_for_begins_texts_everywhere(
    model: Path, byte_level: Path, tmp_path: Path
) -> None:
    """transformers reads it from tokenizer.json alone, whatever the config beside it says."""
    (tmp_path / "qwen.tiktoken").write_bytes(tiktoken_lines(byte_level)[0])
    asked: list[tuple[Path, dict[str, Any]]] = [
        (model, {"bos": "<|im_start|>"}),
        (model, {"bos": "<|new|>", "special": ("<|new|>",)}),
        (byte_level, {"bos": "<|endoftext|>", "eos": "<|im_end|>", "add_bos": True}),
        (tmp_path / "qwen.tiktoken", {"bos": "<|im_start|>", "add_bos": True}),
    ]
    for n, (source, options) in enumerate(asked):
        folder = imported(source, tmp_path / f"t{n}", **options)
        ours = load_tokenizer(folder)
        assert ours.encode("你好")[0] == ours.bos_id == ours.special_tokens[options["bos"]]
        assert_ids_of_auto_tokenizer(folder)
        again = load_tokenizer(imported(folder, tmp_path / f"u{n}", add_bos=False))
        assert again.encode("你好") == ours.encode("你好")[1:]
        assert_ids_of_auto_tokenizer(again.folder)
    with pytest.raises(ConfigError, match="--add-bos needs to know the token"):
        imported(byte_level, tmp_path / "v", eos="<|im_end|>", add_bos=True)


def test_a_tokenizer_json_that_begins_texts_says_with_what(
    byte_level: Path, tmp_path: Path
) -> None:
    description = json.loads(byte_level.read_text(encoding="utf-8"))
    description["post_processor"] = hf.begins_with("<|endoftext|>", {"<|endoftext|>": 0})
    (tmp_path / "some.json").write_text(json.dumps(description), encoding="utf-8")
    folder = imported(tmp_path / "some.json", tmp_path / "t", eos="<|im_end|>")
    assert load_tokenizer(folder).encode("你好")[0] == load_tokenizer(folder).bos_id == 0
    assert_ids_of_auto_tokenizer(folder)
    assert (folder / "tokenizer.json").read_bytes() == (tmp_path / "some.json").read_bytes()


def test_a_special_token_that_is_a_word_is_warned_about(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(model, tmp_path / "t", special=("sop",))
    assert "'sop' is a special token and reads like a word" in capsys.readouterr().out
    ours = load_tokenizer(tmp_path / "t")
    assert ours.decode(ours.encode("philosophy")) == "philosophy"
    assert ours.vocab_size - 1 not in ours.encode("philosophy")


def test_a_published_folder_keeps_its_special_tokens_roles_and_template(
    model: Path, tmp_path: Path
) -> None:
    """As hubs hold them: a class with a mind of its own, an added token, foreign code."""
    source = tmp_path / "published"
    source.mkdir()
    shutil.copy(model, source / "tokenizer.model")
    size = len(hf.parse_model(model.read_bytes(), "m").pieces)
    config = {
        "tokenizer_class": "LlamaTokenizer",
        "auto_map": {"AutoTokenizer": ["theirs.Tokenizer", None]},
        "add_bos_token": False,
        "eos_token": {"content": "<|turn|>"},
        "pad_token": "[PAD]",
        "chat_template": "{{ messages[0]['content'] }}",
    }
    (source / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    added = {"[PAD]": size, "<|turn|>": size + 1}
    (source / "added_tokens.json").write_text(json.dumps(added), encoding="utf-8")
    with pytest.raises(InputError, match=r"2 tokens on top .* hanllama tokenizer import"):
        load_tokenizer(source)
    folder = imported(source, tmp_path / "t")
    ours = load_tokenizer(folder)
    assert (ours.pad_id, ours.eos_id, ours.adds_bos) == (size, size + 1, False)
    assert chat.of_folder(folder) == config["chat_template"]
    written = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert "auto_map" not in written
    assert written["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert_ids_of_auto_tokenizer(folder)


def test_a_model_that_rewrites_its_text_is_taken_with_its_rewriting(tmp_path: Path) -> None:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=out, vocab_size=68, minloglevel=2
    )
    path = tmp_path / "unigram.model"
    path.write_bytes(out.getvalue())
    folder = imported(path, tmp_path / "t")
    ours, theirs = load_tokenizer(folder), auto(folder)
    oracle = sentencepiece.SentencePieceProcessor(model_proto=out.getvalue())
    for text in ("ＡＢＣ  小兔子", " 你好， 世界 ", "fox", "", "①森林"):
        assert ours.encode(text) == [1, *oracle.encode(text)]
        assert theirs(text).input_ids == ours.encode(text), repr(text)
    held = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    assert held["disagreements"]["sentencepiece"] == []
    assert held["round_trip_failures"], "two spaces become one, and the audit says so"
    assert held["unreachable"] == [], "▁ and what begins with it stand inside texts"


@pytest.mark.parametrize(
    ("kind", "byte_fallback", "asked", "why"),
    [
        ("unigram", True, ["sentencepiece", "transformers"], "read this model as BPE, which it is"),
        ("bpe", False, ["sentencepiece", "transformers"], "this model has no bytes"),
        ("word", True, ["sentencepiece"], "read this model as BPE, which it is"),
    ],
)
def test_the_audit_names_the_back_ends_that_cannot_read_a_model(
    kind: str,
    byte_fallback: bool,
    asked: list[str],
    why: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES),
        model_writer=out,
        model_type=kind,
        vocab_size=340 if byte_fallback else 70,
        hard_vocab_limit=False,
        byte_fallback=byte_fallback,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
    )
    (tmp_path / "a.model").write_bytes(out.getvalue())
    folder = imported(tmp_path / "a.model", tmp_path / "t")
    held = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    others = {"sentencepiece", "transformers", "llama.cpp"} - set(asked)
    assert (list(held["asked"]), set(held["unasked"])) == (asked, others)
    assert why in held["unasked"]["llama.cpp"]
    said = capsys.readouterr().out
    page = html.unescape((folder / "report.html").read_text(encoding="utf-8"))
    for name in others:
        reason = f"{name} was not asked: {held['unasked'][name]}"
        assert reason in held["verdict"] and reason in said and reason in page


# --- tokenizer.json ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE as the tokenizers library trains it, in a file alone."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_end|>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(LINES, trainer)
    path = tmp_path_factory.mktemp("byte") / "some.json"
    made.save(str(path))
    return path


def test_a_lone_tokenizer_json_needs_only_its_end_token(byte_level: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"give --eos, one of: <\|endoftext\|>, <\|im_end\|>"):
        imported(byte_level, tmp_path / "t")
    folder = imported(byte_level, tmp_path / "t", eos="<|im_end|>")
    assert (folder / "tokenizer.json").read_bytes() == byte_level.read_bytes()
    theirs = tokenizers.Tokenizer.from_file(str(byte_level))
    theirs.encode_special_tokens = True
    ours = load_tokenizer(folder)
    for text in STRINGS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text)) == text, repr(text)
    assert_ids_of_auto_tokenizer(folder)
    held = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    assert list(held["asked"]) == ["transformers"]
    assert set(held["unasked"]) == {"sentencepiece", "llama.cpp"}


def test_special_tokens_on_top_of_a_tokenizer_json(byte_level: Path, tmp_path: Path) -> None:
    options = {"eos": "<|end|>", "special": ("<|end|>", "<|tool|>")}
    size = tokenizers.Tokenizer.from_file(str(byte_level)).get_vocab_size()
    ours = load_tokenizer(imported(byte_level, tmp_path / "t", **options))
    assert (ours.eos_id, ours.special_tokens["<|tool|>"]) == (size, size + 1)
    assert_ids_of_auto_tokenizer(tmp_path / "t")
    with pytest.raises(ConfigError, match="in the vocabulary already"):
        imported(byte_level, tmp_path / "u", eos="<|im_end|>", special=("<|im_end|>",))


def test_a_model_folder_is_a_source(byte_level: Path, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.mkdir()
    shutil.copy(byte_level, source / "tokenizer.json")
    (source / "config.json").write_text("{}", encoding="utf-8")
    special = {"eos_token": "<|im_end|>", "pad_token": {"content": "<|endoftext|>"}}
    (source / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    (source / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    folder = imported(source, tmp_path / "t")
    ours = load_tokenizer(folder)
    assert (ours.eos_id, ours.pad_id) == (1, 0)
    assert chat.of_folder(folder) == "{{ messages }}"
    assert not (folder / "config.json").exists()


# --- tiktoken ------------------------------------------------------------------------------------


def tiktoken_lines(byte_level: Path) -> tuple[bytes, dict[bytes, int]]:
    """The byte-level vocabulary in tiktoken's form: bytes first, then tokens as learnt."""
    table = tiktoken_file.byte_level_table()
    vocab = json.loads(byte_level.read_text(encoding="utf-8"))["model"]["vocab"]
    spelt = [t for t in sorted(vocab, key=vocab.__getitem__) if not t.startswith("<|")]
    learnt = [bytes(table[c] for c in t) for t in spelt]
    tokens = [bytes([b]) for b in range(256)] + [t for t in learnt if len(t) > 1]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    lines = [base64.b64encode(t) + b" %d" % r for t, r in ranks.items()]
    return b"\n".join(lines) + b"\n", ranks


def oracle_of(ranks: dict[bytes, int], pattern: str) -> Any:
    tiktoken = pytest.importorskip("tiktoken", reason="the outside oracle of tiktoken files")
    return tiktoken.Encoding("o", pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def test_a_tiktoken_file_gives_tiktokens_ids(byte_level: Path, tmp_path: Path) -> None:
    data, ranks = tiktoken_lines(byte_level)
    source = tmp_path / "qwen.tiktoken"
    source.write_bytes(data)
    folder = imported(source, tmp_path / "t")
    oracle = oracle_of(ranks, tiktoken_file.ENCODINGS["qwen"].pattern)
    ours = load_tokenizer(folder)
    for text in [*STRINGS, "a" * 50, "兔" * 30, "\n" * 9, "0123456789" * 5]:
        assert ours.encode(text) == oracle.encode(text, disallowed_special=()), repr(text)
        assert ours.decode(ours.encode(text)) == text, repr(text)
    assert ours.special_tokens["<|endoftext|>"] == len(ranks) == ours.eos_id
    assert ours.special_tokens["<|extra_204|>"] == ours.vocab_size - 1 == len(ranks) + 207
    assert_ids_of_auto_tokenizer(folder)


def test_a_token_that_no_merge_reaches_is_found_whole(tmp_path: Path) -> None:
    """tiktoken looks a whole pre-token up before it merges; a list of merges alone cannot."""
    ranks = {bytes([b]): b for b in range(256)} | {b"wxyz": 256, b"ab": 257, b"abab": 258}
    assert tiktoken_file.halves(b"wxyz", ranks) == [b"w", b"x", b"y", b"z"]
    assert tiktoken_file.halves(b"abab", ranks) == [b"ab", b"ab"]
    source = tmp_path / "odd.tiktoken"
    source.write_bytes(b"".join(base64.b64encode(t) + b" %d\n" % r for t, r in ranks.items()))
    options = {"pattern": r"\S+|\s+", "special": ("<|end|>",), "eos": "<|end|>"}
    ours = load_tokenizer(imported(source, tmp_path / "t", **options))
    oracle = oracle_of(ranks, r"\S+|\s+")
    draw = random.Random(0)
    words = ["".join(draw.choices("abwxyz ", k=draw.randint(1, 12))) for _ in range(500)]
    for text in ["wxyz", "wxyzw", "abab", "ababab", *words]:
        assert ours.encode(text) == oracle.encode(text), repr(text)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"no token at all\n", "line 257: not a token"),
        (b"YQ== 300\n", "line 257: the token b'a' was there before"),
        (b"YWI= 5\n", "line 257: rank 5 was given to line 6"),
        (b"YWI 300\n", "line 257: .*no base64"),
    ],
)
def test_a_damaged_tiktoken_file_names_the_line(tmp_path: Path, line: bytes, message: str) -> None:
    whole = b"".join(base64.b64encode(bytes([b])) + b" %d\n" % b for b in range(256))
    source = tmp_path / "qwen.tiktoken"
    source.write_bytes(whole + line)
    with pytest.raises(CorruptError, match=message):
        imported(source, tmp_path / "t")
    source.write_bytes(whole[: len(whole) // 2].rsplit(b"\n", 1)[0])
    with pytest.raises(CorruptError, match=r"of the 256 single bytes are no tokens"):
        imported(source, tmp_path / "t")
    assert not (tmp_path / "t").exists()


def test_an_unknown_tiktoken_file_is_not_guessed_about(tmp_path: Path) -> None:
    source = tmp_path / "theirs.tiktoken"
    source.write_bytes(b"".join(base64.b64encode(bytes([b])) + b" %d\n" % b for b in range(256)))
    with pytest.raises(ConfigError, match=r"give --encoding \(qwen\), or --pattern"):
        imported(source, tmp_path / "t")
    with pytest.raises(ConfigError, match="no regular expression"):
        imported(source, tmp_path / "t", pattern="(", special=("<e>",), eos="<e>")
    with pytest.raises(ConfigError, match=r"did you mean 'qwen'"):
        imported(source, tmp_path / "t", encoding="qwem")


# --- what is none --------------------------------------------------------------------------------


def test_what_is_no_tokenizer_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        imported(tmp_path / "missing", tmp_path / "t")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no tokenizer"):
        imported(tmp_path / "empty", tmp_path / "t")
    (tmp_path / "a.model").write_bytes(b"\x00not a model")
    with pytest.raises(CorruptError, match="not a SentencePiece model"):
        imported(tmp_path / "a.model", tmp_path / "t")
    (tmp_path / "a.json").write_text('{"vocab": {}}', encoding="utf-8")
    with pytest.raises(CorruptError, match="no `model`"):
        imported(tmp_path / "a.json", tmp_path / "t")
    with pytest.raises(ConfigError, match="for tiktoken files"):
        imported(model, tmp_path / "t", encoding="qwen")
    (tmp_path / "t").mkdir()
    with pytest.raises(InputError, match="exists already"):
        imported(model, tmp_path / "t")


def test_the_command_says_what_it_took_over(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["tokenizer", "import", str(model), "--output", str(tmp_path / "t")]
    assert cli.main(words) == 0
    shown = capsys.readouterr().out
    assert "(sentencepiece)" in shown
    assert re.search(r"differs in transformers +0 of", shown)
    assert cli.main(words) == 2
    assert cli.main([*words, "--force"]) == 0


# --- published ones ------------------------------------------------------------------------------


def test_chatglm3_and_the_64793_of_the_table(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "tokenizers" / "chatglm3_tokenizer.model"
    names = ("[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>")
    ours = load_tokenizer(imported(source, tmp_path / "t", special=names))
    assert [ours.special_tokens[n] for n in names] == [64789, 64790, 64791, 64792, 64793]
    assert ours.vocab_size == 64794, "the table's 64,793 is the id of the last of them"
    assert_ids_of_auto_tokenizer(tmp_path / "t")


def test_qwens_tiktoken_file(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "tokenizers" / "qwen.tiktoken"
    folder = imported(source, tmp_path / "t")
    ranks = tiktoken_file.read_ranks(source)
    oracle = oracle_of(ranks, tiktoken_file.ENCODINGS["qwen"].pattern)
    ours = load_tokenizer(folder)
    assert ours.vocab_size == 151_851 and ours.special_tokens["<|im_start|>"] == 151_644
    texts = fuzz.strings(3000, seed=11)
    theirs = oracle.encode_ordinary_batch(texts)
    differ = [t for t, ids in zip(texts, theirs, strict=True) if ours.encode(t) != ids]
    assert differ == []
    assert [t for t in texts if ours.decode(ours.encode(t)) != t] == []


@pytest.mark.slow
def test_every_code_point_is_cut_as_tiktoken_cuts_it(shared_data: Path, tmp_path: Path) -> None:
    """Two regex engines must agree on what a letter, a number and a space is, in all of Unicode."""
    source = shared_data / "tokenizers" / "qwen.tiktoken"
    oracle = oracle_of(tiktoken_file.read_ranks(source), tiktoken_file.ENCODINGS["qwen"].pattern)
    ours = load_tokenizer(imported(source, tmp_path / "t"))
    points = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
    differ = []
    for start in range(0, len(points), 20_000):
        texts = [f"a{chr(c)}1 {chr(c)}\n" for c in points[start : start + 20_000]]
        ids, lengths = ours.encode_raw(texts)
        rows = np.split(ids, np.cumsum(lengths)[:-1])
        theirs = oracle.encode_ordinary_batch(texts)
        differ += [t for t, a, b in zip(texts, rows, theirs, strict=True) if a.tolist() != b]
    assert differ == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llama2", "chatglm3", "qwen"])
def test_twenty_thousand_strings(name: str, shared_data: Path, tmp_path: Path) -> None:
    (source,) = (shared_data / "tokenizers").glob(f"{name}*")
    folder = imported(source, tmp_path / "t")
    ours, library = (
        load_tokenizer(folder),
        tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")),
    )
    library.encode_special_tokens = True
    texts = fuzz.strings(16_000, seed=99)
    assert len(texts) > 20_000
    ids, lengths = ours.encode_raw(texts)
    rows = [row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]
    theirs = [r.ids for r in library.encode_batch(texts, add_special_tokens=False)]
    assert [t for t, a, b in zip(texts, rows, theirs, strict=True) if a != b] == []
    if (folder / "tokenizer.model").is_file():
        processor = sentencepiece.SentencePieceProcessor(model_file=str(source))
        assert [t for t, a in zip(texts, rows, strict=True) if a != processor.encode(t)] == []
    spaced = (folder / "tokenizer.model").is_file()
    expected = [t.replace("▁", " ") if spaced else t for t in texts]
    assert [t for t, a in zip(expected, rows, strict=True) if ours.decode(a) != t] == []
