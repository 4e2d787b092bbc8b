"""What is masked and what is not: numbers by their issuers' rules, and their false friends."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanllama.corpus.rules import personal_data

MASK = personal_data.Rule()


def masked(text: str) -> str:
    result = MASK(text)
    assert isinstance(result, str)
    return result


# --- what an issuer prescribes -----------------------------------------------------------------


def test_check_digit_of_the_standard_itself() -> None:
    """The two examples of GB 11643-1999, annex A."""
    assert personal_data._check_digit("11010519491231002") == "X"
    assert personal_data._check_digit("44052418800101001") == "4"


def test_only_one_of_eleven_last_digits_makes_an_identity_number() -> None:
    last = [c for c in "0123456789X" if "[" in masked(f"证件 32010219870615123{c} 。")]
    assert len(last) == 1


@pytest.mark.parametrize(
    "number",
    [
        "11010519490231002X",  # 31 February
        "99010519491231002X",  # no such province
        "11010518491231002X",  # nobody alive
        "1101051949123100",
        "11010519491231002X9",
    ],
)
def test_what_cannot_be_an_identity_number_stays(number: str) -> None:
    assert masked(f"编号{number}。") == f"编号{number}。"


def test_the_lower_case_x_and_spaces_count() -> None:
    assert masked("身份证11010519491231002x。") == "身份证[身份证号]。"
    assert masked("身份证 110105 19491231 002X") == "身份证 [身份证号]"


def test_luhn_by_hand() -> None:
    assert personal_data._luhn("79927398713")
    assert not personal_data._luhn("79927398710")
    assert not personal_data._luhn("0000000000000000")


def test_one_wrong_digit_and_a_card_is_only_a_number() -> None:
    assert masked("卡号6222021234567890128") == "卡号[银行卡号]"
    for digit in "012345679":
        assert masked(f"卡号622202123456789012{digit}") == f"卡号622202123456789012{digit}"


# --- ways of writing ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "written",
    [
        "13912345678",
        "139-1234-5678",
        "139 1234 5678",
        "139.1234.5678",
        "+8613912345678",
        "+86 139 1234 5678",
        "008613912345678",
        "86-13912345678",
        "１３９１２３４５６７８",
    ],
)
def test_every_way_to_write_a_mobile_number(written: str) -> None:
    assert masked(f"手机{written}，随时。") == "手机[手机号]，随时。"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Tel13912345678", "Tel[手机号]"),
        ("13912345678/13812345679", "[手机号]/[手机号]"),
        ("13912345678-13812345679", "[手机号]-[手机号]"),
        ("QQ群：123456789、987654321，欢迎", "QQ群：[QQ号]、[QQ号]，欢迎"),
        ("扣扣 1234567", "扣扣 [QQ号]"),
        ("书友群：87654321", "书友群：[QQ号]"),
        ("Q群（12345678）", "Q群（[QQ号]）"),
        ("12345678@example.com 也是我的QQ", "[邮箱] 也是我的QQ"),
        ("chen.xiao(at)example.com.cn", "[邮箱]"),
        ("我的微信是：lao_chen88", "我的微信是：[微信号]"),
        ("vx: chenlaoshi", "vx: [微信号]"),
        ("加我微信 abc-12345", "加我微信 [微信号]"),
        ("+V chenlaoshi", "+V [微信号]"),
        ("微信号13912345678", "微信号[微信号]"),
        ("座机0571-87654321转8001", "座机[电话号码]转8001"),
        ("（021）62345678", "[电话号码]"),
    ],
)
def test_what_is_masked(text: str, wanted: str) -> None:
    assert masked(text) == wanted


# --- false friends -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1937年7月7日至1945年8月15日",
        "ISBN 978-7-5321-1234-5；ISBN 9787532112345",
        "第13800138000章",
        "13912345678元，15912345678人",
        "全长13912345678.5米",
        "0.13912345678",
        "https://example.com/photos/15623140287/",
        "QQ上聊了20000字",
        "QQ2009版，qq糖100克",
        "群里有100000人",
        "进群 12345 人",
        "微信WeChat和微信Android版",
        "添加Vivaldi的仓库，增加 VirtualBox 磁盘",
        "chmod g+wx foldername",
        "Visa 的股价，4000人，2019-2020-2021-2022",
        "流水 4111111111111111",
        "圆周率3.14159265358979323846264338327950288",
        "电话2341，分机801",
        "a@b，＠某人，@2",
        "他在0571号房间等了010分钟",
        "20190101123456789012345",
        "MD5 d41d8cd98f00b204e9800998ecf8427e",
    ],
)
def test_what_stays(text: str) -> None:
    assert masked(text) == text


# --- at large ----------------------------------------------------------------------------------

PIECES = [
    "13912345678",
    "11010519491231002X",
    "6222021234567890128",
    "QQ",
    "微信号",
    "：",
    "、",
    "-",
]
PIECES += [
    ".",
    " ",
    "a.b@example.com",
    "加V",
    "abc_123",
    "123456",
    "（",
    "字",
    "010-62345678",
    "１",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_masking_twice_is_masking_once(pieces: list[str]) -> None:
    once = masked("".join(pieces))
    assert masked(once) == once


def test_whatever_stands_around_is_not_touched() -> None:
    rng = random.Random(5)
    numbers = [f"1{rng.choice('3456789')}{rng.randrange(10**9):09d}" for _ in range(300)]
    numbers = [n for n in numbers if not n.endswith("00000")]
    text = "".join(f"他说{n}，记下来。\n" for n in numbers)
    assert masked(text) == "他说[手机号]，记下来。\n" * len(numbers)


def test_each_kind_can_be_left_alone() -> None:
    text = (
        "手机13912345678，身份证11010519491231002X，卡6222021234567890128，信a@example.com，"
        "QQ：123456789，微信号：abcdef，电话010-62345678"
    )
    assert masked(text).count("[") == 7
    for name in ("mobile", "identity", "bank_cards", "email", "landlines"):
        found = personal_data.Rule(**{name: False})(text)
        assert isinstance(found, str) and found.count("[") == 6, name
    accounts = personal_data.Rule(accounts=False)(text)
    assert isinstance(accounts, str) and accounts.count("[") == 5


def test_novels_hold_nobody_s_number(shared_data: Path) -> None:
    """Authors who died before there were mobile telephones: whatever is masked is a false alarm."""
    for path in sorted((shared_data / "pretrain" / "novels").glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        assert masked(text) == text, path.name
