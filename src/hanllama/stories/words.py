"""The words of the demo stories, and what each word may stand beside.

A `Word` is one meaning with its written forms: the noun, the verb that goes with it, its measure
word, and whatever else a plot needs to say about it. Keeping verb, measure word and noun in ONE
entry is what makes a story and its checker agree: 一把雨伞 and 吃苹果 are never assembled from
parts, they are looked up. A bank is a tuple of words that may fill one slot of a plot; `fits` is
the only place that knows which words go together (a child and a playground, a pond and no kite).

Most banks are tables: a line holds a verb, a measure word (`-` where none is used of either) and
the nouns that take both. `WITHHELD` lists verb-noun pairs that the grammar allows and that
training never shows; a model that writes them has learned the words rather than the sentences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, eq=False)
class Word:
    """One entry of a bank; compared by identity, so homographs of two banks stay apart.

    `n` is the noun (or name), `v` its verb, `cl` its measure word. `world` is "child", "animal"
    or "" for both. `at` names the places it belongs to, empty for anywhere. `more` holds the
    further forms that only some banks have.
    """

    n: str
    v: str = ""
    cl: str = ""
    world: str = ""
    at: tuple[str, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)

    def form(self, name: str) -> str:
        """The written form `name`: a field, `vn` for verb and noun together, or one of `more`."""
        if name == "n":
            return self.n
        if name == "v":
            return self.v
        if name == "cl":
            return self.cl
        if name == "vn":
            return self.v + self.n
        return self.more[name]


Bank = tuple[Word, ...]


def fits(slot: str, word: Word, bound: Mapping[str, Word]) -> bool:
    """Whether `word` may fill `slot` in a story whose other slots hold `bound`.

    The rules: everything belongs to the hero's world; a thing that belongs somewhere is there;
    two slots never hold the same word. Nothing more is forbidden: two rabbits may be friends, and
    who likes cake may be given cake.
    """
    hero = bound.get("hero")
    if hero is not None and slot != "hero" and word.world not in ("", hero.world):
        return False
    for other_slot, other in bound.items():
        if other_slot == slot:
            continue
        if other is word:
            return False
        if other_slot == "place" and word.at and other.n not in word.at:
            return False
        if slot == "place" and other.at and word.n not in other.at:
            return False
    return True


def _table(text: str, world: str = "", at: tuple[str, ...] = ()) -> Bank:
    """Words from lines of `verb measure noun noun ...`."""
    words = []
    for line in text.split("\n"):
        if line.strip():
            verb, measure, *nouns = ("" if word == "-" else word for word in line.split())
            words += [Word(noun, verb, measure, world, at) for noun in nouns]
    return tuple(words)


def _plain(text: str, world: str = "", at: tuple[str, ...] = ()) -> Bank:
    return tuple(Word(word, world=world, at=at) for word in text.split())


# People -------------------------------------------------------------------------------------


def _person(name: str, kind: str, cl: str, he: str, world: str) -> Word:
    # Children go by their names; an animal that first walks on is named with its kind.
    full = kind + name if world == "animal" else name
    more = {"kind": kind, "he": he, "full": full}
    return Word(name, cl=cl, world=world, more=more)


# No name is the other half of another (小明 beside 明明): a small model writes 小明明.
# None begins with 小: a tokenizer joins that to whatever often stands before it, and a name must be
# the same token wherever it stands, or a small model does not learn to repeat it.
_BOYS = """亮亮 强强 军军 杰杰 龙龙 航航 峰峰 宇宇 涛涛 鹏鹏 东东 阳阳 磊磊 壮壮 浩浩 阿宝
    大勇 安安"""
_GIRLS = """丽丽 芳芳 兰兰 梅梅 丹丹 玲玲 娜娜 雯雯 萌萌 珊珊 婷婷 蓉蓉 佳佳 圆圆 琪琪
    倩倩 阿珍"""

# A cast: measure word, kind, the name it has as a hero and the name it has as a friend. Were names
# and kinds drawn apart, a small model would learn to repeat a name long before it repeats a kind.
_ANIMALS = """
    只 小兔子 豆豆 蹦蹦
    只 小猫 咪咪 喵喵
    只 小狗 球球 旺旺
    只 小熊 团团 憨憨
    只 小松鼠 果果 灵灵
    只 小猴子 跳跳 淘淘
    只 小狐狸 嘟嘟 尖尖
    只 小刺猬 丁丁 滚滚
    只 小鸭子 皮皮 扁扁
    只 小鸡 米米 叮叮
    只 小老鼠 奇奇 灰灰
    只 小青蛙 乐乐 荷荷
    只 小乌龟 多多 壳壳
    只 小羊 绒绒 咩咩
    只 小鹿 朵朵 悠悠
    只 小浣熊 可可 卡卡
    头 小象 贝贝 波波
    头 小牛 欢欢 哞哞
    头 小猪 糖糖 胖胖
    匹 小马 晶晶 康康
"""


def _cast(role: int) -> Bank:
    """The people of a role (0 heroes, 1 friends), who have names of their own.

    A small model that must keep two names of one list apart through a whole story mixes them up
    long after everything else is right.
    """
    words = [_person(name, "小男孩", "个", "他", "child") for name in _BOYS.split()[role::2]]
    words += [_person(name, "小女孩", "个", "她", "child") for name in _GIRLS.split()[role::2]]
    for line in _ANIMALS.strip().split("\n"):
        measure, kind, *names = line.split()
        words.append(_person(names[role], kind, measure, "它", "animal"))
    return tuple(words)


HEROES, FRIENDS = _cast(0), _cast(1)
PEOPLE = HEROES + FRIENDS

FAMILY = _plain("妈妈 爸爸 奶奶 爷爷 外婆 外公 姐姐 哥哥")
NEIGHBOURS = _plain("王阿姨 李叔叔 张爷爷 刘奶奶 陈伯伯 赵大叔", "child")
NEIGHBOURS += _plain("山羊爷爷 大象伯伯 猫头鹰奶奶 骆驼大叔 鹅阿姨 水牛伯伯", "animal")

TRAITS = _plain("可爱 聪明 善良 活泼 勤劳 懂事 热心 细心 快乐 好奇")

HOMES = _plain("村子里 小镇上 城里", "child") + _plain("森林里 草原上 山谷里 竹林边", "animal")
HOMES += _plain("山脚下 小河边")

TIMES = _plain(
    "有一天 一天早上 一天上午 一天下午 星期六 星期天 这一天 一个晴朗的早上 一个暖和的下午"
)
TIMES += _plain("放学以后", "child")

# Places -------------------------------------------------------------------------------------


def _places(text: str, world: str = "") -> Bank:
    """Words from `name/where`: 公园/里 gives 去公园 and 在公园里; a name alone is both."""
    words = []
    for item in text.split():
        name, _, inside = item.partition("/")
        words.append(Word(name, world=world, more={"in": name + inside}))
    return tuple(words)


PLACES = _places("草地/上 山坡/上 湖边 果园/里 花园/里 池塘边 田野/里 大树下")
PLACES += _places("公园/里 广场/上 操场/上", "child")
PLACES += _places("树林/里 竹林/里 山谷/里 空地/上", "animal")

# Where two look for a thing: first, then, and where it lies. Each has words of its own, since
# nobody looks twice in one place.
FIRST_SPOTS = _plain("草丛里 石头后面 小路边 落叶堆里 台阶上")
FIRST_SPOTS += _plain("长椅下", "child", ("公园", "广场", "操场")) + _plain("树洞里", "animal")
SECOND_SPOTS = _plain("花丛里 小桥边 水井旁 柳树下 木堆后面")
SECOND_SPOTS += _plain("滑梯下", "child", ("公园", "广场", "操场")) + _plain("树根旁", "animal")
LAST_SPOTS = _plain("篱笆旁 木桥下 灌木丛里 草垛旁 栏杆下")
LAST_SPOTS += _plain("花坛边", "child") + _plain("蘑菇后面", "animal")

# Things and deeds ---------------------------------------------------------------------------

COLORS = _plain("红 黄 蓝 绿 白 紫 粉 橙 金")

# What a hero takes along and may lose.
TOYS = _table("""
    - 个 皮球 足球 毽子 陀螺 沙包
    - 辆 小汽车
    - 架 小飞机
    - 盒 积木 拼图
    - 只 风车 风筝
    - 本 图画书 故事书
    - 支 笛子 口琴
    - 面 小鼓
    - 个 娃娃
    - 只 布熊
    - 顶 帽子
    - 条 围巾
    - 双 手套
    - 把 雨伞
    - 盏 灯笼
    - 个 篮子
    - 支 画笔
    - 把 扇子
    - 个 布包 书包
    - 支 铅笔 钢笔
""")

# What can be carried along and shared: every entry may be halved.
SNACKS = _table("""
    吃 - 苹果 桃子 橘子 梨子 柿子 石榴 面包 包子 月饼 粽子 红薯 西瓜 香蕉 玉米 黄瓜 胡萝卜 蛋糕
    吃 - 米糕 南瓜饼 葡萄 糖葫芦 饼干 花生 瓜子 糖果 核桃 栗子 草莓 樱桃
""")

# What a friend brings in return.
DRINKS = _table("喝 - 果汁 牛奶 酸奶 蜂蜜水 豆浆 椰汁 绿茶 柠檬水")

# What is served at home to say thank you.
MEALS = _table("""
    吃 - 面条 米饭 饺子 汤圆 苹果 桃子 包子 月饼 粽子 烤红薯 蛋糕 米糕 南瓜饼 草莓 葡萄 西瓜
    喝 - 果汁 牛奶 热茶 蜂蜜水 绿豆汤 南瓜汤 蘑菇汤 白粥
""")

# What one likes to do: “最喜欢…”.
HOBBIES = _table("""
    看 - 星星 月亮 白云 彩虹 小鸟 图画书 日出
    画 - 太阳 月亮 星星 白云 彩虹 小鸟 房子 大树 小花 大山 小船
    听 - 故事 音乐 雨声
    讲 - 故事 笑话
    数 - 星星
    唱 - 儿歌 山歌
    追 - 蝴蝶 蜻蜓
    捡 - 树叶 石头 松果
    吃 - 苹果 桃子 橘子 葡萄 草莓 樱桃 西瓜 玉米 面条 蛋糕 饼干 饺子
    喝 - 牛奶 果汁 蜂蜜水 蘑菇汤
    种 - 花 菜 树
    摘 - 草莓 果子
    采 - 野花 蘑菇
""")

_MEADOWS = ("草地", "山坡", "田野", "公园", "广场", "操场", "空地", "湖边", "山谷", "大树下")
_TREES = ("果园", "树林", "竹林", "公园", "花园", "山坡", "山谷", "大树下")
_WATER = ("湖边", "池塘边")
_PLAYGROUNDS = ("公园", "操场")

# What two play together outdoors.
GAMES = (
    _table("放 - 风筝\n踢 - 足球 毽子\n拍 - 皮球", at=_MEADOWS)
    + _table("采 - 蘑菇", at=_TREES)
    + _table("堆 - 沙堡\n放 - 纸船\n看 - 小鱼", at=_WATER)
    + _table("荡 - 秋千\n滑 - 滑梯\n堆 - 沙堡", "child", _PLAYGROUNDS)
    + _table("""
        吹 - 笛子 口琴
        玩 - 积木 弹珠 拼图 陀螺 飞盘
        丢 - 沙包
        追 - 蝴蝶 蜻蜓
        采 - 野花
        捡 - 树叶 石头 松果
        搭 - 积木
        叠 - 纸船 纸飞机 纸鹤
        画 - 小花 大树 蝴蝶 小鸟 白云 小船 小鱼
        看 - 蚂蚁 蝴蝶 白云 小鸟 图画书
        听 - 音乐 鸟叫
        捏 - 泥人
        唱 - 儿歌
    """)
)

# What the hero learns; every verb takes 不好, 了好几次 and 得真好.
SKILLS = _table("""
    放 - 风筝
    包 - 饺子 粽子 包子 汤圆
    叠 - 纸船 纸鹤 纸飞机
    踢 - 毽子 足球
    拍 - 皮球
    吹 - 笛子 口琴
    敲 - 小鼓
    弹 - 钢琴 古筝
    拉 - 小提琴 二胡
    写 - 毛笔字
    画 - 小鸟 蝴蝶 大树 竹子
    剪 - 窗花 纸花
    编 - 篮子 花环
    捏 - 泥人
    织 - 围巾 手套
    做 - 蛋糕 面包 灯笼 饼干
    下 - 象棋 围棋
    唱 - 山歌
    打 - 乒乓球
    骑 - 自行车
""")

# What an elder is busy with when the hero comes along; every verb takes 好了.
CHORES = _table("""
    扫 - 院子 落叶
    洗 - 衣服 被子 青菜 苹果 萝卜
    晒 - 被子 玉米 花生 衣服
    浇 - 菜 花
    摘 - 苹果 橘子 黄瓜 豆角 葡萄 桃子 梨子
    搬 - 木头 石头 白菜 南瓜 箱子
    挖 - 红薯 萝卜 土豆 花生
    剥 - 豆子 花生 玉米 栗子
    收 - 玉米 白菜 衣服 豆子
    包 - 饺子 粽子 包子
    修 - 篱笆 木桥 桌子 小车
    擦 - 桌子 窗户
    种 - 白菜 豆子 萝卜
""")

# What is made for a birthday.
GIFTS = _table("""
    做 个 蛋糕 花环 布包 沙包
    做 盒 饼干
    做 盏 灯笼
    做 只 风筝 风车
    做 张 贺卡
    做 顶 帽子
    画 张 贺卡
    画 把 扇子
    画 只 小鸟 蝴蝶
    画 座 房子
    画 道 彩虹
    织 条 围巾
    织 双 手套
    织 顶 帽子
    编 个 篮子 花环
    叠 只 纸鹤 纸船
    叠 架 纸飞机
    捏 个 泥人
    缝 个 娃娃 沙包 布包
    缝 只 布熊
    剪 朵 纸花
    采 束 野花
""")

# What an accident does to a thing that belongs to someone else; `how` it happened.


def _accidents(how: str, text: str) -> Bank:
    return tuple(Word(word.n, word.v, word.cl, more={"how": how}) for word in _table(text))


ACCIDENTS = (
    _accidents(
        "跑得太快",
        "打碎 个 花瓶 杯子 碗 盘子\n打碎 面 镜子\n撞坏 个 花盆 篮子\n撞坏 盏 灯笼",
    )
    + _accidents("玩得太高兴", "弄坏 面 小鼓\n弄坏 把 雨伞 扇子 椅子\n弄丢 支 画笔 笛子")
    + _accidents("喝水的时候", "弄湿 本 图画书 故事书\n弄湿 张 贺卡\n弄湿 双 手套")
    + _accidents("吃饭的时候", "弄脏 条 围巾\n弄脏 件 毛衣\n弄脏 顶 帽子\n弄脏 本 故事书 图画书")
    + _accidents("走路的时候", "踩坏 盏 灯笼\n踩坏 只 风筝\n踩坏 架 小飞机\n踩坏 个 花环")
)

# What stands before a house.
LANDMARKS = _table("""
    看 棵 大树 柳树 桃树
    看 座 小桥 石桥
    看 口 水井
    看 片 竹林 花丛
    看 条 小路 小河
    看 块 大石头
    看 个 池塘 菜园
    看 道 篱笆
""")

GARDENS = _plain("院子里 菜园里 花园里 山坡上 小河边 篱笆旁 屋子前")

# A seed, and what becomes of it.


def _plants(text: str) -> Bank:
    words = []
    for line in text.split("\n"):
        if line.strip():
            noun, grown, joy = line.split()
            words.append(Word(noun, "种", "粒", more={"grown": grown, "joy": joy}))
    return tuple(words)


PLANTS = _plants("""
    向日葵 开出了金黄的花 花儿真美
    牵牛花 开出了紫色的花 花儿真美
    菊花 开出了黄色的花 花儿真美
    月季花 开出了红色的花 花儿真香
    茉莉花 开出了白色的花 花儿真香
    西瓜 结出了圆圆的西瓜 西瓜真甜
    南瓜 结出了大大的南瓜 南瓜真大
    黄瓜 结出了长长的黄瓜 黄瓜真脆
    草莓 结出了红红的草莓 草莓真甜
    葡萄 结出了紫紫的葡萄 葡萄真甜
    豆角 结出了长长的豆角 豆角真多
    玉米 结出了金黄的玉米 玉米真香
    辣椒 结出了红红的辣椒 辣椒真多
""")

# A fear: when it comes, what an elder says, what the hero does, what turns out to be true.


def _fears(text: str, world: str = "") -> Bank:
    words = []
    for line in text.split("\n"):
        if line.strip():
            noun, when, advice, deed, truth = line.split()
            more = {"when": when, "advice": advice, "deed": deed, "truth": truth}
            words.append(Word(noun, world=world, more=more))
    return tuple(words)


FEARS = _fears("""
    黑 一天晚上，灯忽然灭了 夜里有星星陪着你 走到窗前，看见了满天的星星 黑夜也很美
    打雷 一天夜里，外面打起了雷 雷声是云在敲鼓 听着雷声，数了一下又一下 雷声一点儿也不可怕
    过桥 这天，路上有一座小木桥 眼睛看着前面，慢慢走 扶着栏杆，一步一步走过了桥 小桥又稳又结实
    坐船 这天，大家要坐船过河 坐稳了，看看远处的山 坐在船上，看着远处的青山 坐船这么好玩
    爬山 这天，大家要去爬山 眼睛看前面，跟着我走 跟在后面，一步一步爬到了山顶 山顶上这么美
    大风 一天夜里，外面刮起了大风 那是风在唱歌 闭上眼睛，听着呼呼的风声 风声就像一首歌
    走夜路 一天晚上，大家走在回家的路上 有月亮给我们照路 提着灯笼，一步一步走回了家 夜里的路也很美
    毛毛虫 这天，树上有一条毛毛虫 毛毛虫会变成蝴蝶 走到树下，看了看毛毛虫 毛毛虫一点儿也不可怕
    上台 这天，轮到上台唱歌了 看着大家，大声唱就好 走上台，大声唱了起来 上台唱歌这么开心
    自己睡觉 这天晚上，要自己睡觉了 闭上眼睛，想想开心的事 闭上眼睛，一觉睡到了天亮 自己睡觉也很舒服
    打针 这天，要去医院打针 打针只疼一下 伸出胳膊，数到了三 打针一点儿也不疼
    大狗 这天，路上来了一只大狗 慢慢走，别跑 站着不动，大狗摇了摇尾巴 大狗一点儿也不凶
""")

# Ways to have a thing with one, and a snack; which one does not depend on the thing.
CARRY = _plain("带着 拿着 带上")
HOLD = _plain("带着 拿着 捧着")

GLAD = _plain("高兴 开心 快乐")
SAD = _plain("难过 伤心 着急")

# Verb-noun pairs that training never shows. Each verb and each noun is seen in other pairs, so
# that a model can put the two together; about one legal pair in eleven.
WITHHELD: frozenset[tuple[str, str]] = frozenset(
    {
        ("看", "彩虹"),
        ("看", "蝴蝶"),
        ("画", "月亮"),
        ("画", "小鸟"),
        ("吃", "橘子"),
        ("吃", "草莓"),
        ("摘", "苹果"),
        ("剥", "花生"),
        ("收", "玉米"),
        ("晒", "衣服"),
        ("洗", "萝卜"),
        ("种", "黄瓜"),
        ("放", "纸船"),
        ("做", "贺卡"),
        ("织", "手套"),
        ("编", "花环"),
        ("弄脏", "故事书"),
        ("带着", "风筝"),
        ("带着", "积木"),
        ("带着", "图画书"),
        ("带着", "小鼓"),
        ("带着", "足球"),
        ("带着", "陀螺"),
        ("带着", "灯笼"),
        ("拿着", "皮球"),
        ("拿着", "笛子"),
        ("拿着", "娃娃"),
        ("拿着", "篮子"),
        ("带上", "帽子"),
        ("带上", "画笔"),
        ("带着", "葡萄"),
        ("带着", "糖果"),
        ("带着", "面包"),
        ("带着", "包子"),
        ("拿着", "西瓜"),
        ("拿着", "核桃"),
        ("拿着", "樱桃"),
        ("捧着", "苹果"),
        ("捧着", "饼干"),
        ("捧着", "粽子"),
    }
)
