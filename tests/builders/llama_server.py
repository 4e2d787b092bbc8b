"""llama.cpp as tests ask it: `hanllama.tokenizer.llama_cpp`, skipped where it is not there."""

from __future__ import annotations

import pytest

from hanllama.tokenizer.llama_cpp import LlamaCpp, Refused, write

pytest.importorskip("xllamacpp", reason="llama.cpp's wheel is a dev extra")
pytest.importorskip("gguf", reason="llama.cpp's file format is a dev extra")

__all__ = ["LlamaCpp", "Refused", "write"]
