"""Which encoding is this text in? Decided on the whole file, never on its first bytes.

Chinese text comes as UTF-8, GBK, GB18030, Big5 and UTF-16, and nothing in the file says which.
Guessers that look at a sample of bytes are wrong where it hurts: 14 bytes of GBK come out as
Korean. Here every candidate must decode the whole file strictly, and among those that can, the
most plausible text wins: GBK read as Big5 is legal, but it is made of characters nobody writes.
Japanese and Korean files are legal GBK too; they are recognized by their own most frequent
characters, and refused by name rather than read as nonsense.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache

from hanllama.base.errors import InputError
from hanllama.base.fs import READABLE as READABLE

_BOMS = (  # the longer mark first: UTF-32-LE begins with UTF-16-LE's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

# (codec, the name reported). The order settles ties. cp950 is the Big5 that Windows in Taiwan
# writes; its plain namesake lacks 恒, 裏 and 碁.
_CANDIDATES = (
    ("utf-8", "utf-8"),
    ("gbk", "gbk"),
    ("gb18030", "gb18030"),
    ("cp950", "big5"),
    ("big5hkscs", "big5hkscs"),
    ("utf-16-le", "utf-16-le"),
    ("utf-16-be", "utf-16-be"),
)
LEGACY = ("utf-8", "gbk", "gb18030", "cp950", "big5hkscs")  # a newline is always one byte 0x0A
LEGACY_NAMES = ("gbk", "gb18030", "big5", "big5hkscs")

# Characters that any Chinese page of some length is full of: modern, classical, and both scripts.
_FREQUENT = (
    "的一是不了在人有我他这中大来上个国和也子时道说到地你出就以那要下看天生心好得自里之后过家去用"
    "小开可没然事为把发学能对都会成头日么只如起现还从与经无面方行看见前年多她们着被很些什想样话"
    "问笑声手老走给做儿回间明身知气长两三十二四五六七八九百千万今此所其而于者曰乃矣乎焉则何若夫"
    "王公侯帝君臣军将兵不皆相已又使遂因臣书诗文字第章节回作品本名先生主当高水山东西南北風月花"
    "這來個國時說後過開沒為發學對會頭麼現還從與經無見們著樣話問聲給兒間氣長兩萬於則軍將書詩"
    "節東當點動電種關機業實體應裡裏"
)
_PUNCTUATION = "，。！？：；、“”‘’（）《》〈〉「」『』—…·　～【】"

# Codecs that share their bytes with GBK and Big5, and what texts in them are full of: kana, and the
# syllables that Korean uses most. Windows of 60 characters of Chinese books, read by these codecs,
# hold at most 12 % of either, and never more than they hold of our own frequent characters; below
# 10 characters nothing can be told.
_KANA = "".join(map(chr, (*range(0x3041, 0x3094), *range(0x30A1, 0x30F7))))
_HANGUL = (
    "이다는의에을를가은하고지로한도기사리서인대자시어아해일으그나라들만있정보과수게전여부장제"
    "스없것며었면와요내니구우원적"
)
_FOREIGN = (
    ("cp932", "Japanese (Shift_JIS)", frozenset(_KANA)),
    ("euc_jp", "Japanese (EUC-JP)", frozenset(_KANA)),
    ("cp949", "Korean (EUC-KR)", frozenset(_HANGUL)),
)
_FOREIGN_SHARE = 0.25
_FOREIGN_CHARACTERS = 10

# Whole books score 0.74 to 0.83, any 64 characters of them 0.26 or more (an index of rare
# characters); a picture or an archive does not decode at all, or scores below 0.
_MINIMUM_SCORE = 0.25

# What no text holds. UTF-16 without a mark may be legal UTF-8, and these give it away.
_CONTROLS = bytes([*range(0x09), *range(0x0E, 0x1B), *range(0x1C, 0x20)])


def decode(data: bytes, hint: str = "") -> tuple[str, str]:
    """The text in `data` and the encoding it was in, as Python names it.

    A byte order mark is believed and removed. Without one, UTF-8 that decodes strictly and holds
    no control characters is UTF-8; otherwise the most plausible of the strict decodings wins.

    Args:
        data: the whole file.
        hint: an encoding that the file itself states; it settles what is nearly a tie.

    Raises InputError when no encoding gives plausible text (a picture, an archive, Latin-1), and
    when it is Japanese or Korean in an encoding of its own.
    """
    for mark, name in _BOMS:
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode(name.removesuffix("-sig")), name
            except UnicodeDecodeError:
                break  # a mark by accident, or a damaged file: judge it like any other
    if len(data.translate(None, _CONTROLS)) == len(data):  # five times as fast as a search
        try:
            return data.decode("utf-8"), "utf-8"
        except UnicodeDecodeError:
            pass
    best = _most_plausible(data, _CANDIDATES, hint)
    if best is None or best[0] < _MINIMUM_SCORE:
        raise InputError(
            "not text in UTF-8, GBK, GB18030, Big5 or UTF-16; if it is text, convert it to UTF-8"
            " (iconv -f ENCODING -t UTF-8)"
        )
    if best[2] in LEGACY_NAMES and (language := _foreign(data, best[1])):
        raise InputError(
            f"this looks like {language}; convert it to UTF-8 (iconv -f ENCODING -t UTF-8)"
        )
    return best[1], best[2]


def decode_lines(data: bytes) -> tuple[list[str | None], str]:
    """Decode line by line a file that is text but for a few damaged bytes.

    One wrong byte must not cost a book. Returns a text for each line, None for a line that does
    not decode, and the encoding. A file put together from UTF-8 and one older encoding (chapters
    of one, advertising of the other) gives all its lines, and both names: `utf-8+gbk`. UTF-16 is
    left out: its lines cannot be found without decoding.

    Raises InputError when more than 1 line in 100 (and more than one) is damaged, or what decodes
    is not plausible.
    """
    raw = data.removeprefix(codecs.BOM_UTF8).split(b"\n")
    allowed = max(1, len(raw) // 100)
    best: tuple[int, float, list[str | None], str] | None = None
    for codec, name in _CANDIDATES:
        if codec not in LEGACY:
            continue
        lines = [_decode_or_none(line, codec) for line in raw]
        if codec == "utf-8":
            lines, name = _with_older_lines(raw, lines)
        damaged = lines.count(None)
        if damaged > allowed:
            continue
        score = plausibility("\n".join(line for line in lines if line is not None))
        if score >= _MINIMUM_SCORE and (best is None or (-damaged, score) > (-best[0], best[1])):
            best = (damaged, score, lines, name)
    if best is None or best[0] == len(raw):
        raise InputError("not text in UTF-8, GBK, GB18030, Big5 or UTF-16, nor nearly so")
    if best[3] in LEGACY_NAMES:
        text = "\n".join(line for line in best[2] if line is not None)
        if language := _foreign(data, text):
            raise InputError(f"this looks like {language} with damaged bytes")
    return best[2], best[3]


def decode_names(names: Sequence[bytes]) -> list[str]:
    """File names in one unknown encoding, decided on all of them together; never an error."""
    best = _most_plausible(b"\n".join(names), [c for c in _CANDIDATES if c[0] in LEGACY])
    codec = {name: codec for codec, name in _CANDIDATES}[best[2]] if best else "utf-8"
    return [name.decode(codec, "backslashreplace") for name in names]


def decode_name(name: bytes) -> str:
    """A path of which some parts may be in another encoding than UTF-8."""
    parts = name.split(b"/")
    return "/".join(
        decode_names([part])[0] if (text := _decode_or_none(part, "utf-8")) is None else text
        for part in parts
    )


def _decode_escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """What a text that is written down says where it holds the name of a file that is not UTF-8."""
    if isinstance(error, UnicodeEncodeError) and (name := _NAME.match(error.object, error.start)):
        decoded = decode_name(name[0].encode("utf-8", "surrogateescape"))
        if "\\" not in decoded:
            return decoded.encode(error.encoding, "backslashreplace"), name.end()
    return codecs.backslashreplace_errors(error)


_NAME = re.compile(r"[\udc80-\udcff][^/\\\s\"'<>|:;,!\ud800-\udc7f]*")
codecs.register_error(READABLE, _decode_escaped)


def _most_plausible(
    data: bytes, candidates: Iterable[tuple[str, str]], hint: str = ""
) -> tuple[float, str, str] | None:
    """(score, text, name) of the best strict decoding; UTF-8 wins when it is one."""
    best: tuple[float, str, str] | None = None
    for codec, name in candidates:
        try:
            text = data.decode(codec)
        except UnicodeDecodeError:
            continue
        score = plausibility(text) + (_HINT_BONUS if _is_hinted(codec, hint) else 0)
        if best is None or score > best[0]:
            best = (score, text, name)
    return best


_HINT_BONUS = 0.1


def _is_hinted(codec: str, hint: str) -> bool:
    if hint.startswith("gb"):  # pages say gb2312 and mean all of it
        return codec.startswith("gb")
    return bool(hint) and codecs.lookup(hint).name in (codec, codecs.lookup(codec).name)


def _foreign(data: bytes, text: str) -> str:
    """The language and encoding that `data` rather is than `text`, or ""."""
    if len(text) < _FOREIGN_CHARACTERS:
        return ""
    own = _share(text, _tables()[0])
    for codec, language, frequent in _FOREIGN:
        other = data.decode(codec, "replace")
        legal = other.count("\ufffd") <= len(other) // 100
        if legal and _share(other, frequent) > max(own, _FOREIGN_SHARE):
            return language
    return ""


def _share(text: str, of: Iterable[str]) -> float:
    """The share of some characters among all but ASCII."""
    counts = Counter(text)
    total = sum(times for character, times in counts.items() if not character.isascii())
    return sum(counts[character] for character in of) / max(total, 1)


def _with_older_lines(raw: list[bytes], lines: list[str | None]) -> tuple[list[str | None], str]:
    """Fill in what a UTF-8 file holds of one other encoding, line by line.

    A damaged line of UTF-8 is often legal GBK, but not plausible: of 12,000 such lines of 4 to 60
    characters none scored above 0.5; of as many whole ones 99.8 % scored that or more.
    """
    missing = [number for number, line in enumerate(lines) if line is None]
    best: dict[int, str] = {}
    best_name = "utf-8"
    for codec, name in _CANDIDATES:
        if codec == "utf-8" or codec not in LEGACY:
            continue
        found = {}
        for number in missing:
            text = _decode_or_none(raw[number], codec)
            if text is not None and plausibility(text) > _MINIMUM_LINE_SCORE:
                found[number] = text
        if len(found) > len(best):
            best, best_name = found, f"utf-8+{name}"
    return [best.get(number, line) for number, line in enumerate(lines)], best_name


_MINIMUM_LINE_SCORE = 0.5


def plausibility(text: str) -> float:
    """How much `text` looks like something written by people, between -2 and 1.

    The mean over all characters but ASCII: 1 for frequent Han characters and Chinese punctuation,
    0.5 for the common ones (the first level of GB 2312 and of Big5), 0 for others, -2 for
    controls, private use and what Unicode has not assigned. 1 for pure ASCII.
    """
    frequent, common = _tables()
    total = count = 0.0
    for character, times in Counter(text).items():
        if character.isascii() and (character.isprintable() or character in "\t\n\r\f"):
            continue
        count += times
        if character in frequent:
            total += times
        elif character in common:
            total += times / 2
        elif _is_odd(character):
            total -= 2 * times
    return total / count if count else 1.0


def _is_odd(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Co", "Cn", "Cs") or character == "\ufffd"


def _decode_or_none(line: bytes, codec: str) -> str | None:
    try:
        return line.decode(codec)
    except UnicodeDecodeError:
        return None


@cache
def _tables() -> tuple[frozenset[str], frozenset[str]]:
    """(frequent, common): the standards' own first levels, ordered by use, read from the codecs."""
    gb2312 = (bytes((row, cell)) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
    big5 = (
        bytes((row, cell))
        for row in range(0xA4, 0xC7)
        for cell in (*range(0x40, 0x7F), *range(0xA1, 0xFF))
    )
    common = {pair.decode("gb2312", "ignore") for pair in gb2312}
    common |= {pair.decode("big5", "ignore") for pair in big5}
    return frozenset(_FREQUENT + _PUNCTUATION), frozenset(common - {""})
