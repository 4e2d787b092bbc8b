"""Turn the entries of `rules:` in a config into rules.

An entry is a preset (`default`, a YAML file in `presets/`), a YAML file of the user, the name of a
rule, or `name: {parameter: value}`. The entries are expanded into steps: plain values that travel
to worker processes, where each process builds its rules from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hanllama.base import config, plugins
from hanllama.base.errors import ConfigError
from hanllama.corpus.rules import CleaningRule

PACKAGE = "hanllama.corpus.rules"
PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class Step:
    """A rule by name (or path of a `.py`), with the parameters that differ from its defaults."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The rule's name; for a user's `.py` file, the file name without folder and suffix."""
        return Path(self.name).stem if self.name.endswith(".py") else self.name

    def build(self) -> CleaningRule:
        """Build the rule; ConfigError for an unknown name, an unknown or impossible parameter."""
        cls = plugins.member(PACKAGE, self.name, "Rule")
        rule: CleaningRule = config.load(cls, dict(self.parameters), f"rule {self.name}")
        return rule


def presets() -> list[str]:
    """The names of the presets that come with hanllama."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def expand(entries: Iterable[Any], where: str = "rules") -> list[Step]:
    """The steps of a list of entries; each is built once as a check.

    Raises ConfigError for an entry that is neither preset, YAML file, rule nor parameters.
    """
    steps = [step for entry in entries for step in _expand(entry, where)]
    for step in steps:
        step.build()
    return steps


def _expand(entry: Any, where: str) -> list[Step]:
    if not isinstance(entry, str):
        return [Step(*plugins.named(entry, where))]
    if entry in presets():
        return _from_yaml(PRESETS / f"{entry}.yaml")
    if entry.endswith((".yaml", ".yml")):
        return _from_yaml(Path(entry))
    known = plugins.names(PACKAGE)
    if entry not in known and not entry.endswith(".py"):
        hint = plugins.nearest(entry, known + presets())
        raise ConfigError(f"{where}: there is no rule or preset {entry!r}{hint}")
    return [Step(entry)]


def _from_yaml(path: Path) -> list[Step]:
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"rules file {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"rules file {path} is not valid YAML: {error}") from error
    entries = content.get("rules") if isinstance(content, Mapping) else content
    if not isinstance(entries, list):
        raise ConfigError(f"rules file {path} must hold `rules:` and a list under it")
    if path.name in {str(e) for e in entries} or str(path) in {str(e) for e in entries}:
        raise ConfigError(f"rules file {path} names itself")
    return [step for entry in entries for step in _expand(entry, str(path))]
