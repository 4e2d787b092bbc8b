"""The dirt that `planted_noise.py` puts into clean novels: templates and the words that fill them.

Everything is invented: sites, domains, people and numbers. The templates were written from what
readers of web novels see, without looking at the patterns of the rules that are measured with them;
a template that a rule misses stays, and is a miss in the table.
"""

from __future__ import annotations

import datetime
import random
import string


def _words(text: str) -> list[str]:
    return text.split()


# --- words -------------------------------------------------------------------------------------

_SITE_HEADS = _words(
    "墨香 青藤 落雪 九曲 云栖 半夏 飞鸟 星河 竹影 长亭 锦书 枕月 听潮 万象 蓝田 乌篷"
)
_SITE_TAILS = _words("小说网 文学 书屋 中文网 书院 阅读网 书吧 小说 文学城 读书")
_LATIN = _words(
    "mxsw qtwx lxsk jqzw yunqi bxia fnbook xhread zyshu ctwen jsxs zyread tcxs wanx ltsw"
)
_ENDS = _words("com net cc org info la me xyz com.cn net.cn")
_SURNAMES = "赵钱孙李周吴郑王冯陈褚卫蒋沈韩杨"
_GIVEN = _words("明 伟 静 丽 小红 建国 志强 秀英 晓东 雨桐 子涵 一鸣")
_TITLES = _words(
    "星海孤灯 剑出昆仑 都市小神农 重生之纸上江山 夜雨十年 九天长歌 我的邻居是锦鲤"
    " 万古第一炉 江南旧事簿 末世厨子"
)
_CHAPTER_WORDS = _words(
    "初入山门 夜半钟声 风起 故人来 一封旧信 大雪封山 断桥 灯火阑珊 不速之客 拍卖会 雨中对决"
    " 秘密 归途 山雨欲来 兄弟 破阵 意外的消息 考核开始 茶楼风波 天亮以前"
)
_SENTENCES = (
    "老人把灯挑亮，翻开那本旧账。",
    "她站在码头上等了一个下午，船没有来。",
    "院子里晒着辣椒，红得像一片火。",
    "他没有说话，只是把门轻轻带上。",
    "雨停的时候，街上已经没有人了。",
    "“你真的要走？”弟弟问。",
    "母亲把最后一块饼分给了两个孩子。",
    "远处传来火车的声音，很久才消失。",
    "先生放下粉笔，看着窗外的槐树。",
    "夜里起了风，纸窗哗哗地响。",
)


def site(rng: random.Random) -> str:
    return rng.choice(_SITE_HEADS) + rng.choice(_SITE_TAILS)


def domain(rng: random.Random) -> str:
    name = rng.choice(_LATIN) + rng.choice(["", str(rng.randrange(1, 999))])
    return f"{name}.{rng.choice(_ENDS)}"


def person(rng: random.Random) -> str:
    return rng.choice(_SURNAMES) + rng.choice(_GIVEN)


def sentences(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(_SENTENCES) for _ in range(count))


def title(rng: random.Random) -> str:
    return rng.choice(_TITLES)


def _fill(template: str, rng: random.Random) -> str:
    """A template with its slots filled, each slot drawn anew."""
    slots = {
        "{site}": site,
        "{domain}": domain,
        "{DOMAIN}": lambda r: domain(r).upper(),
        "{title}": title,
        "{author}": person,
        "{chapter}": lambda r: r.choice(_CHAPTER_WORDS),
        "{n}": lambda r: str(r.randrange(2, 900)),
        "{m}": lambda r: str(r.randrange(900, 2000)),
        "{qq}": qq_number,
        "{mobile}": mobile_number,
        "{digits}": lambda r: str(r.randrange(10**5, 10**7)),
    }
    for slot, draw in slots.items():
        while slot in template:
            template = template.replace(slot, draw(rng), 1)
    return template


# --- lines and insertions ----------------------------------------------------------------------

_ADVERT_LINES = (
    "天才一秒记住【{site}】，为您提供精彩小说阅读。",
    "（本章未完，请点击下一页继续阅读）",
    "最快更新《{title}》最新章节！",
    "本书首发{site}，请勿转载！",
    "喜欢《{title}》请大家收藏：{site}更新速度最快。",
    "手机用户请到{domain}阅读，体验更好",
    "一秒记住域名 {domain} 免费看书",
    "更多精彩好书，尽在{site}（{domain}）",
    "PS：今天第二更送上，跪求月票、推荐票！！",
    "求收藏求推荐求打赏，各位书友的支持是{author}写作的动力",
    "欢迎广大书友光临阅读，最新、最快、最火的连载作品尽在{site}！",
    "推荐好友新书《{title}》，书号{digits}，大家可以去看看",
    "【{site}】手打，转载请注明出处",
    "本电子书由{site}整理制作，版权归原作者所有，仅供试看，请于24小时内删除",
    "txt全集下载就上{site}，免费无广告",
    "支持正版订阅，请到{site}支持作者{author}。",
    "加入书签，方便下次阅读",
    "--- 本文来自 {site} 扫校 ---",
    "小提示：按回车键返回目录，按←键返回上一页，按→键进入下一页",
    "如果您觉得本书还不错，别忘了分享给您的朋友哦~",
    "温馨提示：看小说的同时发表评论，说出自己的看法和其它小伙伴们分享也不错哦！",
    "无弹窗广告，纯文字阅读，尽在{site}",
    "章节错误，点此举报（免注册），举报后维护人员会在两分钟内校正章节内容",
    "看最新章节，请关注公众号：{site}",
)

_ADVERT_INLINE = (
    "【{site}】",
    "（{site} {domain} 首发）",
    "（求月票！）",
    "[{site}最快更新]",
    "(手机阅读 {domain})",
    "｛{site}无弹窗｝",
    "『{site}』",
    "（未完待续，如果您喜欢这部作品，欢迎您来{site}投推荐票）",
    "请记住本站域名{domain}",
    "<更新最快就在{site}>",
)

_URL_LINES = (
    "http://www.{domain}/book/{digits}/{n}.html",
    "www.{domain}",
    "网址：{domain}",
    "ｗｗｗ．{domain}",
    "WWW.{DOMAIN}",
    "https://m.{domain}/read?id={digits}&page={n}",
    "ht tp://www.{domain}",
    "→→ {domain} ←←",
)
_URL_INLINE = (
    "www.{domain}",
    "http://{domain}/{digits}.htm",
    "(w.w.w.{domain})",
    "ｗｗｗ.{domain}",
    "{DOMAIN}",
    "https://{domain}",
)

_FURNITURE = (
    "- {n} -",
    "第{n}页 共{m}页",
    "第{n}页",
    "{n}/{m}",
    "上一章 返回目录 下一章",
    "上一页 | 目录 | 下一页",
    "[返回书页] [加入书签] [推荐本书]",
    "字体：大 中 小　背景：白 灰 黄 绿",
    "首页 > 玄幻小说 > {title} > 第{n}章",
    "作者：{author} 更新时间：2019-08-{n}",
    "本章字数：{m}　更新时间：19-03-12 08:30",
    "收藏本站 | 设为首页 | 联系我们",
    "Page {n} of {m}",
    "· {n} ·",
    "Copyright © 2015 {site} All Rights Reserved",
    "正文 第{n}章 {chapter} - {title} - {site}",
)


def advert_line(rng: random.Random) -> str:
    return _fill(rng.choice(_ADVERT_LINES), rng)


def advert_inline(rng: random.Random) -> str:
    return _fill(rng.choice(_ADVERT_INLINE), rng)


def url_line(rng: random.Random) -> str:
    return _fill(rng.choice(_URL_LINES), rng)


def url_inline(rng: random.Random) -> str:
    return _fill(rng.choice(_URL_INLINE), rng)


def furniture(rng: random.Random) -> str:
    return _fill(rng.choice(_FURNITURE), rng)


def contents(rng: random.Random) -> list[str]:
    """A table of contents of 8 to 30 lines, its heading included."""
    leader = rng.choice(["………………", "......................", " ", "\t", "·······", "____"])
    numbered = rng.random() < 0.6
    page = 1
    lines = [rng.choice(["目录", "目　录", "目次", "CONTENTS"])]
    for number in range(1, rng.randrange(8, 30)):
        page += rng.randrange(3, 25)
        style = f"第{number}章 " if numbered else f"{number}. "
        lines.append(f"{style}{rng.choice(_CHAPTER_WORDS)}{leader}{page}")
    return lines


def mojibake(rng: random.Random) -> str:
    """A sentence as a wrong program shows it."""
    sentence = sentences(rng, rng.randrange(1, 4))
    kind = rng.randrange(6)
    if kind == 0:
        return sentence.encode("utf-8").decode("gbk", errors="replace")
    if kind == 1:
        return sentence.encode("utf-8").decode("latin-1")
    if kind == 2:
        return sentence.encode("utf-8").decode("cp1252", errors="replace")
    if kind == 3:
        return sentence.encode("gbk").decode("latin-1")
    if kind == 4:
        return rng.choice(["锟斤拷", "烫烫烫", "屯屯屯"]) * rng.randrange(3, 12)
    return "".join(c if rng.random() < 0.3 else "\ufffd" * 2 for c in sentence)


def run_of_characters(rng: random.Random) -> str:
    """Laughter, a scream or a separator that does not end."""
    unit = rng.choice(_words("哈 啊 呵 嘿 ！ ？ … 。 - = * ~ ─ ★ ☆★ =- *- 哇 呜 ～ # _ 、"))
    return unit * rng.randrange(24, 90)


def slogan(rng: random.Random) -> str:
    """A line that a spammer sends many times."""
    lines = (
        "楼主好人，一生平安",
        "顶顶顶，好书要顶",
        "每日签到领金币",
        "前排占座，求更新",
        "强烈推荐这本书",
    )
    return rng.choice(lines) + rng.choice(["", "！", "~~", "。"])


# --- personal data -----------------------------------------------------------------------------


def mobile_number(rng: random.Random) -> str:
    head = rng.choice(_words("130 135 138 139 150 152 158 166 173 177 180 186 189 199"))
    digits = f"{rng.randrange(10**8):08d}"
    joint = rng.choice(["", "", "", "-", " "])
    prefix = rng.choice(["", "", "", "+86 ", "86-", "0086"])
    return f"{prefix}{head}{joint}{digits[:4]}{joint}{digits[4:-1]}{rng.randrange(1, 10)}"


def identity_number(rng: random.Random) -> str:
    """18 digits with the check digit of ISO 7064 MOD 11-2; no such person is meant."""
    area = rng.choice(_words("110101 310104 440305 510107 330106 620102 420106"))
    born = datetime.date(1950, 1, 1) + datetime.timedelta(days=rng.randrange(20000))
    digits = f"{area}{born:%Y%m%d}{rng.randrange(1000):03d}"
    weights = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2]
    total = sum(int(d) * w for d, w in zip(digits, weights, strict=True))
    return digits + "10X98765432"[total % 11]


def card_number(rng: random.Random) -> str:
    """A number that passes Luhn's check."""
    prefix, length = rng.choice(
        [("622202", 19), ("621700", 19), ("4", 16), ("52", 16), ("6258", 16)]
    )
    body = prefix + "".join(rng.choice(string.digits) for _ in range(length - len(prefix) - 1))
    for check in string.digits:
        digits = [int(d) for d in reversed(body + check)]
        total = sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits))
        if total % 10 == 0:
            number = body + check
            break
    if rng.random() < 0.4:
        number = " ".join(number[i : i + 4] for i in range(0, len(number), 4))
    return number


def qq_number(rng: random.Random) -> str:
    return str(rng.randrange(10**6, 3 * 10**9))


def wechat_id(rng: random.Random) -> str:
    return rng.choice(_LATIN) + rng.choice(["_", "-", ""]) + str(rng.randrange(100, 99999))


def email(rng: random.Random) -> str:
    name = rng.choice(_LATIN) + rng.choice([".", "_", ""]) + str(rng.randrange(1, 9999))
    return f"{name}@{rng.choice(['example.com', 'mail.example.cn', 'example.org'])}"


def landline(rng: random.Random) -> str:
    area = rng.choice(_words("010 021 0571 0755 028 0931"))
    first = str(rng.randrange(2, 9))
    rest = "".join(rng.choice(string.digits) for _ in range(7 if len(area) == 3 else 6))
    return rng.choice(["{}-{}", "({}){}", "（{}）{}"]).format(area, first + rest)


# (name, what draws the value, sentences with | where the value stands)
PERSONAL = (
    (
        "mobile",
        mobile_number,
        ("有事请拨打我的手机|，随时都在。", "联系电话：|", "快递员说他的号码是|。", "TEL:|"),
    ),
    (
        "identity",
        identity_number,
        ("身份证号码为|。", "证件号|，已核验。", "户主（|）昨日办理了迁出。"),
    ),
    ("card", card_number, ("请把钱打到建行卡|上。", "收款账号：|", "信用卡|已被冻结。")),
    (
        "qq",
        qq_number,
        ("作者QQ：|", "读者群：|，进群有福利", "加我qq |聊", "企鹅号|", "Q群|，欢迎加入"),
    ),
    (
        "wechat",
        wechat_id,
        ("微信号：|", "有意者加微信 |", "加V：|，备注读者", "vx: |", "我的微信是：|"),
    ),
    ("email", email, ("投稿请寄 | 谢谢。", "邮箱：|", "有错误欢迎发到|指正")),
    ("landline", landline, ("编辑部电话 |，周末休息。", "订购热线：|")),
)

# Numbers that are nobody's: what is masked of these is a false alarm.
_DECOYS = (
    "全书约|字，分上下两册。",
    "ISBN 978-7-{n}{n}-{m}-5",
    "国际标准书号9787{digits}12",
    "公元{m}年，黄河决口，死者三十万人。",
    "账上一共{digits}000元。",
    "第{m}章写于2013年10月5日。",
    "订单编号20190{digits}{digits}",
    "圆周率约为3.14159265358979323846。",
    "这条路长12345678.5米。",
    "地球到太阳的距离是149597870700米。",
    "他的学号是2008{digits}。",
    "人口13{digits}00人，比去年多了一成。",
    "qq糖一包{n}克，一箱{m}包。",
    "微信步数{m}步。",
    "档案第110101199913078888号。",
    "手表上显示 13:57:06，温度-12.5度。",
)


def decoy(rng: random.Random) -> str:
    return _fill(rng.choice(_DECOYS).replace("|", "{digits}"), rng)


# --- whole documents ---------------------------------------------------------------------------


def spam_document(rng: random.Random) -> str:
    """A few phrases again and again, with small changes."""
    phrases = [_fill(t, rng) for t in rng.sample(_ADVERT_LINES, 2)] + [slogan(rng)]
    lines = []
    for _ in range(rng.randrange(40, 120)):
        number = str(rng.randrange(1, 99)) if rng.random() < 0.3 else ""
        lines.append(rng.choice(phrases) + number)
    return rng.choice(["\n", "", "  "]).join(lines)


def loop_document(rng: random.Random) -> str:
    """A passage, then one of its sentences for ever, as a language model that got stuck."""
    stuck = sentences(rng, 1)
    return sentences(rng, 4) + stuck * rng.randrange(60, 200)


def foreign_document(rng: random.Random) -> str:
    words = _words("the of and house river night said she letter window road never again light")
    return " ".join(rng.choice(words) for _ in range(400)).capitalize() + "."


def code_document(rng: random.Random) -> str:
    lines = []
    for _ in range(60):
        name, value = rng.choice(_LATIN), rng.randrange(10**6)
        lines.append(
            rng.choice(["{} = {};", "if ({} > {}) return;", "print({}, {})"]).format(name, value)
        )
    return "\n".join(lines)


def table_document(rng: random.Random) -> str:
    rows = []
    for _ in range(80):
        cells = (
            rng.randrange(10**5),
            rng.random() * 100,
            rng.choice("甲乙丙丁"),
            rng.randrange(100),
        )
        rows.append("| {:06d} | {:.2f}% | {} | +{} |".format(*cells))
    return "\n".join(rows)


def keyword_document(rng: random.Random) -> str:
    """Key words without a mark between them, for search engines."""
    words = [*_TITLES, *_CHAPTER_WORDS, *_SITE_HEADS, "免费阅读", "全文", "最新章节", "下载"]
    return "".join(rng.choice(words) for _ in range(500))


def mojibake_document(rng: random.Random) -> str:
    text = "\n".join(sentences(rng, 3) for _ in range(40))
    codec = rng.choice(["gbk", "latin-1", "cp1252"])
    return text.encode("utf-8").decode(codec, errors="replace")


DOCUMENTS = {
    "spam": spam_document,
    "loop": loop_document,
    "foreign": foreign_document,
    "code": code_document,
    "table": table_document,
    "keywords": keyword_document,
    "mojibake": mojibake_document,
}
