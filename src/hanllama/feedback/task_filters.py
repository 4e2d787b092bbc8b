"""Which of a teacher's tasks are of no use to a model that reads and writes text.

The kinds are those of Alpaca's `post_process_gpt3_response` (length, black list, programs,
punctuation), put for Chinese; refusals and placeholders were added, since chat models write them.
"""

from __future__ import annotations

import re
import unicodedata

SHORTEST, LONGEST = 4, 300  # characters of an instruction
LONGEST_ANSWER = 4000
LONGEST_INPUT = 4000
LEAST_HAN = 0.3  # of the letters of an instruction

COPY = "too similar to a task kept before"

# What needs more than text, or an action in the world.
_BLACK_LIST = re.compile(
    r"图片|图像|照片|截图|插图|配图|看图|视频|音频|录音|语音(?:文件|消息)|音乐文件|流程图|思维导图"
    r"|折线图|柱状图|饼图|画一[幅张个]|绘制|链接|网址|网页|https?:|www\.|附件|上传|下载|点击"
    r"|播放|打开(?:文件|网站|应用)|上网(?:查|搜)|搜索引擎|定(?:一个)?闹钟|预[约订]|提醒我"
)
# Alpaca dropped these too: it stays unclear whether the program or its result is the answer.
_PROGRAM = re.compile(r"^(?:请)?(?:帮我)?(?:写|编写|编)一?(?:个|段)(?:完整的)?程序")
_REFUSAL = re.compile(
    r"^(?:很?抱歉|对不起|不好意思)[，,。！!]?(?:[^。]{0,20})(?:无法|不能|没有办法|不便)"
    r"|作为(?:一[个名种])?(?:人工智能|AI|语言模型|大模型|大型语言模型)"
)
_PLACEHOLDER = re.compile(
    r"[\[【<＜（(](?:此处|这里|在此|插入|填写|请输入|某某|你的)[^\]】>＞）)]*[\]】>＞）)]"
    r"|x{3,}|X{3,}|……此处"
)


def reason_against(instruction: str, given: str, answer: str) -> str:
    """Why a task is dropped, in words for the report; "" where it may stay.

    Args:
        instruction, given, answer: the task's three parts; `given` is its input, often empty.
    """
    size = len(instruction)
    if size < SHORTEST or size > LONGEST:
        return "the instruction is too short" if size < SHORTEST else "the instruction is too long"
    if not unicodedata.category(instruction[0]).startswith(("L", "N")) and instruction[0] not in (
        '“‘「『《"'
    ):
        return "the instruction begins with punctuation"
    if _han_share(instruction) < LEAST_HAN:
        return "the instruction is not Chinese"
    if _BLACK_LIST.search(instruction):
        return "it needs more than text"
    if _PROGRAM.search(instruction):
        return "it asks for a program as a whole"
    if _PLACEHOLDER.search(given) or _PLACEHOLDER.search(instruction):
        return "a placeholder instead of material"
    if _REFUSAL.search(answer):
        return "the answer is a refusal"
    if len(answer) > LONGEST_ANSWER or len(given) > LONGEST_INPUT:
        return "the input or the answer is too long"
    if answer.strip() in (instruction.strip(), given.strip()):
        return "the answer repeats the task"
    return ""


def _han_share(text: str) -> float:
    letters = [c for c in text if c.isalpha()]
    han = sum("\u3400" <= c <= "\u9fff" or c >= "\U00020000" for c in letters)
    return han / len(letters) if letters else 0.0
