"""Replay behind a router, and the four measured routers."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, groupby
from pathlib import Path

import numpy as np
import pytest

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import Simulation, load_scenario
from agentserve_gym.validation import ReplaySettings
from agentserve_gym.validation.findings import Findings
from agentserve_gym.validation.page import lost_sections, page, write_report
from agentserve_gym.validation.router_page import ROUTER_HEADING
from agentserve_gym.validation.router_replay import RouterReplaySettings, replay_router
from agentserve_gym.validation.router_runs import (
    ROUTERS,
    RouterStage,
    breaking_rates,
    by_ttft,
    read_router_runs,
    run_routers,
)
from agentserve_gym.workloads.shared_prefixes import LoadStage, SharedPrefixLoad
from tests.data_sets import needed_data_set

ENGINE = ReplaySettings(Path(), "h100-sxm", "llama-3.1-8b", kv_blocks=2500)
LOAD = SharedPrefixLoad(10, 2, 4000, 200, 40)
STAGES = (LoadStage(4.0, 10.0), LoadStage(8.0, 10.0))


def settings(router: str, **changes: object) -> RouterReplaySettings:
    made = RouterReplaySettings(ENGINE, router, 2, LOAD, STAGES, LoadStage(5.0, 6.0))
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_stage_begins_when_the_one_before_has_ended_and_keeps_its_caches() -> None:
    """Two pools hold all prefixes together: after the warm-up every prompt is found."""
    first, second = replay_router(settings("precise"))
    assert [len(stage.served.turns) for stage in (first, second)] == [40, 80]
    assert max(t.end_s for t in first.served.turns) < min(t.ready_s for t in second.served.turns)
    assert second.hit_rate > 0.97
    cold = replay_router(settings("precise", warm_up=None))[0]
    assert cold.hit_rate < 0.8


def test_figures_are_the_stages_own() -> None:
    stages = replay_router(settings("random"))
    for stage, sent in zip(stages, STAGES, strict=True):
        figures = stage.as_dict()
        turns = stage.served.turns
        assert figures["rate_per_s"] == sent.rate_per_s
        assert figures["turns"] == sum(figures["requests_by_instance"]) == sent.requests
        ttft_ms = [(turn.first_token_s - turn.ready_s) * 1e3 for turn in turns]
        assert figures["ttft_ms"]["p90"] == pytest.approx(np.percentile(ttft_ms, 90))
        assert figures["prefix_hit_tokens"] == figures["prefix_hit_rate"] * 4200 * len(turns)
        assert figures["preemptions"] == sum(turn.preemptions for turn in turns)
        seconds = max(turn.end_s for turn in turns) - turns[0].ready_s
        assert figures["requests_per_s"] == pytest.approx(len(turns) / seconds)
        assert figures["output_tokens_per_s"] == pytest.approx(40 * len(turns) / seconds)
    assert stages[0].hit_rate != stages[1].hit_rate


def test_times_are_as_a_client_sees_them() -> None:
    """The way of a request to the engine's queue comes on top."""
    plain, hosted = (
        replay_router(settings("precise", engine=replace(ENGINE, software=software)))[0].served
        for software in ("none", "vllm-0.19")
    )
    assert hosted.ttft_s().min() > 0.01
    assert hosted.turns[0].ready_s == pytest.approx(plain.turns[0].ready_s - 0.01)


def test_a_router_that_looks_at_caches_hits_more() -> None:
    small = replace(ENGINE, kv_blocks=1800)
    hits = {
        router: replay_router(settings(router, engine=small))[-1].hit_rate for router in ROUTERS
    }
    assert min(hits["precise"], hits["default"]) > max(hits["random"], hits["load"]) + 0.1


def test_the_same_seed_gives_the_same_and_another_another() -> None:
    once, again, other = (
        [stage.as_dict() for stage in replay_router(settings("load", seed=seed))]
        for seed in (1, 1, 2)
    )
    assert once == again != other


def test_any_policy_may_route() -> None:
    (stage,) = replay_router(settings("least_loaded", stages=STAGES[:1], warm_up=None))
    assert stage.as_dict()["requests_by_instance"][0] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"router": "nearest"}, "unknown policy part 'nearest'"),
        ({"instances": 0}, "instances is 0; allowed: an integer of at least 1"),
        ({"stages": ()}, "stages is empty"),
        ({"seed": -1}, "seed is -1"),
        ({"engine": replace(ENGINE, kv_blocks=100)}, "needs 4240 tokens of KV"),
        ({"engine": replace(ENGINE, accelerator="abacus")}, "abacus"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replay_router(replace(settings("precise"), **changes))  # type: ignore[arg-type]


# --- measured runs -------------------------------------------------------------------------------


HEADING = "rate_per_s,router,output_tokens_per_s,requests_per_s,ttft_p90_s,ttft_mean_s,itl_mean_s"


def test_measured_runs_are_read_by_rate_and_router(tmp_path: Path) -> None:
    file = tmp_path / "runs.csv"
    file.write_text(f"{HEADING}\n9,load,1,9,4,3,.02\n9,precise,2,9,.2,.1,.01\n3,load,5,3,2,1,.03\n")
    stages = read_router_runs(file)
    assert [(stage.rate_per_s, stage.router) for stage in stages] == [
        (3.0, "load"), (9.0, "precise"), (9.0, "load"),
    ]  # fmt: skip
    assert stages[0].tpot_s == 0.06


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("3,nearest,1,3,2,1,.02", "row 1: unknown router 'nearest'"),
        ("3,load,-1,3,2,1,.02", "row 1: output_tokens_per_s is '-1'; allowed: a number above 0"),
        ("3,load,1,3,2,1,", "row 1: itl_mean_s is ''"),
        ("", "no rows"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, row: str, message: str) -> None:
    file = tmp_path / "runs.csv"
    file.write_text(f"{HEADING}\n{row}\n")
    with pytest.raises(ValueError, match=message):
        read_router_runs(file)


@pytest.fixture(scope="module")
def measured() -> list[RouterStage]:
    return run_routers(needed_data_set("router-runs"))


def of(stages: list[RouterStage], router: str) -> list[RouterStage]:
    return [stage for stage in stages if stage.measured.router == router]


def test_routers_that_look_at_caches_are_ahead_at_every_rate(measured: list[RouterStage]) -> None:
    for _, group in groupby(measured, key=lambda stage: stage.measured.rate_per_s):
        for order in by_ttft(list(group)):
            ranked = [router for rank in order for router in rank]
            assert set(ranked[:2]) == {"precise", "default"}
            assert set(ranked[2:]) == {"random", "load"}
            assert not any({"precise", "load"} <= set(rank) for rank in order)


def test_no_two_routers_that_were_apart_change_places(measured: list[RouterStage]) -> None:
    """Where neither is alike, their order is the measured one but for runs that all but tie."""
    changed = []
    for rate, group in groupby(measured, key=lambda stage: stage.measured.rate_per_s):
        stages = {stage.measured.router: stage for stage in group}
        for first, second in combinations(ROUTERS, 2):
            then = stages[first].measured.ttft_mean_s / stages[second].measured.ttft_mean_s
            here = stages[first].ttft_mean_s / stages[second].ttft_mean_s
            if (then - 1.0) * (here - 1.0) < 0.0 and abs(here - 1.0) > 0.05:
                changed.append((rate, first, second))
    assert changed == []


def test_each_breaks_within_one_step_of_where_it_did(measured: list[RouterStage]) -> None:
    rates = sorted({stage.measured.rate_per_s for stage in measured})
    for router in ROUTERS:
        then, here = breaking_rates(of(measured, router))
        if then is None:
            assert here is None
        else:
            assert here is not None
            assert abs(rates.index(here) - rates.index(then)) <= 1


def test_output_tokens_where_nothing_queues_are_within_15_percent(
    measured: list[RouterStage],
) -> None:
    for stage in of(measured, "precise") + of(measured, "default"):
        assert stage.output_tokens_per_s == pytest.approx(
            stage.measured.output_tokens_per_s, rel=0.15
        )


def test_metrics_that_wait_for_a_steps_end_cost_load_its_lead(measured: list[RouterStage]) -> None:
    """At the lowest rate *load* is slower than *random*, as measured; it is not if it sees loads as
    they are."""
    random, load = (of(measured, router)[0] for router in ("random", "load"))
    assert load.measured.ttft_mean_s > random.measured.ttft_mean_s
    assert load.ttft_mean_s > 1.2 * random.ttft_mean_s
    live = []
    for seed in range(3):
        stage = RouterReplaySettings(
            ReplaySettings(
                Path(), "h100-sxm", "llama-3.1-70b", 4, max_num_seqs=1024,
                max_num_batched_tokens=8192, kv_blocks=28_836, software="vllm-0.19",
            ),
            "load", 4, SharedPrefixLoad(83, 3, 8000, 1000, 1000),
            (LoadStage(3.0, 210.0),), None, seed,
        )  # fmt: skip
        content = stage.scenario().model_dump(mode="json", exclude_none=True)
        content["router"]["load_signal"] = "live"
        report = run_policy(Simulation(load_scenario(content), seed), parse_policy("llmd_load"))
        live.append(report["ttft_s"]["mean"])
    assert np.mean(live) < 1.1 * random.ttft_mean_s


def test_the_page_has_a_part_on_routers(measured: list[RouterStage], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    findings = Findings(routers=measured)
    text = page(findings, "agentserve validate --details")
    assert ROUTER_HEADING in text
    assert "| 12, precise | 7,062 |" in text
    write_report(findings, tmp_path, "agentserve validate --details")
    picture = (tmp_path / "validation" / "routers.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert lost_sections(tmp_path, {"routers"}, []) == []
    assert lost_sections(tmp_path, {"cases"}, []) == [ROUTER_HEADING.lstrip("# ")]
