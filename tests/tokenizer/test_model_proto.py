"""Promises of `tokenizer/model_proto.py`: any protobuf does, and nothing of a model is lost."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from hanllama.tokenizer import hf
from hanllama.tokenizer.algorithms import _sentencepiece
from hanllama.tokenizer.load import load_tokenizer
from hanllama.tokenizer.model_proto import _FIELDS, model_class
from hanllama.tokenizer.train import TokenizerTrainConfig, settings_of

LINES = ["小船在河里慢慢地走。", "The boat goes slowly, 12345."] * 20


@pytest.fixture(scope="module")
def trained() -> bytes:
    options = TokenizerTrainConfig(inputs=("-",), output="-", vocab_size=340, threads=1)
    return _sentencepiece.train(LINES, settings_of(options), "bpe")


def test_a_tokenizer_opens_where_sentencepiece_s_own_class_refuses_the_installed_protobuf(
    trained: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An older protobuf, which SwanLab asks for, makes this import fail.
    monkeypatch.setitem(sys.modules, "sentencepiece.sentencepiece_model_pb2", None)
    (tmp_path / "tokenizer.model").write_bytes(trained)
    hf.write_files(tmp_path, hf.parse_model(trained, "test"))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer.encode("小船 goes")) == "小船 goes"


def sentencepiece_s_own() -> Any:
    from google.protobuf.runtime_version import VersionError

    try:
        return importlib.import_module("sentencepiece.sentencepiece_model_pb2")
    except VersionError as error:
        pytest.skip(f"this protobuf is too old for sentencepiece's own class: {error}")


def test_fields_without_a_name_here_survive_a_change(trained: bytes) -> None:
    schema = sentencepiece_s_own()
    ours = hf.parse_model(trained, "test")
    ours.normalizer_spec.add_dummy_prefix = False
    ours.pieces.add(piece="小船在", score=-500.0, type=hf.NORMAL)
    ours.trainer_spec.vocab_size = len(ours.pieces)
    expected = schema.ModelProto.FromString(trained)
    expected.normalizer_spec.add_dummy_prefix = False
    expected.pieces.add(piece="小船在", score=-500.0, type=hf.NORMAL)
    expected.trainer_spec.vocab_size = len(expected.pieces)
    assert schema.ModelProto.FromString(ours.SerializeToString()) == expected
    assert expected.trainer_spec.split_digits, "a field that has no name here was looked at"


def test_names_numbers_and_defaults_are_sentencepiece_s() -> None:
    schema = sentencepiece_s_own()
    theirs = {
        "Piece": schema.ModelProto.SentencePiece,
        "TrainerSpec": schema.TrainerSpec,
        "NormalizerSpec": schema.NormalizerSpec,
        "Model": schema.ModelProto,
    }
    pool = model_class().DESCRIPTOR.file.message_types_by_name
    for message, fields in _FIELDS.items():
        for name, number, kind, _ in fields:
            ours, field = pool[message].fields_by_name[name], theirs[message].DESCRIPTOR
            field = field.fields_by_name[name]
            assert (number, ours.default_value) == (field.number, field.default_value), name
            assert ours.type == field.type or (kind == "int32" and field.enum_type), name
