"""Strings that tokenizers have disagreed about, generated: what audits and parity tests use.

Han of all planes, emoji with joiners, full width, English, code, spaces in every place, newlines,
controls, look-alikes of special tokens, the empty string.
"""

from __future__ import annotations

import random

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
    """About 1.25 times `count` strings, the same for the same seed."""
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
