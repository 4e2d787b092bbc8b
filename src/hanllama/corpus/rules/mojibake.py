"""Repair text that was decoded with the wrong table; remove text beyond repair.

Nearly all of it comes from four accidents:

- UTF-8 read as GBK (绛夊晩绛 for 等啊等) or as Latin-1 (ä»– for 他), and GBK read as Latin-1 (ÔçÉÏ
  for 早上). The line is encoded back and decoded as it should have been, if it decodes strictly
  and becomes plausible. A line that lost bytes is removed.
- A byte too many in GBK: the no-break space of a Macintosh is the byte A0, elsewhere half of a
  character, so every following character of the run is made of two halves. The byte becomes a
  space, and the rest is decoded again if that makes it plausible. Where the last byte is lost as
  well, the last character becomes U+FFFD.
- A byte lost in GBK, so that every following character is made of two halves. A sentence in which
  such signs cluster among implausible characters is removed.
- Characters lost for good: 锟斤拷 (U+FFFD as UTF-8, read as GBK), 烫烫烫 and 屯屯屯 (memory that
  a Windows program never set), U+FFFD. A sentence with such a run is removed.

A single odd sign stays: a lost rare character is no reason to lose its sentence. A document that
would lose more than `maximum_share` is dropped.

Source of plausibility: `encoding.plausibility`, from the first levels of GB 2312 and Big5.
"""

from __future__ import annotations

import re

from hanllama.base.config import Share, checked, option
from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._lines import change_lines
from hanllama.reading.encoding import plausibility

# The lead bytes of common Chinese characters in UTF-8 (E4-E9, EF BC, E3 80, E2 80), misread.
_AS_GBK = re.compile("[锛銆鈥鐨涓浠鍦鏄绗鎴涔杩璇鍙]")
_AS_LATIN = re.compile("[\xc0-\xff][\x80-\xbf\xc0-\xff\u0152-\u017e\u02c6\u02dc\u2013-\u2122]")
_LATIN_RUN = re.compile("[\x21-\xff\u0152-\u017e\u0192\u02c6\u02dc\u2013-\u2122\ufffd ]+")
_LETTER = re.compile("[A-Za-z0-9\u4e00-\u9fff]")
_HALVES = re.compile(
    "(?:[\xe2-\xe9\xef][\x80-\xbf\u0152-\u017e\u0192\u02c6\u02dc\u2013-\u2122\ufffd]{1,2}[ ?]?){3,}"
)
# A0 and the byte after it, the run up to ASCII, and an ASCII byte that may be a second half.
_A0 = "".join(bytes((0xA0, second)).decode("gbk") for second in range(0xA1, 0xFF))
_SHIFTED = re.compile(rf"[{_A0}][^\x00-\x7f]{{2,}}[@-~]?")
_SHIFTED_GAIN = 0.5  # names in headings score 0.2, their shifted forms below 0
_FEWEST_MENDED = 3  # Han characters; fewer may become plausible by chance
_PLAUSIBLE, _GAIN = 0.6, 0.3
_FEWEST_LEADS = 2

_LOST = re.compile("锟斤拷|锟絓|烫烫烫|屯屯屯|\ufffd{2,}")
_HAN = "\u4e00-\u9fff"
_ODD = "?Ａ-Ｚａ-ｚ０-９Α-Ωα-ωА-яёЁ⑴-⒛㈠-㈩ⅰ-ⅹ─-╿ㄅ-ㄩぁ-んァ-ヶ＋－＜＝＞∮∽⌒々〓￥"
_SIGN = re.compile(rf"[\ue000-\uf8ff\ufffd]|[{_ODD}](?<=[{_HAN}].)(?=[{_HAN}?])")
_NEAR = 16  # characters between two signs of one cluster
_FEWEST_SIGNS, _SHORTEST = 5, 24
_NOBODY_WRITES = 0.5  # plausibility of the Han characters in a cluster; real text has 0.75 and more
_NOT_HAN = re.compile(rf"[^{_HAN}]+")
_SENTENCE_END = re.compile("[。！？]+[”’」』）]?|\\Z")


@checked
class Rule:
    maximum_share: Share = option(0.2, help="drop a document that would lose a larger share")

    def __call__(self, text: str) -> str | Drop:
        repaired = text
        for sign, repair in (
            (_AS_GBK, _from_gbk),
            (_AS_LATIN, _from_latin),
            (_SHIFTED, _from_shifted),
        ):
            positions = (found.start() for found in sign.finditer(repaired))
            repaired = change_lines(repaired, positions, repair)
        positions = (found.start() for found in _LOST.finditer(repaired))
        kept = change_lines(repaired, positions, _without_lost)
        positions = (found.start() for found in _SIGN.finditer(kept))
        kept = change_lines(kept, positions, _without_clusters)
        if len(repaired) - len(kept) > self.maximum_share * len(repaired):
            return Drop("mojibake")
        return kept


def _from_gbk(line: str) -> str | None:
    """The line's GBK bytes read as UTF-8; None when the line is misread and has lost bytes."""
    data = b"".join(
        b"\x80" if part == "€" else part.encode("gb18030", "surrogatepass")
        for part in re.split("(€)", line)
    )
    try:
        return _better(line, data.decode("utf-8"))
    except UnicodeDecodeError:
        signs = len(_AS_GBK.findall(line))
        lost = signs >= _FEWEST_LEADS and plausibility(_NOT_HAN.sub("", line)) < _NOBODY_WRITES
        return None if lost else line


def _from_shifted(line: str) -> str:
    """The line with the runs after a one-byte no-break space decoded again."""
    return _SHIFTED.sub(lambda run: _from_shifted_run(run[0]), line)


def _from_shifted_run(run: str) -> str:
    mended = run.encode("gb18030", "surrogatepass")[1:].decode("gb18030", "replace")
    whole = mended.removesuffix("\ufffd")
    if len(_NOT_HAN.sub("", whole)) < _FEWEST_MENDED:
        return run
    gain = plausibility(whole) - plausibility(run)
    return f" {mended}" if gain >= _SHIFTED_GAIN or _better(run, whole) == whole else run


def _from_latin(line: str) -> str | None:
    """The line with its Latin-1 runs decoded again as UTF-8 or GBK; None when no letter is left."""
    repaired = _LATIN_RUN.sub(lambda run: _from_latin_run(run[0]), line)
    return repaired if repaired == line or _LETTER.search(repaired) else None


def _from_latin_run(run: str) -> str:
    if run.isascii():
        return run
    try:
        data = b"".join(_latin_byte(character) for character in run)
    except UnicodeEncodeError:
        return _HALVES.sub("", run)
    for codec in ("utf-8", "gbk"):
        try:
            return _better(run, data.decode(codec))
        except UnicodeDecodeError:
            continue
    return _HALVES.sub("", run)  # bytes are lost, and no language writes such signs


def _latin_byte(character: str) -> bytes:
    """The byte that Windows-1252, with Latin-1 in its gaps, shows as `character`."""
    return character.encode("latin-1" if ord(character) < 0x100 else "cp1252")


def _better(line: str, repaired: str) -> str:
    score = plausibility(repaired)
    return repaired if score >= _PLAUSIBLE and score >= plausibility(line) + _GAIN else line


def _without_lost(line: str) -> str | None:
    return _without_sentences(line, [found.span() for found in _LOST.finditer(line)])


def _without_clusters(line: str) -> str | None:
    """The line without the sentences in which halves of characters cluster."""
    kept: str | None = line
    while kept is not None:  # the rest may form another cluster
        line, kept = kept, _without_sentences(kept, _clusters(kept))
        if kept == line:
            return line
    return None


def _clusters(line: str) -> list[tuple[int, int]]:
    """The spans in which signs stand close together among implausible characters."""
    clusters: list[list[int]] = []
    for sign in _SIGN.finditer(line):
        if clusters and sign.start() - clusters[-1][-1] <= _NEAR:
            clusters[-1].append(sign.start())
        else:
            clusters.append([sign.start()])
    return [(cluster[0], cluster[-1] + 1) for cluster in clusters if _is_garbage(line, cluster)]


def _is_garbage(line: str, cluster: list[int]) -> bool:
    if len(cluster) < _FEWEST_SIGNS or cluster[-1] - cluster[0] < _SHORTEST:
        return False
    return plausibility(_NOT_HAN.sub("", line[cluster[0] : cluster[-1]])) < _NOBODY_WRITES


def _without_sentences(line: str, spans: list[tuple[int, int]]) -> str | None:
    """The line without the sentences that hold `spans`; None when nothing is left."""
    kept, done = [], 0
    for start, end in spans:
        if start < done:
            continue
        first = done
        for mark in _SENTENCE_END.finditer(line, done, start):
            first = mark.end() if mark[0] else first
        closing = _SENTENCE_END.search(line, end)
        assert closing is not None  # the end of the line is one
        kept.append(line[done:first])
        done = closing.end()
    rest = "".join([*kept, line[done:]])
    return rest if rest.strip() or not spans else None


EXAMPLES = [
    ("绛夊晩绛夛紝绛変簡濂藉嚑澶╋紝绉嶅瓙杩樻病\n来了。", "等啊等，等了好几天，种子还没\n来了。"),
    ("ä»\x96èµ°äº\x86ã\x80\x82\nÒ»ÌìÔçÉÏ£¬Ëû×ßµ½ºÓ", "他走了。\n一天早上，他走到河"),
    ("瀛╁瓙浠閮芥潵鐪嬶紝娌℃湁浜鸿磋瘽锛岃矾涓婂緢闈欍\n来了。", {"maximum_share": 1.0}, "来了。"),
    ("他走到门口。锟斤拷锟斤拷看见他。天黑了。", {"maximum_share": 1.0}, "他走到门口。天黑了。"),
    ("他走到门口。锟斤拷锟斤拷看见他。", Drop("mojibake")),
    ("卷十二牶颖叩目驼坏谑\ue18d", "卷十二 河边的客栈第十\ufffd"),
    ("第三回犕跣〕p下山打水。", "第三回 王小硃下山打水。"),
    ("他在牋纸上写了几个字，把犂耙放好。",) * 2,
    ("“××××××！”他骂道。Ça……",) * 2,
    ("那一只\ue382在铁路边。Café Müller，价￥30。",) * 2,
    ("二点ヲ结ブ线，最短ノ距离ナリ，陀螺ハ转ル，水车モ转ル。",) * 2,
]
