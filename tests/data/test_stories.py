"""The demo stories keep their promises: what is written is accepted, what is spoiled is not."""

from hanllama.data.stories import check, stories


def test_every_story_is_accepted_with_its_own_plot_and_facts() -> None:
    for made in stories(2000, seed=1):
        verdict = check(made.text)
        assert verdict.ok, verdict.reason
        assert (verdict.plot, verdict.facts) == (made.plot, made.facts), made.text
