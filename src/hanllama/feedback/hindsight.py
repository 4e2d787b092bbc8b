"""`hanllama data hindsight`: preferences as conversations in which feedback is put into words.

Chain of hindsight (Liu et al. 2023, arXiv:2302.02676; Ziya's COHFT): a model that learns "a good
answer is …, a bad one is …" from both can be asked for a good one. Here the feedback is what the
user says: asks for a poor answer and gets it, then asks for a better one, up to the best; or the
other way down. The loss is taken on the answers alone (`tokenizer/chat.py`), each of them under its
feedback. The words of FIRST[0] and BETTER[0] are what to ask the trained model with.

The paper also hides 15 % of the earlier tokens while training, against copying; here nothing is
hidden, and a ranking gives each direction once.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Literal

from hanllama.base import fs
from hanllama.base.config import Share, checked, option
from hanllama.base.making import making
from hanllama.base.progress import Progress
from hanllama.talks.conversations.form import Conversation, Message, assistant, prompt_hash, user
from hanllama.talks.preferences import PreferenceReader, Ranked

GOOD = ("请给出一个好的回答。", "请认真回答，答得越好越好。", "我要一个高质量的回答。")
BAD = ("请给出一个不好的回答。", "随便答一个差的就行。", "我要一个质量不高的回答。")
BETTER = (
    "请给出一个更好的回答。",
    "刚才的回答不够好，请改进。",
    "上面的回答不好，请换一个更好的。",
)
WORSE = ("请给出一个更差的回答。", "刚才的回答很好，现在给一个差一些的。", "请换一个不如它的回答。")


@checked
class HindsightConfig:
    """Options of `hanllama data hindsight`."""

    inputs: tuple[str, ...] = option(help="files or folders of preferences", positional=True)
    output: str = option(help="the folder to write")
    order: Literal["both", "better", "worse"] = option(
        "both", help="each ranking as it gets better, as it gets worse, or both"
    )
    seed: int = option(0, help="which wording is used where")
    max_quarantine_share: Share = option(0.05, help="share of records that may be unusable")
    force: bool = option(False, help="replace the output")


def hindsight(config: HindsightConfig) -> int:
    """The command; returns how many conversations were written.

    Raises InputError when the output exists or too much of the input cannot be used.
    """
    reader = PreferenceReader(config.inputs)
    with (
        making(config.output, config.inputs, force=config.force) as made,
        made.publish() as folder,
    ):
        with (
            Progress("hindsight", reader.size / 1e6, "MB") as progress,
            open(folder / "part-00000.jsonl", "w", encoding="utf-8", newline="\n") as out,
        ):
            count = done = 0
            for ranking in reader.ranked():
                for conversation in conversations(ranking, config.order, config.seed):
                    out.write(json.dumps(conversation.record(), ensure_ascii=False) + "\n")
                    count += 1
                progress.advance((reader.done - done) / 1e6, conversations=count)
                done = reader.done
            progress.advance((reader.done - done) / 1e6)  # the last file ends after its last record
        reader.check(config.max_quarantine_share)
        reader.write_quarantine(folder)
        facts = {"conversations": count, "order": config.order, "seed": config.seed}
        fs.write_json(folder / "manifest.json", {**facts, "input": reader.facts()})
    print(reader.summary())
    print(f"{count:,} conversations in {config.output}; ask the trained model with: {GOOD[0]}")
    return count


def conversations(ranking: Ranked, order: str, seed: int) -> Iterator[Conversation]:
    """A ranking as the conversations of hindsight, each direction that `order` names."""
    asked = prompt_hash(ranking.prompt).hex()
    for direction in ("better", "worse"):
        if order in ("both", direction):
            draw = random.Random(f"hindsight {seed} {direction} {ranking.id}")
            climbing = direction == "better"
            answers = ranking.answers[::-1] if climbing else ranking.answers
            first, then = (BAD, BETTER) if climbing else (GOOD, WORSE)
            messages = _chain(ranking.prompt, answers, draw.choice(first), then, draw)
            name = f"{ranking.id}#{direction}"
            yield Conversation(messages, name, ranking.source, made_from=asked)


def _chain(
    prompt: Sequence[Message],
    answers: Sequence[str],
    first: str,
    then: Sequence[str],
    draw: random.Random,
) -> list[Message]:
    *before, question = prompt
    messages = [*before, {**question, "content": f"{question['content']}\n{first}"}]
    for number, answer in enumerate(answers):
        if number:
            messages.append(user(draw.choice(then)))
        messages.append(assistant(answer))
    return messages
