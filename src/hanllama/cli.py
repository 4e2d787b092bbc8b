"""The command line: each verb is a config dataclass and a function that takes it.

Heavy modules are imported only after a command and its options were read: `hanllama --help` and
`hanllama pretrain --help` import no torch.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import sys
from dataclasses import dataclass
from typing import Any

from hanllama import __version__
from hanllama.base.errors import HanllamaError, Interrupted
from hanllama.reading.encoding import READABLE


@dataclass(frozen=True)
class Command:
    """The config class and the function of a verb, as `module:name`."""

    config: str
    function: str
    summary: str


# The verb, its config class and its function (both below `hanllama`), then the verb's summary.
_VERBS = """
run pipeline:RunConfig pipeline:run
    run a recipe: a whole pipeline, each stage only if something changed
corpus stories stories.commands:StoriesConfig stories.commands:stories
    generate a corpus of simple Chinese children's stories
corpus words stories.commands:WordsConfig stories.commands:words
    write the words of the stories, for a tokenizer that keeps them apart
corpus instructions stories.commands:InstructionsConfig stories.commands:instructions
    write instructions about stories with their answers, for a chat model
corpus obeyed evaluate.story_options:ObeyedConfig evaluate.story_obeyed:obeyed
    measure how often chat models obey held-out instructions about stories
corpus check stories.commands:CheckConfig stories.commands:check
    check samples against the grammar of the stories
data fetch corpus.fetch.fetch:FetchConfig corpus.fetch.fetch:fetch
    download a named public data set, checked and in hanllama's form
data self-instruct feedback.self_instruct:SelfInstructConfig feedback.self_instruct:self_instruct
    let a teacher at an endpoint write new tasks from seed tasks
data grade feedback.grade:GradeConfig feedback.grade:grade
    grade how hard conversations are, for the curriculum of sft
data best-of-n feedback.best_of_n:BestOfNConfig feedback.best_of_n:best_of_n
    choose the best of several answers, as data for sft and preference pairs
data rank feedback.rank:RankConfig feedback.rank:rank
    let a judge at an endpoint compare answers: AI feedback as preference pairs
data hindsight feedback.hindsight:HindsightConfig feedback.hindsight:hindsight
    turn preferences into conversations with feedback in words (chain of hindsight)
clean corpus.clean:CleanConfig corpus.clean:clean
    clean text files of any encoding into a corpus
data view corpus.view:ViewConfig corpus.view:view
    look at a corpus document by document, and at removed documents
dedup corpus.dedup.options:DedupConfig corpus.dedup.dedup:dedup
    remove exact copies, near duplicates and contained works from corpora
quality lm corpus.quality.options:LmConfig corpus.quality.commands:lm
    fit a character language model on good text, for the rule perplexity
quality classifier corpus.quality.options:ClassifierConfig corpus.quality.commands:fit_classifier
    fit a classifier on good and bad text, for the rule quality_classifier
quality score corpus.quality.options:ScoreConfig corpus.quality.score:score
    show how a corpus scores under a model of quality
decontaminate corpus.decontaminate.options:DecontaminateConfig corpus.decontaminate.decontaminate:decontaminate
    find the questions of evaluation sets in a corpus, and remove them
tokenizer train tokenizer.train:TokenizerTrainConfig tokenizer.train:train
    train a tokenizer on a corpus
tokenizer extend tokenizer.extend:TokenizerExtendConfig tokenizer.extend:extend
    add pieces to an existing vocabulary, and audit the result
tokenizer compare tokenizer.compare:TokenizerCompareConfig tokenizer.compare:compare
    measure several vocabularies on the same text
tokenizer view tokenizer.view:TokenizerViewConfig tokenizer.view:view
    look at a vocabulary, and at how a sentence is cut
tokenizer import tokenizer.import_:TokenizerImportConfig tokenizer.import_:take_over
    import a published tokenizer: SentencePiece, tokenizer.json or tiktoken
tokenize batches.tokenize:TokenizeConfig batches.tokenize:tokenize
    turn a corpus into token shards, with a held-out split
pretrain train.config:PretrainConfig train.pretrain:pretrain
    train a model from scratch, or continue an existing one
sft train.sft.config:SftConfig train.sft.sft:sft
    fine-tune a model on conversations, all weights or by LoRA
reward train.preferences.config:RewardConfig train.preferences.reward:reward
    train a reward model on which of two answers was preferred
dpo train.preferences.config:DpoConfig train.preferences.dpo:dpo
    teach a chat model preferences: DPO, IPO, KTO, ORPO, SimPO
ppo train.rl.config:PpoConfig train.rl.ppo:ppo
    reinforcement learning with a value model, a reward model and rule rewards
grpo train.rl.config:GrpoConfig train.rl.grpo:grpo
    reinforcement learning from groups of answers, without a value model
generate model.sampling:GenerateConfig model.generate:generate
    write text with a model
model merge model.merge:MergeConfig model.merge:merge
    merge an adapter into its base: a plain model folder
chat chat.options:ChatConfig chat.chat:chat
    talk with a model on the terminal
info model.info:InfoConfig model.info:info
    describe a model folder: parameters, context, vocabulary, lineage, memory
plan plan.options:PlanConfig plan.plan:plan
    parameters, steps, memory, hours and cost of a training before it runs
"""  # noqa: E501 (a row is a row)


def _commands() -> dict[str, Command]:
    lines = _VERBS.strip().split("\n")
    rows = (line.rsplit(" ", 2) for line in lines[::2])
    return {
        verb: Command(f"hanllama.{config}", f"hanllama.{function}", summary.strip())
        for (verb, config, function), summary in zip(rows, lines[1::2], strict=True)
    }


COMMANDS = _commands()


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code is 0, 2 for a user's error, 130 or 143 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    if debug:
        words.remove("--debug")
    for stream in (sys.stdout, sys.stderr):
        # A console or a pipe in GBK, as on a Chinese Windows, cannot encode emoji or 𠮷: show
        # their code instead of failing. Names of files need not be UTF-8.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=READABLE)
    atexit.register(gc.freeze)  # skips a search for cycles in memory that ends with the process
    try:
        code = _unwrapped(words)
        sys.stdout.flush()  # raises BrokenPipeError here, where it is handled
        return code
    except HanllamaError as error:
        if debug:
            raise
        print(f"hanllama: error: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        where = f"; saved {stop.saved}" if stop.saved else ""
        then = "goes on from here" if stop.goes_on else "begins again"
        print(f"hanllama: stopped{where}; the same command {then}", file=sys.stderr)
        return 128 + stop.signal_number
    except KeyboardInterrupt:
        # Not every command saves unfinished work, and this line does not know which one ran.
        print(
            "hanllama: interrupted; the same command goes on from its saved work, or begins again"
            " if it saves none",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        # The reader (`head`, a pager) has closed the pipe; end quietly as other tools do.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _unwrapped(words: list[str]) -> int:
    """`_dispatch`, but a signal that compiled code wraps in a SystemError is raised itself."""
    try:
        return _dispatch(words)
    except SystemError as error:
        cause: BaseException | None = error
        while isinstance(cause, SystemError):
            cause = cause.__cause__
        if isinstance(cause, KeyboardInterrupt | Interrupted):
            raise cause from None
        raise


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(_overview())
        return 0
    if words[0] in ("--version", "-V"):
        print(f"hanllama {__version__}")
        return 0
    name, rest = _find(words)
    command = COMMANDS[name]
    # Imported only now, since msgspec would slow down the overview.
    from hanllama.base import config

    cls = resolve(command.config)
    if "--help" in rest or "-h" in rest:
        print(config.help_text(cls, f"hanllama {name}", command.summary), end="")
        return 0
    parsed = config.parse(cls, rest, f"hanllama {name}")
    resolve(command.function)(parsed)
    return 0


def _find(words: list[str]) -> tuple[str, list[str]]:
    """Split the command line into a known verb (one or two words) and its arguments."""
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return name, words[length:]
    from hanllama.base.plugins import nearest

    group = [name for name in COMMANDS if name.startswith(words[0] + " ")]
    if group:
        raise HanllamaError(f"hanllama {words[0]} needs a verb: {', '.join(group)}")
    raise HanllamaError(f"unknown command {words[0]!r}{nearest(words[0], list(COMMANDS))}")


def _overview() -> str:
    width = max(len(name) for name in COMMANDS)
    rows = "\n".join(f"  {name:<{width}}  {c.summary}" for name, c in COMMANDS.items())
    return (
        "usage: hanllama COMMAND [ARGUMENTS] [--config FILE] [--option value]\n\n"
        "From a folder of Chinese text to a Llama that runs anywhere.\n\n"
        f"commands:\n{rows}\n\n"
        "hanllama COMMAND --help shows a command's options."
    )


def resolve(location: str) -> Any:
    """The object that a command's `module:name` names."""
    module, _, name = location.partition(":")
    return getattr(importlib.import_module(module), name)


if __name__ == "__main__":
    sys.exit(main())
