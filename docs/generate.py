"""Bring the generated tables of README and docs up to date: `python docs/generate.py`.

A table stands between `<!-- options: hanllama.corpus.clean:CleanConfig -->` (or `<!-- presets -->`,
`<!-- rules -->`, `<!-- rewards in full -->`, `<!-- recipes -->`, `<!-- sets -->`,
`<!-- measurements -->`) and `<!-- end -->`. It is written from the code or the stored figures, so
that no page can promise an option, a size or a rule that does not exist.
`tests/test_docs.py` fails while a table is not current.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import MISSING
from pathlib import Path
from typing import Any

from hanllama import cli, recipe
from hanllama.base import config, plugins
from hanllama.corpus import ruleset
from hanllama.corpus.fetch import sets
from hanllama.model.presets import PRESETS, preset
from hanllama.train.rl import scoring

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"<!-- (options: (\S+)|presets|rules in full|rewards in full|rules|recipes|sets"
    r"|measurements) -->\n"
    r".*?<!-- end -->",
    re.DOTALL,
)
# What the sizes without a vocabulary of their own are counted with: the demo's.
DEMO_VOCABULARY = 2000


def pages() -> list[Path]:
    """Every page that may hold a table."""
    folders = (ROOT / "docs", ROOT / "benchmarks", ROOT)
    return [page for folder in folders for page in sorted(folder.glob("*.md"))]


def refresh(text: str) -> str:
    """A page with every table between markers written anew."""

    def block(match: re.Match[str]) -> str:
        kind = match[1].split(":")[0]
        table = options_table(match[2]) if kind == "options" else _TABLES[kind]()
        return f"<!-- {match[1]} -->\n\n{table}\n<!-- end -->"

    return BLOCK.sub(block, text)


def options_table(location: str) -> str:
    """The options of a config class, given as `module:Class`."""
    return config.markdown_table(cli.resolve(location))


def presets_table() -> str:
    """The named sizes, their exact counts beside what their sources state."""
    rows = []
    for name, found in PRESETS.items():
        shape = preset(name, found.vocab_size or DEMO_VOCABULARY)
        exact = shape.parameter_count()
        vocabulary = f"{shape.vocab_size:,}" + ("" if found.vocab_size else " (yours)")
        second_matrix = shape.vocab_size * shape.hidden_size * shape.tie_word_embeddings
        rows.append(
            (
                f"`{name}`",
                found.stated or "–",
                f"{exact:,}",
                f"{exact + second_matrix:,}",
                f"{shape.parameter_count(embeddings=False):,}",
                vocabulary,
                f"{shape.num_hidden_layers} x {shape.hidden_size}",
                f"{shape.num_attention_heads} / {shape.num_key_value_heads}",
                f"{shape.intermediate_size:,}",
                f"{shape.max_position_embeddings:,}",
                found.source,
            )
        )
    headings = (
        "preset",
        "stated",
        "exact",
        "exact, untied",
        "without embeddings",
        "vocabulary",
        "layers x width",
        "heads / kv",
        "FFN",
        "context",
        "source",
    )
    notes = [f"- `{n}`: {note}." for n, p in PRESETS.items() for note in p.notes]
    return _table(headings, rows) + "\n" + "\n".join(notes) + "\n"


def rules_table() -> str:
    """The cleaning rules: what each does (its docstring's first line) and its parameters."""
    rows = []
    for name in plugins.names(ruleset.PACKAGE):
        module = plugins.load(ruleset.PACKAGE, name)
        found = config.options(module.Rule)
        parameters = "; ".join(f"`{o.key}` ({o.default}): {o.help}" for o in found) or "none"
        rows.append((f"`{name}`", (module.__doc__ or "").split("\n")[0], parameters))
    return _table(("rule", "what it does", "parameters (default)"), rows)


def rules_in_full() -> str:
    """A section for each cleaning rule: its reasons, its parameters, what it does to examples."""
    sections = []
    for name in plugins.names(ruleset.PACKAGE):
        module = plugins.load(ruleset.PACKAGE, name)
        # Examples that a module makes on demand, with a model fitted for them, are not for a page.
        examples = vars(module).get("EXAMPLES", ())
        rows = [row for example in examples if (row := _example(*example))]
        sections.append(
            _section(name, module, module.Rule, ("text", "parameters", "becomes"), rows)
        )
    return "\n\n".join(sections) + "\n"


def rewards_in_full() -> str:
    """A section for each rule reward: its reasons, its parameters, what examples get."""
    sections = []
    for name in plugins.names(scoring.PACKAGE):
        module = plugins.load(scoring.PACKAGE, name)
        rows = [_rewarded(*example) for example in module.EXAMPLES]
        headings = ("answer", "parameters", "reward")
        sections.append(_section(name, module, module.Reward, headings, rows))
    return "\n\n".join(sections) + "\n"


def _section(
    name: str, module: Any, cls: type, headings: tuple[str, ...], rows: list[tuple[str, str, str]]
) -> str:
    parts = [f"### {name}", (module.__doc__ or "").strip()]
    parameters = [
        (
            f"`{o.key}`",
            o.type_name.replace("|", "\\|"),
            f"`{_yaml(o.default)}`",
            o.help.replace("|", "\\|"),
        )
        for o in config.options(cls)
    ]
    if parameters:
        parts.append(_table(("parameter", "type", "default", "meaning"), parameters).strip())
    if rows:
        parts.append(_table(headings, rows[:_EXAMPLES_SHOWN]).strip())
    return "\n\n".join(parts)


_EXAMPLES_SHOWN = 8
_EXAMPLE_LENGTH = 90  # characters; longer ones do not fit into a table


def _example(text: str, *rest: Any) -> tuple[str, str, str] | None:
    """A row of the table, or None for an example that is too long to show."""
    parameters, expected = rest if len(rest) == 2 else ({}, rest[0])
    after = "unchanged" if expected == text else None
    if after is None and not isinstance(expected, str):
        after = f"dropped: {expected.reason}"
    shown = [_code(text), after or _code(expected)]
    if max(map(len, shown)) > _EXAMPLE_LENGTH:
        return None
    return shown[0], _given(parameters), shown[1]


def _rewarded(answer: Any, *rest: Any) -> tuple[str, str, str]:
    """A row of the table of a reward's examples."""
    parameters, expected = rest if len(rest) == 2 else ({}, rest[0])
    about = _code(answer.text)
    if answer.reference:
        about += f" for {_code(answer.reference)}"
    if not answer.complete:
        about += ", cut off"
    return about, _given(parameters), f"{expected:.3g}"


def _given(parameters: dict[str, Any]) -> str:
    values = {key: _yaml(value).replace("|", "\\|") for key, value in parameters.items()}
    return ", ".join(f"`{key}: {value}`" for key, value in values.items())


def _yaml(value: Any) -> str:
    """A parameter's value as it is written in a YAML file."""
    if value is MISSING:
        return "required"
    return json.dumps(value, ensure_ascii=False).strip('"') or "none"


def _code(text: str) -> str:
    """Text as code in a table's cell: line ends as ⏎, what cannot be seen by its number."""
    visible = "".join(
        "⏎" if c == "\n" else c if c.isprintable() or c == "\u3000" else f"\\u{ord(c):04x}"
        for c in text
    )
    return "`` " + visible.replace("|", "\\|") + " ``" if visible else "nothing"


def recipes_table() -> str:
    """The recipes that come with hanllama."""
    rows = []
    for name in recipe.names():
        found = recipe.read(name)
        verbs = ", ".join(f"`{stage['name']}` ({stage['verb']})" for stage in found.stages)
        text = found.description.get("en", "")
        rows.append((f"`{name}`", text, "yes" if found.needs_input else "no", verbs))
    return _table(("recipe", "what it does", "needs `--input`", "stages (verb)"), rows)


def sets_table() -> str:
    """The public data sets that have a name here."""
    rows = []
    for name in sets.names():
        found = sets.load(name)
        hubs = found.repo + (f"; ModelScope: {found.modelscope}" if found.modelscope else "")
        about = f"{found.en}; {found.notes}"
        rows.append((f"`{name}`", found.stage, found.size, found.licence, hubs, about))
    return _table(("set", "stage", "size", "licence", "repository", "what it is"), rows)


def measurements_table() -> str:
    """Every measurement in `benchmarks/results/`, a file a benchmark, oldest first."""
    rows = []
    for file in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        for row in json.loads(file.read_text(encoding="utf-8")):
            values = [str(row[key]) for key in ("question", "aim", "figure", "spread", "date")]
            rows.append([*values, row["machine"], f"`{row['command']}`"])
    return _table(("question", "aim", "figure", "spread", "date", "machine", "command"), rows)


_TABLES: dict[str, Callable[[], str]] = {
    "presets": presets_table,
    "rules": rules_table,
    "rules in full": rules_in_full,
    "rewards in full": rewards_in_full,
    "recipes": recipes_table,
    "sets": sets_table,
    "measurements": measurements_table,
}


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = list(headings)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> int:
    """Rewrite the pages whose tables are not current."""
    for page in pages():
        before = page.read_text(encoding="utf-8")
        after = refresh(before)
        if after != before:
            page.write_text(after, encoding="utf-8")
            print(f"rewritten: {page.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
