r"""Mask personal data: mobile, identity and card numbers, addresses, QQ and WeChat ids.

A model can recite a telephone number that it has read twice. A word in brackets replaces each find,
so the sentence stays a sentence:
[手机号] [身份证号] [银行卡号] [电话号码] [邮箱] [QQ号] [微信号].

A number alone proves nothing: novels, tables and bibliographies are full of numbers. So each kind
must meet its issuer's rules: an identity number has a checksum, a province and a date of birth; a
card number has a checksum, an issuer's prefix, and for cards other than UnionPay a word like 卡
before it; a word must announce a QQ or WeChat id. Amounts and sizes (13800000000 元) are no mobile
numbers.

Sources: resident identity numbers GB 11643-1999 (check digit ISO 7064 MOD 11-2); card numbers
ISO/IEC 7812 (check digit by Luhn); mobile numbers 1[3-9] and eleven digits by the numbering plan
of the Ministry of Industry and Information Technology.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from functools import lru_cache

from hanllama.base.config import checked, option
from hanllama.corpus.rules import Drop

MOBILE, IDENTITY, CARD, LANDLINE = "[手机号]", "[身份证号]", "[银行卡号]", "[电话号码]"
EMAIL, QQ, WECHAT = "[邮箱]", "[QQ号]", "[微信号]"


@checked
class Rule:
    mobile: bool = option(True, help="mask mobile numbers")
    identity: bool = option(True, help="mask resident identity numbers of 18 digits")
    identity_15: bool = option(False, help="mask old ones of 15 digits too (without checksum)")
    bank_cards: bool = option(True, help="mask bank card numbers")
    landlines: bool = option(True, help="mask landline numbers written with their area code")
    email: bool = option(True, help="mask e-mail addresses")
    accounts: bool = option(True, help="mask QQ and WeChat ids that a word announces")

    def __call__(self, text: str) -> str | Drop:
        for _ in range(_MOST_PASSES):  # the neighbour of a masked number may match only now
            masked = self._once(text)
            if masked == text:
                return text
            text = masked
        return Drop("numbers of persons beside one another without end")

    def _once(self, text: str) -> str:
        for wanted, near, pattern, mask in (
            (self.email, _AT, _EMAIL, lambda m: EMAIL),
            (self.accounts, None, _WECHAT, _wechat),
            (self.accounts, _RUN, _QQ_NUMBER, _qq),
            (self.identity, _RUN, _IDENTITY, _identity),
            (self.identity_15, _RUN, _IDENTITY_15, _identity_15),
            (self.bank_cards, _RUN, _CARD, _card),
            (self.mobile, _RUN, _MOBILE, _mobile),
            (self.landlines, _RUN, _LANDLINE, lambda m: LANDLINE),
        ):
            if wanted:
                text = _replace(pattern, mask, text, near)
        return text


Mask = Callable[[re.Match[str]], str | None]  # None: leave it


def _replace(pattern: re.Pattern[str], mask: Mask, text: str, near: re.Pattern[str] | None) -> str:
    """`text` with the group `it` of each find masked; searches only around finds of `near`."""
    folded, spans = _searched(text, near)
    pieces: list[str] = []
    at = 0
    for start, end in spans:
        position = start
        while match := pattern.search(folded, position, end):
            position, shift = match.end(), 0
            while match and (word := mask(match)) is not None:
                pieces += [text[at : match.start("it") + shift], word]
                at, position = match.end("it") + shift, match.end() + shift
                # The next number of a row now follows this mask, no longer digits.
                beside, shift = word + folded[at : at + _AROUND], at - len(word)
                match = pattern.match(beside, len(word) + 1)
    return "".join([*pieces, text[at:]]) if pieces else text


_MOST_PASSES = 8
_AROUND = 80  # characters beside a number or an @ that a pattern may need


@lru_cache(maxsize=3)  # most texts have no find, and then every pattern asks the same
def _searched(text: str, near: re.Pattern[str] | None) -> tuple[str, list[tuple[int, int]]]:
    """(the text with ASCII digits, the spans of it to search)."""
    folded = _fold(text)
    if near is None:
        return folded, [(0, len(text))]
    spans: list[tuple[int, int]] = []
    for found in near.finditer(folded):
        start, end = max(0, found.start() - _AROUND), found.end() + _AROUND
        if spans and start <= spans[-1][1]:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return folded, spans


_FULL = re.compile("[０-９＠]")


def _fold(text: str) -> str:
    """The text with full-width digits and @ in ASCII; the length stays."""
    for full in sorted(set(_FULL.findall(text))):
        text = text.replace(full, chr(ord(full) - 0xFEE0))
    return text


# --- numbers -----------------------------------------------------------------------------------

_RUN = re.compile(r"[0-9](?:[-. ·()（）]{0,2}[0-9]){4,}")  # every number below contains it
_FREE = r"(?<![0-9A-Za-z_])(?<![0-9]\.)"  # not part of a longer number, a name, a decimal
_END = r"(?![0-9A-Za-z_])(?!\.[0-9])"
_MEASURE = re.compile(
    r"\s*(?:[多余]|[万亿]|元|块|圆|美元|人|字|年|吨|公里|[米克斤里次个册卷章回倍颗])"
)

_MOBILE = re.compile(
    r"(?:(?<![0-9A-Za-z_])|(?<=[Tt]el)|(?<=TEL))(?<![0-9]\.)(?<![0-9A-Za-z_]/)"
    r"(?P<it>(?:(?:\+|00)?86[-. ]?)?1[3-9][0-9]([-. ·]?)[0-9]{4}\2[0-9]{4})" + _END
)


def _mobile(match: re.Match[str]) -> str | None:
    amount = match["it"].endswith("00000") or _MEASURE.match(match.string, match.end())
    return None if amount else MOBILE


_IDENTITY = re.compile(
    r"(?<![0-9])(?<![0-9]\.)(?P<it>[1-9][0-9]{5}([- ]?)(?:18|19|20)[0-9]{6}\2[0-9]{3}[0-9Xx])"
    + _END
)
_IDENTITY_15 = re.compile(_FREE + r"(?P<it>[1-9][0-9]{14})" + _END)
_PROVINCES = re.compile("1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]")


def _identity(match: re.Match[str]) -> str | None:
    number = re.sub("[- ]", "", match["it"]).upper()
    valid = _born(number[:2], number[6:14]) and number[17] == _check_digit(number[:17])
    return IDENTITY if valid else None


def _identity_15(match: re.Match[str]) -> str | None:
    number = match["it"]
    return IDENTITY if _born(number[:2], "19" + number[6:12]) else None


def _born(province: str, date: str) -> bool:
    """Whether the province exists and `yyyymmdd` is a day on which a living person was born."""
    try:
        day = datetime.date(int(date[:4]), int(date[4:6]), int(date[6:]))
    except ValueError:
        return False
    return bool(_PROVINCES.match(province)) and 1880 <= day.year <= 2100


def _check_digit(digits: str) -> str:
    """The check digit (ISO 7064 MOD 11-2) of 17 digits."""
    remainder = 0
    for digit in digits:
        remainder = (remainder + int(digit)) * 2 % 11
    return "0123456789X"[(12 - remainder) % 11]


_CARD = re.compile(
    _FREE + r"(?P<it>[2-6][0-9]{12,18}|[2-6][0-9]{3}([ -])[0-9]{4}(?:\2[0-9]{4}){1,2}"
    r"\2[0-9]{1,4})" + _END
)
_ISSUERS = (  # (prefix, lengths)
    (re.compile("4"), (13, 16, 19)),  # Visa
    (re.compile("5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)"), (16,)),  # Mastercard
    (re.compile("3[47]"), (15,)),  # American Express
    (re.compile("35(?:2[89]|[3-8])"), (16,)),  # JCB
    (re.compile("3(?:0[0-5]|[68])"), (14,)),  # Diners
    (re.compile("60|65|56"), (16, 17, 18, 19)),  # Discover, older cards of Chinese banks
)
_UNIONPAY = re.compile("62")
_CARD_WORD = re.compile(
    r"(?i)卡|银行|账户|账号|帐号|户头|支付|收款|转账|打款|\b(?:card|visa|bank)\b"
)


def _card(match: re.Match[str]) -> str | None:
    number = re.sub("[- ]", "", match["it"])
    if not _luhn(number):
        return None
    if _UNIONPAY.match(number):
        return CARD if 16 <= len(number) <= 19 else None
    before = match.string[max(0, match.start() - 16) : match.start()]
    known = any(prefix.match(number) and len(number) in sizes for prefix, sizes in _ISSUERS)
    return CARD if known and _CARD_WORD.search(before) else None


def _luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (1 + place % 2)
        total += doubled - 9 * (doubled > 9)
    return total % 10 == 0 and len(set(digits)) > 1


# 010 and 02x with eight digits, 0xxx with seven or eight; brackets or a sign set the code off.
_LANDLINE = re.compile(
    r"(?<![0-9A-Za-z_])(?<![0-9][-. ])(?P<it>(?:\+86[- ]?)?"
    r"(?:\(0(?:10|2[0-9])\) ?|（0(?:10|2[0-9])） ?|0(?:10|2[0-9])[- ])[2-8][0-9]{3}[- ]?[0-9]{4}"
    r"|(?:\+86[- ]?)?(?:\(0[3-9][0-9]{2}\) ?|（0[3-9][0-9]{2}） ?|0[3-9][0-9]{2}-)[2-8][0-9]{6,7}"
    r"|[48]00-?[0-9]{3}-[0-9]{4}|[48]00-[0-9]{4}-?[0-9]{3})" + _END
)

# --- addresses and accounts --------------------------------------------------------------------

_AT = re.compile(r"@|[\[(（]at[\])）]")
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])(?P<it>[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}"
    r"(?:@| ?[\[(（]at[\])）] ?)(?:[A-Za-z0-9][A-Za-z0-9-]{0,62}\.){1,4}[A-Za-z]{2,18})"
    r"(?![A-Za-z0-9])"
)

# The form of an account is rare, so it is searched first; the words before it decide.
_CONTEXT = 40  # characters before it that decide

_QQ_NUMBER = re.compile(
    r"(?<![0-9_.])(?P<it>[1-9][0-9]{4,10})(?![0-9A-Za-z_@])"
    r"(?!\s?(?:[多余万亿元块人字年次个]|\.[0-9]))"
)
_GROUP = (
    "(?:(?:交流|读者|书友|粉丝|官方|作者|讨论|唯一|vip|普通|高级"
    "|[0-9一二三四五六七八九十总大小新])*[群裙])"
)
_QQ_BEFORE = re.compile(
    rf"(?i)(?:(?<![a-z])qq|扣扣|企鹅|球球|叩叩|(?<![a-z])q(?={_GROUP})|{_GROUP}(?=号)"
    rf"|[加进入]{_GROUP}|{_GROUP}(?=\s?[:：=]))"
    rf"(?:\s?(?:{_GROUP}|号码|号|账号))*\s?(?:是|为|[:：=+])?\s?[\[(（【“]?\s?"
    r"(?:[0-9]{5,11}\s?[、,，/;；或和]\s?)*\Z"
)
_QQ_WORDS = frozenset("qQ扣企球叩群裙")  # a quick test: most numbers are no account


def _qq(match: re.Match[str]) -> str | None:
    before = _before(match)
    return None if _QQ_WORDS.isdisjoint(before) or not _QQ_BEFORE.search(before) else QQ


_WECHAT = re.compile(  # begins with a plain set: the engine finds it quickly
    r"[微威薇VvWw](?:(?<=[微威薇])[信❤]|(?<=[Vv])信"
    r"|(?:(?<=[Ww])(?i:echat|eixin)|(?<=[VvWw])[Xx]|(?<=[Vv]))(?![A-Za-z0-9]))"
    r"(?P<says>\s?(?:公众号|账号|帐号|号码|号|[Ii][Dd])?\s?(?:是|为)?\s?[:：=]?)\s?[\[(（【“]?\s?"
    r"(?P<it>[A-Za-z][A-Za-z0-9_-]{5,19}|[1-9][0-9]{4,10})(?![A-Za-z0-9_@-])(?!\.[A-Za-z0-9])"
)
_ADD = re.compile(r"(?<![A-Za-z0-9+.])[加+＋]\s?我?\s?\Z")
_NOT_AN_ID = frozenset({"wechat", "weixin", "android", "iphone", "windows", "harmonyos"})


def _wechat(match: re.Match[str]) -> str | None:
    """The mask. A bare V announces an id only after 加; 微信 only with 号, a colon or 加."""
    before, says = _before(match), match["says"]
    inside_a_word = before[-1:].isascii() and before[-1:].isalnum()
    bare_v = match.start("says") == match.start() + 1
    named = re.search("[号:：=]|(?i:id)", says) and not bare_v and not inside_a_word
    if not (named or _ADD.search(before)) or match["it"].lower() in _NOT_AN_ID:
        return None
    return WECHAT


def _before(match: re.Match[str]) -> str:
    return match.string[max(0, match.start() - _CONTEXT) : match.start()]


# Every number below was made up for this file.
EXAMPLES = [
    ("打我手机 13912345678。", "打我手机 [手机号]。"),
    ("手机：+86 139-1234-5678", "手机：[手机号]"),
    ("电话１３９１２３４５６７８", "电话[手机号]"),
    ("身份证 11010519491231002X 已核对", "身份证 [身份证号] 已核对"),
    ("编号 110105194912310021 不是身份证", "编号 110105194912310021 不是身份证"),  # checksum
    ("编号 110105194913310027", "编号 110105194913310027"),  # month 13
    ("旧证 110105491231002", {"identity_15": True}, "旧证 [身份证号]"),
    ("信寄到 a.chen_88@example.com 就行", "信寄到 [邮箱] 就行"),
    ("QQ：123456789，微信号: chen_laoshi8", "QQ：[QQ号]，微信号: [微信号]"),
    ("书友群号 87654321、12345678", "书友群号 [QQ号]、[QQ号]"),
    ("加V：xiaochen2020", "加V：[微信号]"),
    ("微信Android版要升级", "微信Android版要升级"),
    ("卡号 6222 0212 3456 7890 128", "卡号 [银行卡号]"),
    ("信用卡 4111111111111111", "信用卡 [银行卡号]"),
    ("流水号 4111111111111111", "流水号 4111111111111111"),
    ("座机 (010) 62345678，热线 400-812-3456", "座机 [电话号码]，热线 [电话号码]"),
    ("1937年7月7日，13000000000元", "1937年7月7日，13000000000元"),
    ("ISBN 978-7-5321-1234-5，第138章，19490101", "ISBN 978-7-5321-1234-5，第138章，19490101"),
    ("打 13912345678", {"mobile": False}, "打 13912345678"),
]
