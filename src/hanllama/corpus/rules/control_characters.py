r"""Remove invisible characters: controls, zero-width characters, bidirectional marks.

Web novels hold them as watermarks and as traces of page breaks and Windows line ends. Each costs
a small vocabulary three byte tokens and makes 祥子 and 祥<zero-width space>子 two words. Every
line end (`\r\n`, `\r`, vertical tab, form feed, U+0085, U+2028, U+2029) becomes `\n`; tabs stay.

The two joiners are content where they join: ZWJ builds emoji (👨‍👩‍👧), ZWNJ spells Persian. They
are removed only beside Han, ASCII, punctuation or nothing, where they cannot join.

Source: the categories Cc and Cf of the Unicode character database, less the above.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hanllama.corpus.rules import Drop

_LINE_ENDS = re.compile("[\r\x0b\x0c\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f"  # C0 and C1 controls except tab and line ends
    "\xad\u061c\u180e\u200b\u200e\u200f\u2060-\u2064\ufeff"  # soft hyphen, zero width, marks
    "\u202a-\u202e\u2066-\u206f"  # bidirectional embeddings, overrides, isolates
    "\ufdd0-\ufdef\ufff9-\ufffb\ufffe\uffff]+"  # non-characters, interlinear annotation
)
_NOT_JOINED = "[\x00-\x7f\u2000-\u206f\u2e80-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
_IDLE_JOINER = re.compile(
    rf"[\u200c\u200d](?={_NOT_JOINED}|\Z)|(?:(?<={_NOT_JOINED})|(?<!.))[\u200c\u200d]", re.DOTALL
)


@dataclass(frozen=True)
class Rule:
    def __call__(self, text: str) -> str | Drop:
        text = _LINE_ENDS.sub("\n", text.replace("\r\n", "\n"))
        text = _INVISIBLE.sub("", text)
        if "\u200c" in text or "\u200d" in text:  # the pattern is slow
            text = _IDLE_JOINER.sub("", text)
        return text


EXAMPLES = [
    ("祥\u200b子拉车。\r\n他\u00ad走了。\x00", "祥子拉车。\n他走了。"),
    ("\ufeff第一章\x0c第二章\u2028第三章\r第四章", "第一章\n第二章\n第三章\n第四章"),
    ("一\t二　三", "一\t二　三"),
    ("一家人👨\u200d👩\u200d👧去了。", "一家人👨\u200d👩\u200d👧去了。"),
    ("می\u200cخواهم", "می\u200cخواهم"),
    ("骆\u200d驼\u200c", "骆驼"),
    ("\u200d👩\u200d\u200d", "👩"),
    ("左\u202e右\u2066中", "左右中"),
]
