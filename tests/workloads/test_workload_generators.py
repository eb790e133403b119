"""Generated programs: invariants for any setting, tools, compaction, prefixes, sub-agents."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentserve_gym.workloads import (
    AGENT_CLASSES,
    GeneratedWorkload,
    PoissonArrivals,
    Program,
    build_workload,
    validate_program,
)
from agentserve_gym.workloads.generators import load_parameters
from agentserve_gym.workloads.generators.chain import ToolChain
from agentserve_gym.workloads.generators.quantiles import QuantileTable

EXPLORE = ("file_read", "search", "bash:read_search", "bash:git")
EXECUTE = ("bash:test", "bash:script", "bash:install_build")


def draw(agent_class: str, count: int, seed: int = 0, **options: Any) -> list[Program]:
    spec = GeneratedWorkload(mix={agent_class: 1.0}, programs=count, **options)
    workload = build_workload(spec, PoissonArrivals(rate_per_s=1.0), seed)
    return [workload.program(index) for index in range(count)]


def with_children(program: Program) -> list[Program]:
    children = [child for turn in program.turns for child in turn.children]
    return [program, *(p for child in children for p in with_children(child))]


# --------------------------------------------------------------------------------------- invariants


@settings(max_examples=60, deadline=None)
@given(
    agent_class=st.sampled_from(AGENT_CLASSES),
    seed=st.integers(0, 2**63),
    index=st.integers(0, 10**9 - 1),
    window=st.one_of(st.none(), st.integers(45_000, 300_000)),
    max_turns=st.one_of(st.none(), st.integers(1, 40)),
    timeout=st.floats(0.01, 600),
    host=st.floats(0.1, 10),
    gap_scale=st.floats(0, 3),
    token_scale=st.floats(0.01, 1.6),
)
def test_every_program_is_valid_and_within_its_limits(
    agent_class: str,
    seed: int,
    index: int,
    window: int | None,
    max_turns: int | None,
    timeout: float,
    host: float,
    gap_scale: float,
    token_scale: float,
) -> None:
    spec = GeneratedWorkload(
        mix={agent_class: 1.0},
        programs=index + 1,
        max_context_tokens=window,
        max_turns=max_turns,
        tool_timeout_s=timeout,
        host_factor=host,
        gap_scale=gap_scale,
        token_scale=token_scale,
    )
    workload = build_workload(spec, PoissonArrivals(rate_per_s=1.0), seed)
    root = workload.program(index)
    assert root == workload.program(index)
    for program in with_children(root):
        validate_program(program)
        assert window is None or program.peak_context_tokens <= window
        assert max_turns is None or len(program.turns) <= max_turns
        for turn in program.turns:
            for tool in turn.tools:
                assert tool.duration_s <= timeout * gap_scale * (1 + 1e-12)
            if turn.tools:
                assert turn.gap_s == max(tool.duration_s for tool in turn.tools)


@pytest.mark.parametrize("agent_class", AGENT_CLASSES)
def test_new_input_is_what_is_not_reused(agent_class: str) -> None:
    for program in draw(agent_class, 30):
        for before, after in pairwise(program.turns):
            chain = before.input_tokens + before.output_tokens
            if after.reuse_tokens == before.input_tokens:  # old thinking dropped, the rest kept
                assert after.new_input_tokens == 0
                assert before.input_tokens < after.input_tokens <= chain
            else:  # the chain grows, or is compacted to the shared prefix and a summary
                assert after.reuse_tokens in (chain, program.shared_prefix_tokens)
                assert after.new_input_tokens == after.input_tokens - after.reuse_tokens


@pytest.mark.parametrize("agent_class", AGENT_CLASSES)
def test_tools_and_users_fill_the_gaps(agent_class: str) -> None:
    programs = draw(agent_class, 300, sub_agents=False)
    gaps = [turn for p in programs for turn in p.turns[:-1]]
    users = np.mean([turn.gap_kind == "user" for turn in gaps])
    assert users == pytest.approx(load_parameters(agent_class).p_user, abs=0.02)
    for turn in gaps:
        assert bool(turn.tools) == (turn.gap_kind == "tool")


# ------------------------------------------------------------------------------------ settings


def test_settings_change_only_what_they_say() -> None:
    plain = draw("coding_auto", 50)
    slow = draw("coding_auto", 50, host_factor=2.0, tool_timeout_s=600.0)
    for a, b in zip(plain, slow, strict=True):
        assert [t.input_tokens for t in a.turns] == [t.input_tokens for t in b.turns]
        for s, t in zip(a.turns, b.turns, strict=True):
            for x, y in zip(s.tools, t.tools, strict=True):
                assert x.duration_s == pytest.approx(min(120.0, y.duration_s / 2))
    alone = draw("coding_auto", 50, sub_agents=False)
    for a, b in zip(plain, alone, strict=True):
        assert [t.input_tokens for t in a.turns] == [t.input_tokens for t in b.turns]


def test_gaps_scale_and_tokens_scale() -> None:
    plain = draw("function_calling", 40)
    scaled = draw("function_calling", 40, gap_scale=0.25, token_scale=1.5)
    for a, b in zip(plain, scaled, strict=True):
        for s, t in zip(a.turns, b.turns, strict=True):
            assert t.gap_s == pytest.approx(s.gap_s * 0.25)
            assert t.output_tokens == pytest.approx(1.5 * s.output_tokens, abs=1.0)


def test_people_wait_longer_than_a_simulated_user() -> None:
    def median(**options: Any) -> float:
        programs = draw("function_calling", 200, **options)
        gaps = [t.gap_s for p in programs for t in p.turns if t.gap_kind == "user"]
        return float(np.median(gaps))

    assert median() == pytest.approx(130.0, rel=0.2)  # measured: p50 121 to 130 s
    assert median(user_gaps="simulated") == pytest.approx(1.0, rel=0.2)
    assert median(max_user_gap_s=10.0) == 10.0


def test_a_window_below_the_shared_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_context_tokens is 9000; class 'web_research' needs"):
        draw("web_research", 1, max_context_tokens=9000)


def test_mixes_have_their_weights() -> None:
    spec = GeneratedWorkload(mix={"function_calling": 3, "web_research": 1}, programs=2000)
    workload = build_workload(spec, PoissonArrivals(rate_per_s=1), 0)
    count = Counter(workload.program(i).agent_class for i in range(2000))
    assert count["function_calling"] / 2000 == pytest.approx(0.75, abs=0.03)


# ---------------------------------------------------------------------------------------- tools


@pytest.mark.parametrize("agent_class", ["coding_auto", "coding_auto_gpu_host"])
def test_the_tool_chain_keeps_shares_transitions_and_phases(agent_class: str) -> None:
    """Published: shares by kind; search -> read .45-.50, edit -> test or script .39-.46, test ->
    test .36-.39; exploring .59-.64 -> .34-.38 and executing .12-.18 -> .40-.42 by quarter."""
    chain = load_parameters(agent_class).chain
    rng = np.random.default_rng(0)
    counts: Counter[str] = Counter()
    follows: Counter[tuple[str, str]] = Counter()
    quarters = [Counter[str]() for _ in range(4)]
    for _ in range(600):
        kinds = [chain.kinds[k] for k in chain.walk(rng.random(80).tolist())]
        counts.update(kinds)
        follows.update(pairwise(kinds))
        for step, kind in enumerate(kinds):
            quarters[step // 20][kind] += 1
    shares = {kind: n / counts.total() for kind, n in counts.items()}
    base = np.mean(chain.phase_shares, axis=0)
    for kind, share in zip(chain.kinds, base, strict=True):
        assert shares.get(kind, 0.0) == pytest.approx(share, abs=0.01)

    def after(kind: str, *following: str) -> float:
        total = sum(n for (a, _), n in follows.items() if a == kind)
        return sum(follows[kind, b] for b in following) / total

    assert 0.44 < after("search", "file_read") < 0.51
    assert 0.38 < after("file_edit", "bash:test", "bash:script") < 0.47
    assert 0.35 < after("bash:test", "bash:test") < 0.40
    explore = [sum(q[k] for k in EXPLORE) / q.total() for q in quarters]
    execute = [sum(q[k] for k in EXECUTE) / q.total() for q in quarters]
    assert 0.57 < explore[0] < 0.66
    assert 0.33 < explore[3] < 0.39
    assert 0.10 < execute[0] < 0.19
    assert 0.39 < execute[3] < 0.44


@pytest.mark.parametrize(
    ("kind", "p50", "p90"),
    [
        # Published for the Claude host (all rows): seconds.
        ("file_read", 0.030, 0.171),
        ("file_edit", 0.037, 0.075),
        ("bash:script", 0.84, 1.65),
        ("bash:test", 1.51, 9.3),
        ("bash:install_build", 1.70, 6.3),
        ("bash:git", 0.121, 0.848),
    ],
)
def test_tool_durations_have_the_published_quantiles(kind: str, p50: float, p90: float) -> None:
    programs = draw("coding_auto", 700, sub_agents=False)
    seconds = [x.duration_s for p in programs for t in p.turns for x in t.tools if x.kind == kind]
    assert np.percentile(seconds, 50) == pytest.approx(p50, rel=0.25)
    assert np.percentile(seconds, 90) == pytest.approx(p90, rel=0.45)


def test_tests_run_into_the_timeout_now_and_then() -> None:
    programs = draw("coding_auto", 700)
    seconds = [
        x.duration_s for p in programs for t in p.turns for x in t.tools if x.kind == "bash:test"
    ]
    at_timeout = np.mean(np.array(seconds) == 120.0)
    assert 0.002 < at_timeout < 0.03  # published: p99 is the timeout
    assert max(seconds) == 120.0


def test_durations_of_a_program_go_together() -> None:
    """Published: program identity explains 16 to 27 % of the residual log duration."""
    programs = draw("coding_auto", 500, sub_agents=False)
    groups = [
        np.log([x.duration_s for t in p.turns for x in t.tools if x.kind == "bash:script"])
        for p in programs
    ]
    groups = [g for g in groups if len(g) > 1]
    pooled = np.concatenate(groups)
    within = sum(((g - g.mean()) ** 2).sum() for g in groups) / (len(pooled) - len(groups))
    between = 1 - within / pooled.var()
    assert 0.10 < between < 0.30


def test_a_chain_without_published_structure_draws_independently() -> None:
    chain = ToolChain({"a": 3.0, "b": 1.0})
    for matrix in chain.matrices:
        np.testing.assert_allclose(matrix, [[0.75, 0.25], [0.75, 0.25]])


def test_chain_rows_are_probabilities() -> None:
    for name in AGENT_CLASSES:
        for matrix in load_parameters(name).chain.matrices:
            assert (matrix >= 0).all()
            np.testing.assert_allclose(matrix.sum(axis=1), 1.0)


# --------------------------------------------------------------------- context, prefixes, children


def test_compaction_keeps_the_context_in_bounds() -> None:
    long = [p for p in draw("coding_interactive", 400, sub_agents=False) if len(p.turns) > 150]
    resets = []
    for program in long:
        for before, after in pairwise(program.turns):
            if after.reuse_tokens == program.shared_prefix_tokens:
                resets.append((before.input_tokens + before.output_tokens, after.input_tokens))
    assert len(resets) > 50
    assert min(before for before, _ in resets) > 160_000
    assert all(30_000 <= after <= 60_000 for _, after in resets)


def test_a_window_lowers_the_compaction() -> None:
    for program in draw("coding_interactive", 100, max_context_tokens=100_000):
        assert program.peak_context_tokens <= 100_000
    longest = max(draw("coding_interactive", 100, max_context_tokens=100_000), key=_turns)
    assert any(
        after.input_tokens < before.input_tokens for before, after in pairwise(longest.turns)
    )


def _turns(program: Program) -> int:
    return len(program.turns)


def test_prefixes_have_two_levels_shared_by_group() -> None:
    """Published: tool definitions mean 10.5k in about 83 groups, the largest 12.2 % and the ten
    largest 46 % of sessions; system prompts are nearly private; 14.4k together."""
    programs = draw("coding_interactive", 2000, max_turns=1)
    tools = Counter(p.prefix[0].key for p in programs)
    systems = Counter(p.prefix[1].key for p in programs)
    assert len(tools) == 83
    top = [n / 2000 for _, n in tools.most_common(10)]
    assert top[0] == pytest.approx(0.122, abs=0.03)
    assert sum(top) == pytest.approx(0.46, abs=0.06)
    assert np.mean([p.prefix[0].tokens for p in programs]) == pytest.approx(10_500, rel=0.15)
    assert np.mean([p.shared_prefix_tokens for p in programs]) == pytest.approx(14_400, rel=0.1)
    assert len(systems) > 1000
    sizes: dict[str, set[int]] = {}
    for program in programs:
        for segment in program.prefix:
            sizes.setdefault(segment.key, set()).add(segment.tokens)
        assert program.prefix[1].key.startswith(program.prefix[0].key + "/")
    assert all(len(size) == 1 for size in sizes.values())


def test_sub_agents_are_children_of_tool_gaps() -> None:
    """Published: 9.4 side branches per 1,000 turns, and 63 sub-agents in 44,420 turns."""
    programs = draw("coding_interactive", 300)
    children = [
        (program, turn, child)
        for program in programs
        for turn in program.turns
        for child in turn.children
    ]
    turns = sum(len(p.turns) for p in programs)
    assert len(children) / turns == pytest.approx(0.0104 * (1 - 0.1235), rel=0.25)
    for program, turn, child in children:
        assert turn.gap_kind == "tool"
        assert child.arrival_s == 0.0
        assert child.labels == ("sub_agent",)
        assert not any(t.children for t in child.turns)
        if child.program_id.endswith("-branch"):
            assert child.prefix == program.prefix
    lengths = [len(c.turns) for _, _, c in children]
    assert np.median(lengths) == pytest.approx(10, abs=3)


def test_a_sub_agent_tool_is_replaced_by_its_program() -> None:
    simulated = [t for p in draw("coding_auto", 300) for t in p.turns]
    drawn = [t for p in draw("coding_auto", 300, sub_agents=False) for t in p.turns]
    assert not any(x.kind == "subagent" for t in simulated for x in t.tools)
    spawned = [t for t in simulated if t.children]
    assert len(spawned) == sum(any(x.kind == "subagent" for x in t.tools) for t in drawn) > 0
    assert all((t.gap_s, t.tools) == (0.0, ()) for t in spawned)


# ------------------------------------------------------------------------------------ distributions


@pytest.mark.parametrize(
    ("parameters", "mean", "median"),
    [
        ({"family": "gamma", "shape": 2.0, "scale": 3.0}, 6.0, 5.035),
        (
            {"family": "lognormal_mixture", "w": [1.0], "mu": [1.0], "sigma": [0.5]},
            np.exp(1.125),
            np.e,
        ),
        ({"family": "constant", "value": 7.0}, 7.0, 7.0),
    ],
)
def test_quantile_tables(parameters: dict[str, Any], mean: float, median: float) -> None:
    table = QuantileTable.from_parameters(parameters)
    assert table.at(0.0) == pytest.approx(median, rel=1e-3)
    assert table.mean == pytest.approx(mean, rel=2e-3)
    draws = table(np.random.default_rng(0).standard_normal(200_000))
    assert draws.mean() == pytest.approx(mean, rel=0.01)


def test_a_cap_truncates_instead_of_piling_up() -> None:
    capped = {"family": "lognormal_mixture", "w": [1.0], "mu": [0.0], "sigma": [2.0], "cap": 5.0}
    draws = QuantileTable.from_parameters(capped)(np.random.default_rng(0).standard_normal(50_000))
    assert draws.max() <= 5.0
    assert (draws > 4.99).mean() < 0.002


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(ValueError, match="family is 'pareto'; allowed: lognormal_mixture, gamma"):
        QuantileTable.from_parameters({"family": "pareto"})


# ---------------------------------------------------------------------------------------- swe_bench


def test_swe_bench_has_the_published_moments() -> None:
    """AgentServeSim: 41.9 +- 14.9 turns, tools of 1.161 +- 4.125 s, 356k tokens, reuse .95."""
    programs = draw("swe_bench", 1500)
    turns = np.array([len(program.turns) for program in programs])
    assert turns.mean() == pytest.approx(41.9, rel=0.03)
    assert turns.std() == pytest.approx(14.9, rel=0.06)
    tokens = np.array([sum(turn.input_tokens for turn in p.turns) for p in programs])
    new = np.array([sum(turn.new_input_tokens for turn in p.turns) for p in programs])
    assert tokens.mean() == pytest.approx(356_000, rel=0.05)
    assert float(np.median(1 - new / tokens)) == pytest.approx(0.96, abs=0.015)
    gaps_s = np.array([turn.gap_s for program in programs for turn in program.turns[:-1]])
    assert gaps_s.mean() == pytest.approx(1.161, rel=0.05)
    assert gaps_s.std() == pytest.approx(4.125, rel=0.15)
    assert float(np.median(gaps_s)) == pytest.approx(1.0, abs=0.15)
    assert {program.shared_prefix_tokens for program in programs} == {1_500}
