"""Promise 18: our ids are those of AutoTokenizer's `apply_chat_template`, whatever is said."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from builders import folders
from hanllama import cli
from hanllama.base.errors import ConfigError
from hanllama.tokenizer import chat
from hanllama.tokenizer.chat import ChatTemplate
from hanllama.tokenizer.fuzz import strings
from hanllama.tokenizer.load import Tokenizer, copy_tokenizer, load_tokenizer

transformers = pytest.importorskip("transformers", reason="the outside oracle is a dev extra")


def conversations(count: int, seed: int, without: dict[str, int]) -> list[list[dict[str, str]]]:
    """Random talks of one to four rounds; look-alikes of special tokens are taken out."""
    draw = random.Random(seed)
    texts = strings(2000, seed)

    def say(role: str) -> dict[str, str]:
        text = draw.choice(texts)
        for token in without:
            text = text.replace(token, "")
        return {"role": role, "content": text}

    talks = []
    for _ in range(count):
        talk = [say("system")] if draw.random() < 0.4 else []
        for _ in range(draw.randint(1, 4)):
            talk += [say("user"), say("assistant")]
        talks.append(talk)
    return talks


def assert_equal(folder: Path, tokenizer: Tokenizer, template: ChatTemplate, count: int) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.chat_template = template.source
    talks = conversations(count, 1, tokenizer.special_tokens)
    for talk, encoded in zip(talks, template.encode_many(talks), strict=True):
        ids = theirs.apply_chat_template(talk, tokenize=True, return_dict=False)
        assert encoded.ids.tolist() == ids, talk
        asked = theirs.apply_chat_template(
            talk[:-1], add_generation_prompt=True, tokenize=True, return_dict=False
        )
        assert template.prompt(talk[:-1]) == asked, talk


@pytest.mark.parametrize("name", chat.names())
def test_a_trained_tokenizer_talks_like_transformers(name: str, tmp_path: Path) -> None:
    folder = folders.tokenizer(tmp_path / "tokenizer")
    tokenizer = load_tokenizer(folder)
    assert_equal(folder, tokenizer, ChatTemplate(tokenizer, name), 200)


# What writes an answer in each template, and the same with the marks of transformers.
MARKED = {
    "alpaca": (
        r"{{- '\n\n### Response:\n' + message.content + eos_token }}",
        r"{{- '\n\n### Response:\n' }}[{{- message.content + eos_token }}]",
    ),
    "chatglm": (
        "{{- message.content + eos_token }}",
        "[{{- message.content + eos_token }}]",
    ),
    "chatml": (
        r"{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}",
        r"{{- '<|im_start|>' + message.role + '\n' }}{%- if message.role == 'assistant' %}"
        r"[{{- message.content + '<|im_end|>' }}]{{- '\n' }}"
        r"{%- else %}{{- message.content + '<|im_end|>\n' }}{%- endif %}",
    ),
    "llama2": (
        "{{- ' ' + message.content + ' ' + eos_token }}",
        "[{{- ' ' + message.content + ' ' + eos_token }}]",
    ),
    "vicuna": (
        "{{- ' ASSISTANT: ' + message.content + eos_token }}",
        "{{- ' ASSISTANT:' }}[{{- ' ' + message.content + eos_token }}]",
    ),
}


@pytest.mark.parametrize("name", chat.names())
def test_masks_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """Which takes them from marks in the template; ours have none, so here they are put in."""
    folder = folders.tokenizer(tmp_path / "tokenizer")
    tokenizer = load_tokenizer(folder)
    template = ChatTemplate(tokenizer, name)
    plain, marked = MARKED[name]
    assert template.source.count(plain) == 1
    marked = marked.replace("[", "{% generation %}").replace("]", "{% endgeneration %}")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.chat_template = template.source.replace(plain, marked)
    talks = conversations(200, 2, tokenizer.special_tokens)
    for talk, encoded in zip(talks, template.encode_many(talks), strict=True):
        found = theirs.apply_chat_template(
            talk, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        assert encoded.ids.tolist() == list(found["input_ids"]), talk
        assert encoded.mask.tolist() == [bool(m) for m in found["assistant_masks"]], talk


@pytest.mark.parametrize("base", ["llama2", "chatglm3"])
def test_published_tokenizers_talk_like_transformers(
    base: str, shared_data: Path, tmp_path: Path
) -> None:
    lone, folder = tmp_path / "lone", tmp_path / "folder"
    lone.mkdir()
    folder.mkdir()
    shutil.copy(shared_data / "tokenizers" / f"{base}_tokenizer.model", lone / "tokenizer.model")
    copy_tokenizer(lone, folder)
    tokenizer = load_tokenizer(folder)
    for name in chat.names():
        if name == "chatml":
            with pytest.raises(ConfigError, match="which the vocabulary"):
                ChatTemplate(tokenizer, name)
        else:
            assert_equal(folder, tokenizer, ChatTemplate(tokenizer, name), 60)


@pytest.mark.parametrize("name", chat.names())
def test_a_vocabulary_without_a_begin_token_talks_too(name: str, tmp_path: Path) -> None:
    """As Qwen's: a template may print a BOS that is not there, and must not add to it."""
    (tmp_path / "a.txt").write_text(folders.text(0, 300), encoding="utf-8")
    words = ["tokenizer", "train", str(tmp_path / "a.txt"), "--algorithm", "byte_bpe"]
    assert cli.main([*words, "--vocab-size", "400", "--output", str(tmp_path / "t")]) == 0
    (tmp_path / "t" / "tokenizer_config.json").unlink()
    (tmp_path / "t" / "special_tokens_map.json").unlink()
    described = json.loads((tmp_path / "t" / "tokenizer.json").read_text(encoding="utf-8"))
    described["post_processor"] = None
    (tmp_path / "t" / "tokenizer.json").write_text(json.dumps(described), encoding="utf-8")
    words = ["tokenizer", "import", str(tmp_path / "t"), "--eos", "</s>"]
    assert cli.main([*words, "--output", str(tmp_path / "u")]) == 0
    tokenizer = load_tokenizer(tmp_path / "u")
    assert tokenizer.bos_id is None
    assert_equal(tmp_path / "u", tokenizer, ChatTemplate(tokenizer, name), 30)


def test_a_published_template_of_a_byte_level_tokenizer(shared_data: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(shared_data / "tokenizers" / f"minimind_{name}", tmp_path / name)
    tokenizer = load_tokenizer(tmp_path)
    template = ChatTemplate(tokenizer)
    assert_equal(tmp_path, tokenizer, template, 200)
    talk = [{"role": "user", "content": "你好"}, {"role": "assistant", "content": "我很好。"}]
    encoded = template.encode(talk)
    # Its template puts an empty thought before the answer: the prompt's, not the assistant's.
    assert tokenizer.decode(encoded.ids[encoded.mask]) == "我很好。"
    assert encoded.ids[encoded.mask][-1] == tokenizer.special_tokens["<|im_end|>"]


def test_a_model_folder_carries_its_template(tmp_path: Path) -> None:
    folder = folders.tokenizer(tmp_path / "tokenizer")
    (folder / chat.FILE).write_text(chat.source("llama2"), encoding="utf-8")
    copy_tokenizer(folder, _made(tmp_path / "model"))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    ours = ChatTemplate(load_tokenizer(tmp_path / "model"))
    talk = [{"role": "user", "content": "你好"}]
    assert ours.prompt(talk) == theirs.apply_chat_template(
        talk, add_generation_prompt=True, tokenize=True, return_dict=False
    )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
