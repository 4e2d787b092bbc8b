"""The shape of a Llama: its dimensions, its named sizes, and its `config.json`.

`LlamaConfig` uses Hugging Face's names, because `config.json` is the file format. A key that this
project does not compute (rope scaling, biases, another activation) is refused by name: a key that
is silently ignored moves every logit. No torch here, so that planning and `--help` stay fast.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hanllama.base.config import Count, Natural, Positive, checked
from hanllama.base.errors import ConfigError
from hanllama.base.plugins import nearest

# K-quants (GGUF) store rows in blocks of 256, so our own FFN widths are multiples of it; llama2.c,
# from which baby-llama2-chinese and tiny-llama2-zh come, rounds up to 32.
FFN_MULTIPLE = 256
LLAMA2C_FFN_MULTIPLE = 32


def ffn_width(hidden_size: int, multiple: int = FFN_MULTIPLE) -> int:
    """SwiGLU's width: 8/3 of the hidden size (Shazeer 2020), rounded up to a `multiple`."""
    return -(-(8 * hidden_size // 3) // multiple) * multiple


@checked
class LlamaConfig:
    """One Llama's dimensions, under Hugging Face's names; invalid ones raise ConfigError.

    A 0 means the usual choice: `intermediate_size` 8/3 of the hidden size rounded up to 256,
    `num_key_value_heads` as many as there are heads, `head_dim` hidden size / heads.
    """

    vocab_size: Count
    hidden_size: Count
    num_hidden_layers: Count
    num_attention_heads: Count
    intermediate_size: Natural = 0
    num_key_value_heads: Natural = 0
    head_dim: Natural = 0
    max_position_embeddings: Count = 2048
    rms_norm_eps: Positive = 1e-5
    rope_theta: Positive = 10000.0
    tie_word_embeddings: bool = False
    initializer_range: Positive = 0.02
    bos_token_id: int | None = 1
    eos_token_id: int | tuple[int, ...] | None = 2
    pad_token_id: int | None = None

    def __post_init__(self) -> None:
        heads = self.num_attention_heads
        if not self.num_key_value_heads:
            object.__setattr__(self, "num_key_value_heads", heads)
        if not self.intermediate_size:
            object.__setattr__(self, "intermediate_size", ffn_width(self.hidden_size))
        if not self.head_dim:
            if self.hidden_size % heads:
                raise ConfigError(
                    f"hidden_size {self.hidden_size} is not divisible by num_attention_heads"
                    f" {heads}; change one of them"
                )
            object.__setattr__(self, "head_dim", self.hidden_size // heads)
        if heads % self.num_key_value_heads:
            raise ConfigError(
                f"num_attention_heads {heads} is not divisible by num_key_value_heads"
                f" {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            raise ConfigError(
                f"head_dim {self.head_dim} (hidden_size / num_attention_heads) must be even:"
                " rotary positions turn pairs of numbers"
            )

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The ids that end a text: none, one or several."""
        eos = self.eos_token_id
        return () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)

    def parameter_count(self, embeddings: bool = True) -> int:
        """Parameters by formula, a tied matrix counted once; without `embeddings`, neither the
        input's nor the head's matrix is counted."""
        hidden, head = self.hidden_size, self.head_dim
        attention = 2 * hidden * head * (self.num_attention_heads + self.num_key_value_heads)
        mlp = 3 * hidden * self.intermediate_size
        body = self.num_hidden_layers * (attention + mlp + 2 * hidden) + hidden
        matrices = 1 if self.tie_word_embeddings else 2
        return body + (matrices * self.vocab_size * hidden if embeddings else 0)

    def to_hf(self, dtype: str = "float32") -> dict[str, Any]:
        """The content of `config.json`, readable by transformers 4 and 5.

        Theta and the dtype have both their old and their new names: a reader that knows only one
        of theta's would silently use 10000.
        """
        values = dataclasses.asdict(self)
        eos = values.pop("eos_token_id")
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **values,
            "eos_token_id": list(eos) if isinstance(eos, tuple) else eos,
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
            "rope_scaling": None,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "use_cache": True,
            "dtype": dtype,
            "torch_dtype": dtype,
        }

    @classmethod
    def from_hf(cls, values: Mapping[str, Any], where: str) -> LlamaConfig:
        """Read the content of a `config.json`, from transformers 4 or 5.

        Args:
            values: the parsed JSON.
            where: the file's name, for messages.

        Raises ConfigError, naming the key, when it is not a plain Llama.
        """
        _require_plain_llama(values, where)
        for name in _REQUIRED:
            if values.get(name) is None:
                raise ConfigError(f"{where}: {name} is missing")
        given = {f.name: values[f.name] for f in dataclasses.fields(cls) if f.name in values}
        for name in ("num_key_value_heads", "head_dim"):
            if given.get(name) is None:
                given[name] = 0
        for name, default in _HF_DEFAULTS.items():
            given.setdefault(name, default)
        if isinstance(given.get("eos_token_id"), list):
            given["eos_token_id"] = tuple(given["eos_token_id"])
        given["rope_theta"] = _rope_theta(values, where)
        try:
            return cls(**given)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None


# transformers may leave out what equals its own defaults, and these differ from ours.
_HF_DEFAULTS = {"rms_norm_eps": 1e-6, "tie_word_embeddings": False}
_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
# Keys that would change what the model computes, with the only values that mean "plain Llama".
_PLAIN: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "partial_rotary_factor": (1, 1.0, None),
    "quantization_config": (None,),
}


def _require_plain_llama(values: Mapping[str, Any], where: str) -> None:
    architectures = values.get("architectures") or ["LlamaForCausalLM"]
    if values.get("model_type") != "llama" or architectures != ["LlamaForCausalLM"]:
        raise ConfigError(
            f"{where}: model_type {values.get('model_type')!r}, architectures {architectures!r}:"
            " only a LlamaForCausalLM can be opened"
        )
    for key, plain in _PLAIN.items():
        if key in values and values[key] not in plain:
            raise ConfigError(
                f"{where}: {key} is {values[key]!r}; only a plain Llama ({plain[0]!r}) is supported"
            )


def _rope_theta(values: Mapping[str, Any], where: str) -> float:
    """Theta from `rope_theta` (transformers 4) or `rope_parameters` (5); scaling is refused."""
    found = {}
    if values.get("rope_theta") is not None:
        found["rope_theta"] = values["rope_theta"]
    for key in ("rope_parameters", "rope_scaling"):
        rope = values.get(key)
        if rope is None:
            continue
        if not isinstance(rope, Mapping):
            raise ConfigError(f"{where}: {key} must be an object with keys, not {rope!r}")
        for inner, value in rope.items():
            if inner == "rope_theta":
                found[f"{key}.rope_theta"] = value
            elif (inner in ("rope_type", "type") and value == "default") or (
                inner == "partial_rotary_factor" and value in (1, 1.0, None)
            ):
                continue
            else:
                raise ConfigError(
                    f"{where}: {key}.{inner} is {value!r}: only the default rotary positions,"
                    " without scaling, are supported"
                )
    if len(set(found.values())) > 1:
        raise ConfigError(f"{where}: the values of theta disagree: {found}")
    return float(next(iter(found.values()), 10000.0))


@dataclass(frozen=True)
class Preset:
    """A named size: its dimensions and its source."""

    dimensions: Mapping[str, Any]
    source: str
    stated: str = ""  # the parameter count as the source states it
    vocab_size: int | None = None  # None: the tokenizer decides
    notes: tuple[str, ...] = field(default=())


def _shape(
    hidden: int, layers: int, heads: int, kv_heads: int, context: int, **more: Any
) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "max_position_embeddings": context,
        "tie_word_embeddings": True,
        **more,
    }


def _llama2c(hidden: int, *rest: Any) -> dict[str, Any]:
    ffn = ffn_width(hidden, LLAMA2C_FFN_MULTIPLE)
    return _shape(hidden, *rest, intermediate_size=ffn)


def _llama2(hidden: int, layers: int, heads: int, kv_heads: int, ffn: int) -> dict[str, Any]:
    more = {"intermediate_size": ffn, "tie_word_embeddings": False}
    return _shape(hidden, layers, heads, kv_heads, 4096, **more)


def _own(hidden: int, *rest: Any) -> dict[str, Any]:
    # Llama's 0.02 suits widths of thousands. At a width of 128 attention would start nearly
    # uniform, and the demo would need about twice the tokens to reach the same loss.
    return _shape(hidden, *rest, initializer_range=round(0.7 / hidden**0.5, 3))


_BABY = "baby-llama2-chinese"
_TINY = "tiny-llama2-zh"
_META = "Llama 2 (Touvron et al. 2023)"
_OURS = "hanllama"
_UNTIED = "the stated count is that of untied embeddings"
PRESETS: dict[str, Preset] = {
    # At this size attention learns to carry names through a story. The feed-forward width matters
    # little and costs most, so it is only twice the hidden size.
    "demo-1m": Preset({**_own(128, 4, 4, 4, 256), "intermediate_size": 256}, _OURS),
    "demo-2m": Preset(_own(192, 5, 6, 6, 256), _OURS),
    "small-16m": Preset(_own(384, 8, 6, 6, 512), _OURS),
    "baby-llama2-115m": Preset(
        _llama2c(768, 12, 12, 12, 1024),
        _BABY,
        "about 115M",
        32000,
        (
            "by formula 109.5M (32,000, tied), 134.1M (32,000, untied), 135.3M (65,534, tied)",
            "with its 65,534 vocabulary the BOS id is 65534: the embedding needs 65,535 rows",
        ),
    ),
    "tiny-llama2-9m": Preset(_llama2c(64, 5, 8, 4, 512), _TINY, "9M", 64793, (_UNTIED,)),
    "tiny-llama2-24m": Preset(_llama2c(288, 6, 6, 6, 512), _TINY, "24M", 64793),
    "tiny-llama2-58m": Preset(_llama2c(512, 8, 8, 8, 512), _TINY, "58M", 64793),
    "tiny-llama2-134m": Preset(_llama2c(768, 12, 12, 12, 512), _TINY, "134M", 64793),
    "tiny-llama2-256m": Preset(_llama2c(1024, 16, 16, 16, 1024), _TINY, "256M", 64793),
    "llama2-7b": Preset(_llama2(4096, 32, 32, 32, 11008), _META, "7B", 32000),
    "llama2-13b": Preset(_llama2(5120, 40, 40, 40, 13824), _META, "13B", 32000),
    "llama2-70b": Preset(_llama2(8192, 80, 64, 8, 28672), _META, "70B", 32000),
}


def preset(name: str, vocab_size: int | None = None, **overrides: Any) -> LlamaConfig:
    """The config of a named size.

    Args:
        name: one of PRESETS.
        vocab_size: the tokenizer's; None takes the source's, where the preset has one.
        overrides: any other field of LlamaConfig.

    Raises ConfigError for an unknown name (naming the nearest), an unknown field or dimensions
    that do not fit together.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} does not exist{nearest(name, list(PRESETS))}")
    found = PRESETS[name]
    vocab_size = found.vocab_size if vocab_size is None else vocab_size
    if vocab_size is None:
        raise ConfigError(f"preset {name!r} has no vocabulary size: give vocab_size")
    known = [f.name for f in dataclasses.fields(LlamaConfig)]
    for key in overrides:
        if key not in known:
            raise ConfigError(f"preset {name!r}: unknown field {key!r}{nearest(key, known)}")
    dimensions = {**found.dimensions, **overrides}
    if "hidden_size" in overrides and "intermediate_size" not in overrides:
        dimensions["intermediate_size"] = 0
    if "num_attention_heads" in overrides and "num_key_value_heads" not in overrides:
        dimensions["num_key_value_heads"] = 0
    return LlamaConfig(vocab_size=vocab_size, **dimensions)
