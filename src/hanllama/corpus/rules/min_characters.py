"""Drop a document of fewer than `minimum` characters, white space not counted.

An empty record only teaches a model to stop. The default drops nothing else: a poem has twenty
characters, a proverb four.
"""

from __future__ import annotations

from hanllama.base.config import Natural, checked, option
from hanllama.corpus.rules import Drop


@checked
class Rule:
    minimum: Natural = option(1, help="the fewest characters of a document that is kept")

    def __call__(self, text: str) -> str | Drop:
        # The beginning of most documents is long enough: do not split a whole book.
        beginning = text[: 4 * self.minimum]
        if len("".join(beginning.split())) >= self.minimum:
            return text
        if len("".join(text.split())) >= self.minimum:
            return text
        return Drop("too few characters")


EXAMPLES = [
    (" 　\n\t", Drop("too few characters")),
    ("好", "好"),
    ("守株待兔", {"minimum": 5}, Drop("too few characters")),
    ("守 株\n待兔" + " " * 30 + "。", {"minimum": 5}, "守 株\n待兔" + " " * 30 + "。"),
]
