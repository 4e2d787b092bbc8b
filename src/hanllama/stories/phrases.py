"""How the demo's instructions are put: themes, requests for stories, questions about a story.

Only words live here, as in `stories_words.py`; `story_tasks.py` writes instructions from them and
reads instructions back. `{theme}`, `{hero}`, `{words}`, `{story}` and `{question}` are filled by
the task, every other `{name}` by a fact of the story (`{hero}`, `{friend}`, `{food}` …).

A phrasing must be readable in one way only: no request may be filled in two ways to the same text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# What a plot is about, in the words a person would use; the first is the one that answers name.
THEMES: Mapping[str, tuple[str, ...]] = {
    "lost": ("找东西", "丢了东西又找回来", "找回心爱的东西"),
    "friend": ("交朋友", "认识新朋友", "新来的朋友"),
    "help": ("帮助别人", "热心帮忙", "劳动"),
    "share": ("分享", "和朋友分享好吃的", "好东西要分享"),
    "brave": ("勇敢", "战胜害怕", "变得勇敢"),
    "skill": ("努力练习", "学本领", "学会一件新本领"),
    "promise": ("守信用", "说到做到", "遵守约定"),
    "mistake": ("诚实", "说真话", "做错事要承认"),
    "birthday": ("过生日", "生日礼物", "给朋友准备礼物"),
    "plant": ("种植", "耐心等待", "种子发芽"),
    "way_home": ("迷路", "送朋友回家", "找回家的路"),
}

ABOUT_THEME: tuple[str, ...] = (
    "讲一个关于{theme}的故事。",
    "请给我讲一个关于{theme}的故事。",
    "写一个小故事，主题是{theme}。",
    "我想听一个关于{theme}的故事。",
    "能讲一个关于{theme}的故事吗？",
)

ABOUT_HERO: tuple[str, ...] = (
    "讲一个关于{theme}的故事，主人公是{hero}。",
    "请写一个{hero}的故事，主题是{theme}。",
    "我想听{hero}的故事，要讲{theme}。",
    "能讲一个故事吗？主角是{hero}，主题是{theme}。",
    "写一个小故事：{hero}是主角，讲的是{theme}。",
)

WITH_WORDS: tuple[str, ...] = (
    "请用{words}写一个故事。",
    "用上{words}，讲一个小故事。",
    "写一个故事，里面要有{words}。",
    "讲个故事吧，要用到{words}。",
    "我想听一个故事，里面要出现{words}。",
    "能用{words}编一个故事吗？",
)

# A question with its story. After a story of its own the model is asked the question alone.
ABOUT_STORY: tuple[str, ...] = (
    "读一读这个故事：\n{story}\n问题：{question}",
    "{story}\n请问，{question}",
    "下面是一个故事。\n{story}\n读完以后回答：{question}",
)


@dataclass(frozen=True)
class Question:
    """A question that the stories of some plots answer, the ways to ask it, and its answer.

    `about` is the fact that the answer must bring; `plots` is empty where every story that has the
    fact will do.
    """

    about: str
    plots: tuple[str, ...]
    asked: tuple[str, ...]
    answer: str


QUESTIONS: tuple[Question, ...] = (
    Question("theme", (), ("这个故事讲的是什么？", "故事的主题是什么？"), "故事讲的是{theme}。"),
    Question("hero", (), ("主人公叫什么名字？", "故事的主人公叫什么？"), "主人公叫{hero}。"),
    Question("hero_kind", (), ("{hero}是谁？", "故事里的{hero}是谁？"), "{hero}是{hero_kind}。"),
    Question(
        "friend",
        (),
        ("{hero}的小伙伴叫什么名字？", "谁是{hero}的小伙伴？"),
        "{hero}的小伙伴叫{friend}。",
    ),
    Question("hobby", (), ("{hero}喜欢做什么？", "{hero}爱做什么？"), "{hero}喜欢{hobby}。"),
    Question(
        "place",
        ("lost", "friend", "share", "way_home"),
        ("{hero}去了哪里？", "{hero}来到了什么地方？"),
        "{hero}去了{place}。",
    ),
    Question("object", ("lost",), ("{hero}丢了什么？", "什么东西不见了？"), "{object}不见了。"),
    Question("color", ("lost",), ("{object}是什么颜色的？",), "{object}是{color}色的。"),
    Question(
        "spot", ("lost",), ("{object}在哪里找到的？", "最后在哪里找到了{object}？"), "在{spot}。"
    ),
    Question(
        "game",
        ("friend",),
        ("{hero}和{friend}一起做什么？", "{friend}请{hero}一起做什么？"),
        "{hero}和{friend}一起{game}。",
    ),
    Question("place", ("promise",), ("{hero}和{friend}约好去哪里？",), "约好去{place}。"),
    Question("game", ("promise",), ("{hero}和{friend}约好做什么？",), "约好一起{game}。"),
    Question("food", ("promise",), ("{elder}准备了什么？",), "{elder}准备了{food}。"),
    Question(
        "chore", ("help",), ("{hero}帮{elder}做什么？", "{elder}在忙什么？"), "{elder}在{chore}。"
    ),
    Question("elder", ("help",), ("{hero}帮了谁？", "{hero}去帮谁的忙？"), "{hero}帮了{elder}。"),
    Question(
        "food",
        ("share",),
        ("{hero}把什么分给了{friend}？", "{hero}和{friend}先分享了什么？"),
        "{hero}分享了{food}。",
    ),
    Question(
        "second_food", ("share",), ("第二天，{friend}请{hero}尝了什么？",), "尝了{second_food}。"
    ),
    Question("fear", ("brave",), ("{hero}怕什么？", "{hero}本来怕什么？"), "{hero}怕{fear}。"),
    Question(
        "skill", ("skill",), ("{hero}学会了什么？", "{hero}学的是什么？"), "{hero}学会了{skill}。"
    ),
    Question("object", ("mistake",), ("{hero}要赔{friend}什么？",), "{hero}要赔{friend}{object}。"),
    Question(
        "gift",
        ("birthday",),
        ("{hero}送给{friend}什么？", "{friend}的生日礼物是什么？"),
        "{hero}送的是{gift}。",
    ),
    Question("friend", ("birthday",), ("谁过生日？",), "{friend}过生日。"),
    Question("plant", ("plant",), ("{hero}要做什么？",), "{hero}要{plant}。"),
    Question("garden", ("plant",), ("种子种在哪里？",), "种子种在{garden}。"),
    Question(
        "landmark",
        ("way_home",),
        ("{friend}的家在什么旁边？", "{friend}家门前有什么？"),
        "{friend}的家在{landmark}旁边。",
    ),
    Question("friend", ("way_home",), ("谁迷路了？", "谁找不到家了？"), "{friend}迷路了。"),
)
