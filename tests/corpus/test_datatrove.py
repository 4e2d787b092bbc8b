"""Two datatrove tasks write the documents that `hanllama clean` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hanllama.base.errors import ConfigError
from hanllama.corpus.clean import CleanConfig, clean

pytest.importorskip("datatrove", reason="datatrove is not installed")

RULES = ("default", {"han_ratio": {"minimum": 0.5}}, {"min_characters": {"minimum": 4}})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for number, codec in enumerate(("utf-8", "gb18030", "utf-16")):
        (folder / f"{number}.txt").write_bytes(f"第{number}本书。\u200b\n\n\n完了。".encode(codec))
    lines = [{"text": f"第{n}条：内容。", "id": str(n), "category": "甲"} for n in range(20)]
    lines += [{"text": "only English words here, nothing to keep"}, {"text": "短"}, {"none": 1}]
    (folder / "a.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return folder


def documents(folder: Path, pattern: str) -> list[dict[str, Any]]:
    lines = [line for path in folder.glob(pattern) for line in path.read_bytes().split(b"\n")]
    return sorted((json.loads(line) for line in lines if line), key=lambda d: str(d["id"]))


def test_two_tasks_give_the_documents_of_clean(tmp_path: Path, source: Path) -> None:
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.writers import JsonlWriter

    from hanllama.corpus.datatrove_steps import CleanDocuments, ReadDocuments, corpus_line

    dropped = JsonlWriter(str(tmp_path / "dropped"), compression=None)
    executor = LocalPipelineExecutor(
        [
            ReadDocuments([str(source)], quarantine=tmp_path / "quarantine"),
            CleanDocuments(RULES, exclusion_writer=dropped),
            JsonlWriter(
                str(tmp_path / "out"), "part-${rank}.jsonl", compression=None, adapter=corpus_line
            ),
        ],
        tasks=2,
        workers=2,
        logging_dir=str(tmp_path / "logs"),
    )
    stats = executor.run()

    clean(CleanConfig(inputs=(str(source),), output=str(tmp_path / "cleaned"), rules=RULES))
    expected = documents(tmp_path / "cleaned", "part-*.jsonl")
    assert len(expected) == 23
    assert documents(tmp_path / "out", "part-*.jsonl") == expected
    assert len(list((tmp_path / "out").iterdir())) == 2  # both tasks had something to write

    report = json.loads((tmp_path / "cleaned" / "report.json").read_text())
    reasons = {
        f"dropped_{rule['rule']}: {reason}": n
        for rule in report["rules"]
        for reason, n in rule["dropped"].items()
    }
    assert len(reasons) == 2
    counted = {step["name"]: step["stats"] for step in json.loads(stats.to_json())}
    (rules,) = (found for name, found in counted.items() if "rules" in name)
    assert {k: total(v) for k, v in rules.items() if k.startswith("dropped_")} == reasons
    kept_apart = documents(tmp_path / "dropped", "*.jsonl")
    assert {d["metadata"]["filter_reason"] for d in kept_apart} == {
        reason.removeprefix("dropped_") for reason in reasons
    }
    (rejected,) = [
        json.loads(line)
        for path in (tmp_path / "quarantine").glob("*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert rejected["line"] == 23 and rejected["reason"] == "no field 'text'"


def total(stat: Any) -> int:
    return int(stat["total"] if isinstance(stat, dict) else stat)


def test_wrong_rules_are_refused_before_a_task_starts() -> None:
    from hanllama.corpus.datatrove_steps import CleanDocuments

    with pytest.raises(ConfigError, match="did you mean 'han_ratio'"):
        CleanDocuments(["han_raito"])
