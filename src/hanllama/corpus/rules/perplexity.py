"""Drop text that surprises a character language model too much: gibberish, broken or foreign text.

`model` is a folder that `hanllama quality lm` fitted on text known to be good. The threshold is the
perplexity at `percentile` of that text's held-out passages, read from the folder, so it does not
depend on the corpus that is cleaned; or `maximum`, where given. `scope: lines` judges each line
alone and drops only the surprising ones. A text shorter than `shortest` characters is not judged: a
few characters have no stable perplexity. `minimum` drops text that is too predictable, such as
endless repetition.

Source: the filters of web pages in CCNet (Wenzek et al. 2020) and LLaMA (Touvron et al. 2023); by
characters instead of pieces.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any, Literal

from hanllama.base.config import Natural, NonNegative, checked, option
from hanllama.base.errors import ConfigError
from hanllama.corpus.rules import Drop


@checked
class Rule:
    model: str = option("", help="the folder of a fitted language model (needed)")
    percentile: float = option(
        95.0, ge=0, le=100, help="percentile of the model's reference texts that is the maximum"
    )
    maximum: NonNegative = option(0.0, help="the largest perplexity; 0: by percentile")
    minimum: NonNegative = option(0.0, help="the smallest perplexity, against repetition; 0: none")
    scope: Literal["document", "lines"] = option("document", help="drop documents, or single lines")
    shortest: Natural = option(20, help="documents or lines of fewer characters are not judged")

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("perplexity needs a model: `perplexity: {model: FOLDER}`")
        from hanllama.corpus.quality import ngram_lm

        # Not a field: only parameters travel to worker processes.
        model = ngram_lm.load(self.model)
        object.__setattr__(self, "_model", model)
        object.__setattr__(self, "_limit", self.maximum or model.reference.at(self.percentile))

    def __call__(self, text: str) -> str | Drop:
        if self.scope == "lines":
            return self._lines(text)
        if len(text.strip()) < self.shortest:
            return text
        reason = self._reason(self._model.score(text).perplexity)  # type: ignore[attr-defined]
        return Drop(reason) if reason else text

    def _lines(self, text: str) -> str | Drop:
        lines = text.split("\n")
        judged = [line for line in lines if line.strip()]
        scores = self._model.line_perplexities(text)  # type: ignore[attr-defined]
        gone = {
            line
            for line, value in zip(judged, scores, strict=True)
            if len(line.strip()) >= self.shortest and self._reason(value)
        }
        if not gone:
            return text
        kept = "\n".join(line for line in lines if line not in gone)
        return kept if kept.strip() else Drop("no line of plausible perplexity")

    def _reason(self, perplexity: float) -> str:
        limit: float = self._limit  # type: ignore[attr-defined]
        if perplexity > limit:
            return "perplexity too high"
        return "perplexity too low" if perplexity < self.minimum else ""


@functools.cache
def _examples() -> list[Any]:
    """The examples. They need a model, so a small one is fitted at the first call."""
    from hanllama.corpus.quality.commands import lm
    from hanllama.corpus.quality.options import LmConfig

    folder = tempfile.TemporaryDirectory(prefix="hanllama-example-")
    _KEPT.append(folder)
    text = Path(folder.name, "good.txt")
    sentences = ("小猫在院子里睡觉。", "小狗在院子里跑来跑去。", "孩子们在院子里唱歌。")
    lines = [a + b for a in sentences for b in sentences] * 400
    text.write_text("\n".join(lines), encoding="utf-8")
    model = str(Path(folder.name, "model"))
    lm(LmConfig(inputs=(str(text),), output=model, heldout=0.3))
    known = {"model": model, "maximum": 50, "shortest": 5}
    good, bad = "小狗在院子里睡觉。", "锟斤拷烫烫屯屯葺葺。"
    return [
        (good, known, good),
        (bad, known, Drop("perplexity too high")),
        (f"{good}\n{bad}\n{good}", {**known, "scope": "lines"}, f"{good}\n{good}"),
        ("葺葺", known, "葺葺"),
        (good, {**known, "minimum": 40}, Drop("perplexity too low")),
    ]


_KEPT: list[Any] = []  # the example's folder, removed when the process ends


def __getattr__(name: str) -> Any:
    if name == "EXAMPLES":
        return _examples()
    raise AttributeError(name)
