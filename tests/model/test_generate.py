"""Promises of `hanllama generate`: streamed = printed, no half character, stop texts, errors."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from builders import folders
from hanllama.base import fs
from hanllama.base.errors import ConfigError, InputError
from hanllama.model.card import ModelCard
from hanllama.model.checkpoint import load_model, save_model
from hanllama.model.generate import TextRow, encode_prompt, generate, generate_tokens
from hanllama.model.llama import Llama
from hanllama.model.presets import LlamaConfig
from hanllama.model.sampling import GenerateConfig, Sampling
from hanllama.tokenizer.load import load_tokenizer


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights over a real tokenizer, spread so that byte tokens come up often."""
    root = tmp_path_factory.mktemp("generate")
    tokenizer = folders.tokenizer(root / "tokenizer")
    config = LlamaConfig(
        load_tokenizer(tokenizer).vocab_size + 4, 32, 2, 4, max_position_embeddings=96
    )
    model = Llama(config, torch.Generator().manual_seed(0))
    with fs.publish(root / "model") as beside:
        save_model(beside, model, tokenizer, ModelCard())
    return root / "model"


def config(folder: Path, *prompts: str, **options: object) -> GenerateConfig:
    values = {"max_new_tokens": 40, "temperature": 1.5, "top_k": 0, "device": "cpu", **options}
    return GenerateConfig(model=str(folder), prompt=prompts, **values)  # type: ignore[arg-type]


def test_streamed_text_is_the_printed_text(
    model_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(5):
        printed = generate(config(model_folder, "小明", "在河边看见", seed=seed))
        whole = capsys.readouterr().out
        assert whole == "".join(f"{s.prompt}{s.text}\n\n" for s in printed)
        streamed = generate(config(model_folder, "小明", "在河边看见", seed=seed, stream=True))
        assert streamed == printed
        assert capsys.readouterr().out == whole


def test_no_piece_is_half_a_character(model_folder: Path) -> None:
    tokenizer = load_tokenizer(model_folder)
    text = "小明𠮷看见 emoji 😀 ok"
    ids = tokenizer.encode(text)[1:]
    assert len(ids) > len(text)  # some characters are made of byte tokens here
    row = TextRow(tokenizer, "")
    pieces = [row.push(i) for i in ids]
    assert "".join(pieces) + row.finish() == text == row.text
    assert "�" not in "".join(pieces) and "" in pieces


@pytest.mark.parametrize(
    "stop", [["看见"], ["看见西", "河边看"], ["。"], ["不在", "小明在河边看见西瓜。和"]]
)
def test_a_stop_text_cuts_and_its_beginning_is_held_back(
    model_folder: Path, stop: list[str]
) -> None:
    tokenizer = load_tokenizer(model_folder)
    text = "小明在河边看见西瓜。小红"
    places = [text.index(s) for s in stop if s in text]
    expected = text[: min(places, default=len(text))]
    row = TextRow(tokenizer, "", stop)
    shown = ""
    for i in tokenizer.encode(text)[1:]:
        shown += row.push(i)
        assert expected.startswith(shown)  # nothing shown has to be taken back
    assert shown + row.finish() == row.text == expected
    assert row.stopped == bool(places)


def test_stop_texts_end_the_command_early(model_folder: Path) -> None:
    free = generate(config(model_folder, "小明", temperature=0.0))[0]
    assert free.finish == "length" and len(free.text) > 6
    stop = free.text[3:5]
    cut = generate(config(model_folder, "小明", temperature=0.0, stop=(stop,)))[0]
    assert cut.text == free.text[: free.text.index(stop)]
    assert cut.finish == "stop" and cut.tokens < free.tokens


def test_batches_and_counts_change_no_text(model_folder: Path, tmp_path: Path) -> None:
    prompts = ("小明", "", "奶奶在学校找到红花。")
    together = generate(config(model_folder, *prompts, count=2))
    assert [s.prompt for s in together] == [p for p in prompts for _ in range(2)]
    for batch in (1, 4):
        output = tmp_path / f"{batch}.jsonl"
        again = generate(config(model_folder, *prompts, count=2, batch=batch, output=str(output)))
        assert again == together
        records = [json.loads(line) for line in output.read_text().split("\n")[:-1]]
        assert records == [vars(s) for s in together]


def test_prompts_come_from_files_too(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes("小明\u2028在\r\n\n红花\n".encode())
    (tmp_path / "p.jsonl").write_text('{"prompt": "小明\\n在"}\n{"prompt": ""}\n', encoding="utf-8")

    def read(name: str) -> list[str]:
        made = config(model_folder, prompts_file=str(tmp_path / name), max_new_tokens=1)
        return [s.prompt for s in generate(made)]

    assert read("p.txt") == ["小明\u2028在", "红花"]
    assert read("p.jsonl") == ["小明\n在", ""]
    for name in ("p.txt", "p.jsonl"):  # as a Windows editor leaves them
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
    assert read("p.txt") == ["小明\u2028在", "红花"]
    assert read("p.jsonl") == ["小明\n在", ""]
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"text": "b"}\n')
    with pytest.raises(InputError, match=r"p.jsonl, line 2: needs a field `prompt`"):
        read("p.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        read("absent.txt")
    (tmp_path / "p.txt").write_text("\n")
    with pytest.raises(InputError, match="holds no prompt"):
        read("p.txt")


def test_an_empty_prompt_is_bos_alone(model_folder: Path) -> None:
    tokenizer = load_tokenizer(model_folder)
    assert encode_prompt(tokenizer, "") == [tokenizer.bos_id]


def test_a_full_context_is_noticed(model_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = config(model_folder, "小明", max_new_tokens=500, temperature=0.0)
    assert generate(made)[0].finish == "context"
    assert "context of 96 tokens is full" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused(model_folder: Path) -> None:
    for name in ("cuda:99", "abacus"):
        with pytest.raises(ConfigError, match=f"device '{name}'"):
            generate(config(model_folder, "小明", device=name))


def test_the_command_refuses_a_long_prompt_with_both_numbers(model_folder: Path) -> None:
    command = [sys.executable, "-m", "hanllama", "generate", str(model_folder), "--device", "cpu"]
    done = subprocess.run([*command, "--prompt", "囍" * 200], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "60" in done.stderr and "context is 96" in done.stderr
    good = subprocess.run(
        [*command, "--prompt", "小明", "--max-new-tokens", "3"], capture_output=True, text=True
    )
    assert good.returncode == 0 and good.stdout.startswith("小明")


def test_a_chat_model_is_asked_through_its_template(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hanllama.tokenizer.chat import FILE, ChatTemplate, source

    with pytest.raises(InputError, match="no chat template"):
        generate(config(model_folder, "你好", chat=True))
    folder = tmp_path / "chat"
    shutil.copytree(model_folder, folder, ignore=shutil.ignore_patterns(fs.SUMS))
    (folder / FILE).write_text(source("llama2"), encoding="utf-8")
    capsys.readouterr()
    (sample,) = generate(config(folder, "你好", chat=True, temperature=0.0, max_new_tokens=8))
    assert sample.prompt == "你好"
    assert capsys.readouterr().out == f"你好\n{sample.text}\n\n"
    tokenizer = load_tokenizer(folder)
    asked = ChatTemplate(tokenizer).prompt([{"role": "user", "content": "你好"}])
    greedy = Sampling(max_new_tokens=8, temperature=0.0)
    (ids,) = generate_tokens(load_model(folder), [asked], greedy, vocab_size=tokenizer.vocab_size)
    assert sample.text.strip() == tokenizer.decode(ids).strip()
