"""The pages say what is so: tables current, links alive, quoted commands accepted, READMEs equal.

A command in a code block is parsed as if typed, in a folder that holds the YAML and Python files
which the same page shows (a block whose first line is `# NAME.yaml` or `# NAME.py`).
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from dataclasses import MISSING
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from hanllama import cli, recipe
from hanllama.base import config, plugins
from hanllama.corpus import ruleset
from hanllama.corpus.clean import CleanConfig
from hanllama.pipeline import RunConfig
from hanllama.train.config import PretrainConfig

ROOT = Path(__file__).resolve().parents[1]
CHINESE, ENGLISH = ROOT / "README.md", ROOT / "README.en.md"
PAGES = [*sorted((ROOT / "docs").glob("*.md")), CHINESE, ENGLISH]
IDS = [page.name for page in PAGES]
RESULTS = ROOT / "benchmarks" / "RESULTS.md"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = ("bash", "sh")
# Flags that stand in the pages and belong to no dataclass.
FOREIGN_FLAGS = {
    "--help", "--version", "--config", "--debug", "--nproc-per-node", "--nnodes",
}  # fmt: skip


class Block(NamedTuple):
    language: str
    text: str


def _blocks(page: Path) -> list[Block]:
    return [Block(*match) for match in FENCE.findall(page.read_text(encoding="utf-8"))]


def _prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def _command_lines(page: Path) -> list[str]:
    """The lines of the page's shell blocks, joined where they end in a backslash."""
    lines = []
    for block in _blocks(page):
        if block.language in SHELL:
            joined = block.text.replace("\\\n", " ")
            lines += [line.strip() for line in joined.splitlines() if line.strip()]
    return lines


def _words(line: str) -> list[str]:
    """What follows `hanllama` in a command line; empty when the line runs something else."""
    words = shlex.split(line, comments=True)
    for number, word in enumerate(words):
        if word in ("|", ">", ">>", "2>", "&&", "||", ";"):
            words = words[:number]
            break
    if words[:1] == ["hanllama"]:
        return words[1:]
    if "-m" in words and words[words.index("-m") + 1 :][:1] == ["hanllama"]:
        return words[words.index("-m") + 2 :]
    return []


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [*PAGES, RESULTS], ids=[*IDS, RESULTS.name])
def test_tables_are_current(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert _generator().refresh(text) == text, "run: python docs/generate.py"


def test_every_command_has_its_options_on_a_page() -> None:
    shown = set(re.findall(r"<!-- options: (\S+) -->", "".join(map(_prose, PAGES))))
    missing = {name for name, c in cli.COMMANDS.items() if c.config not in shown}
    assert not missing


def test_a_table_that_is_not_current_is_noticed() -> None:
    location = cli.COMMANDS["clean"].config
    stale = f"<!-- options: {location} -->\n\n| option |\n\n<!-- end -->\n"
    fresh = _generator().refresh(stale)
    assert "`--max-quarantine-share`" in fresh
    assert _generator().refresh(fresh) == fresh


@pytest.mark.parametrize("name", sorted(cli.COMMANDS))
def test_every_row_of_a_table_has_its_four_cells(name: str) -> None:
    table = _generator().options_table(cli.COMMANDS[name].config)
    for row in table.splitlines():
        assert len(re.split(r"(?<!\\)\|", row)) == 6, row


# --- links ---------------------------------------------------------------------------------------


def _anchors(page: Path) -> set[str]:
    """The anchors GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
    return set(plain)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: dead link {target}"
        if anchor:
            assert anchor in _anchors(file), f"{page.name}: no heading for {target}"


def test_every_page_is_linked_from_both_readmes() -> None:
    for readme in (CHINESE, ENGLISH):
        text = _prose(readme)
        for page in (ROOT / "docs").glob("*.md"):
            assert f"](docs/{page.name})" in text, f"{readme.name} does not link {page.name}"


# --- commands ------------------------------------------------------------------------------------


def _check_command(words: list[str], where: str) -> None:
    """Parse a command line as `hanllama` would, and look up the names it mentions."""
    if words[:1] in (["--help"], ["--version"]):
        return
    name, rest = cli._find(words)
    if "--help" in rest:
        return
    parsed = config.parse(cli.resolve(cli.COMMANDS[name].config), rest, where)
    if isinstance(parsed, CleanConfig):
        ruleset.expand(parsed.rules)
    elif isinstance(parsed, RunConfig):
        _check_run(parsed)
    elif isinstance(parsed, PretrainConfig) and not parsed.base_model:
        parsed.model.resolve(32000, parsed.context)


def _check_run(parsed: RunConfig) -> None:
    found = recipe.read(parsed.recipe)
    tiny = recipe.tiny_overlay() if parsed.scale == "tiny" else {}
    stages = recipe.resolve(found, parsed.input, Path("out"), tiny, parsed.set)
    names = {stage.name for stage in stages} | {"all"}
    assert {*parsed.force, *([parsed.until] if parsed.until else [])} <= names


def _files(page: Path) -> dict[str, str]:
    """The files that a page shows whole, by name."""
    found = {}
    for block in _blocks(page):
        # A page may also quote a module's interface: only a whole file goes on with its docstring.
        title = re.match(r"# ([\w-]+\.(?:ya?ml\n|py\n(?=\"{3})))", block.text)
        if title:
            found[title[1].strip()] = block.text
    return found


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_quoted_commands_are_accepted(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in _files(page).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for line in _command_lines(page):
        words = _words(line)
        if words:
            _check_command(words, f"{page.name}: {line}")


@pytest.mark.parametrize(
    "line",
    [
        "hanllama celan raw --output corpus",
        "hanllama clean raw --output corpus --worker 2",
        "hanllama clean raw",
        "hanllama clean raw --output corpus --rules no_such_rule",
        "hanllama run no-such-recipe",
        "hanllama run demo --set pretrain.loop.no_such=1",
        "torchrun --nproc-per-node 2 -m hanllama pretrain data --output run --preset no-such",
    ],
)
def test_a_wrong_command_is_noticed(line: str) -> None:
    with pytest.raises(ValueError):
        _check_command(_words(line), "page")


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_inline_commands_and_options_exist(page: Path) -> None:
    known = [o for c in cli.COMMANDS.values() for o in config.options(cli.resolve(c.config))]
    flags = {"--" + part for o in known for part in _spellings(o.flag[2:])} | FOREIGN_FLAGS
    flags |= {f"--no-{o.flag[2:]}" for o in known if o.type is bool}
    keys = {o.key for o in known}
    for code in re.findall(r"`([^`\n]+)`", _prose(page)):
        if code.startswith("hanllama ") and not code.startswith("hanllama --"):
            cli._find(code.split()[1:])
        if code.startswith("--"):
            assert re.split(r"[ =]", code)[0] in flags, f"{page.name}: {code}"
        is_file = code.endswith((".py", ".safetensors", ".bin"))
        if re.fullmatch(r"(loop|optim|model)\.[a-z_0-9]+", code) and not is_file:
            assert code in keys, f"{page.name}: {code}"


def _spellings(flag: str) -> tuple[str, str]:
    """`loop.max-steps` may also be typed `max-steps`."""
    return flag, flag.rsplit(".", 1)[-1]


def test_make_targets_named_on_the_pages_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    lines = [line for page in PAGES for line in _command_lines(page)]
    named = {line.split()[1] for line in lines if line.startswith("make ")}
    assert named and named <= targets


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_file_on_a_page_is_used_by_a_command_there(page: Path) -> None:
    """And so it was parsed above."""
    for name in _files(page):
        assert any(name in line for line in _command_lines(page)), f"nothing uses {name}"


def test_the_rule_on_the_page_does_what_its_examples_say(tmp_path: Path) -> None:
    path = tmp_path / "page_numbers.py"
    path.write_text(_files(ROOT / "docs" / "extending.md")[path.name], encoding="utf-8")
    (step,) = ruleset.expand([str(path)])
    rule = step.build()
    examples = plugins.load(ruleset.PACKAGE, str(path)).EXAMPLES
    assert examples
    for text, wanted in examples:
        assert rule(text) == wanted
        assert rule(wanted) == wanted


# --- reliability ---------------------------------------------------------------------------------


def test_promises_select_tests_that_exist() -> None:
    """Each `pytest PATH -k "A or B"` of the page chooses at least one test for A and one for B."""
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    rows = re.findall(r"`pytest (\S+) -k \"?([\w ]+?)\"?`", page)
    assert len(rows) > 10
    for where, expression in rows:
        place = ROOT / where
        files = [place] if place.is_file() else sorted(place.glob("test_*.py"))
        names = [
            f"{file.stem}::{test}"
            for file in files
            for test in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))
        ]
        for word in expression.split(" or "):
            assert any(word in name for name in names), f"{where}: -k {word} selects nothing"


# --- the two READMEs -----------------------------------------------------------------------------


def _skeleton(page: Path) -> list[str]:
    """Code blocks without comments, headings' levels, markers and links, in their order."""
    text = page.read_text(encoding="utf-8")
    blocks = [
        (m.start(), f"```{m[1]}\n" + re.sub(r"[ \t]*#.*$", "", m[2], flags=re.MULTILINE))
        for m in FENCE.finditer(text)
    ]
    bare = FENCE.sub(lambda m: " " * len(m[0]), text)
    parts = [
        *blocks,
        *((m.start(), m[1]) for m in re.finditer(r"^(#+) ", bare, re.MULTILINE)),
        *((m.start(), m[0]) for m in re.finditer(r"<!--.*?-->", bare)),
        *((m.start(), m[1]) for m in re.finditer(r"\]\(([^)\s]+)\)", bare)),
    ]
    return [part.replace("README.en.md", "README.md") for _, part in sorted(parts)]


def test_the_two_readmes_are_equal_but_for_the_language() -> None:
    assert _skeleton(CHINESE) == _skeleton(ENGLISH)


@pytest.mark.parametrize("readme", [CHINESE, ENGLISH], ids=["zh", "en"])
def test_the_readmes_name_every_command(readme: Path) -> None:
    rows = set(re.findall(r"^\| `hanllama ([a-z -]+)`", _prose(readme), re.MULTILINE))
    assert rows == set(cli.COMMANDS)


def test_required_options_are_what_the_pages_call_required() -> None:
    """The tables mark exactly the options without a default."""
    for name, command in cli.COMMANDS.items():
        cls = cli.resolve(command.config)
        table = _generator().options_table(command.config)
        required = set(re.findall(r"^\| `(--[\w.-]+)` \|[^|]*\| required \|", table, re.MULTILINE))
        assert required == {o.flag for o in config.options(cls) if o.default is MISSING}, name
