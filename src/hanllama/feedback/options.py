"""How a model behind an address is asked, as options: shared by every command that asks one."""

from __future__ import annotations

from dataclasses import dataclass

from hanllama.base.config import option
from hanllama.base.errors import ConfigError

MOST_AT_A_TIME = 16


@dataclass(frozen=True)
class AskConfig:
    """Options of asking an OpenAI-compatible endpoint."""

    api_key_variable: str = option(
        "HANLLAMA_API_KEY",
        help="the environment variable that holds the key; not set: no key is sent",
    )
    concurrency: int = option(4, help=f"requests under way at a time, {MOST_AT_A_TIME} at most")
    timeout: float = option(120.0, help="seconds that one answer may take")
    retries: int = option(6, help="further tries of a request after 429, 5xx or a broken answer")
    max_tokens: int = option(2048, help="tokens of one answer at most")
    temperature: float = option(1.0, help="of the model that is asked")
    top_p: float = option(1.0, help="of the model that is asked")
    token_cap: int = option(
        0, help="ask no more when prompts and answers could exceed this many tokens; 0: no cap"
    )
    cost_cap: float = option(
        0.0, help="ask no more when the cost could exceed this, in the prices' currency; 0: no cap"
    )
    price_prompt: float = option(0.0, help="price of a million tokens of prompts")
    price_answer: float = option(0.0, help="price of a million tokens of answers")

    def __post_init__(self) -> None:
        if not 1 <= self.concurrency <= MOST_AT_A_TIME:
            raise ConfigError(
                f"concurrency must be from 1 to {MOST_AT_A_TIME}, not {self.concurrency}"
            )
        for name in ("timeout", "max_tokens"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("retries", "token_cap", "cost_cap", "price_prompt", "price_answer"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be 0 or above, not {getattr(self, name)}")
        if self.cost_cap and not (self.price_prompt or self.price_answer):
            raise ConfigError("cost_cap needs prices: give price_prompt and price_answer")

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float:
        """What so many tokens cost, in the currency of the prices."""
        return (prompt_tokens * self.price_prompt + answer_tokens * self.price_answer) / 1e6


@dataclass(frozen=True)
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
