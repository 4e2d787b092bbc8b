"""Scripts and languages are told by counting, with a table that opencc gave."""

from __future__ import annotations

import pytest

from hanllama.text import scripts
from hanllama.text.scripts import SCRIPTS, Scripts, counts_of, language


def counts(text: str) -> dict[str, int]:
    named = zip(SCRIPTS, counts_of(text).tolist(), strict=True)
    return {name: n for name, n in named if n}


def test_every_character_is_counted_once() -> None:
    text = "汉語，ok 12３。かカ\n𠮷🙂　Ж"
    assert counts(text) == {
        "Han, both": 1,  # 𠮷, beyond the basic plane
        "Han, simplified only": 1,
        "Han, traditional only": 1,
        "Latin": 2,
        "digits": 3,
        "punctuation": 2,
        "Kana": 2,
        "white space": 3,
        "other": 2,
    }
    assert sum(counts(text).values()) == len(text)
    assert counts("") == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("这个国家的历史很长，我们从头说起。", "Chinese, simplified (简体)"),
        ("這個國家的歷史很長，我們從頭說起。", "Chinese, traditional (繁体)"),
        ("这个国家的历史，這個國家的歷史。", "Chinese, mixed (混合)"),
        ("白日依山尽".replace("尽", "下"), "Chinese, either form"),
        ("我们用 Python 和 PyTorch 训练这个模型", "Chinese, simplified (简体)"),
        ("An English sentence with one 字.", "Latin script (English …)"),
        ("これは日本語の文です。", "Japanese"),
        ("12345 ……", "other"),
        ("", "other"),
    ],
)
def test_languages(text: str, expected: str) -> None:
    assert language(counts_of(text)) == expected


def test_a_few_quoted_characters_of_the_other_form_do_not_make_a_mixture() -> None:
    text = "这个国家的历史很长，我们从头说起。" * 5 + "匾上写着一个國字"
    assert language(counts_of(text)) == "Chinese, simplified (简体)"


def test_counts_add_up_and_survive_json() -> None:
    whole, first, second = Scripts(), Scripts(), Scripts()
    for part, text in ((first, "汉字"), (second, "漢字 and more")):
        part.count(text)
        whole.count(text)
    first.add(second)
    assert first.as_dict() == whole.as_dict()


def test_characters_of_both_ways_of_writing_are_in_neither_list() -> None:
    simplified, traditional = scripts.variants()
    assert not set("后里干面台云乾著藉") & set(simplified + traditional)
    assert set("个国们这说") <= set(simplified) and set("個國們這說") <= set(traditional)


def test_the_table_is_what_opencc_gives() -> None:
    assert scripts.VARIANTS.read_text(encoding="utf-8") == derive()


def derive() -> str:
    """The content of `han_variants.txt`, as opencc and the older encodings give it.

    A character is only simplified when opencc replaces it in traditional text and Big5's level of
    frequently used characters lacks it (后, 里, 干 belong to both). It is only traditional when
    opencc simplifies it and GB 2312 lacks it (乾, 著, 藉 are still in use).
    """
    opencc = pytest.importorskip("opencc", reason="opencc is not installed")
    to_traditional, to_simplified = (opencc.OpenCC(way).convert for way in ("s2t", "t2s"))
    han = [chr(point) for point in range(0x4E00, 0xA000)]
    simplified = {c for c in han if to_traditional(c) != c and not _in_big5_level_1(c)}
    traditional = {c for c in han if to_simplified(c) != c and not _encodes(c, "gb2312")}
    both = simplified & traditional  # rare variants that opencc replaces in either direction
    lines = ["Characters of one way of writing only; derived by tests/text/test_scripts.py."]
    for name, found in (("simplified", simplified - both), ("traditional", traditional - both)):
        text = "".join(sorted(found))
        lines += [f"[{name}]", *(text[i : i + 50] for i in range(0, len(text), 50))]
    return "\n".join(lines) + "\n"


def _in_big5_level_1(character: str) -> bool:
    code = _encodes(character, "big5")
    return len(code) == 2 and 0xA440 <= int.from_bytes(code, "big") <= 0xC67E


def _encodes(character: str, codec: str) -> bytes:
    try:
        return character.encode(codec)
    except UnicodeEncodeError:
        return b""
