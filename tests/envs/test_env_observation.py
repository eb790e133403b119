"""Observations: layout, documentation, scales, values at known moments, and no knowledge of the
future."""

from __future__ import annotations

import copy
from itertools import pairwise
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_helpers import IDS, JOINT, OFFLOAD, base, crowded, play, random_chooser
from hypothesis import given
from hypothesis import strategies as st

from agentserve_gym.envs import AgentServeEnv, Feature, ObservationLayout, observation_table
from agentserve_gym.envs.features import table, writer
from agentserve_gym.envs.features.prefill_estimate import PrefillEstimate
from agentserve_gym.sim import (
    KEEP,
    Route,
    RouteDecision,
    Simulation,
    load_scenario,
    offload,
    preset_names,
)
from tools import feature_values


def _raw(env: gym.Env[Any, Any], observation: np.ndarray, name: str) -> float:
    """A feature's raw number, from the rule that its table entry documents."""
    layout = base(env).observation_layout
    index = layout[name].start
    feature = base(env).builder.layout.features[index]
    value = float(observation[index])
    if feature.scale == "log":
        return float(feature.unit * np.expm1(value * np.log1p(feature.full / feature.unit)))
    return value * feature.full


# --- layout and documentation ---------------------------------------------------------------------


def test_the_layout_covers_the_vector_once() -> None:
    env = base(gym.make(JOINT, max_instances=6))
    layout = env.observation_layout
    covered = np.zeros(env.observation_space.shape, int)
    for name, where in layout.items():
        if "." in name:
            assert where.stop - where.start == 1
            covered[where] += 1
    assert (covered == 1).all()
    groups = ["decision", "program", "tools", "global", "instances"]
    ends = [(layout[name].start, layout[name].stop) for name in groups]
    assert ends[0][0] == 0
    assert ends[-1][1] == covered.size
    assert all(one[1] == other[0] for one, other in pairwise(ends))
    rows = [layout[f"instance_{number}"] for number in range(6)]
    assert {row.stop - row.start for row in rows} == {len(env.instance_features)}
    assert layout["instance_2.home"].start == rows[2].start


def test_the_documentation_lists_every_feature_as_the_code_has_it() -> None:
    text = AgentServeEnv.__doc__
    assert text is not None
    squeezed = " ".join(text.split())
    assert " ".join(observation_table().split()) in squeezed
    layout = ObservationLayout(1, (2.0, 20.0), ("dram",))
    groups = {**layout.groups, "instance": layout.row}
    for features in groups.values():
        assert len({feature.name for feature in features}) == len(features)
        for feature in features:
            assert f"{feature.name} [{feature.rule}]: {feature.text}" in squeezed
    assert "{shared}" not in squeezed
    assert "{table}" not in squeezed


def test_static_instance_features_follow_the_dynamic_ones() -> None:
    layout = ObservationLayout(1, (2.0, 20.0), ("dram", "cxl"))
    assert [feature.name for feature in layout.dynamic[-4:]] == [
        "dram_share", "dram_used", "cxl_share", "cxl_used",
    ]  # fmt: skip
    assert layout.static[0].name == "present"
    assert layout.row == layout.dynamic + layout.static


@given(raw=st.floats(0.0, 1e12), which=st.integers(0, 1000))
def test_scales_are_monotone_and_stay_in_the_unit_interval(raw: float, which: int) -> None:
    features = ObservationLayout(1, (2.0, 20.0), ("dram", "nvme")).features
    feature: Feature = features[which % len(features)]
    assert 0.0 <= feature.scaled(raw) <= feature.scaled(raw * 1.5 + 1e-9) <= 1.0
    assert feature.scaled(feature.full) == 1.0
    assert feature.scaled(0.0) == 0.0


def _compute_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute features by what the tool makes of the table as it is now."""
    module = ModuleType("values")
    exec(feature_values.source(), vars(module))
    monkeypatch.setattr(writer, "values", module)


def test_a_feature_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layout, documentation and observations follow from the table, wherever the entry stands."""
    plain = gym.make(JOINT, scenario=crowded())
    before, _ = plain.reset(seed=0)
    once = Feature("twice_live", "log", "twice that", "2 * cluster.live_programs", "x", 1.0, 64.0)
    row = Feature("place", "share", "which it is", "index + queued_turns + 1", full=100.0)
    monkeypatch.setattr(table, "PROGRAM", (once, *table.PROGRAM))
    monkeypatch.setattr(table, "INSTANCE", (*table.INSTANCE[:4], row, *table.INSTANCE[4:]))
    _compute_anew(monkeypatch)
    env = gym.make(JOINT, scenario=crowded())
    after, _ = env.reset(seed=0)
    assert _raw(env, after, "program.twice_live") == pytest.approx(2.0, rel=1e-5)
    places = [_raw(env, after, f"instance_{number}.place") for number in range(2)]
    assert places == pytest.approx([1.0, 2.0])
    assert "twice_live [log, unit 1, full 64 x]: twice that" in observation_table()
    layout = base(env).observation_layout
    for name, where in base(plain).observation_layout.items():
        if "." in name:
            assert after[layout[name]] == before[where], name


def _with_formula(monkeypatch: pytest.MonkeyPatch, formula: str) -> None:
    bad = Feature("bad", "flag", "bad", formula)
    monkeypatch.setattr(table, "PROGRAM", (*table.PROGRAM, bad))


@pytest.mark.parametrize("formula", ["no_such_name", "program.no_such_name"])
def test_an_unknown_name_in_a_formula_is_an_error(
    monkeypatch: pytest.MonkeyPatch, formula: str
) -> None:
    _with_formula(monkeypatch, formula)
    _compute_anew(monkeypatch)
    with pytest.raises(AttributeError, match="no_such_name"):
        gym.make(JOINT, scenario="toy").reset(seed=0)


@pytest.mark.parametrize("formula", ["1 +", "x = 1"])
def test_a_formula_is_an_expression(monkeypatch: pytest.MonkeyPatch, formula: str) -> None:
    _with_formula(monkeypatch, formula)
    with pytest.raises(SyntaxError):
        feature_values.source()


# --- values --------------------------------------------------------------------------------------


def test_the_first_observation_of_the_toy() -> None:
    """One instance, one program: turn 0 with 320 prompt tokens, nothing has happened yet."""
    env = gym.make(JOINT, scenario="toy", tiers=["dram", "cxl"])
    observation, _ = env.reset(seed=0)
    expected = {
        "decision.route": 1.0,
        "decision.placement": 0.0,
        "decision.may_hold": 0.0,
        "decision.wait_s": 0.0,
        "program.turns_done": 0.0,
        "program.prompt_tokens": 320.0,
        "program.new_tokens": 320.0,
        "program.started": 0.0,
        "program.recompute_s": 0.0,
        "tools.known": 0.0,
        "global.time_s": 0.0,
        "global.live_programs": 1.0,
        "global.gap_programs": 0.0,
        "global.used_share": 0.0,
        "instance_0.home": 0.0,
        "instance_0.hit_share": 0.0,
        "instance_0.uncached_tokens": 320.0,
        "instance_0.need_share": 320.0 / (64 * 16),
        "instance_0.free_share": 1.0,
        "instance_0.present": 1.0,
        "instance_0.has_dram": 1.0,
        "instance_0.has_cxl": 0.0,
        "instance_0.pool_tokens": 64 * 16,
    }
    for name, value in expected.items():
        assert _raw(env, observation, name) == pytest.approx(value, rel=1e-4, abs=1e-9), name


def test_a_placement_in_the_toy() -> None:
    """The first program ends its turn: 320 + 33 - 1 tokens of context, of them 22 whole blocks."""
    env = gym.make(OFFLOAD, scenario="toy", tiers=["dram", "cxl"])
    observation, _ = env.reset(seed=0)
    cluster = base(env).simulation.cluster
    program = base(env).pending.program
    expected = {
        "decision.placement": 1.0,
        "program.turns_done": 1.0,
        "program.context_tokens": 352.0,
        "program.generated_tokens": 33.0,
        "program.mean_output_tokens": 33.0,
        "program.elapsed_s": cluster.now_s,
        "program.attained_service_s": cluster.now_s,
        "program.recompute_s": cluster.prefill_s(0, 352, 0),
        "program.dram_offload_s": cluster.offload_s(program, "dram", 352),
        "program.cxl_offload_s": 0.0,
        "global.working_set": 352 / (64 * 16),
        "instance_0.home": 1.0,
        "instance_0.hit_share": 1.0,
        "instance_0.dram_share": 0.0,
    }
    for name, value in expected.items():
        assert _raw(env, observation, name) == pytest.approx(value, rel=2e-2, abs=1e-9), name


@pytest.mark.parametrize("delay_s", [0.0, 0.2])
def test_features_agree_with_the_views(delay_s: float) -> None:
    """Every number that a heuristic would read is in the observation, at every decision."""
    scenario = crowded(router={"signal_delay_s": delay_s})
    env = gym.make(JOINT, scenario=scenario, max_instances=3, tiers=["cxl", "dram"])
    observation, _ = env.reset(seed=0)
    checked = set()
    for step in play(env, random_chooser(9)):
        decision = base(env).pending
        if decision is None:
            break
        observation = step.observation
        cluster, program = decision.cluster, decision.program
        expected: dict[str, float] = {
            "global.time_s": cluster.now_s,
            "global.live_programs": cluster.live_programs,
            "global.held_turns": cluster.held_turns,
            "program.context_tokens": program.context_tokens,
            "program.last_gap_s": program.last_gap_s,
            "program.elapsed_s": decision.time_s - program.arrival_s,
            "program.pinned": cluster.is_pinned(program),
            "tools.overall_mean_s": cluster.tools.overall.mean_s,
        }
        for view in cluster.instances:
            row, load = f"instance_{view.index}", view.load()
            expected |= {
                f"{row}.home": program.home == view.index,
                f"{row}.sent_turns": view.sent_turns,
                f"{row}.queued_turns": load.queued_turns,
                f"{row}.decoding_turns": load.decoding_turns,
                f"{row}.backlog_tokens": load.prefill_backlog_tokens,
                f"{row}.batch_context_tokens": load.context_tokens,
                f"{row}.free_share": load.free_blocks / view.kv_blocks,
                f"{row}.cached_share": load.cached_blocks / view.kv_blocks,
                f"{row}.pinned_share": load.pinned_blocks / view.kv_blocks,
                f"{row}.dram_used": cluster.tier_occupancy("dram", view.index),
                f"{row}.has_dram": True,
                f"{row}.has_cxl": False,
            }
            if isinstance(decision, RouteDecision):
                turn = decision.turn
                expected |= {
                    f"{row}.hit_share": view.cached_tokens(turn) / turn.prompt_tokens,
                    f"{row}.dram_share": cluster.tier_tokens(turn, view.index, "dram")
                    / turn.prompt_tokens,
                    "decision.wait_s": decision.time_s - turn.ready_s,
                }
        checked.add(type(decision))
        for name, value in expected.items():
            tolerance = 2e-4 * max(abs(float(value)), 1.0)
            assert _raw(env, observation, name) == pytest.approx(float(value), abs=tolerance), name
        assert not observation[base(env).observation_layout["instance_2"]].any(), "padding"
    assert len(checked) == 2


def test_restore_time_is_the_soonest_way() -> None:
    """After an offload and a drop from HBM the soonest way is the load from DRAM."""
    env = gym.make(JOINT, scenario=crowded())
    env.reset(seed=0)
    seen = 0
    unwrapped = base(env)
    for step in play(env, lambda env: _offload_everything(env)):
        decision = unwrapped.pending
        if not isinstance(decision, RouteDecision):
            continue
        for view in decision.cluster.instances:
            i = view.index
            copies = decision.cluster.restorables(decision.turn, i)
            ways = [None, *copies]
            exact = [decision.cluster.first_token_s(decision.turn, i, way) for way in ways]
            found = _raw(env, step.observation, f"instance_{i}.restore_s")
            assert found == pytest.approx(min(exact), rel=0.12)
            recompute = _raw(env, step.observation, f"instance_{i}.recompute_s")
            assert recompute == pytest.approx(exact[0], rel=0.12)
            seen += found < 0.7 * recompute
    assert seen > 3


def _offload_everything(env: gym.Env[Any, Any]) -> Any:
    decision = base(env).pending
    assert decision is not None
    answer = (
        Route((decision.program.index + decision.turn.number) % 2)
        if isinstance(decision, RouteDecision)
        else offload("dram")
    )
    return base(env).encode(answer)


def test_shares_within_the_pin_ttls_come_from_completed_calls() -> None:
    env = gym.make(JOINT, scenario=crowded(pin_ttls_s=[0.6, 1.5]))
    env.reset(seed=0)
    known = 0
    for step in play(env, random_chooser(1)):
        decision = base(env).pending
        if decision is None or not decision.program.gap_tool_kinds:
            continue
        (name,) = decision.program.gap_tool_kinds
        kind = decision.cluster.tools.kind(name)
        assert _raw(env, step.observation, "tools.known") == float(kind is not None)
        if kind is None:
            continue
        known += 1
        for number, ttl_s in enumerate((0.6, 1.5)):
            share = np.mean([duration <= ttl_s for duration in kind.recent])
            found = _raw(env, step.observation, f"tools.within_ttl_{number}")
            assert found == pytest.approx(share, abs=1e-6)
        assert _raw(env, step.observation, "tools.mean_s") == pytest.approx(kind.mean_s, rel=1e-3)
    assert known > 10


@pytest.mark.parametrize("preset", preset_names())
def test_prefill_estimates_are_close_to_the_engines(preset: str) -> None:
    cluster = Simulation(load_scenario(preset), 0).cluster
    generator = np.random.default_rng(0)
    for view in cluster.instances:
        estimate = PrefillEstimate(view.latency, view.max_num_batched_tokens)
        errors = []
        for _ in range(200):
            new, history = (int(2.0**x) for x in generator.uniform((0, 0), (16, 17)))
            exact_s = cluster.prefill_s(view.index, new, history)
            errors.append(abs(estimate.seconds(new, history) / exact_s - 1.0))
        assert np.median(errors) < 0.02
        assert np.percentile(errors, 95) < 0.1


# --- the future ----------------------------------------------------------------------------------


def _edited(program: int, turn: int, **changes: Any) -> tuple[Any, Any]:
    """The crowded scenario, and the same with one turn of one program changed."""
    one = crowded()
    content = copy.deepcopy(one.model_dump(mode="json"))
    turns = content["workload"]["programs"][program]["turns"]
    if changes.pop("end", False):
        del turns[turn + 1 :]
        turns[turn] |= {"tools": [], "gap_s": None}
    turns[turn] |= changes
    return one, load_scenario(content)


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("delay_s", [0.0, 0.3])
@pytest.mark.parametrize(
    ("program", "turn", "changes"),
    [
        (1, 2, {"output_tokens": 400}),
        (4, 0, {"output_tokens": 5}),
        (2, 1, {"tools": [{"kind": "web", "duration_s": 9.0}]}),
        (0, 1, {"tools": [{"kind": "shell", "duration_s": 0.01}]}),
        (3, 1, {"end": True}),
    ],
)
def test_what_is_yet_to_come_reaches_no_observation(
    env_id: str, delay_s: float, program: int, turn: int, changes: dict[str, Any]
) -> None:
    """Runs that differ in one turn's output, gap or successors look equal until it has ended."""
    runs = []
    scenarios = _edited(program, turn, **dict(changes))
    for scenario in scenarios:
        scenario = scenario.model_copy(
            update={"router": scenario.router.model_copy(update={"signal_delay_s": delay_s})}
        )
        env = gym.make(env_id, scenario=scenario)
        observation, _ = env.reset(seed=0)
        simulation = base(env).simulation
        simulation.metrics.records = []
        times, observations = [simulation.now_s], [observation]
        for step in play(env, random_chooser(6)):
            times.append(simulation.now_s)
            observations.append(step.observation)
        ended_s = next(
            record.end_s
            for record in simulation.metrics.records
            if (record.program_id, record.turn) == (f"program-{program}", turn)
        )
        runs.append((times, observations, ended_s))
    diverges_s = min(ended_s for *_, ended_s in runs)
    (one_times, one, _), (other_times, other, _) = runs
    before = sum(time_s < diverges_s for time_s in one_times)
    assert before > 1
    assert one_times[:before] == other_times[:before]
    for left, right in zip(one[:before], other[:before], strict=True):
        assert np.array_equal(left, right)
    length = min(len(one), len(other))
    assert any(
        not np.array_equal(left, right)
        for left, right in zip(one[:length], other[:length], strict=True)
    ), "the edit changes something in the end"


def test_keep_is_what_the_helper_says() -> None:
    assert base(gym.make(JOINT)).placements.answers[0] is KEEP


def test_sub_agents_count_from_their_start_only() -> None:
    """A sub-agent that starts 5 s into the gap is not known to be coming."""
    content = crowded().model_dump(mode="json")
    parent, other = content["workload"]["programs"][:2]
    child = {"arrival_s": 5.0, "turns": [{"new_input_tokens": 50, "output_tokens": 5}]}
    parent["turns"][0] |= {"children": [child], "tools": [], "gap_s": 1.0}
    content["workload"]["programs"] = [parent, {**other, "arrival_s": 0.1}]
    env = gym.make(JOINT, scenario=load_scenario(content))
    observation, _ = env.reset(seed=0)
    seen = []
    while True:
        seen.append(
            (
                base(env).simulation.now_s,
                _raw(env, observation, "global.live_programs"),
                _raw(env, observation, "program.subagent"),
            )
        )
        observation, _, terminated, _, _ = env.step([0, 0])
        if terminated:
            break
    before = [live for time_s, live, _ in seen if time_s < 5.0]
    assert max(before) == pytest.approx(2.0, rel=1e-3)
    assert any(subagent for *_, subagent in seen)
    starts = next(live for _, live, subagent in seen if subagent)
    assert starts == pytest.approx(3.0, rel=1e-3)
