"""Remove the adverts, pleas for votes and notices that sites and authors put into a novel.

手机用户请浏览…, 本书来自…, 求推荐票, (本章未完): one line in fifty on pirate sites, and the first
thing a model learns by heart. The rule removes the smallest part that is certainly an advert: a
bracket, a sentence, or one clause of a long sentence.

A single word proves nothing: people in novels download, subscribe, and buy a 月票 for the bus. So a
pattern is a phrase of two or three parts within one sentence, as a site writes it, or an author who
speaks to readers. In quoted speech only phrases that nobody says aloud are removed. Names of sites
broken up to escape a search (小^说*网) are recognized by the signs between their words.

Source: collected by the authors from Chinese novels on public mirrors.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from hanllama.corpus.rules import Drop
from hanllama.corpus.rules._lines import change_lines

# … separates the parts of a phrase (up to 16 characters of the same sentence), | alternatives.
# NOBODY_SAYS also applies to quoted speech.
NOBODY_SAYS = (
    "手机用户|手机阅读|手机站|手机版|手机看书|手机端"
    " … 请浏览|请访问|请到|请用|请登|登陆|登录|阅读下载|点击",
    "一秒记住|请记住本站|请记住本书|请牢记本站|请收藏本站|记住网址|本站域名|本站网址|最新网址|最新域名",
    "最新章节 … 请|尽在|首发|就在|点击|更新|阅读|列表|网",
    "无弹窗|无广告|全文字版|纯文字版 … 小说|阅读|网|章节|更新",
    "本书|本文|本小说|本作品|电子书 … 由|来自|转自|转载自|出自"
    " … 整理|制作|上传|免费下载|网站|小说网|中文网|读书网|阅读网|电子书|论坛|书库|书城|书屋|书吧"
    "|文学城|互联网|首发|扫校",
    "小说|作品|文章 … 来自|转自|转载自|首发于 … 网站|小说网|中文网|读书网|阅读网|文学城|论坛|书吧",
    "本书首发|本文首发|首发于 … 网|书屋|书吧|书院|小说|文学",
    "更多|好看|热门|免费 … 小说|电子书|好书|章节|TXT|txt"
    " … 请到|请访问|请登|尽在|就上|就到|敬请|欢迎访问|下载",
    "电子书|TXT|txt|小说 … 下载|免费阅读|在线阅读"
    " … 尽在|就上|就到|就来|请到|请访问|请登|论坛|网站|小说网|书城|天堂|之家",
    "求推荐票|求月票|求收藏|求打赏|求订阅|求鲜花|求红票|求票票|跪求推荐|跪求收藏|求支持求",
    "本章未完|本节未完|本章没有结束|本章还没完 … 点击|翻页|下一页|继续|）|)|】",
    "章节错误|章节有误|内容有误|错误章节|章节报错 … 举报|报错|点此|点击|反馈|提交",
    "百度|搜狗|谷歌|微信 … 搜索|搜一下|一下 … 最新章节|小说网|中文网|全文阅读|无错",
    "关注|扫码|添加|搜索 … 公众号|公众平台 … 阅读|小说|更新|更多|回复|后续|免费|看",
    "下载|安装 … APP|App|app|客户端|阅读器 … 阅读|看书|免费|章节|小说|更新|追书",
    "24小时|二十四小时 … 删除 … 商业|正版|购买|支持|版权|。",
    "仅供|只供 … 预览|试读|学习交流|测试 … 24小时|二十四小时|商业用途",
    "本作品|本书|本文|文字 … 来自互联网|来源于网络|来自网络|收集于网络|不做任何负责",
    "用户上传之内容 … 开始|结束",
    "版权归|版权属于 … 作者|出版社 … 所有",
    "查看《 … 》书评|书评和最新|最新更新|相关书籍",
    "正在手打|手打中|手打更新|手打章节 … 刷新|稍等|片刻|更新|最快|获取",
    "更新最快|更新更快|更新超快|首发更新|最快更新 … 小说|文学|书|阅读|尽在|网|站|最新",
    "小说|文学|书屋|书吧|书院|书城|阅读网|中文网 … 最快更新|无弹窗|首发更新",
    "欢迎您来|欢迎来到|欢迎各位来 … 投推荐票|投月票|推荐票|月票|订阅",
    "推荐好友|推荐朋友|友情推荐|推荐一本|强烈推荐 … 新书|书号|力作",
    "欢迎广大书友|欢迎广大读者|欢迎各位书友 … 阅读|光临|访问|收藏|加入",
    "小提示|温馨提示 … 按回车|按←|按→|回车键|返回键",
    "温馨提示|友情提示 … 看小说|发表评论|加入书签|本站",
    "小说阅读|小说网 … 更新最快|更新更快|更新超快|第一时间更新",
    "书友群|读者群|粉丝群|QQ群|企鹅群|交流群 … 1|2|3|4|5|6|7|8|9",
    "加入书签|加入书架 … 方便|下次|继续|阅读",
    "打赏的|起点币|月票支持|盟主 … 感谢|谢谢|加更",
    "感谢|谢谢|多谢 … 的打赏|起点币|的月票|投的推荐票|的推荐票|的盟主",
    "起点中文网|纵横中文网|晋江文学城|创世中文网|17K小说网|飞卢小说网"
    " … 首发|欢迎|正版|订阅|支持|登陆",
    "首发 … 起点中文网|纵横中文网|晋江文学城|小说网|文学网|中文网",
    "文学网站|小说网站|阅读网站 … 提供|在线阅读|免费|下载|最快",
    "本站 … 招收|招聘|诚聘|提供|收录|域名|会员 … 点此|书友|小说|管理员|编辑|免费|下载",
    "转载请注明|转载请保留|请勿转载|谢绝转载|禁止转载 … 本站|出处|来自|小说|首发|来源|链接",
)
TO_READERS = (
    "推荐票|月票|打赏|订阅 … 书友|读者|各位|亲们|大大们|支持作者|支持本书|投给|多多益善",
    "书友|读者|亲们|兄弟们|各位|大家"
    " … 推荐票|投月票|月票支持|收藏本书|收藏一下|求收藏|打赏|投票支持|投推荐",
    "喜欢本书|喜欢这本书|支持本书|觉得本书|觉得好看 … 收藏|推荐|订阅|月票|投票|书架",
    "第一更|第二更|第三更|第四更|第五更|一更|两更|二更|三更 … 送上|奉上|求票|求推荐|求收藏|求月票",
    "请假|断更|停更|加更|补更|爆更 … 请见谅|抱歉|补上|书友|读者大大|推荐票|月票|收藏",
    "PS：|PS:|ps：|ps:|P.S … 推荐|月票|收藏|更新|书友|新书|加更|订阅|上架",
    "新书|新人新书|本书 … 求|跪求|拜求|上架|首订 … 推荐|收藏|支持|订阅|月票|呵护",
    "未完待续|本章完|本卷完|待续 … )|）|】|]",
    "扫描：|扫校|OCR：|录入： … 扫校|书友|论坛|电子书|书库|E书",
)

_GAP = r"[^。！？!?\n]{0,16}?"
_SPEECH = ("“", "「", "『", '"')
_LONGEST_ADVERT = 150
_LONGEST_TAIL = 40  # characters removed with a phrase; of a longer sentence only the clause goes

_OPEN, _CLOSE = re.compile(r"[（(【\[<＜｛{]"), re.compile(r"[）)】\]>＞｝}]")
_SENTENCE_START = re.compile(r"[。！？!?…”」』；;　]")
_SENTENCE_END = re.compile(r"([。！？!?]++|…++)[”」』]?")
_CLAUSE_START, _CLAUSE_END = re.compile(r"[，,；;：:\s]"), re.compile(r"[，,；;]|\s")
_MOST_NESTED = 8  # adverts that appear only when others are removed: nobody writes such a line
# 【某某书屋】: the name of a site in brackets; or the maker of the file, 【某某整理校对】.
_NAME = re.compile(
    r"[【『\[｛{<＜](?:[^【】『』\[\]｛｝。，！？\s]{1,6}"
    r"(?:小说网?|书[屋吧城]|(?:文学|中文|阅读|读书)[网城])"
    r"|[^【】『』\[\]｛｝。，！？\s]{2,12}"
    r"(?:(?:编辑|收集|录入|扫描)(?:整理|校对|制作)|(?:整理|校对)(?:制作|上传|校对)))[】』\]｝}>＞]"
)

# 小^说*网, 电|子|书: the words of a site with signs between them.
_TEAR = r"[\^~*|`_＊｜～＾＿]"
_RUN = "[A-Za-z0-9①-⑳㈠-㈩. ]"
# A run matches only from its start; otherwise each position would be read to the run's end.
_TORN = re.compile(
    rf"(?:(?<!{_RUN}){_RUN}++)?[一-鿿]?(?<!{_TEAR})(?:{_TEAR}++[一-鿿A-Za-z]{{1,6}})+{_TEAR}++"
    r"(?:小?说?网|书[网城屋吧]?|说|堂|站)?(?:[ 0-9A-Za-z①-⑳㈠-㈩.]|[一-鿿](?=\.[a-z]))*"
)
_HAN = re.compile("[一-鿿]")
_EMPHASIS = re.compile(r"(\*\*?|__?|`)[\w 、+/.-]+\1|^\s*\|.*")  # Markdown's, and its tables
_SITE_WORDS = (
    "小说|电子书|书网|说网|中文|书屋|书城|书库|书吧|免费|广告|文学|txt|天堂|阅读|下载|在线|全文|网"
)
_SITE_WORD = re.compile(_SITE_WORDS, re.IGNORECASE)
_SITE_WORDS_ALONE = re.compile(rf"(?:t?xt|{_SITE_WORDS}){{2,}}", re.IGNORECASE)
_SITE_TRIGGER = re.compile(
    r"小[^\w\n。，]{0,2}说|电[^\w\n。，]{1,2}子|t[^\w\n。，]{0,2}x[^\w\n。，]{0,2}t"
)
_TORN_TRIGGER = re.compile(rf"{_TEAR}(?<=[一-鿿].)")
_SIGNS = re.compile(r"[\W_]+")
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Rule:
    def __call__(self, text: str) -> str | Drop:
        return change_lines(text, _suspects(text), _without_adverts)


def _suspects(text: str) -> list[int]:
    """A position in each line that may hold an advert, found quickly.

    Searching for the rarest word of each phrase, then for the phrases in the lines found, is many
    times as fast as one pattern of all phrases.
    """
    found = {match.start() for match in _SITE_TRIGGER.finditer(text)}
    found.update(match.start() for match in _NAME.finditer(text))
    found.update(match.start() for match in _TORN_TRIGGER.finditer(text))
    for word, phrases in _phrases().rarest.items():
        position = text.find(word)
        while position >= 0:
            start, end = text.rfind("\n", 0, position) + 1, text.find("\n", position)
            end = len(text) if end < 0 else end
            if phrases.search(text, start, end):
                found.add(position)
            position = text.find(word, end)
    return sorted(found)


def _without_adverts(line: str) -> str | None:
    """The line without its adverts; None when little else is left."""
    for _ in range(_MOST_NESTED):
        spans = sorted(_adverts(line))
        if not spans:
            return line
        rest, done = [], 0
        for start, end in spans:
            rest.append(line[done : max(start, done)])
            done = max(end, done)
        line = "".join([*rest, line[done:]])
        if not _SIGNS.sub("", line):
            return None
    return None


def _adverts(line: str) -> Iterator[tuple[int, int]]:
    """The spans of a line that are adverts."""
    name = _SIGNS.sub("", line)
    if len(line) <= _LONGEST_NAME and _SITE_WORDS_ALONE.fullmatch(name):
        yield 0, len(line)
        return
    torn = [
        name
        for name in _TORN.finditer(_EMPHASIS.sub(_blank, line))
        if _SITE_WORD.search(_SIGNS.sub("", name[0])) and _HAN.search(name[0])
    ]
    torn += _NAME.finditer(line)
    if torn:
        yield from (name.span() for name in torn)
        return  # the rest of the sentence is searched again without them
    phrases = _phrases()
    spoken = line.lstrip().startswith(_SPEECH)
    patterns = (phrases.nobody_says,) if spoken else (phrases.nobody_says, phrases.to_readers)
    found = [match.span() for pattern in patterns for match in pattern.finditer(line)]
    if found:
        signs = _Signs(line)
        yield from (signs.around(*span) for span in found)


def _blank(found: re.Match[str]) -> str:
    return "\n" * len(found[0])


class _Signs:
    """The positions of a line's signs, found once: a line may hold a megabyte of adverts."""

    def __init__(self, line: str) -> None:
        self.indent = len(line) - len(line.lstrip())
        self.length, self.written = len(line), len(line.strip())
        self.opens, self.closes = _places(_OPEN, line), _places(_CLOSE, line)
        self.sentences, self.clauses = _places(_SENTENCE_START, line), _places(_CLAUSE_START, line)
        ends = list(_SENTENCE_END.finditer(line))
        self.marks, self.ends = [m.end(1) for m in ends], [m.end() for m in ends]
        self.clause_ends = [m.end() - m[0].isspace() for m in _CLAUSE_END.finditer(line)]
        self.clause_marks = _places(_CLAUSE_END, line)

    def around(self, start: int, end: int) -> tuple[int, int]:
        """The bracket, the sentence or, of a long sentence, the clause around a phrase."""
        bracket = _before(self.opens, start)
        if bracket > _before(self.closes, start):
            at = bisect_left(self.closes, end - 1)
            if at < len(self.closes) and self.closes[at] - end + 1 <= _LONGEST_TAIL:
                return bracket, self.closes[at] + 1
        first = max(_before(self.sentences, start) + 1, self.indent)
        at = bisect_right(self.marks, end)
        last = self.ends[at] if at < len(self.ends) else self.length
        alone = self.written <= last - first <= _LONGEST_ADVERT  # the line is this one sentence
        if not alone and (last - first) - (end - start) > _LONGEST_TAIL:
            first = max(_before(self.clauses, start) + 1, first)
            at = bisect_left(self.clause_marks, end)
            last = min(last, self.clause_ends[at] if at < len(self.clause_ends) else last)
        return first, last


def _places(sign: re.Pattern[str], line: str) -> list[int]:
    return [found.start() for found in sign.finditer(line)]


def _before(places: list[int], start: int) -> int:
    """The last place before `start`; -1 when there is none."""
    at = bisect_left(places, start)
    return places[at - 1] if at else -1


_Phrase = list[list[str]]
"""The parts of a phrase; each part lists its alternatives."""


@dataclass(frozen=True)
class _Phrases:
    """The phrases above as patterns: one of each list, and one for each rare word."""

    nobody_says: re.Pattern[str]
    to_readers: re.Pattern[str]
    rarest: dict[str, re.Pattern[str]]


@cache
def _phrases() -> _Phrases:
    needing: dict[str, list[_Phrase]] = {}
    lists = []
    for texts in (NOBODY_SAYS, TO_READERS):
        phrases = [[part.strip().split("|") for part in text.split("…")] for text in texts]
        for parts in phrases:
            for word in max(parts, key=lambda part: min(map(len, part))):  # long words are rare
                needing.setdefault(word, []).append(parts)
        lists.append(_any_of(phrases))
    rarest = {word: _any_of(needing[word]) for word in sorted(needing)}
    return _Phrases(lists[0], lists[1], rarest)


def _any_of(phrases: list[_Phrase]) -> re.Pattern[str]:
    """A pattern of all phrases, tried only at one of their first characters."""
    first = sorted({re.escape(word[0]) for parts in phrases for word in parts[0]})
    ways = [
        _GAP.join(f"(?:{'|'.join(map(re.escape, part))})" for part in parts) for parts in phrases
    ]
    return re.compile(f"(?=[{''.join(first)}])(?:{'|'.join(ways)})")


EXAMPLES = [
    ("他走了。\n手机用户请浏览阅读，更优质的体验。\n天黑了。", "他走了。\n天黑了。"),
    ("本书来自某某小说网，更多精彩好书请到某某书城下载\n第一章", "第一章"),
    (
        "门开了。求推荐票！求收藏！他愣在那里，半天没有说出一句话来。",
        "门开了。他愣在那里，半天没有说出一句话来。",
    ),
    ("天才一秒记住【某某小说】，为您提供精彩小说阅读。\n雪停了。", "雪停了。"),
    ("画的是松【某某书屋】树，（3）陈淳（求月票！）", "画的是松树，（3）陈淳"),
    ("【某某读书社录入校对】\n雪停了。\n〔经某某整理校对〕", "雪停了。\n〔经某某整理校对〕"),
    ("雪还在下。（本章未完，请点击下一页继续阅读）", "雪还在下。"),
    ("寺里众人天晓起来，不见了客人。小^说^无广告的~顶点*小说~网", "寺里众人天晓起来，不见了客人。"),
    ("小 说-天 堂小 说 天 堂\n雪停了。", "雪停了。"),
    ("各位书友，今天第二更送上，求月票！\n雪停了。", "雪停了。"),
    ("**物联网**：把**小说网站**连起来。\n| 小说|电子书|某 |",) * 2,
    ("“月票丢了，”他说，“公司的人都认得我，不要紧。”",) * 2,
    ("他收藏了三百本小说，下载的更多，大家都来借。",) * 2,
    ("第三更天，更夫敲着梆子过去了。",) * 2,
    ("本书由三部分组成，第一部写农村。",) * 2,
]
