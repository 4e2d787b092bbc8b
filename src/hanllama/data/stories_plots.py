"""The plots of the demo stories: what happens, in order, and the ways to say it.

A plot is a row of steps; a step is a few sentences that mean the same, one of which is written.
`{slot}` is the word bound to a slot, `{slot.form}` another of its forms (verb, measure word,
pronoun), `{they}` the pronoun of hero and friend together. A slot keeps its word through the whole
story, which is all the coherence there is: every sentence of a step must therefore read well after
every sentence of the steps before it, whatever the words. Where a plot needs more than one word
to agree (a fear, its cause and its cure), the bank's entry carries all of it.

All plots share their first step, so a prompt that ends after the opening may go anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hanllama.data import stories_words as words

PARAGRAPH = ("\n",)
"""A step that only begins a new paragraph."""

DEEDS = frozenset({"hobby", "game", "skill", "chore", "plant"})
"""Slots whose fact is verb and noun together (放风筝); the other facts are nouns or names."""


@dataclass(frozen=True)
class Plot:
    """A plot: its name, the bank of each slot, and its steps (each a choice of sentences)."""

    name: str
    slots: Mapping[str, words.Bank]
    steps: tuple[tuple[str, ...], ...]


_OPENING = (
    "从前，有一{hero.cl}{hero.kind}，名叫{hero}。",
    "从前，有一{hero.cl}{hero.kind}，叫{hero}。",
    "{home}住着一{hero.cl}{hero.kind}，名叫{hero}。",
    "{hero}是一{hero.cl}{trait}的{hero.kind}。",
)

_HOBBY = (
    "{hero.he}最喜欢{hobby.vn}。",
    "{hero.he}很喜欢{hobby.vn}。",
    "{hero.he}爱笑，也爱{hobby.vn}。",
)

_COMMON: dict[str, words.Bank] = {
    "hero": words.PEOPLE,
    "home": words.HOMES,
    "trait": words.TRAITS,
    "hobby": words.HOBBIES,
    "time": words.TIMES,
    "place": words.PLACES,
    "friend": words.PEOPLE,
    "elder": words.FAMILY,
    "glad": words.GLAD,
    "sad": words.SAD,
}

LOST = Plot(
    "lost",
    _COMMON
    | {
        "object": words.TOYS,
        "color": words.COLORS,
        "first_spot": words.SPOTS,
        "second_spot": words.SPOTS,
        "spot": words.SPOTS,
    },
    (
        _OPENING,
        (
            "{elder}送给{hero.he}一{object.cl}{color}色的{object}，{hero}非常喜欢。",
            "{hero.he}有一{object.cl}{color}色的{object}，是{elder}送的。",
            "{hero.he}有一{object.cl}{color}色的{object}，天天都带在身边。",
        ),
        PARAGRAPH,
        (
            "{time}，{hero}带着{object}去{place.in}玩。玩着玩着，{object}不见了。",
            "{time}，{hero}带着{object}来到{place.in}。要回家的时候，{object}不见了。",
        ),
        (
            "{hero}{sad}得快要哭了。",
            "{hero}心里{sad}极了。",
        ),
        PARAGRAPH,
        (
            "{friend.full}走过来，问：“{hero}，你怎么了？”",
            "这时，{friend.full}来了，问：“{hero}，你在找什么？”",
        ),
        (
            "{hero}说：“我的{object}不见了。”",
            "{hero}说：“我找不到我的{object}了。”",
        ),
        (
            "{friend}说：“别{sad}，我帮你一起找。”",
            "{friend}说：“别{sad}，我们一起去找吧。”",
        ),
        (
            "{they}先去{first_spot}找，没有；又去{second_spot}找，还是没有。",
            "{they}去{first_spot}找，去{second_spot}找，都没有找到。",
        ),
        (
            "最后，{friend}在{spot}找到了{object}。",
            "最后，{they}在{spot}找到了{object}。",
        ),
        PARAGRAPH,
        (
            "{hero}{glad}极了，说：“谢谢你，{friend}！”",
            "{hero}{glad}地说：“太好了，谢谢你！”",
        ),
        (
            "{friend}笑着说：“不用谢，我们是好朋友。”",
            "{friend}说：“不用谢，朋友就要互相帮助。”",
        ),
        (
            "从那以后，{hero}每次{object.vn}都很小心。",
            "从那以后，{hero}{object.vn}的时候，总会叫上{friend}。",
            "从那以后，{hero}和{friend}常常一起玩。",
        ),
    ),
)

FRIEND = Plot(
    "friend",
    _COMMON | {"game": words.GAMES},
    (
        _OPENING,
        (
            "{hero.he}刚搬来不久，还没有朋友。",
            "{hero.he}的家刚搬到这里，{hero.he}一个朋友也没有。",
        ),
        _HOBBY,
        PARAGRAPH,
        (
            "{time}，{hero}一个人来到{place.in}，心里有点孤单。",
            "{time}，{hero}一个人在{place.in}走来走去，觉得很没意思。",
        ),
        (
            "{hero.he}看见{friend.full}正在{game.vn}。",
            "不远的地方，{friend.full}正在{game.vn}。",
        ),
        (
            "{hero}很想一起玩，可是不敢开口。",
            "{hero}站在旁边，看了很久。",
        ),
        PARAGRAPH,
        (
            "{friend}看见了，笑着问：“你想和我一起{game.vn}吗？”",
            "{friend}走过来，问：“我们一起{game.vn}，好吗？”",
        ),
        (
            "{hero}{glad}地点点头，说：“好啊！我叫{hero}，你叫什么名字？”",
            "{hero}说：“好啊，我叫{hero}，你呢？”",
        ),
        (
            "{friend}说：“我叫{friend}，我们做朋友吧！”",
            "“我叫{friend}，很高兴认识你。”{friend}说。",
        ),
        (
            "{they}一起{game.vn}，玩得真{glad}。",
            "{they}一边{game.vn}，一边说说笑笑。",
        ),
        PARAGRAPH,
        (
            "太阳下山了，{they}约好明天再来玩。",
            "天黑了，{they}手拉手走回家。",
        ),
        (
            "从此，{hero}有了一个好朋友。",
            "从那天起，{hero}和{friend}成了最好的朋友。",
            "{hero}心想：有朋友真好！",
        ),
    ),
)

PLOTS: tuple[Plot, ...] = (LOST, FRIEND)
