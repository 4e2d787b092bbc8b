"""Drop text that a classifier, fitted on the user's good and bad examples, finds bad.

`model` is a folder that `hanllama quality classifier` fitted. A score is between 0 and 1; a
document below `minimum` is dropped. With `percentile` above 0 the threshold is the score at that
percentile of the good held-out passages, read from the folder: `percentile: 2` loses about two in a
hundred good passages. A text shorter than `shortest` characters is not judged.

Source: the quality classifier of GPT-3 (Brown et al. 2020, appendix A), by characters.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

from hanllama.base.config import Natural, Share, checked, option
from hanllama.base.errors import ConfigError
from hanllama.corpus.rules import Drop


@checked
class Rule:
    model: str = option("", help="the folder of a fitted classifier (needed)")
    minimum: Share = option(0.5, help="the smallest score that stays, 0 to 1")
    percentile: float = option(
        0.0, ge=0, le=100, help="percentile of good passages that is the smallest score; 0: minimum"
    )
    shortest: Natural = option(20, help="documents of fewer characters are not judged")

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError(
                "quality_classifier needs a model: `quality_classifier: {model: FOLDER}`"
            )
        from hanllama.corpus.quality import classifier

        model = classifier.load(self.model)
        limit = model.reference.at(self.percentile) if self.percentile else self.minimum
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_limit", limit)

    def __call__(self, text: str) -> str | Drop:
        if len(text.strip()) < self.shortest:
            return text
        score: float = self._model.score(text)  # type: ignore[attr-defined]
        limit: float = self._limit  # type: ignore[attr-defined]
        return Drop("classified as bad") if score < limit else text


@functools.cache
def _examples() -> list[Any]:
    """The examples. They need a model, so a small one is fitted at the first call."""
    from hanllama.corpus.quality.commands import fit_classifier
    from hanllama.corpus.quality.options import ClassifierConfig

    folder = tempfile.TemporaryDirectory(prefix="hanllama-example-")
    _KEPT.append(folder)
    good, bad = Path(folder.name, "good.jsonl"), Path(folder.name, "bad.jsonl")
    animals, places = ("小猫", "小狗", "孩子", "母鸡"), ("院子", "树下", "河边", "屋里")
    stories = [f"{a}在{p}玩了{n}天。" for a in animals for p in places for n in range(2, 9)]
    adverts = [f"加群{n}领{p}红包，{a}秒到账！" for a in animals for p in places for n in range(7)]
    for path, texts in ((good, stories), (bad, adverts)):
        path.write_text("".join(f'{{"text": "{t}"}}\n' for t in texts), encoding="utf-8")
    model = str(Path(folder.name, "model"))
    fit_classifier(
        ClassifierConfig(good=(str(good),), bad=(str(bad),), output=model, bits=12, heldout=0.2)
    )
    known = {"model": model, "shortest": 5}
    story, advert = "母鸡和小猫在河边玩。", "加群领红包，红包秒到账！"
    return [
        (story, known, story),
        (advert, known, Drop("classified as bad")),
        (advert, {**known, "minimum": 0}, advert),
        (advert, {**known, "percentile": 1}, Drop("classified as bad")),
        ("加群！", known, "加群！"),
    ]


_KEPT: list[Any] = []  # the example's folder, removed when the process ends


def __getattr__(name: str) -> Any:
    if name == "EXAMPLES":
        return _examples()
    raise AttributeError(name)
