"""The house stands as `docs/architecture.md` draws it: imports go down, torch stays where it is."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import hanllama
from hanllama import cli
from hanllama.base import fingerprint

PACKAGE = Path(hanllama.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"

# Where a module-level `import torch` is at home; everything else must stay quick to import.
TORCH_HOMES = ("model.", "train.", "plan.", "evaluate.")


class Import(NamedTuple):
    module: str
    at_top: bool


@cache
def _modules() -> dict[str, Path]:
    """{`corpus.clean`: its file}; a package's own file is called `corpus.__init__`."""
    files = PACKAGE.rglob("*.py")
    return {".".join(f.relative_to(PACKAGE).with_suffix("").parts): f for f in files}


@cache
def _imports(module: str) -> tuple[Import, ...]:
    """What a module imports: of this package without its first word, of others the first word."""
    found: list[Import] = []

    def visit(node: ast.AST, at_top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    found.append(Import(_canonical(alias.name), at_top))
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{module} uses a relative import"
                for alias in child.names:
                    found.append(Import(_canonical(f"{child.module}.{alias.name}"), at_top))
            typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            visit(child, at_top and not in_function and not typing_only)

    visit(ast.parse(_modules()[module].read_text(encoding="utf-8")), True)
    return tuple(i for i in found if i.module)


def _canonical(name: str) -> str:
    """`hanllama.base.fs.publish` -> `base.fs`; a package -> `corpus.rules.__init__`."""
    first, _, inner = name.partition(".")
    if first != "hanllama":
        return "!" + first
    parts = inner.split(".")
    for length in range(len(parts), 0, -1):
        for end in ("", ".__init__"):
            if ".".join(parts[:length]) + end in _modules():
                return ".".join(parts[:length]) + end
    return ""  # the package itself: `from hanllama import __version__`


def _unit(module: str) -> str:
    """The file or folder that the page speaks of: `corpus` of `corpus.rules.line_length`."""
    return module.split(".")[0]


@cache
def _floors() -> tuple[dict[str, int], set[tuple[str, str]]]:
    """The page's table: the floor of each unit, and the arrows allowed on one floor."""
    floors: dict[str, int] = {}
    arrows: set[tuple[str, str]] = set()
    for row in re.findall(r"^\| (\d) \|(.*)\|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.M):
        for name in re.findall(r"`([\w]+)(?:\.py|/)`", row[1]):
            floors[name] = int(row[0])
        arrows |= set(re.findall(r"(?:`(\w+)`|all) -> `(\w+)`", row[2]))
    assert len(floors) > 10 and len(arrows) > 2, "the page's table was not understood"
    return floors, arrows


def test_every_file_has_its_floor_on_the_page() -> None:
    floors, _ = _floors()
    units = {_unit(m) for m in _modules()} - {"__init__"}
    assert sorted(units - set(floors)) == []


def test_imports_go_down_or_along_a_named_arrow() -> None:
    floors, arrows = _floors()
    wrong = []
    for module in _modules():
        here = _unit(module)
        for target, _ in _imports(module):
            there = _unit(target)
            if target.startswith("!") or here == there or here == "__init__":
                continue
            level = floors[there] - floors[here]
            along = (here, there) in arrows or ("", there) in arrows
            if level > 0 or (level == 0 and not along):
                wrong.append(f"{module} (floor {floors[here]}) -> {target} ({floors[there]})")
    assert wrong == []


def test_a_fingerprint_counts_the_rooms_that_a_room_imports_from() -> None:
    def rooms_of(module: str) -> set[str]:
        name = _modules()[module].relative_to(PACKAGE).as_posix()
        return {fingerprint.room_of(name)} - {""}

    arrows = {name: set(below.split()) for name, below in fingerprint.ROOMS.items()}
    imports: dict[str, set[str]] = {name: set() for name in arrows}
    for module in _modules():
        for target, _ in _imports(module):
            for here in rooms_of(module):
                imports[here] |= set() if target.startswith("!") else rooms_of(target)

    def below(room: str, table: dict[str, set[str]], seen: frozenset[str]) -> frozenset[str]:
        for other in table[room] - seen:
            seen |= below(other, table, seen | {other})
        return seen

    for room in arrows:
        named, used = (below(room, t, frozenset([room])) for t in (arrows, imports))
        assert named == used, f"ROOMS of base/fingerprint.py, {room}: {sorted(named ^ used)}"
    units = {name.split("/")[0] for name in arrows}
    plumbing = {"base", "cli", "__main__", "__init__", "pipeline", "recipe"}
    assert {_unit(m) for m in _modules()} - units == plumbing


@cache
def _inner_floors() -> dict[str, dict[str, int]]:
    """The page's second table: of each room the floor of every file and folder in it."""
    page = PAGE.read_text(encoding="utf-8").partition("## Floors inside the rooms")[2]
    rooms = {}
    for room, cell in re.findall(r"^\| `([\w/]+)/` \| (.+) \|$", page, re.M):
        floors = [re.findall(r"`(\w+)`", part) for part in cell.split(" / ")]
        rooms[room.replace("/", ".")] = {
            name: -number for number, floor in enumerate(floors) for name in floor
        }
    assert len(rooms) > 10, "the page's table was not understood"
    return rooms


def test_imports_go_down_inside_every_room() -> None:
    wrong = []
    for module in _modules():
        for target, _ in _imports(module):
            room = _shared_room(module, target)
            here, there = (m.removeprefix(f"{room}.").split(".")[0] for m in (module, target))
            if not room or here == there or "__init__" in (here, there):
                continue
            floors = _inner_floors().get(room, {})
            if here not in floors or there not in floors:
                wrong.append(f"{room}/: the page has no floor of {here} or {there}")
            elif floors[there] >= floors[here]:
                wrong.append(f"{module} -> {target}")
    assert wrong == []


def test_every_file_on_the_page_exists() -> None:
    for room, floors in _inner_floors().items():
        for name in floors:
            assert any(m.startswith((f"{room}.{name}.", f"{room}.{name}")) for m in _modules())


def _shared_room(module: str, target: str) -> str:
    """The innermost folder that holds both; "" for another package and the top of this one."""
    shared = []
    for one, other in zip(module.split(".")[:-1], target.split(".")[:-1], strict=False):
        if one != other:
            break
        shared.append(one)
    return ".".join(shared)


def test_nothing_imports_in_a_circle() -> None:
    done: set[str] = set()

    def walk(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            for target, _ in _imports(module):  # those inside of functions too
                if not target.startswith("!"):
                    walk(target, (*path, module))
            done.add(module)

    for module in _modules():
        walk(module, ())


def test_the_loop_knows_no_objective_and_rules_know_no_cleaner() -> None:
    objectives = ("train.pretrain", "train.sft.", "train.preferences.", "train.rl.")
    for module in _modules():
        for target, _ in _imports(module):
            if module.startswith("train.") and not module.startswith(objectives):
                assert not target.startswith(objectives), f"{module} -> {target}"
            if module.startswith("corpus.rules."):
                # A rule may score with a fitted model; the commands that fit one are its examples'.
                plain = _unit(target) != "corpus" or target.startswith(
                    ("corpus.rules.", "corpus.quality.")
                )
                assert plain or target.startswith("!"), f"{module} -> {target}"


def _reaches(module: str, wanted: str, path: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The chain of module-level imports from `module` to the library `wanted`; () when none."""
    if module in path:
        return ()
    for target, at_top in _imports(module):
        if not at_top:
            continue
        if target == "!" + wanted:
            return (*path, module, wanted)
        if not target.startswith("!"):
            chain = _reaches(target, wanted, (*path, module))
            if chain:
                return chain
    return ()


@pytest.mark.parametrize("library", ["torch", "transformers"])
@pytest.mark.parametrize("verb", sorted(cli.COMMANDS))
def test_no_command_needs_torch_before_its_options_are_understood(verb: str, library: str) -> None:
    module = cli.COMMANDS[verb].config.partition(":")[0].removeprefix("hanllama.")
    assert module in _modules(), f"{verb}: there is no hanllama.{module}"
    assert _reaches(module, library) == ()


def test_torch_is_at_home_in_few_places() -> None:
    for module in _modules():
        if not any(module == h or module.startswith(h) for h in TORCH_HOMES):
            at_top = [t for t, top in _imports(module) if top and t == "!torch"]
            assert at_top == [], f"{module} imports torch at its top"


def test_oracles_stay_outside_of_the_product() -> None:
    oracles = {"!transformers", "!trl", "!datasets", "!pytest"}
    found = {(m, t) for m in _modules() for t, _ in _imports(m) if t in oracles}
    assert found == set()


def test_no_file_says_helpers_or_utils() -> None:
    vague = re.compile(r"(^|_)(utils?|helpers?|manager|common|misc)($|_)")
    assert [m for m in _modules() if vague.search(m.split(".")[-1])] == []
