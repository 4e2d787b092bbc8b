"""The message in a `tokenizer.model`, for any installed protobuf.

sentencepiece ships a generated class that refuses every protobuf older than its generator; other
packages (SwanLab) refuse every newer one. So the few fields that we read or change are described to
protobuf at run time, by their numbers in SentencePiece's format (sentencepiece_model.proto).
protobuf keeps all other fields from reading to writing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

_PACKAGE = "hanllama.sentencepiece"
# name, number, type, default. The types of pieces and of models are enums, encoded as int32.
_FIELDS: dict[str, list[tuple[str, int, str, str]]] = {
    "Piece": [("piece", 1, "string", ""), ("score", 2, "float", "0"), ("type", 3, "int32", "1")],
    "TrainerSpec": [
        ("model_type", 3, "int32", "1"),
        ("vocab_size", 4, "int32", "8000"),
        ("num_threads", 16, "int32", "16"),
        ("treat_whitespace_as_suffix", 24, "bool", "false"),
        ("byte_fallback", 35, "bool", "false"),
        ("unk_id", 40, "int32", "0"),
        ("bos_id", 41, "int32", "1"),
        ("eos_id", 42, "int32", "2"),
        ("pad_id", 43, "int32", "-1"),
    ],
    "NormalizerSpec": [
        ("precompiled_charsmap", 2, "bytes", ""),
        ("add_dummy_prefix", 3, "bool", "true"),
        ("remove_extra_whitespaces", 4, "bool", "true"),
        ("escape_whitespaces", 5, "bool", "true"),
    ],
    "Model": [
        ("pieces", 1, "Piece", ""),
        ("trainer_spec", 2, "TrainerSpec", ""),
        ("normalizer_spec", 3, "NormalizerSpec", ""),
    ],
}


@lru_cache(maxsize=1)
def model_class() -> Any:
    """The class of the whole message, `_FIELDS["Model"]`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="hanllama/sentencepiece_model.proto", package=_PACKAGE, syntax="proto2"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in _FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind, absent in fields:
            field = described.field.add(name=name, number=number, label=kinds.LABEL_OPTIONAL)
            if kind in _FIELDS:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
                field.default_value = absent
            if name == "pieces":
                field.label = kinds.LABEL_REPEATED
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))
