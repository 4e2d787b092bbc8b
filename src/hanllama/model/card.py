"""The model card: where a model comes from, for people and for `hanllama info`.

`README.md` begins with YAML that model hubs read. Its key `hanllama` holds the lineage, stage by
stage, to which the next stage appends. Nothing in a card depends on the clock or the machine: the
same training writes the same bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hanllama import __version__
from hanllama.base.errors import CorruptError
from hanllama.model.presets import LlamaConfig

CARD = "README.md"


@dataclass(frozen=True)
class _Use:
    """How to use a model of one architecture."""

    task: str
    auto_class: str
    note: str


_USES = {
    "LlamaForCausalLM": _Use(
        "text-generation",
        "AutoModelForCausalLM",
        'or `hanllama generate FOLDER --prompt "…"`.',
    ),
    "LlamaForSequenceClassification": _Use(
        "text-classification",
        "AutoModelForSequenceClassification",
        "The one logit is the reward of a conversation that ends with the assistant's answer and"
        " its end token, rendered by the chat template; or `hanllama ppo --reward.model FOLDER`.",
    ),
}


@dataclass(frozen=True)
class Stage:
    """One stage of a model's training.

    Args:
        name: `pretrain`, `sft`, …
        config: the fingerprint of the resolved config.
        data: the fingerprint of the training data.
        tokens: tokens seen in this stage.
        steps: optimizer steps in this stage.
        facts: other measurements (`validation_loss`, `bits_per_byte`, …), plain values.
    """

    name: str
    config: str = ""
    data: str = ""
    tokens: int = 0
    steps: int = 0
    facts: Mapping[str, str | int | float] = field(default_factory=dict)
    version: str = __version__


@dataclass(frozen=True)
class ModelCard:
    """A model's name, origin and the stages that made it."""

    name: str = "hanllama model"
    base_model: str = ""
    licence: str = ""
    lineage: tuple[Stage, ...] = ()

    def with_stage(self, stage: Stage) -> ModelCard:
        """The card after one more stage."""
        return dataclasses.replace(self, lineage=(*self.lineage, stage))

    def render(self, config: LlamaConfig, architecture: str = "LlamaForCausalLM") -> str:
        """The text of README.md; `architecture` is the name in `config.json`."""
        import yaml

        use = _USES[architecture]
        front = yaml.safe_dump(
            self._front_matter(use.task), allow_unicode=True, sort_keys=False, width=10_000
        )
        return f"---\n{front}---\n\n{self._body(config, use)}"

    def _front_matter(self, task: str) -> dict[str, Any]:
        front: dict[str, Any] = {
            "language": ["zh"],
            "library_name": "transformers",
            "pipeline_tag": task,
            "tags": ["llama", "hanllama"],
        }
        if self.base_model:
            front["base_model"] = self.base_model
        own = dataclasses.asdict(self)
        own["lineage"] = [{**stage, "facts": dict(stage["facts"])} for stage in own["lineage"]]
        return {**front, "hanllama": own}

    def _body(self, config: LlamaConfig, use: _Use) -> str:
        tied = "tied" if config.tie_word_embeddings else "untied"
        lines = [
            f"# {_inline(self.name)}",
            "",
            f"A Llama of {config.parameter_count():,} parameters"
            f" ({config.parameter_count(embeddings=False):,} without embeddings, {tied}):"
            f" {config.num_hidden_layers} layers, hidden size {config.hidden_size},"
            f" {config.num_attention_heads} heads ({config.num_key_value_heads} for keys and"
            f" values), context {config.max_position_embeddings:,}, vocabulary"
            f" {config.vocab_size:,}.",
            "",
            "## Lineage",
            "",
        ]
        if self.base_model:
            lines += [f"Starts from {_inline(self.base_model)}.", ""]
        if self.lineage:
            lines += [
                "| stage | tokens | steps | measured | config | data |",
                "| --- | --- | --- | --- | --- | --- |",
                *(_row(stage) for stage in self.lineage),
            ]
        else:
            lines.append("Untrained weights.")
        lines += [
            "",
            "## Use",
            "",
            "```python",
            f"from transformers import {use.auto_class}, AutoTokenizer",
            "",
            "tokenizer = AutoTokenizer.from_pretrained(folder)",
            f"model = {use.auto_class}.from_pretrained(folder)",
            "```",
            "",
            use.note,
            "",
            "## Licence",
            "",
            _inline(self.licence)
            or "Not stated: the licences of the training text and of the base model apply.",
            "",
        ]
        return "\n".join(lines)


def read_card(folder: str | Path) -> ModelCard | None:
    """The card of a model folder; None when it has none, or one that hanllama did not write.

    Raises CorruptError when our card cannot be read.
    """
    import yaml

    path = Path(folder) / CARD
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n") or "\n---\n" not in text[3:]:
        return None
    try:
        front = yaml.safe_load(text[4:].split("\n---\n", 1)[0])
        own = front.get("hanllama") if isinstance(front, dict) else None
        if own is None:
            return None
        stages = tuple(Stage(**stage) for stage in own.pop("lineage"))
        return ModelCard(lineage=stages, **own)
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as error:
        raise CorruptError(f"{path}: its front matter cannot be read: {error}") from error


def card_of(folder: str | Path) -> ModelCard:
    """The card to continue for a model made from this one; a new one if the folder has none."""
    name = Path(folder).name
    return read_card(folder) or ModelCard(name=name, base_model=name)


def _row(stage: Stage) -> str:
    facts = ", ".join(f"{key} {_number(value)}" for key, value in stage.facts.items())
    cells = (stage.name, f"{stage.tokens:,}", f"{stage.steps:,}", facts, stage.config, stage.data)
    return "| " + " | ".join(_inline(cell).replace("|", "\\|") for cell in cells) + " |"


def _number(value: str | int | float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _inline(text: str) -> str:
    """A text on one line, with HTML escaped, because web pages render cards."""
    return " ".join(text.split()).replace("<", "&lt;").replace(">", "&gt;")
