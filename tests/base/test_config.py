"""Config: YAML, then flags, into one frozen dataclass; every mistake is named with its remedy."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from hanllama.base import config
from hanllama.base.config import Count, Natural, Positive, Share, Texts, checked, option
from hanllama.base.errors import ConfigError


@dataclass(frozen=True)
class Optim:
    learning_rate: float = option(1e-3, help="the peak")
    name: str = option("adamw", help="which one")


@dataclass(frozen=True)
class Loop:
    max_steps: int = option(100, help="how long")
    name: str = option("loop", help="a second leaf called name")


@dataclass(frozen=True)
class Example:
    inputs: tuple[str, ...] = option(help="what to read", positional=True)
    output: str = option(help="where to write", positional=True)
    count: int = option(3, help="how many")
    size: int | None = option(None, help="how large; left to the preset")
    mode: Literal["fast", "slow"] = option("fast", help="how")
    force: bool = option(False, help="replace")
    check: bool = option(True, help="look twice")
    stop: tuple[str, ...] = option((), help="texts that end it")
    optim: Optim = option(Optim(), help="optimizer")
    loop: Loop = option(Loop(), help="loop")

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ConfigError(f"count must not be negative, not {self.count}")


@dataclass(frozen=True)
class Heat:
    heat: tuple[float, ...] = option((1.0,), help="some numbers")


def parse(*argv: str) -> Example:
    return config.parse(Example, argv, "hanllama example")


# --- the command line ----------------------------------------------------------------------------


def test_positional_words_fill_a_list_and_what_follows_it() -> None:
    made = parse("a.txt", "b.txt", "out")
    assert made.inputs == ("a.txt", "b.txt") and made.output == "out"


def test_positional_words_may_come_after_flags_and_beside_switches() -> None:
    assert parse("--count", "5", "a", "out") == parse("a", "out", "--count", "5")
    assert parse("--force", "a", "out").force is True


def test_values_have_the_types_of_the_options() -> None:
    made = parse("a", "o", "--count", "7", "--learning-rate", "1e-4", "--size", "12")
    assert (made.count, made.optim.learning_rate, made.size) == (7, 1e-4, 12)
    assert parse("a", "o", "--size", "none").size is None
    assert parse("a", "o", "--count", "-0").count == 0


@pytest.mark.parametrize(
    "text", ["123", "null", "true", "[1]", "{x}", "a: b", "#x", "", " 两 端 ", "1e5", "-", "\n"]
)
def test_text_stays_text_whatever_it_looks_like(text: str) -> None:
    assert parse("a", text if text != "" else "o", "--stop", text).stop == (text,)


def test_switches_are_set_negated_and_spelled_out() -> None:
    assert parse("a", "o").force is False and parse("a", "o").check is True
    assert parse("a", "o", "--force").force is True
    assert parse("a", "o", "--no-check").check is False
    assert parse("a", "o", "--check", "false", "--force=yes") == parse(
        "a", "o", "--no-check", "--force"
    )


def test_lists_gather_and_repeat_and_the_last_single_value_wins() -> None:
    assert parse("a", "o", "--stop", "x", "y", "--count", "1", "--stop", "z").stop == (
        "x",
        "y",
        "z",
    )
    assert parse("a", "o", "--count", "1", "--count", "2").count == 2


def test_a_json_list_in_one_word_is_a_list() -> None:
    """As scripts write it, and as YAML would read it: never one text that looks like a list."""
    assert parse("a", "o", "--stop", '["x", "y\\n"]').stop == ("x", "y\n")
    assert parse("a", "o", "--stop", "w", '["x"]', "--stop=[]").stop == ("w", "x")
    assert parse('["a", "b"]', "o") == parse("a", "b", "o")
    for text in ("[笑]", "[", "[x, y]", "[1]", '["x", 1]', '"x"', "[" * 100_000):
        assert parse("a", "o", "--stop", text).stop == (text,), "no JSON list of texts: a text"
    assert parse("a", "o", "--stop", '["[1]", "[\\"x\\"]"]').stop == ("[1]", '["x"]')
    numbers = config.parse(Heat, ["--heat", "[0.3, 1]"], "hanllama heat")
    assert numbers == config.parse(Heat, ["--heat", "0.3", "1"], "hanllama heat")
    assert numbers.heat == (0.3, 1.0)


def test_dashes_dots_and_the_only_leaf_of_a_name_all_work() -> None:
    same = {
        parse("a", "o", flag, "9").loop.max_steps for flag in ("--loop.max_steps", "--max-steps")
    }
    assert same == {9}
    assert parse("a", "o", "--loop.name", "x").optim.name == "adamw"


def test_a_value_that_begins_with_dashes_is_given_with_equals() -> None:
    assert parse("a", "o", "--stop=--end").stop == ("--end",)


BAD = [
    (["a", "o", "--cuont", "1"], "unknown option --cuont; did you mean 'count'"),
    (["a", "o", "--name", "x"], "unknown option --name"),  # two groups have one
    (["a", "o", "--learning-rat", "1"], "did you mean 'optim.learning-rate'"),
    (["a", "o", "--count", "many"], "count must be int, not 'many'"),
    (["a", "o", "--count", "2.5"], "count must be int"),
    (["a", "o", "--count", "null"], "count must be int, not 'null'"),
    (["a", "o", "--mode", "fats"], r"mode must be fast\|slow, not 'fats'"),
    (["a", "o", "--count"], "--count needs a value"),
    (["a", "o", "--no-check", "true"], "--no-check takes no value"),
    (["a", "o", "--no-count"], "unknown option --no-count"),
    (["a", "o", "--count", "-1"], "hanllama example: count must not be negative"),
    (["a"], "--inputs is required|--output is required"),
    ([], r"--inputs is required \(what to read\)"),
    (["a", "o", "--config", "none.yaml"], r"config file none\.yaml does not exist"),
    (["a", "o", "-n", "5"], "unknown option -n; options begin with --"),
    (["a", "o", "--config"], "--config needs a value"),
    (["a", "o", "--config", "/"], "config file / cannot be read"),
]


@pytest.mark.parametrize(("argv", "message"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_a_mistake_is_named(argv: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(*argv)


def test_too_many_words_are_refused() -> None:
    @dataclass(frozen=True)
    class One:
        model: str = option(help="m", positional=True)

    with pytest.raises(ConfigError, match="unexpected argument 'b'"):
        config.parse(One, ["a", "b"], "hanllama one")


def test_a_config_cannot_be_changed_once_made() -> None:
    with pytest.raises(FrozenInstanceError):
        parse("a", "o").count = 4  # type: ignore[misc]


# --- ranges --------------------------------------------------------------------------------------


@checked
class Ranged:
    count: Count = option(1, help="how many")
    room: Natural | None = option(None, help="how much")
    share: Share = option(0.5, help="a part")
    rate: Positive = option(0.1, help="how fast")
    bits: int = option(20, ge=10, le=26, help="how large")
    names: Texts = option(("a",), help="whose")


OUT_OF_RANGE = [
    ({"count": 0}, "count must be int of 1 or more, not 0"),
    ({"count": "many"}, "count must be int of 1 or more, not 'many'"),
    ({"count": 2.0}, r"count must be int of 1 or more, not 2\.0"),
    ({"room": -1}, "room must be int of 0 or more, not -1"),
    ({"share": 1.5}, r"share must be float from 0 to 1, not 1\.5"),
    ({"share": float("nan")}, "share must be float from 0 to 1, not nan"),
    ({"rate": 0}, "rate must be float above 0, not 0"),
    ({"rate": float("inf")}, "rate must be float above 0, not inf"),
    ({"bits": 27}, "bits must be int from 10 to 26, not 27"),
    ({"names": ()}, "names must be list of text with 1 or more"),
]


@pytest.mark.parametrize(("values", "message"), OUT_OF_RANGE)
def test_a_number_out_of_range_is_refused_loaded_and_made(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=f"a recipe: {message}"):
        config.load(Ranged, values, "a recipe")
    with pytest.raises(ConfigError, match=message):
        Ranged(**values)
    assert Ranged(room=0, share=1, bits=26) == config.load(
        Ranged, {"room": 0, "share": 1, "bits": 26}, "x"
    )


def test_a_text_is_no_number_where_an_object_is_made() -> None:
    """A flag's text is read as a number; a caller's is a mistake."""
    assert config.parse(Ranged, ["--count", "7", "--room", "none"], "x") == Ranged(count=7)
    with pytest.raises(ConfigError, match="count must be int of 1 or more, not '7'"):
        Ranged(count="7")  # type: ignore[arg-type]


def test_a_group_names_its_key_in_full() -> None:
    @checked
    class Outer:
        inner: Ranged = option(Ranged(), help="a group")

    with pytest.raises(ConfigError, match=r"x: inner\.count must be int of 1 or more, not 0"):
        config.parse(Outer, ["--inner.count", "0"], "x")


def test_a_subclass_changes_a_default_and_keeps_help_and_range() -> None:
    @checked
    class More(Ranged):
        output: str = option(help="where to")
        bits: int = 12
        share: Share = option(0.25, help="another part")

    by_key = {o.key: o for o in config.options(More)}
    assert next(iter(by_key)) == "output", "what is required comes first"
    assert (by_key["bits"].default, by_key["bits"].help) == (12, "how large")
    assert (by_key["share"].default, by_key["share"].help) == (0.25, "another part")
    assert More(output="o").bits == 12 and Ranged().bits == 20
    for made in (lambda: More(output="o", bits=9), lambda: More(output="o", share=2.0)):
        with pytest.raises(ConfigError, match="must be"):
            made()


# --- YAML ----------------------------------------------------------------------------------------


def _yaml(tmp_path: Path, text: str, name: str = "c.yaml") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_flags_win_over_yaml_and_a_later_file_over_an_earlier(tmp_path: Path) -> None:
    one = _yaml(tmp_path, "inputs: [a]\noutput: o\ncount: 5\noptim: {learning_rate: 1e-2}\n")
    two = _yaml(tmp_path, "count: 6\n", "d.yaml")
    assert parse("--config", one).count == 5
    assert parse("--config", one).optim == Optim(0.01, "adamw")
    assert parse("--config", one, "--config", two).count == 6
    assert parse("--config", one, "--config", two, "--count", "7").count == 7
    assert parse("b", "p", "--config", one).inputs == ("b",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuont: 1", r"c\.yaml: unknown key 'cuont'; did you mean 'count'"),
        ("optim: {learning_rat: 1}", r"unknown key 'optim\.learning_rat'; did you mean"),
        ("optim: 3", "optim must hold `key: value` lines"),
        ("count: null", "count must be int, not None"),
        ("stop: null", "stop must be list of text, not None"),
        ("stop: [1]", "stop must be list of text"),
        ("mode: 1", r"mode must be fast\|slow"),
        ("- a", "must hold `key: value` lines"),
        ("a: [", "is not valid YAML"),
        ("count: true", "count must be int, not True"),
    ],
)
def test_a_mistake_in_yaml_names_the_file_or_the_key(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse("a", "o", "--config", _yaml(tmp_path, text))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse("a", "o", "--config", str(tmp_path / "c.yaml"))


def test_a_resolved_config_reads_back_to_itself(tmp_path: Path) -> None:
    made = parse("甲", "乙", "--learning-rate", "3e-9", "--stop", "\n", "null", "--size", "4")
    again = parse("--config", _yaml(tmp_path, config.to_yaml(made)))
    assert again == made
    default = parse("a", "o")
    assert parse("--config", _yaml(tmp_path, config.to_yaml(default))) == default


def test_a_mapping_is_loaded_like_yaml_and_its_place_is_named() -> None:
    made = config.load(Example, {"inputs": "one", "output": "o", "loop": {"max-steps": 5}}, "here")
    assert made.inputs == ("one",) and made.loop.max_steps == 5
    with pytest.raises(ConfigError, match="recipe x, stage y: unknown key 'q'"):
        config.load(Example, {"q": 1}, "recipe x, stage y")


def test_lists_may_mix_texts_and_mappings() -> None:
    @dataclass(frozen=True)
    class Mixed:
        rules: tuple[str | dict[str, Any], ...] = option(("default",), help="r")

    made = config.load(Mixed, {"rules": ["a", {"line_length": {"minimum": 2}}]}, "x")
    assert made.rules == ("a", {"line_length": {"minimum": 2}})
    assert config.parse(Mixed, ["--rules", "a", "b.py"], "x").rules == ("a", "b.py")
    mixed = '["a", {"line_length": {"minimum": 2}}]'
    assert config.parse(Mixed, ["--rules", mixed], "x").rules == made.rules
    with pytest.raises(ConfigError, match="stop must be list of text"):
        parse("a", "o", "--stop", '["x", {}]')


# --- what is read from the dataclass --------------------------------------------------------------


def test_help_shows_every_option_with_its_type_and_default() -> None:
    text = config.help_text(Example, "hanllama example", "an example")
    assert text.startswith("usage: hanllama example INPUTS [INPUTS ...] OUTPUT ")
    for piece in (
        "--inputs list of text",
        "what to read (required)",
        "--mode fast|slow",
        "how (default: fast)",
        "--optim.learning-rate float",
        "(default: 0.001)",
        "--config FILE",
        "--debug",
    ):
        assert piece in text, piece
    assert max(map(len, text.splitlines())) < 140


def test_the_documentation_table_has_a_row_for_every_option() -> None:
    rows = config.markdown_table(Example).splitlines()
    assert len(rows) == 2 + len(config.options(Example))
    assert all(row.count("|") - row.count("\\|") == 5 for row in rows)
    assert "| `--mode` | fast \\| slow | `fast` | how |" in rows
    assert "| `--output` | text | required | where to write |" in rows


def test_an_option_is_found_by_its_key_or_its_only_leaf() -> None:
    assert config.find(Example, "max-steps", "x").key == "loop.max_steps"
    assert config.find(Example, "optim.name", "x").key == "optim.name"
    with pytest.raises(ConfigError, match="x: unknown key 'name'"):
        config.find(Example, "name", "x")


def test_a_group_with_other_defaults_than_its_class_is_refused() -> None:
    @dataclass(frozen=True)
    class Group:
        rate: float = option(0.1, help="a number")

    with pytest.raises(AssertionError, match="subclass"):
        option(Group(rate=0.2), help="a group")
