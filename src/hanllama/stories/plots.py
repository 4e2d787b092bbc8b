"""The plots of the demo stories: what happens, in order, and the ways to say it.

A plot is a row of steps; a step is a few sentences that mean the same, one of which is written.
`{slot}` is the word bound to a slot, `{slot.form}` another of its forms (verb, measure word,
pronoun). A slot keeps its word through the whole story, which is all the coherence there is: every
sentence of a step must therefore read well after every sentence of the steps before it, whatever
the words. Where a plot needs more than one word to agree (a fear, its cause and its cure), the
bank's entry carries all of it.

All plots share their first step, so a prompt that ends after the opening may go anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hanllama.stories import words

PARAGRAPH = ("\n",)
"""A step that only begins a new paragraph."""

DEEDS = frozenset({"hobby", "game", "skill", "chore", "plant"})
"""Slots whose fact is verb and noun together (放风筝); the other facts are nouns or names."""

VERB_OF = {"carry": "object", "hold": "food"}
"""Slots that hold a verb alone, and the slot of its noun, which the story has named before."""

FREE = frozenset({"glad", "sad"})
"""Slots drawn anew each time they are written: words for one feeling, as people vary them."""


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
    "hero": words.HEROES,
    "home": words.HOMES,
    "trait": words.TRAITS,
    "hobby": words.HOBBIES,
    "time": words.TIMES,
    "place": words.PLACES,
    "friend": words.FRIENDS,
    "glad": words.GLAD,
    "sad": words.SAD,
}


def _elder(name: str) -> dict[str, words.Bank]:
    """Each plot has its own elder: a word that small models exchange when it is drawn anew."""
    return {"elder": tuple(word for word in words.FAMILY if word.n == name)}


LOST = Plot(
    "lost",
    _COMMON
    | _elder("奶奶")
    | {
        "object": words.TOYS,
        "carry": words.CARRY,
        "color": words.COLORS,
        "first_spot": words.FIRST_SPOTS,
        "second_spot": words.SECOND_SPOTS,
        "spot": words.LAST_SPOTS,
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
            "{time}，{hero}{carry}{object}去{place.in}玩。玩着玩着，{object}不见了。",
            "{time}，{hero}{carry}{object}来到{place.in}。要回家的时候，{object}不见了。",
        ),
        (
            "{hero}{sad}得快要哭了。",
            "{hero}{sad}极了。",
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
            "{hero}和{friend}先去{first_spot}找，没有；又去{second_spot}找，还是没有。",
            "两个好朋友去{first_spot}找，去{second_spot}找，都没有找到。",
        ),
        (
            "最后，{hero}在{spot}找到了{object}。",
            "最后，{object}找到了，就在{spot}。",
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
            "从那以后，{hero}做什么都很小心。",
            "从那以后，{hero}出去玩的时候，总会叫上{friend}。",
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
            "{hero}和{friend}一起{game.vn}，玩得真{glad}。",
            "两个好朋友一起{game.vn}，{glad}极了。",
        ),
        PARAGRAPH,
        (
            "太阳下山了，{hero}和{friend}约好明天再来玩。",
            "天黑了，两个好朋友手拉手走回家。",
        ),
        (
            "从此，{hero}有了一个好朋友。",
            "从那天起，{hero}和{friend}成了最好的朋友。",
            "{hero}心想：有朋友真好！",
        ),
    ),
)

HELP = Plot(
    "help",
    _COMMON | {"elder": words.NEIGHBOURS, "chore": words.CHORES, "food": words.MEALS},
    (
        _OPENING,
        _HOBBY,
        PARAGRAPH,
        (
            "{time}，{hero}路过{elder}的家，看见{elder}正在{chore.vn}。",
            "{time}，{hero}出门去玩，看见{elder}正在{chore.vn}。",
        ),
        (
            "{elder}累得满头大汗。",
            "{elder}一个人忙不过来。",
        ),
        (
            "{hero}想：我应该去帮忙。",
            "{hero}心想：{elder}太累了，我要去帮忙。",
        ),
        PARAGRAPH,
        (
            "{hero}跑过去，说：“{elder}，我来帮您{chore.vn}吧！”",
            "{hero}走过去，问：“{elder}，我帮您{chore.vn}，好吗？”",
        ),
        (
            "{elder}笑着说：“好啊，你真是一{hero.cl}懂事的{hero.kind}！”",
            "{elder}{glad}地说：“太好了，谢谢你！”",
        ),
        (
            "{hero}不怕苦，也不怕累，干得很认真。",
            "{hero}干得很认真，一点儿也不偷懒。",
        ),
        (
            "不一会儿，{chore}就{chore.v}好了。",
            "天还没黑，{chore}就{chore.v}好了。",
        ),
        PARAGRAPH,
        (
            "{elder}请{hero}{food.v}{food}。",
            "{elder}说：“辛苦了，快来{food.v}{food}吧！”",
        ),
        (
            "{hero}{food.v}着{food}，心里甜甜的。",
            "{hero}一边{food.v}，一边笑。",
        ),
        (
            "从那以后，{hero}常常来帮{elder}的忙。",
            "{hero}心想：帮助别人，自己也很{glad}。",
            "{elder}说：“{hero}真是一{hero.cl}好心的{hero.kind}！”",
        ),
    ),
)

SHARE = Plot(
    "share",
    _COMMON
    | _elder("妈妈")
    | {"food": words.SNACKS, "hold": words.HOLD, "second_food": words.DRINKS},
    (
        _OPENING,
        (
            "{hero.he}最爱{food.v}{food}。",
            "{hero.he}天天都想{food.v}{food}。",
        ),
        PARAGRAPH,
        (
            "{time}，{elder}给{hero}准备了{food}。",
            "{time}，{hero}得到了{elder}给的{food}。",
        ),
        (
            "{hero}{hold}{food}来到{place.in}，正要{food.v}，看见了{friend.full}。",
            "{hero}{hold}{food}去{place.in}玩，{friend.full}走了过来。",
        ),
        (
            "{friend}坐在一边，什么{food.v}的也没有。",
            "{friend}没有{food}，站在旁边看着。",
        ),
        (
            "{hero}看看{food}，又看看{friend}，有点舍不得。",
            "{hero}只有这一份，有点舍不得。",
        ),
        (
            "可是，{hero.he}想起{elder}的话：好东西要和朋友分享。",
            "{hero.he}想了想：要是我没有，也会很想{food.v}。",
        ),
        PARAGRAPH,
        (
            "{hero}说：“{friend}，我们一人一半，一起{food.v}吧！”",
            "{hero}走过去，说：“{food}不多，我们一人一半吧！”",
        ),
        (
            "{friend}{glad}地说：“谢谢你，{hero}！”",
            "{friend}{glad}极了，说：“你真好，谢谢你！”",
        ),
        (
            "两个好朋友坐在一起{food.v}{food}，说说笑笑。",
            "{hero}和{friend}你一口，我一口，很快就{food.v}完了。",
        ),
        PARAGRAPH,
        (
            "第二天，{friend}带来了{second_food}，也分给{hero}一半。",
            "第二天，{friend}对{hero}说：“今天我请你{second_food.v}{second_food}！”",
        ),
        (
            "{hero}明白了：和朋友分享，快乐会变多。",
            "大家都说{hero}是一{hero.cl}大方的{hero.kind}。",
            "从那以后，{hero}和{friend}有好东西就一起分享。",
        ),
    ),
)

BRAVE = Plot(
    "brave",
    _COMMON | _elder("爸爸") | {"fear": words.FEARS},
    (
        _OPENING,
        (
            "{hero.he}什么都好，就是怕{fear}。",
            "{hero.he}爱{hobby.vn}，可是很怕{fear}。",
        ),
        (
            "大家都说{hero.he}胆子小。",
            "{hero.he}常常想：我的胆子太小了。",
        ),
        PARAGRAPH,
        ("{fear.when}。",),
        (
            "{hero}吓得一动也不敢动。",
            "{hero}害怕极了，躲到{elder}身后。",
        ),
        (
            "{elder}拉着{hero}的手，说：“别怕，{fear.advice}。”",
            "{elder}轻轻地说：“{hero}，别怕，{fear.advice}。”",
        ),
        (
            "{hero}听了，鼓起勇气，{fear.deed}。",
            "{hero}点点头，深深吸了一口气，{fear.deed}。",
        ),
        PARAGRAPH,
        (
            "{hero.he}笑了，说：“原来，{fear.truth}！”",
            "{hero}{glad}地说：“{fear.truth}，我不怕了！”",
        ),
        (
            "{elder}说：“你真是一{hero.cl}勇敢的{hero.kind}！”",
            "{elder}笑着说：“你长大了，变勇敢了！”",
        ),
        PARAGRAPH,
        (
            "后来，{friend.full}也怕{fear}，{hero}对{friend}说：“别怕，{fear.advice}。”",
            "后来，{hero}看见{friend.full}也怕{fear}，就说：“别怕，我陪着你。”",
        ),
        (
            "从那以后，大家都说{hero}是一{hero.cl}勇敢的{hero.kind}。",
            "从那以后，{hero}再也不怕{fear}了。",
        ),
    ),
)

SKILL = Plot(
    "skill",
    _COMMON | _elder("爷爷") | {"skill": words.SKILLS},
    (
        _OPENING,
        _HOBBY,
        PARAGRAPH,
        (
            "{time}，{hero}看见{friend.full}在{skill.vn}，{skill.v}得真好。",
            "{time}，{hero}听说{friend.full}会{skill.vn}，就跑去看。",
        ),
        (
            "{hero}也想学，就请{elder}来教{hero.he}。",
            "{hero}很羡慕，回家就跟{elder}学{skill.vn}。",
        ),
        (
            "一开始，{hero.he}总是{skill.v}不好。",
            "可是，{hero.he}试了好几次，怎么也{skill.v}不好。",
        ),
        (
            "{hero}{sad}地说：“太难了，我不想学了。”",
            "{hero}快要哭了，说：“我怎么这么笨？”",
        ),
        PARAGRAPH,
        (
            "{elder}说：“别{sad}，慢慢来，多练习就会了。”",
            "{elder}说：“{skill.vn}不难，只要多练习，你一定行。”",
        ),
        (
            "{hero}点点头，早上练，晚上也练。",
            "{hero}听了，每天都认真练习。",
        ),
        (
            "几天以后，{hero.he}终于学会了{skill.vn}。",
            "过了几天，{hero.he}真的学会了{skill.vn}。",
        ),
        PARAGRAPH,
        (
            "{friend}看见了，说：“{hero}，你{skill.v}得真好！”",
            "{elder}看见了，{glad}地说：“真是一{hero.cl}聪明的{hero.kind}！”",
        ),
        (
            "{hero}笑着说：“只要多练习，就一定能学会。”",
            "{hero}明白了：什么事都要多练习。",
            "从那以后，{hero}和{friend}常常一起{skill.vn}。",
        ),
    ),
)

PROMISE = Plot(
    "promise",
    _COMMON | _elder("外婆") | {"game": words.GAMES, "food": words.MEALS},
    (
        _OPENING,
        (
            "{hero.he}的好朋友是{friend.full}。",
            "{hero.he}和{friend.full}是好朋友。",
        ),
        PARAGRAPH,
        (
            "{time}，{hero}听见{friend}说：“明天我们去{place.in}{game.vn}，好吗？”",
            "{time}，{hero}听见{friend}问：“明天你能和我去{place.in}{game.vn}吗？”",
        ),
        (
            "{hero}说：“好，我一定来！”",
            "{hero}点点头，说：“好，说定了！”",
        ),
        PARAGRAPH,
        (
            "第二天，{hero}正要出门，{elder}说：“快来{food.v}{food}吧！”",
            "第二天，{elder}准备了{food}，说：“别出门了，在家{food.v}{food}吧。”",
        ),
        (
            "{hero}很想{food.v}{food}，可是{hero.he}想起了昨天说的话。",
            "{hero}看了看{food}，又想起了昨天说的话。",
        ),
        (
            "{hero.he}说：“我答应了{friend}，说好的事就要做到。”",
            "{hero.he}说：“不行，{friend}在等我呢，我说过一定去。”",
        ),
        (
            "{elder}笑着说：“你说得对，快去吧，{food}给你留着。”",
            "{elder}点点头，说：“快去吧，{food}回来再{food.v}。”",
        ),
        PARAGRAPH,
        (
            "{hero}跑到约好的地方，{friend}正在等{hero.he}。",
            "{hero}赶到的时候，{friend}早就在那里了。",
        ),
        (
            "{friend}{glad}地说：“{hero}，你真的来了！”",
            "{friend}说：“我就知道你会来！”",
        ),
        (
            "{hero}和{friend}一起玩，玩得真{glad}。",
            "两个好朋友{glad}极了，玩了一整天。",
        ),
        (
            "回到家，{hero}{food.v}着{food}，心里甜甜的。",
            "大家都说{hero}是一{hero.cl}守信用的{hero.kind}。",
            "{hero}心想：说到做到，真让人{glad}！",
        ),
    ),
)

MISTAKE = Plot(
    "mistake",
    _COMMON | _elder("哥哥") | {"object": words.ACCIDENTS},
    (
        _OPENING,
        (
            "{hero.he}的好朋友是{friend.full}。",
            "{hero.he}和{friend.full}是好朋友。",
        ),
        PARAGRAPH,
        (
            "{time}，{hero}去{friend}家玩。",
            "{time}，{hero}在{friend}家里玩。",
        ),
        (
            "{hero.he}{object.how}，不小心把{friend}的{object}{object.v}了。",
            "{object.how}，{hero.he}不小心{object.v}了{friend}的{object}。",
        ),
        (
            "{hero}害怕极了，心里怦怦地跳。",
            "{hero}看看四周，不知道怎么办才好。",
        ),
        (
            "这时，{hero.he}想起{elder}的话：做错了事，要说真话。",
            "{hero}很想跑回家，可是{elder}说过，做错了事要认错。",
        ),
        PARAGRAPH,
        (
            "{hero}低着头说：“对不起，我把你的{object}{object.v}了。”",
            "{hero}走到{friend}面前，说：“对不起，是我{object.v}了{object}。”",
        ),
        (
            "{friend}想了想，说：“没关系，你是一{hero.cl}诚实的{hero.kind}。”",
            "{friend}说：“没关系，下次小心一点儿就好。”",
        ),
        (
            "{hero}说：“谢谢你，我会赔你一{object.cl}新的。”",
            "{hero}说：“我一定赔你一{object.cl}新的{object}。”",
        ),
        PARAGRAPH,
        (
            "第二天，{hero}真的送来了一{object.cl}新的{object}。",
            "第二天，{hero}和{elder}一起送来了一{object.cl}新的{object}。",
        ),
        (
            "{friend}{glad}极了，两个好朋友又在一起玩了。",
            "{friend}笑了，{hero}也笑了。",
        ),
        (
            "从那以后，{hero}做事更小心了。",
            "{hero}明白了：说真话，心里才会{glad}。",
        ),
    ),
)

BIRTHDAY = Plot(
    "birthday",
    _COMMON | _elder("姐姐") | {"gift": words.GIFTS},
    (
        _OPENING,
        (
            "{hero.he}的好朋友是{friend.full}。",
            "{hero.he}和{friend.full}是好朋友。",
        ),
        PARAGRAPH,
        (
            "明天是{friend}的生日，{hero}想准备一份礼物。",
            "{friend}的生日快到了，{hero}要准备一份礼物。",
        ),
        (
            "{hero}问{elder}：“送什么好呢？”",
            "送什么好呢？{hero}想不出来，就去问{elder}。",
        ),
        (
            "{elder}说：“自己动手准备的礼物最好。”",
            "{elder}笑着说：“你用心准备的，就是最好的礼物。”",
        ),
        (
            "{hero}想了想，说：“我要{gift.v}一{gift.cl}{gift}送给{friend}。”",
            "{hero}说：“那我就{gift.v}一{gift.cl}{gift}吧！”",
        ),
        PARAGRAPH,
        (
            "{hero.he}忙了一整天，{gift}终于{gift.v}好了。",
            "{hero.he}从早上忙到晚上，{gift}终于{gift.v}好了。",
        ),
        (
            "{hero}很累，可是心里很{glad}。",
            "{elder}看了，说：“你真细心，{friend}一定会喜欢的。”",
        ),
        PARAGRAPH,
        (
            "生日那天，{hero}对{friend}说：“生日快乐！这是送给你的{gift}。”",
            "生日那天，{hero}来到{friend}家，送上了{gift}，说：“生日快乐！”",
        ),
        (
            "{friend}{glad}极了，说：“谢谢你，我太喜欢了！”",
            "{friend}{glad}地说：“这是最好的礼物，谢谢你！”",
        ),
        (
            "{hero}和{friend}一起唱歌，一起跳舞，玩得真{glad}。",
            "两个好朋友手拉着手，又唱又跳。",
        ),
        (
            "{hero}心想：让朋友{glad}，自己也很{glad}。",
            "看着{friend}的笑脸，{hero}也笑了。",
        ),
    ),
)

PLANT = Plot(
    "plant",
    _COMMON | _elder("外公") | {"plant": words.PLANTS, "garden": words.GARDENS},
    (
        _OPENING,
        _HOBBY,
        PARAGRAPH,
        (
            "春天到了，{elder}给了{hero}一{plant.cl}{plant}种子。",
            "春天来了，{hero}得到了一{plant.cl}{plant}种子，是{elder}给的。",
        ),
        (
            "{hero}说：“我要{plant.vn}！”",
            "{hero}{glad}地说：“太好了，我来{plant.vn}！”",
        ),
        (
            "{hero.he}把种子种在{garden}。",
            "{hero.he}在{garden}挖了一个小坑，把种子放了进去。",
        ),
        PARAGRAPH,
        (
            "一天过去了，两天过去了，种子还没有发芽。",
            "{hero}等啊等，等了好几天，种子还没有发芽。",
        ),
        (
            "{hero}{sad}地问：“种子怎么还不发芽？”",
            "{hero}问{elder}：“它是不是不会发芽了？”",
        ),
        (
            "{elder}说：“别着急，种子在睡觉呢，要天天给它浇水。”",
            "{elder}笑着说：“别急，天天给它浇水，它就会发芽。”",
        ),
        (
            "{hero}听了，天天去浇水。",
            "{hero}点点头，每天早上都去浇水。",
        ),
        PARAGRAPH,
        (
            "有一天，那里长出了一棵绿绿的小苗。",
            "有一天，一棵小苗从地里钻了出来。",
        ),
        (
            "小苗一天天长大，{plant.grown}。",
            "过了一些日子，小苗长大了，{plant.grown}。",
        ),
        (
            "{friend.full}看见了，说：“{plant.joy}！”",
            "{hero}请{friend.full}来看，{friend}说：“{plant.joy}！”",
        ),
        (
            "{hero}{glad}极了，心想：只要有耐心，就会有收获。",
            "大家都说{hero}是一{hero.cl}勤劳的{hero.kind}。",
        ),
    ),
)

WAY_HOME = Plot(
    "way_home",
    _COMMON | {"game": words.GAMES, "landmark": words.LANDMARKS, "food": words.MEALS},
    (
        _OPENING,
        _HOBBY,
        PARAGRAPH,
        (
            "{time}，{hero}在{place.in}{game.vn}，忽然听见了哭声。",
            "{time}，{hero}去{place.in}{game.vn}，听见前面有哭声。",
        ),
        (
            "原来，{friend.full}找不到回家的路了。",
            "原来是{friend.full}迷路了。",
        ),
        PARAGRAPH,
        (
            "{hero}走过去，问：“别哭，你的家在哪里？”",
            "{hero}说：“别{sad}，我送你回家。你的家在哪里？”",
        ),
        (
            "{friend}说：“我家门前有一{landmark.cl}{landmark}。”",
            "{friend}想了想，说：“我的家旁边有一{landmark.cl}{landmark}。”",
        ),
        (
            "{hero}说：“我知道那个地方，跟我走吧！”",
            "{hero}拉起{friend}的手，说：“我知道在哪里，走吧！”",
        ),
        (
            "{hero}和{friend}走啊走，终于看见了{friend}的家。",
            "{hero}和{friend}走了很久，终于来到了那个地方。",
        ),
        PARAGRAPH,
        (
            "{friend}的妈妈跑出来，紧紧地抱住了{friend}。",
            "{friend}的妈妈正在门口等着，看见{friend}，高兴得哭了。",
        ),
        (
            "妈妈对{hero}说：“你真是一{hero.cl}好心的{hero.kind}，快来{food.v}{food}吧！”",
            "妈妈请{hero}{food.v}{food}，说：“真谢谢你！”",
        ),
        (
            "从那以后，{hero}和{friend}成了好朋友。",
            "{hero}心想：帮助别人，自己也很{glad}。",
        ),
    ),
)

PLOTS: tuple[Plot, ...] = (
    LOST,
    FRIEND,
    HELP,
    SHARE,
    BRAVE,
    SKILL,
    PROMISE,
    MISTAKE,
    BIRTHDAY,
    PLANT,
    WAY_HOME,
)
