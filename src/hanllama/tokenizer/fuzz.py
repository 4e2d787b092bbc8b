"""Generated strings that tokenizers have disagreed about, for audits and parity tests.

Han of all planes, emoji with joiners, full width, English, code, spaces in every place, newlines,
controls, look-alikes of special tokens, the empty string. These hold few of a vocabulary's own
pieces, so `contested` adds strings in which its pieces overlap.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

PARTS = [
    *["你好", "世界", "小兔子", "森林", "的的的", "，", "。", "“", "”！", "——", "……", "　　"],
    *["𠮷野家", "𪜀", "𫝀", "𬺰", "𰀀", "鿿", "㐀", "龜", "体", "ﾊﾝｶｸ", "ＡＢＣ１２", "Ⅷ", "㍿"],
    *["😀", "👨‍👩‍👧", "🇨🇳", "❤️", "e\u0301", "é", "ﷺ", "ไทย", "한국", "اب"],
    *["hello", " world", "The", "def f(x):\n    return x", "a", "aa", "aaa", "1234", "3.14"],
    *[" ", "  ", "   ", "        ", "\n", "\n\n", "\t", "\r\n", "\u2028", "\u00a0", "\u200b"],
    *["\x00", "\x07", "\x7f", "\ufeff", "\ufffd", "▁", "▁▁", " ▁", "<", ">", "|", "<0x41>"],
    *["<s>", "</s>", "<unk>", "<pad>", "<|im_start|>", "<|im_end|>", "<|im_start|>user\n"],
]


def strings(count: int, seed: int) -> list[str]:
    """About 1.25 times `count` strings and some fixed ones, the same for the same seed."""
    draw = random.Random(seed)
    found = ["", *PARTS, *(f" {p}" for p in PARTS), *(f"{p} " for p in PARTS)]
    found += [" " * n for n in range(1, 40)] + ["a" + " " * n + "b" for n in range(20)]
    for _ in range(count):
        found.append("".join(draw.choices(PARTS, k=draw.randint(1, 15))))
    for _ in range(count // 4):
        planes = [(0x20, 0x250), (0x4E00, 0x9FFF), (0x3000, 0x30FF), (0x20000, 0x2A6DF)]
        planes += [(0x1F300, 0x1FAFF), (0x0, 0x1F)]
        found.append("".join(chr(draw.randint(*draw.choice(planes))) for _ in range(12)))
    return found


def contested(pieces: Sequence[str], count: int, seed: int) -> list[str]:
    """At most `count` strings in which pieces overlap or repeat; the same for the same seed.

    Half are chains in which two neighbours share a character. Half repeat one piece, which can be
    cut in several ways of equal score.
    """
    longer = [piece for piece in pieces if len(piece) > 1]
    by_first: dict[str, list[str]] = {}
    for piece in longer:
        by_first.setdefault(piece[0], []).append(piece)
    draw = random.Random(seed)
    found = []
    for _ in range(count // 2 if longer else 0):
        chain = draw.choice(longer)
        for _ in range(draw.randint(1, 6)):
            chain += draw.choice(by_first.get(chain[-1], longer))[1:]
        found += [chain, draw.choice(longer) * draw.randint(2, 24)]
    return found
