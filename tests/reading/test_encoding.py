"""Which encoding a text is in is decided on all of it, and nonsense is refused, not guessed."""

from __future__ import annotations

import json
import os

import pytest

from builders.documents import SENTENCE
from hanllama.base.errors import InputError
from hanllama.reading.encoding import READABLE, decode, decode_lines, decode_name, decode_names

JAPANESE = "昔々あるところに、お爺さんとお婆さんが住んでいました。コンピュータのソフトウェアです。"
KOREAN = "옛날 어느 마을에 할아버지와 할머니가 살고 있었습니다. 회의는 오후 세 시에 시작합니다."


@pytest.mark.parametrize(
    ("text", "codec", "language"),
    [
        (JAPANESE, "euc_jp", "Japanese"),
        (KOREAN, "cp949", "Korean"),
        (JAPANESE[:12], "euc_jp", "Japanese"),
        (KOREAN[:14], "cp949", "Korean"),
    ],
)
def test_languages_that_are_legal_gbk_are_refused_by_name(
    text: str, codec: str, language: str
) -> None:
    assert text.encode(codec).decode("gb18030") != text
    with pytest.raises(InputError, match=f"looks like {language}.*convert it to UTF-8"):
        decode(text.encode(codec))


@pytest.mark.parametrize(("text", "codec"), [(JAPANESE, "euc_jp"), (KOREAN, "cp949")])
def test_damaged_bytes_do_not_make_them_chinese(text: str, codec: str) -> None:
    with pytest.raises(InputError, match="looks like"):
        decode_lines(b"\n".join([text.encode(codec)] * 200 + [b"\xff\xff"]))


def test_shift_jis_is_refused() -> None:
    with pytest.raises(InputError):
        decode(JAPANESE.encode("cp932"))


def test_chinese_that_quotes_japanese_is_chinese() -> None:
    text = SENTENCE * 3 + "日语的“你好”写作“こんにちは”，“电脑”写作“コンピュータ”。"
    assert decode(text.encode("gbk")) == (text, "gbk")


def test_utf16_without_a_mark_is_known_from_a_few_characters_on() -> None:
    for text in (SENTENCE[:4], SENTENCE, "第一章\r\n" + SENTENCE):
        for codec in ("utf-16-le", "utf-16-be"):
            assert decode(text.encode(codec)) == (text, codec)


def test_a_file_of_two_encodings_gives_all_its_lines() -> None:
    advertising = "本书来自某某小说网，请记住我们的网址，手机用户请用浏览器阅读。"
    for old in ("gbk", "cp950"):
        older = SENTENCE if old == "gbk" else "感時花濺淚，恨別鳥驚心，烽火連三月，家書抵萬金。"
        lines = [advertising.encode()] * 40 + [older.encode(old)] * 60
        found, encoding = decode_lines(b"\n".join(lines))
        assert found == [advertising] * 40 + [older] * 60
        assert encoding == f"utf-8+{'big5' if old == 'cp950' else old}"


def test_a_damaged_line_is_not_read_as_another_encoding() -> None:
    lines = [f"{number}：{SENTENCE}".encode() for number in range(200)]
    for place in range(len(lines[50])):
        lines[50] = f"50：{SENTENCE}".encode()
        lines[50] = lines[50][:place] + b"\xfe" + lines[50][place + 1 :]
        found, encoding = decode_lines(b"\n".join(lines))
        assert (found[50], encoding) == (None, "utf-8")


@pytest.mark.parametrize("codec", ["gbk", "cp950", "utf-8"])
def test_a_book_with_a_few_damaged_bytes_loses_their_lines(codec: str) -> None:
    text = SENTENCE if codec != "cp950" else "感時花濺淚，恨別鳥驚心，烽火連三月，家書抵萬金。"
    lines = [text.encode(codec)] * 400
    lines[7] = lines[7][:3] + b"\xff" + lines[7][4:]
    lines[9] = b"\xff\xff" + lines[9]
    found, _ = decode_lines(b"\n".join(lines))
    assert [n for n, line in enumerate(found) if line is None] == [7, 9]
    assert set(found) == {text, None}
    with pytest.raises(InputError):
        decode_lines(b"\n".join([line[:3] + b"\xff\xff" + line[3:] for line in lines]))


def test_hints_settle_ties_and_never_overrule() -> None:
    assert decode(SENTENCE.encode("gbk"), "big5") == (SENTENCE, "gbk")
    assert decode(SENTENCE.encode(), "gbk") == (SENTENCE, "utf-8")
    assert decode("中文".encode("big5"), "big5") == ("中文", "big5")


def test_names_are_decoded_together_and_never_fail() -> None:
    names = ["第一章.txt", "春天来了.txt", "a.txt"]
    for codec in ("gbk", "utf-8"):
        assert decode_names([name.encode(codec) for name in names]) == names
    assert decode_names([]) == []
    assert decode_name("渡口.txt".encode("gbk")) == "渡口.txt"
    assert decode_name(b"\xff\xff.txt") == "\\xff\\xff.txt"
    assert decode_name("müller/书/".encode() + "红楼梦.txt".encode("gbk")) == "müller/书/红楼梦.txt"


def test_a_name_that_is_no_utf8_is_written_readably() -> None:
    name = "紅樓夢.txt".encode("big5").decode("utf-8", "surrogateescape")
    told = f"in/{name}: cannot be read"
    assert told.encode("utf-8", READABLE).decode() == "in/紅樓夢.txt: cannot be read"
    assert told.encode("gbk", READABLE).decode("gbk") == "in/紅樓夢.txt: cannot be read"
    assert "书 \U0001f600 \ud800 \udcff".encode("gbk", READABLE) == (
        "书 ".encode("gbk") + b"\\U0001f600 \\ud800 \\udcff"
    )
    assert json.loads(json.dumps({"a": name}, ensure_ascii=False).encode("utf-8", READABLE)) == {
        "a": "紅樓夢.txt"
    }


def test_random_bytes_are_no_text() -> None:
    for _ in range(20):
        with pytest.raises(InputError):
            decode(os.urandom(3000))
