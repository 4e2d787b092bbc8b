"""Reward an answer that obeys an instruction of the demo's stories; 1 or 0.

The gold checker as a reward (`stories/tasks.py`): the theme and the hero are the requested ones,
the words occur, the answer to the question is right, and the grammar can write the story. The
request is read from the prompt; a prompt without such an instruction gives 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from hanllama.stories.tasks import judge, understand
from hanllama.train.rl.rewards import Answer


@dataclass(frozen=True)
class Reward:
    def __call__(self, answer: Answer) -> float:
        task = understand(answer.prompt)
        return float(task is not None and answer.complete and judge(task, answer.text).obeyed)


_STORY = (
    "兰兰是一个快乐的小女孩。她什么都好，就是怕打针。她常常想：我的胆子太小了。\n"
    "这天，要去医院打针。兰兰吓得一动也不敢动。爸爸拉着兰兰的手，说：“别怕，打针只疼一下。”"
    "兰兰听了，鼓起勇气，伸出胳膊，数到了三。\n"
    "她笑了，说：“原来，打针一点儿也不疼！”爸爸说：“你真是一个勇敢的小女孩！”\n"
    "后来，梅梅也怕打针，兰兰对梅梅说：“别怕，打针只疼一下。”从那以后，大家都说兰兰是一个勇敢的小女孩。"
)


def _asked(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


EXAMPLES = [
    (Answer(_STORY, _asked("讲一个关于勇敢的故事。")), 1.0),
    (Answer(_STORY, _asked("讲一个关于分享的故事。")), 0.0),
    (Answer(_STORY, _asked("写一个故事，里面要有“打针”和“梅梅”。")), 1.0),
    (Answer(_STORY, _asked("写一个故事，里面要有“打针”和“苹果”。")), 0.0),
    (Answer(_STORY, _asked("讲一个关于勇敢的故事。"), complete=False), 0.0),
    (Answer("兰兰怕打针。", _asked(f"{_STORY}\n请问，兰兰怕什么？")), 1.0),
    (Answer("兰兰怕打雷。", _asked(f"{_STORY}\n请问，兰兰怕什么？")), 0.0),
    (Answer(_STORY, _asked("今天天气怎么样？")), 0.0),
]
