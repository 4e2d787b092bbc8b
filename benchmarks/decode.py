"""Decoding speed beside transformers' `generate`: batch 1, greedy, one model, interleaved rounds.

Both sides hold the same random weights of the `tiny-llama2-58m` shape, in this process, and must
write the same tokens, or there is no result. Ours is what `hanllama generate` runs: `decode` after
`decoding_layout`. Rounds alternate and medians are compared, because the machine is noisy.

    python benchmarks/decode.py [--rounds 9] [--threads 2] [--preset tiny-llama2-58m]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import torch
import transformers

from hanllama.model.decode import decoding_layout, generate_tokens
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
    decoding_layout(ours)
    draw = torch.Generator().manual_seed(1)
    prompt = torch.randint(5, config.vocab_size, (1, arguments.prompt), generator=draw)
    sampling = Sampling(arguments.tokens, temperature=0)

    def run_ours() -> list[int]:
        return generate_tokens(ours, prompt.tolist(), sampling, eos_ids=[])[0]

    def run_theirs() -> list[int]:
        ids: torch.Tensor = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=arguments.tokens,
            min_new_tokens=arguments.tokens,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return ids[0, arguments.prompt :].tolist()

    if run_ours() != run_theirs():  # the warm-up of both, too
        sys.exit("the two sides write different tokens: nothing to compare")
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for round_number in range(arguments.rounds):
        sides = [("ours", run_ours), ("theirs", run_theirs)]
        for name, run in sides if round_number % 2 else reversed(sides):
            seconds[name].append(_timed(run))
    rate = {name: arguments.tokens / statistics.median(times) for name, times in seconds.items()}
    ratios = sorted(b / a for a, b in zip(seconds["ours"], seconds["theirs"], strict=True))
    print("| model | threads | rounds | transformers tok/s | hanllama tok/s | ratio (min-max) |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(
        f"| {arguments.preset} | {arguments.threads} | {arguments.rounds} | {rate['theirs']:.1f}"
        f" | {rate['ours']:.1f} | {statistics.median(ratios):.2f}"
        f" ({ratios[0]:.2f}-{ratios[-1]:.2f}) |"
    )


def _timed(run: Callable[[], list[int]]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="decoding beside transformers' generate")
    parser.add_argument("--preset", default="tiny-llama2-58m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prompt", type=int, default=32, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=96, help="tokens to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
