"""No text makes a rule work longer than its length: one document must not hold up a corpus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from hanllama.base import config, plugins
from hanllama.corpus.rules import Drop, advertising, html_remains, personal_data

PACKAGE = "hanllama.corpus.rules"
NEED_A_FILE = {"perplexity", "quality_classifier", "sensitive_terms"}
NAMES = [name for name in plugins.names(PACKAGE) if name not in NEED_A_FILE]

# Each is repeated on one line and on lines of its own.
PIECES = [
    *("<!--", "<script>", "<style>", "<", "<a x=", "<p ", "<b", "</script ", "<<b>", "<!doctype "),
    *(
        "&",
        "&amp;",
        "amp;&",
        "&#",
        "[img]",
        "[url=",
        "[b]",
        "a[i]",
        "[",
        "](",
        "`",
        "``` ",
        "```\n",
    ),
    *(
        "www.",
        "w.",
        "ｗｗｗ．",
        "www点",
        "www.a-",
        "http://",
        "h t t p : //",
        ".com",
        "a.b@",
        "a-",
        "-",
    ),
    *(
        "13800138000/",
        "010-62345678 ",
        "QQ：12345 ",
        "138 ",
        "1",
        "１",
        "1.",
        "0-",
        "第一章 ",
        "第1",
        "一",
    ),
    *(
        "求推荐票",
        "（未完待续",
        "（未完待续）",
        "小^",
        "小说 ",
        "【某某书屋",
        "本书首发",
        "（",
        "《",
        "“",
        "。",
    ),
    *(
        "……12\n",
        "目录\n",
        "\u3000",
        " \n",
        "\r",
        "\ufffd",
        "Ã©",
        "ï¿½",
        "锟斤拷",
        "😂",
        "a",
        "中",
        "||",
        "*_",
    ),
]
START = [
    "",
    "www.a.com ",
    "求推荐票 小说 ",
]  # a find that makes a rule look at the rest of its line


def hostile(length: int) -> Iterator[tuple[str, str]]:
    """(its name, a text of about `length` characters)."""
    for piece in PIECES:
        for start in START:
            yield f"{start}{piece!r}", start + piece * (length // len(piece))
        yield f"{piece!r} in lines", f"{piece}\n" * (length // (len(piece) + 1))
    yield "numbers", " ".join(map(str, range(length // 5)))
    yield "backticks", "a".join("`" * n for n in range(1, int((2 * length) ** 0.5)))
    for left, right in ("()", "[]", "（）", ("<", "b>"), ("【", "小说】"), ("求推", "荐票")):
        yield f"{left} in {left}", left * (length // 3) + right * (length // 3)


def seconds(rule: Any, text: str) -> float:
    began = time.process_time()
    rule(text)
    return time.process_time() - began


def rules() -> list[Any]:
    given = [(name, {}) for name in NAMES] + [("urls", {"domains": True})]
    return [pytest.param(name, values, id=f"{name}{values or ''}") for name, values in given]


@pytest.mark.parametrize(("name", "values"), rules())
def test_the_work_grows_with_the_length_of_the_text(name: str, values: dict[str, Any]) -> None:
    """Four times the text takes four times as long, not sixteen times."""
    rule = config.load(plugins.load(PACKAGE, name).Rule, values, name)
    short = dict(hostile(6_000))
    for shape, text in hostile(24_000):
        for _ in range(4):  # another process may have had the machine
            took = seconds(rule, text)
            if took < 0.04 or took < 10 * seconds(rule, short[shape]):
                break
        else:
            pytest.fail(f"{name} takes {took:.2f} s for {len(text):,} characters of {shape}")
        assert took < 0.5, f"{shape}: {took:.2f} s"


def test_what_is_nested_deeper_than_people_write_is_dropped() -> None:
    deep = 30
    assert isinstance(html_remains.Rule()("<" * deep + "b>" * deep), Drop)
    row = "13800138000 010-62345678/"
    assert isinstance(personal_data.Rule()(row * deep), Drop)
    assert advertising.Rule()("【某某" * deep + "书屋】" * deep + "\n雪停了。") == "雪停了。"
    # What people write is not.
    assert html_remains.Rule()(f"&{'amp;' * deep}lt;b>粗") == "粗"
    assert personal_data.Rule()("13800138000/" * deep) == "[手机号]/" * deep
