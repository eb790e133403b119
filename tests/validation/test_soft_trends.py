"""Soft trends: every number is there, and cheap ones say what their setups give."""

from __future__ import annotations

import json
import math

import pytest

from agentserve_gym.validation.findings import Findings
from agentserve_gym.validation.page import page
from agentserve_gym.validation.trends import SOFT_TRENDS
from agentserve_gym.validation.trends.setup import Agents, either, exponential, lognormal
from agentserve_gym.validation.trends.trend import Trend

PUBLISHED = (
    "C3 C5 C7 C8 C9 C12 C13 C16 C17 C19 C24 C25 C26 C27 C28 C30 C34 C36 C37 R1 R2 R3 R4 R5 R6 R7"
)


def test_every_soft_statement_is_measured() -> None:
    assert list(SOFT_TRENDS) == PUBLISHED.split()


@pytest.mark.no_cover
@pytest.mark.whole_cluster
@pytest.mark.parametrize(
    "number", ["C16", "C17", "C19", "C24", "C25", "C26", "C37", "R4", "R5", "R7"]
)
def test_cheap_trends_are_complete(number: str) -> None:
    trend = SOFT_TRENDS[number]()
    assert trend.number == number
    assert all(math.isfinite(value) for value in trend.values.values())
    json.dumps(trend.as_dict(), allow_nan=False)
    for text in (trend.statement, trend.source, trend.setup, trend.band, trend.measured):
        assert text


def test_loading_gains_more_the_longer_the_prompt() -> None:
    ratios = list(SOFT_TRENDS["C24"]().values.values())
    assert ratios == sorted(ratios)
    assert ratios[0] > 1.5


def test_a_miss_is_shown_as_one() -> None:
    miss = Trend("C0", "water | runs uphill", "nobody", "a hill", "up", "down", False)
    text = page(Findings(trends=[miss]), "agentserve validate --trends")
    assert "| C0 | water / runs uphill (nobody) | a hill | up | down | **no** |" in text


def test_agents_are_drawn_from_the_seed_alone() -> None:
    agents = Agents(3, 1.0, gap_s=exponential(2.0), first_tokens=lognormal(100, 0.5), seed=7)
    assert agents.build() == agents.build()
    other = Agents(3, 1.0, gap_s=exponential(2.0), first_tokens=lognormal(100, 0.5), seed=8)
    assert agents.build() != other.build()


def test_reuse_keeps_the_prompts_length() -> None:
    (program,) = Agents(1, first_tokens=lambda _: 1000, reuse=0.25).build()
    first, *later = program["turns"]
    assert first["new_input_tokens"] == 1000
    for turn in later:
        assert (turn["reset_to_tokens"], turn["new_input_tokens"]) == (250, 750)


def test_slow_gaps_are_another_tools() -> None:
    gaps = either(lambda _: 1.0, lambda _: 30.0, 0.5)
    (program,) = Agents(1, gap_s=gaps, slow_tool_s=10.0).build()
    calls = [call for turn in program["turns"][:-1] for call in turn["tools"]]
    assert {(call["kind"], call["duration_s"]) for call in calls} == {("fast", 1.0), ("slow", 30.0)}
    assert "tools" not in program["turns"][-1]
