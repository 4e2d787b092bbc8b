"""Deduplicate corpora: `hanllama dedup`.

The input is read two or three times and never held. Stage `lines` counts the documents of each
line; `scan` computes a digest, a sketch and samples of shingles for every document; `exact`,
`bands`, `near` and `contained` choose the documents to remove, by sorting on disk. A last pass
writes the rest. Every stage is published in `OUTPUT.partial` (`base/making.py`), so the command
continues after a kill. The result depends on the input and the options alone: the same bytes with
any number of workers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hanllama.base import fs, workers
from hanllama.base.errors import InputError
from hanllama.base.making import Making, making
from hanllama.corpus.dedup import clusters, contained, near, scan, write
from hanllama.corpus.dedup.clusters import Fates
from hanllama.corpus.dedup.keep import Preference, Removed
from hanllama.corpus.dedup.options import DedupConfig
from hanllama.corpus.dedup.summary import Summary
from hanllama.corpus.dedup.work import Store, Work, is_complete, made_from
from hanllama.reading import records


def dedup(config: DedupConfig) -> None:
    """The command: write the corpus without its duplicates, and report them.

    Raises InputError when an input is missing or empty, the output exists, too many records are
    unusable, or the input changes during the run; Interrupted on a signal.
    """
    files = scan.corpora(config.inputs)
    with making(
        config.output,
        config.inputs,
        force=config.force,
        made_from=lambda: made_from(config, files),
        changed="keep",
    ) as made:
        if not made.complete:
            _dedup(config, files, made)


def _dedup(config: DedupConfig, files: list[list[Path]], made: Making) -> None:
    work = Work(made, config, files)
    size = sum(records.stamp(path)[0] for paths in files for path in paths)
    n_workers = workers.count(config.workers, size, scan.SMALL_INPUT_BYTES)
    boilerplate = _boilerplate(work, config, files, n_workers)
    store = _scan(work, config, files, boilerplate, n_workers)
    _check(made, store, config)
    fates = Fates(_removed(work, config, store, n_workers))
    summary = Summary(config, store, fates)
    sums: dict[str, str] = {}
    with made.publish(sums) as folder:
        with clusters.Names(work.folder / "names", fates.shown) as names:
            sums |= write.write(folder, work, config, files, fates, summary, names, n_workers)
        work.check_unchanged()
        summary.clusters = clusters.write(
            folder / "clusters.jsonl", fates, store, names, config.inputs, summary.lines
        )
        card = summary.card()
        card.write(folder, summary.as_dict())
    card.print()
    report = made.output / "report.html"
    print(f"{summary.documents_kept:,} documents in {made.output}; see {report}")


# --- the stages ----------------------------------------------------------------------------------


def _boilerplate(
    work: Work, config: DedupConfig, files: list[list[Path]], n_workers: int
) -> Path | None:
    if not config.exact_lines:
        return None
    stage = work.stages["lines"]
    found = stage / "found"
    if not is_complete(found):
        arguments = (config,)
        store = scan.read(stage, "lines", scan.jobs(files), n_workers, scan.LineCounter, arguments)
        scan.boilerplate(store, config, found)
    return found / scan.BOILERPLATE


def _scan(
    work: Work,
    config: DedupConfig,
    files: list[list[Path]],
    boilerplate: Path | None,
    n_workers: int,
) -> Store:
    jobs = scan.jobs(files)
    if boilerplate is not None:
        jobs = scan.numbered(files, Store(work.stages["lines"]).jobs)
    arguments = (config, boilerplate)
    return scan.read(work.stages["scan"], "scan", jobs, n_workers, scan.Scanner, arguments)


def _check(made: Making, store: Store, config: DedupConfig) -> None:
    unusable, documents = store.rejects.total(), store.documents
    if unusable > config.max_quarantine_share * (documents + unusable):
        reasons = records.counted(store.rejects, 3)
        raise InputError(
            f"{unusable:,} of {documents + unusable:,} records cannot be used ({reasons}), more"
            f" than the allowed share of {config.max_quarantine_share:g}: repair the input, name"
            " the field of the text (--text-field) or raise --max-quarantine-share"
        )
    if not documents:
        made.remove()
        raise InputError(f"{', '.join(config.inputs)}: the input holds no document")


def _removed(work: Work, config: DedupConfig, store: Store, n_workers: int) -> dict[str, Removed]:
    """stage -> the documents that it removes, in the order of the stages."""
    preference = Preference(store, config.keep)
    removed: dict[str, Removed] = {}
    stages = work.stages
    sorting = max(64, config.memory // n_workers)  # MiB, of each process
    if config.exact_documents:
        equal = near.Equal(store)
        dealt = stages["exact"].with_name(f"{stages['exact'].name}.bands")
        if not is_complete(stages["exact"]):
            if not is_complete(dealt):
                near.deal(dealt, equal, sorting, near.alive_rows(equal, removed.values()))
            near.search(stages["exact"], dealt, equal, preference, n_workers, np.inf)
            fs.remove_folder(dealt)
        removed[equal.how] = near.removed_in(stages["exact"])
    if config.method != "none":
        comparison = (near.MinHash if config.method == "minhash" else near.SimHash)(store, config)
        if not is_complete(stages["near"]):
            if not is_complete(stages["bands"]):
                alive = near.alive_rows(comparison, removed.values())
                near.deal(stages["bands"], comparison, sorting, alive)
            judged = scan.MIN_SAMPLED_LETTERS if config.containment else np.inf
            near.search(stages["near"], stages["bands"], comparison, preference, n_workers, judged)
        removed[comparison.how] = near.removed_in(stages["near"])
    if config.containment:
        if not is_complete(stages["contained"]):
            alive = near.alive_rows(near.Equal(store), removed.values())
            contained.search(stages["contained"], store, alive, config, n_workers)
        removed["contained"] = near.removed_in(stages["contained"])
    return removed
