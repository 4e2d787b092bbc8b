"""Remove web addresses, plain or disguised, and lines that hold nothing else.

Addresses teach a model to invent addresses. Pirate sites put theirs into one line in fifty, written
so that a simple search misses it: `Ｗww.yiＳhu.ｎｅt`, `w w w. yi shu. n et`. So the rule reads a
line as a visitor would type it, without width, case and spaces. A line that is www, a name and a
domain ending, with almost no Chinese, is removed whole. Elsewhere only the address is removed, with
its brackets and label (网址：); the text of a Markdown link stays. `personal_data` masks e-mail
addresses.

`domains` also removes names of sites without http or www (`yishu.net`, `yishu点com`): a technical
article uses them in its sentences, a novel does not.
"""

from __future__ import annotations

import re

from hanllama.base.config import checked, option
from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._lines import change_lines

_LETTER = "A-Za-z0-9Ａ-Ｚａ-ｚ０-９"
_DOT = "[.．。点]"
_ENDING = (
    r"(?i:[cｃＣ][oｏＯ][mｍＭ]|[nｎＮ][eｅＥ][tｔＴ]|[cｃＣ][nｎＮ]"
    r"|org|info|cc|xyz|la|me|top|vip|tv)"
)
_W = "[wWｗＷ]"
_TRIGGER = re.compile(
    rf"[:：]//|{_W}[ \u3000.．]{{0,2}}{_W}[ \u3000.．]{{0,2}}{_W}|{_DOT}{_ENDING}(?![A-Za-z0-9])"
)

_TAIL = r"(?:[/?#:][!-~]*(?<![.,;:!?)\]}'\"]))?"  # the path without the punctuation after it
_PLAIN = r"(?:h ?t ?t ?ps?|ftp) ?[:：]//[!-~]+(?<![.,;:!?)\]}'\"])"
# Few parts: otherwise www.www.www… would be read to its end from each www.
_PARTS = rf"(?:{_DOT}[{_LETTER}-]{{1,63}}+){{0,6}}?"
_WWW = (
    rf"(?<![{_LETTER}]){_W}(?:[.．]?{_W}){{2}}{_PARTS}"
    rf"{_DOT}{_ENDING}(?:{_DOT}{_ENDING})?{_TAIL}"
)
_DOMAIN = (
    rf"(?<![{_LETTER}@._/-])[{_LETTER}][{_LETTER}-]++{_PARTS}"
    rf"{_DOT}{_ENDING}(?![{_LETTER}.]){_TAIL}"
)
_LABEL = r"(?:(?:网址|网站|地址|链接|官网|主页|来源|出处|转载自)[:：]\s*)?"
_OPEN, _CLOSE = r"[(（\[［【<＜《]", r"[)）\]］】>＞》]"

# A disguised address in ASCII and lower case, without spaces.
_TYPED = re.compile(
    r"(?:https?:/*)?w[.．]?w[.．]?w+[^a-z0-9]{0,3}[a-z0-9]{3,30}"
    r"[^a-z0-9]{1,2}(?:com|net|cn|org|cc|info|la|me|xyz)"
)
_TO_ASCII = str.maketrans(
    {point: point - 0xFEE0 for point in range(0xFF01, 0xFF5F)} | {0x3000: " "}
)
_HAN = re.compile("[\u3400-\u9fff]")
_LONGEST_MARK, _MOST_HAN = 80, 8
_WORD = re.compile(r"[^\W_]")


@checked
class Rule:
    domains: bool = option(False, help="also remove names of sites without http or www")

    def __call__(self, text: str) -> str | Drop:
        positions = (found.start() for found in _TRIGGER.finditer(text))
        return change_lines(text, positions, self._without_addresses)

    def _without_addresses(self, line: str) -> str | None:
        if _is_watermark(line):
            return None
        pattern = _ADDRESS_OR_DOMAIN if self.domains else _ADDRESS
        changed = pattern.sub("", _LINK.sub(r"\1", line))
        return None if changed != line and not _WORD.search(changed) else changed


def _is_watermark(line: str) -> bool:
    line = line.strip()
    if len(line) > _LONGEST_MARK or len(_HAN.findall(line)) > _MOST_HAN:
        return False
    return bool(_TYPED.match("".join(line.translate(_TO_ASCII).lower().split())))


def _address(alternatives: str) -> re.Pattern[str]:
    return re.compile(rf"{_LABEL}(?:{_OPEN}\s*(?:{alternatives})\s*{_CLOSE}|(?:{alternatives}))")


_ADDRESS = _address(f"{_PLAIN}|{_WWW}")
_ADDRESS_OR_DOMAIN = _address(f"{_PLAIN}|{_WWW}|{_DOMAIN}")
_LINK = re.compile(rf"!?\[([^\]\n]{{0,200}}+)\]\((?:{_PLAIN}|{_WWW})\)")


EXAMPLES = [
    ("他走了。\nＷww.yiＳhu.ｎｅt\n天黑了。", "他走了。\n天黑了。"),
    ("w w w. yi ge zhan. n et!xt-小说天\\堂\n天黑了。", "天黑了。"),
    ("ww\u3000w.yＩgezhan.。nett?txt＿小＿说\n天黑了。", "天黑了。"),
    ("他走了(w.w.w.yishu.la)。\nht tp://www.yishu.me", "他走了。\n"),
    ("见https://a.example/b?c=1，又见（http://b.example/）。", "见，又见。"),
    ("参看[说明](https://a.example/doc)一文。", "参看说明一文。"),
    ("网址：www.a-b.com.cn/x.html\n完", "完"),
    ("发信到 me@mail.example.com，用 node.js 和 kernel.org。",) * 2,
    ("(yishu.net)\n他看了yishu点com，没有回来。", {"domains": True}, "他看了，没有回来。"),
    ("价3.5元。www 是三个字母。",) * 2,
]
