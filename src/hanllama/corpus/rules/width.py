"""Give each character one width: letters and digits half, Chinese punctuation full.

To a tokenizer Ｑ and Q are two words, and so are “他说:” and “他说：”. Novels typed on old systems
hold ．for 。, －－ for ——, ∶ for ：, straight quotes and half-width commas between Han characters;
PDFs hold Kangxi radicals (⼀ for 一). NFKC, the usual remedy, turns ，！？（） into ,!?() and …
into three full stops. So this rule has its own table:

- letters, digits and signs such as ％＋－／＝＠ become ASCII; ，！？：；（）～［］ stay,
  and so do ＜＞＆, which must not form a tag;
- vertical, small and half-width forms of Chinese punctuation become the usual ones; compatibility
  ideographs and radicals become the character that they are drawn as;
- , ; : ! ? ( ) become full between Chinese. A ? between two Han characters stays in a text that
  also has ？: there it stands for a lost character (玉在?中求善价);
- ．(and .) after Chinese becomes 。 where it ends a line or a quotation; in a text with such ends,
  everywhere except after a numeral. Other texts keep the dot of 奥斯卡．王尔德;
- " becomes “ or ” where the quotes of its line alternate and stand next to Chinese;
- three dots or more become ……, two dashes next to Chinese ——.

Source: Unicode blocks FF00, FE10, FE30, FE50, 2F00, F900; GB/T 15834-2011 for the use.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from hanllama.corpus.rules import Drop

_HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_OPENING, _CLOSING = "“‘「『《（【〈", "”’」』》）】〉"
_CHINESE = f"{_HAN}{_OPENING}{_CLOSING}，。！？：；、…—"
_FULL = str.maketrans(",;:!?.．", "，；：！？。。")

# A pattern begins with the sign itself, which is found quickly, and looks back from there.
_AFTER_HAN = rf"(?<=[{_HAN}{_CLOSING}].)"
_BEFORE_HAN = rf"[{_HAN}{_OPENING}{_CLOSING}—…\"]"
_LINE_END = r"(?=[ \t\u3000]*(?:\n|\Z))"
_COMMA = re.compile(rf"[,;:]{_AFTER_HAN}(?: *(?={_BEFORE_HAN})|{_LINE_END})")
_MARKS = re.compile(rf"[!?]{_AFTER_HAN}[!?！？]*(?: *(?={_BEFORE_HAN})|{_LINE_END})")
_LOST = re.compile(rf"\?{_AFTER_HAN}(?=[{_HAN}])")
_FINAL_STOP = re.compile(rf"([.．]){_AFTER_HAN}(?:(?=[{_CLOSING}\"])|{_LINE_END})")
_INNER_STOP = {
    sign: re.compile(rf"[{sign}]{_AFTER_HAN}(?<![一二三四五六七八九十].) *(?=[{_HAN}{_OPENING}])")
    for sign in ".．"
}
_DECIMAL = re.compile(r"．(?<=[0-9A-Za-z].)(?=[0-9A-Za-z])")
_PARENTHESES = re.compile(
    rf"\((?<![A-Za-z0-9_\])].)([^()\n]{{0,80}}?[{_HAN}][^()\n]{{0,80}})\)(?!\()"
)
_DOTS = re.compile(r"．{2,}|。{3,}|…{3,}|·{3,}|\.(?<=[^\x00-\x7f].)\.{2,}")
_DASHES = re.compile(
    rf"[-─―](?<=[{_CHINESE}].)[-─―]{{1,3}}(?![-─―A-Za-z])|[-─―](?<![-─―].)[-─―]{{1,3}}(?=[{_CHINESE}])"
)
_QUOTE = re.compile(r"[\"“”]")
_STRAIGHT_NEXT_TO_CHINESE = re.compile(
    rf"\"(?:(?<=[{_CHINESE}].)|(?<=[{_CHINESE}][,.．!?;:].)|(?=[{_CHINESE}]))"
)


@dataclass(frozen=True)
class Rule:
    def __call__(self, text: str) -> str | Drop:
        text = _once(text)
        while '"' in text and (again := _once(text)) != text:
            text = again  # a mark that became full may make the quote beside it Chinese too
        return text


def _once(text: str) -> str:
    forms, has_forms = _forms()
    text = has_forms.sub(lambda found: forms[found[0]], text)
    text = _DECIMAL.sub(".", text)
    text = _DOTS.sub("……", text)
    if "(" in text:
        text = _PARENTHESES.sub(r"（\1）", text)
    if '"' in text:
        text = "\n".join(_curl(line) if '"' in line else line for line in text.split("\n"))
    text = _DASHES.sub("——", text)
    text = _stops(_COMMA.sub(_full, text))
    if "?" in text or "!" in text:
        text = _question_and_exclamation_marks(text)
    return text


def _full(found: re.Match[str]) -> str:
    return found[0].rstrip(" ").translate(_FULL)


def _stops(text: str) -> str:
    """The text with full stops of a line or quotation end as 。; if it has any, all others too."""
    signs = {found[1] for found in _FINAL_STOP.finditer(text)}
    if signs:
        text = _FINAL_STOP.sub("。", text)
        for sign in sorted(signs):
            text = _INNER_STOP[sign].sub("。", text)
    return text


def _question_and_exclamation_marks(text: str) -> str:
    lost = {found.start() for found in _LOST.finditer(text)}
    if len(lost) > text.count("？"):
        return _MARKS.sub(_full, text)
    return _MARKS.sub(lambda found: found[0] if found.start() in lost else _full(found), text)


def _curl(line: str) -> str:
    """The line with its straight quotes curled; unchanged where they do not come in pairs."""
    quotes = _QUOTE.findall(line)
    opening, closing = quotes[::2], quotes[1::2]
    alternate = len(opening) == len(closing) and "”" not in opening and "“" not in closing
    nested = '“""”' in "".join(quotes)  # “他说"好"了”: the inner pair is another quotation
    of_chinese = len(_STRAIGHT_NEXT_TO_CHINESE.findall(line)) == quotes.count('"')
    if nested or not alternate or not of_chinese:
        return line
    curled = iter("“”" * len(opening))
    return _QUOTE.sub(lambda _: next(curled), line)


@cache
def _forms() -> tuple[dict[str, str], re.Pattern[str]]:
    """(character -> its usual form, a pattern that finds these characters)."""
    forms = {sign: chr(ord(sign) - 0xFEE0) for sign in "％＋－／＝＠＿＃＊＄＾｜＼｀"}
    for first, last in ("０９", "ＡＺ", "ａｚ"):
        for point in range(ord(first), ord(last) + 1):
            forms[chr(point)] = chr(point - 0xFEE0)
    for start, signs in (
        (0xFE10, "，、。：；！？〖〗…"),  # vertical
        (0xFE30, "：——"),
        (0xFE35, "（）｛｝〔〕【】《》〈〉「」『』"),
        (0xFE50, "，、。"),  # small
        (0xFE54, "；：？！—（）"),
        (0xFF61, "。「」、·"),  # half-width, of Japanese systems
        (0x2236, "："),  # the sign of a ratio
        (0x2027, "·"),
    ):
        forms |= {chr(start + offset): sign for offset, sign in enumerate(signs)}
    for space in "\xa0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f":
        forms[space] = " "
    for block in (range(0x2F00, 0x2FD6), range(0xF900, 0xFADA)):
        for character in map(chr, block):
            drawn_as = unicodedata.normalize("NFKC", character)
            if drawn_as != character:
                forms[character] = drawn_as
    return forms, re.compile("[" + "".join(map(re.escape, forms)) + "]")


EXAMPLES = [
    ("ＡＢＣ１２３，５０％！", "ABC123，50%！"),
    ("阿Ｑ说:你好,世界!", "阿Q说：你好，世界！"),
    ("版本2.0, see main.py: print(x, y)!", "版本2.0, see main.py: print(x, y)!"),
    ("他走了．“真的？”她问．\n天黑了．", "他走了。“真的？”她问。\n天黑了。"),
    ("二．赞叹．\n", "二．赞叹。\n"),
    ("奥斯卡．王尔德的书。价３．５元", "奥斯卡．王尔德的书。价3.5元"),
    ('他说:"走吧."她说:"好!"', "他说：“走吧。”她说：“好！”"),
    ('“走吧！"他说，“快。"', "“走吧！”他说，“快。”"),
    ('print("你好", x) 和 5" 的屏', 'print("你好", x) 和 5" 的屏'),
    ('他去了"幻境"．\n', "他去了“幻境”。\n"),
    ("石?花开了。真的？没有?\n", "石?花开了。真的？没有？\n"),
    ("这样...好。。。。算了－－走罢──", "这样……好……算了——走罢——"),
    ("----------\n- 一\n* * *", "----------\n- 一\n* * *"),
    ("⼀⽇（三∶二）︰豈､更﹗", "一日（三：二）：豈、更！"),
    ("(笑)他(小王)走了(1)f(二)", "（笑）他（小王）走了(1)f(二)"),
]
