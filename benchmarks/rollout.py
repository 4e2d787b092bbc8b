"""PPO's rollout beside transformers' `generate`: one batch of answers of uneven length.

Both sides hold the same random weights, in this process, and sample from the whole distribution at
temperature 1. A model of random weights ends no answer, so the length of each is drawn beforehand
(uniform between `--shortest` and `--longest`) and forced on both: ours by `stop`, theirs by a
stopping criterion that ends single rows, after which transformers goes on padding them until the
longest is done, as it does with EOS. Prompts have uneven lengths too and are padded on the left.
Counted are useful tokens: those of the answers, without what is padded. Ours is what `roll_out`
runs on a model that is being trained: `decode` in the plain layout, finished rows leaving.

`--clock cpu` counts processor seconds, which others on the machine do not change (give it one
thread: waiting threads spin).

    python benchmarks/rollout.py [--rounds 5] [--threads 2] [--preset tiny-llama2-24m]
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch
import transformers

from hanllama.model.decode import decode
from hanllama.model.llama import Llama
from hanllama.model.presets import preset
from hanllama.model.sampling import Sampling


def main() -> None:
    """Measure and print one row of a markdown table."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    transformers.utils.logging.set_verbosity_error()
    config = preset(arguments.preset, tie_word_embeddings=True)
    ours = Llama(config, torch.Generator().manual_seed(0)).eval()
    values = {k: v for k, v in config.to_hf().items() if k != "architectures"}
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**values)).eval()
    theirs.load_state_dict({**ours.state_dict(), "lm_head.weight": ours.output_weight()})
    theirs.tie_weights()
    draw = random.Random(0)
    lengths = [draw.randint(arguments.shortest, arguments.longest) for _ in range(arguments.batch)]
    prompts = [
        [draw.randrange(5, config.vocab_size) for _ in range(draw.randint(8, 48))] for _ in lengths
    ]
    sampling = Sampling(arguments.longest, temperature=1.0, top_k=0, top_p=1.0)

    def run_ours() -> list[int]:
        written = [0] * len(lengths)

        def ended(row: int, token: int) -> bool:
            written[row] += 1
            return written[row] == lengths[row]

        for _ in decode(ours, prompts, sampling, eos_ids=[], stop=ended):
            pass
        return written

    run_theirs = _theirs(theirs, prompts, lengths)
    for run in (run_ours, run_theirs):  # the warm-up, too
        if run() != lengths:
            raise SystemExit("a side did not write the lengths that were asked for")
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for round_number in range(arguments.rounds):
        sides = [("ours", run_ours), ("theirs", run_theirs)]
        for name, run in sides if round_number % 2 else reversed(sides):
            begin = clock()
            run()
            seconds[name].append(clock() - begin)
    rate = {name: sum(lengths) / statistics.median(times) for name, times in seconds.items()}
    ratios = sorted(b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True))
    cells = [
        arguments.preset,
        f"{arguments.threads}, {arguments.clock}",
        str(arguments.rounds),
        f"{len(lengths)} of {min(lengths)}-{max(lengths)}",
        f"{rate['theirs']:.0f}",
        f"{rate['ours']:.0f}",
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})",
    ]
    print("| model | threads, clock | rounds | answers | transformers tok/s | ours | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(f"| {' | '.join(cells)} |")


def _theirs(
    model: transformers.LlamaForCausalLM, prompts: list[list[int]], lengths: list[int]
) -> Callable[[], list[int]]:
    width = max(len(p) for p in prompts)
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    ends = torch.tensor(lengths) + width

    class Ended(transformers.StoppingCriteria):
        eos_token_id = None  # having it makes transformers pad rows that ended

        def __call__(self, input_ids: torch.Tensor, scores: object, **_: object) -> torch.Tensor:
            return input_ids.shape[1] >= ends

    def run() -> list[int]:
        out: torch.Tensor = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=max(lengths),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            eos_token_id=None,
            pad_token_id=0,
            stopping_criteria=transformers.StoppingCriteriaList([Ended()]),
        )
        assert out.shape[1] == width + max(lengths)
        rows = zip(out, ends.tolist(), lengths, strict=True)
        return [n if not row[end:].any() else max(lengths) for row, end, n in rows]

    return run


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="rollouts beside transformers' generate")
    parser.add_argument("--preset", default="tiny-llama2-24m")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16, help="answers written together")
    parser.add_argument("--shortest", type=int, default=16, help="tokens of the shortest answer")
    parser.add_argument("--longest", type=int, default=256, help="tokens of the longest answer")
    return parser.parse_args()


if __name__ == "__main__":
    main()
