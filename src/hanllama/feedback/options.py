"""How a model behind an address is asked, as options: shared by every command that asks one."""

from __future__ import annotations

from hanllama.base.config import Count, Natural, NonNegative, Positive, checked, option
from hanllama.base.errors import ConfigError

MOST_AT_A_TIME = 16


@checked
class AskConfig:
    """Options of asking an OpenAI-compatible endpoint."""

    api_key_variable: str = option(
        "HANLLAMA_API_KEY",
        help="the environment variable that holds the key; not set: no key is sent",
    )
    concurrency: int = option(
        4, ge=1, le=MOST_AT_A_TIME, help=f"requests under way at a time, {MOST_AT_A_TIME} at most"
    )
    timeout: Positive = option(120.0, help="seconds that one answer may take")
    retries: Natural = option(6, help="more tries of a request after 429, 5xx or a broken answer")
    max_tokens: Count = option(2048, help="tokens of one answer at most")
    temperature: float = option(1.0, help="of the model that is asked")
    top_p: float = option(1.0, help="of the model that is asked")
    token_cap: Natural = option(
        0, help="ask no more when prompts and answers could exceed this many tokens; 0: no cap"
    )
    cost_cap: NonNegative = option(
        0.0, help="ask no more when the cost could exceed this, in the prices' currency; 0: no cap"
    )
    price_prompt: NonNegative = option(0.0, help="price of a million tokens of prompts")
    price_answer: NonNegative = option(0.0, help="price of a million tokens of answers")

    def __post_init__(self) -> None:
        if self.cost_cap and not (self.price_prompt or self.price_answer):
            raise ConfigError("cost_cap needs prices: give price_prompt and price_answer")

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float:
        """What so many tokens cost, in the currency of the prices."""
        return (prompt_tokens * self.price_prompt + answer_tokens * self.price_answer) / 1e6


@checked
class JudgeConfig(AskConfig):
    """The same of a judge: a few words, and always the same ones."""

    max_tokens: int = option(512, help="tokens of one answer at most")
    temperature: float = option(0.0, help="of the model that is asked")


# What a finished or begun work may be gone on with under other values: they change no answer.
MAY_CHANGE = frozenset(
    f"ask.{name}"
    for name in (
        *("api_key_variable", "concurrency", "timeout", "retries"),
        *("token_cap", "cost_cap", "price_prompt", "price_answer"),
    )
)
