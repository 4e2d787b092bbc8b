"""What goes wrong in reinforcement learning without any error: said once, when it begins.

- Every answer gets the same reward: nothing can be learnt from it.
- KL running away: the policy has left the region where the reward means something.
- Entropy collapse: the policy writes one answer, and explores no more.
- Growing length: the oldest way to please a reward model (Singhal et al. 2023).
"""

from __future__ import annotations

from collections.abc import Mapping

from hanllama.train.rl_config import AlarmConfig

# Rewards of answers that differ do not agree by chance to this.
_SAME_REWARD = 1e-6


def found(
    figures: Mapping[str, float], first: Mapping[str, float], config: AlarmConfig
) -> dict[str, str]:
    """What is wrong with an experience: kind -> sentence.

    Args:
        figures: of this experience (`experience.py`).
        first: of the run's first one.
    """
    alarms = {}
    if figures["reward_std"] < _SAME_REWARD:
        alarms["reward"] = (
            f"every answer got the reward {figures['reward']:.4g}: nothing can be learnt from it;"
            " check the rewards on a few answers"
        )
    elif figures.get("groups_without_signal", 0.0) == 1:
        alarms["reward"] = (
            "in every group all answers got the same reward: nothing can be learnt from it; raise"
            " rollout.temperature or group_size, or check the rewards"
        )
    if figures.get("kl", 0.0) > config.kl:
        alarms["kl"] = (
            f"the KL to the reference is {figures['kl']:.1f} nats an answer, above alarm.kl"
            f" {config.kl:g}: raise kl_coefficient or lower optim.learning_rate"
        )
    if figures["entropy"] < config.entropy * first["entropy"]:
        alarms["entropy"] = (
            f"the entropy fell to {figures['entropy']:.3g} nats a token, from"
            f" {first['entropy']:.3g}: the policy hardly explores; lower optim.learning_rate or"
            " raise kl_coefficient"
        )
    if figures["answer_tokens"] > config.length * first["answer_tokens"]:
        alarms["length"] = (
            f"answers grew to {figures['answer_tokens']:.0f} tokens, from"
            f" {first['answer_tokens']:.0f}: see whether the reward is for length; the rule"
            " `length` or reward.missing_end_penalty holds them"
        )
    return alarms
