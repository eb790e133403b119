"""Published trends that the simulator must reproduce, as small fast versions of their setups.

Each test names its source; bands are ours around the published sizes. Step times are those of
the shipped hardware models, not stubs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sim_helpers import audit, drive, simulate
from trend_helpers import (
    DRAM,
    Routing,
    agents,
    cluster,
    hit_rate,
    hybrid,
    least_loaded,
    mean_jct,
    policy,
    round_robin,
    run,
    sticky,
)

from agentserve_gym.sim import Phase, Restore, RouteDecision, Simulation
from agentserve_gym.sim.kernel.randomness import mix

pytestmark = pytest.mark.no_cover

# --- locality and routing -------------------------------------------------------------------------


def routed_hit_rate(programs: list[dict[str, Any]], instances: int, routing: Routing) -> float:
    return hit_rate(run(cluster(programs, instances=instances), policy(routing)))


def test_c1_affinity_keeps_the_hit_rate_and_scattering_loses_some() -> None:
    """C1: AgentServeSim v1 (arXiv 2606.09613), 2 x H100: affinity 96.3 %, round robin and least
    loaded 92.6 to 93.0 %. The gap grows with the instances and vanishes without reuse."""
    programs = agents(12, turns=24, rate_per_s=0.3)
    alone = routed_hit_rate(programs, 1, sticky())
    assert alone > 0.9
    gaps: dict[int, list[float]] = {}
    for instances in (2, 4):
        affinity = routed_hit_rate(programs, instances, sticky())
        assert affinity == pytest.approx(alone, abs=0.005)
        gaps[instances] = [
            affinity - routed_hit_rate(programs, instances, routing)
            for routing in (round_robin(), least_loaded())
        ]
    assert all(0.01 <= gap <= 0.10 for gap in gaps[2])
    assert min(gaps[4]) > max(gaps[2])
    fresh = agents(12, turns=24, rate_per_s=0.3, reset=True)
    gap = routed_hit_rate(fresh, 2, sticky()) - routed_hit_rate(fresh, 2, round_robin())
    assert abs(gap) < 0.005


def skewed_sessions(seed: int, count: int = 48) -> list[dict[str, Any]]:
    """One session in five is long and heavy."""
    rng = np.random.default_rng(seed)
    programs = agents(count, seed=seed, turns=6, gap_s=1.0, output_tokens=60)
    heavy = agents(
        count, seed=seed + 1, turns=40, first_tokens=6000, new_tokens=900, output_tokens=200,
        gap_s=0.5,
    )  # fmt: skip
    for index in range(count):
        if rng.random() < 0.2:
            arrival_s = programs[index]["arrival_s"]
            programs[index] = {**heavy[index], "arrival_s": arrival_s}
    return programs


def hashed(decision: RouteDecision) -> int:
    """Sticky by a hash of the session, as consistent hashing is."""
    return mix(decision.program.index) % len(decision.cluster.instances)


def test_c2_stickiness_wins_hits_and_loses_balance() -> None:
    """C2: CacheRoute: 87 % (hybrid) against 93 % hits, yet 176 against 30 QPS; Anyscale; SMetric's
    imbalance of 2.17 x. Skewed sessions: sticky routing has the most hits and the worst tail."""
    rows: dict[str, list[tuple[float, float, float]]] = {}
    for seed in range(4):
        scenario = cluster(skewed_sessions(seed), instances=4, kv_blocks=30_000)
        policies = {"sticky": hashed, "jsq": least_loaded(), "hybrid": hybrid(6000.0)}
        for name, routing in policies.items():
            report = run(scenario, policy(routing))
            busy = np.array(report["busy_s"])
            row = (hit_rate(report), report["jct_s"]["p99"], float(busy.max() / busy.mean()))
            rows.setdefault(name, []).append(row)
    mean = {name: np.mean(values, axis=0) for name, values in rows.items()}
    assert mean["sticky"][0] > mean["hybrid"][0] > mean["jsq"][0]
    assert mean["sticky"][1] > 1.05 * mean["hybrid"][1]
    assert mean["sticky"][2] > 1.3
    assert mean["sticky"][2] > mean["hybrid"][2]


def test_c6_policy_gaps_need_load() -> None:
    """C6: SMetric: 1 % at light load, 26 % near saturation; the artifact's JCTs are identical at
    light load."""

    def gap(rate_per_s: float) -> float:
        programs = agents(
            40, turns=12, first_tokens=4000, new_tokens=500, gap_s=1.0, rate_per_s=rate_per_s
        )
        scenario = cluster(programs, instances=2, kv_blocks=9000)
        affinity = mean_jct(run(scenario, policy(sticky())))
        return mean_jct(run(scenario, policy(round_robin()))) / affinity - 1.0

    light, middle, heavy = gap(0.02), gap(0.6), gap(1.5)
    assert 0.0 <= light <= 0.02
    assert light < middle < heavy
    assert heavy > 0.15


# --- thrashing and admission ----------------------------------------------------------------------


def closed_loop(concurrency: int, cap: int | None = None) -> dict[str, Any]:
    """One instance whose KV holds about six contexts of 8,000 to 13,000 tokens."""
    programs = agents(
        48, turns=15, first_tokens=8000, new_tokens=300, output_tokens=40, gap_s=0.5, gap_sigma=0.5
    )
    arrivals = {"kind": "closed_loop", "concurrency": concurrency}
    return run(
        cluster(programs, kv_blocks=5000, arrivals=arrivals), policy(sticky(), most_active=cap)
    )


def test_c15_too_many_programs_thrash() -> None:
    """C15: ThunderAgent: 18 % hits and 7.14 x; CONCUR: 80 to 35 %. Past the KV capacity the hit
    rate collapses, throughput falls, and JCT rises faster than concurrency."""
    few, fitting, many = closed_loop(2), closed_loop(6), closed_loop(12)
    assert hit_rate(fitting) >= 0.9
    assert hit_rate(many) <= 0.4
    # Throughput rises up to what fits and falls beyond: the same programs, so by makespan.
    assert fitting["makespan_s"] < few["makespan_s"]
    assert many["makespan_s"] > 1.5 * fitting["makespan_s"]
    assert mean_jct(many) > 2.0 * 2.0 * mean_jct(fitting)
    assert many["recomputed_tokens"] > 10 * fitting["recomputed_tokens"]


def test_c16_a_cap_on_active_programs_cures_thrashing_and_costs_nothing_else() -> None:
    """C16: CONCUR, ThunderAgent: capping restores hits above 90 % and gives 1.5 to 4 x."""
    free, capped = closed_loop(16), closed_loop(16, cap=6)
    assert hit_rate(capped) >= 0.9
    assert 1.5 <= free["makespan_s"] / capped["makespan_s"] <= 4.0
    assert mean_jct(capped) < mean_jct(free)
    light, light_capped = closed_loop(4), closed_loop(4, cap=6)
    assert light_capped["makespan_s"] == pytest.approx(light["makespan_s"], rel=0.01)


# --- tiers ----------------------------------------------------------------------------------------


def test_c19_dram_pays_at_high_load_only() -> None:
    """C19: AgentServeSim v1, B200 70B: HBM only 170.5 s to 417.8 s (2.45 x) from .04 to .12/s; with
    DRAM 300.7 s at .12 (-28 %)."""
    node = {
        "host_link": {"bandwidth_gbps": 50.0, "duplex_gbps": 83.4},
        "dram": {"capacity_gib": 16.0},
    }
    means: dict[tuple[float, bool], float] = {}
    for rate in (0.08, 0.24):
        programs = agents(
            60, turns=12, first_tokens=6000, new_tokens=600, output_tokens=60, gap_s=3.0,
            rate_per_s=rate,
        )  # fmt: skip
        means[rate, False] = mean_jct(run(cluster(programs, kv_blocks=8000), policy(sticky())))
        with_dram = cluster(programs, kv_blocks=8000, node=node)
        means[rate, True] = mean_jct(run(with_dram, policy(sticky(), DRAM, Restore.CHEAPEST)))
    assert 1.4 <= means[0.24, False] / means[0.08, False] <= 3.5
    assert abs(means[0.08, True] / means[0.08, False] - 1.0) <= 0.03
    assert 0.2 <= 1.0 - means[0.24, True] / means[0.24, False] <= 0.45


def reload_or_recompute(
    accelerator: str, model: str, tokens: int, bandwidth_gbps: float
) -> tuple[bool, float]:
    """Whether a context that left HBM is loaded back, and the recompute rate in tokens per s."""
    programs = [
        {
            "program_id": "a",
            "arrival_s": 0.0,
            "turns": [
                {"new_input_tokens": tokens, "output_tokens": 2, "gap_s": 1000.0},
                {"new_input_tokens": 16, "output_tokens": 1},
            ],
        },
        {
            "program_id": "evictor",
            "arrival_s": 500.0,
            "turns": [{"new_input_tokens": tokens + 64, "output_tokens": 2}],
        },
    ]
    link = {"bandwidth_gbps": bandwidth_gbps, "latency_us": 0.0, "duplex_gbps": None}
    dram = {"capacity_gib": 64.0, "bandwidth_gbps": 1e6, "latency_us": 0.0}
    scenario = cluster(
        programs,
        kv_blocks=tokens // 16 + 20,
        accelerator=accelerator,
        model=model,
        node={"host_link": link, "dram": dram},
    )
    simulation = drive(Simulation(scenario), policy(sticky(), DRAM, Restore.CHEAPEST))
    rate = tokens / simulation.engines[0].prefill_s(tokens, 0)
    return simulation.report()["hit_tokens"]["dram"] > 0, rate


def crossover_gbps(accelerator: str, model: str, tokens: int) -> tuple[float, float]:
    """Bandwidth above which loading wins, by bisection; and the recompute rate."""
    low, high = 0.2, 60.0
    rate = 0.0
    for _ in range(12):
        middle = (low * high) ** 0.5
        loads, rate = reload_or_recompute(accelerator, model, tokens, middle)
        low, high = (low, middle) if loads else (middle, high)
    return high, rate


@pytest.mark.parametrize(
    ("model", "bytes_per_token", "published_gbps"),
    [("llama-3.1-8b", 131_072, 9.6), ("llama-3.1-70b", 327_680, 3.0)],
)
def test_c22_reload_beats_recompute_above_the_prefill_rate_in_bytes(
    model: str, bytes_per_token: int, published_gbps: float
) -> None:
    """C22: crossover at B = prefill rate x bytes per token, +-15 %; on B200 about 3 GB/s for 70B
    and 9.6 GB/s for 8B: smaller models need faster tiers."""
    crossover, rate = crossover_gbps("b200", model, 16_000)
    assert crossover == pytest.approx(rate * bytes_per_token / 1e9, rel=0.15)
    assert crossover == pytest.approx(published_gbps, rel=0.15)


def mean_return_s(instances: int, restore: Restore) -> float:
    """Mean TTFT of programs that return together, one per instance; 3 GB/s of DRAM for all."""
    tokens = 16_000
    programs = [
        {
            "program_id": f"p{at}",
            "arrival_s": 30.0 * at,
            "turns": [
                {"new_input_tokens": tokens, "output_tokens": 2, "gap_s": 2000.0 - 30.0 * at},
                {"new_input_tokens": 16, "output_tokens": 20},
            ],
        }
        for at in range(instances)
    ]
    programs += [
        {
            "program_id": f"x{at}",
            "arrival_s": 1000.0 + 10.0 * at,
            "turns": [{"new_input_tokens": tokens + 500, "output_tokens": 2}],
        }
        for at in range(instances)
    ]
    node = {
        "host_link": {"bandwidth_gbps": 50.0, "latency_us": 0.0, "duplex_gbps": None},
        "dram": {"capacity_gib": 64.0, "bandwidth_gbps": 3.0, "latency_us": 0.0},
    }
    scenario = cluster(programs, instances=instances, kv_blocks=1060, node=node)
    simulation = Simulation(scenario, record_turns=True)
    drive(
        simulation,
        policy(lambda decision: int(decision.program.program_id[1:]), DRAM, restore),
    )
    records = simulation.metrics.records
    assert records is not None
    return float(np.mean([r.first_token_s - r.ready_s for r in records if r.turn == 1]))


def test_c23_simultaneous_reloads_share_the_link_and_may_lose_to_recompute() -> None:
    """C23: CONCUR: offload at .34 x of recompute's throughput despite more than 95 % hits."""
    alone = mean_return_s(1, Restore.LOAD)
    recompute = mean_return_s(1, Restore.RECOMPUTE)
    assert alone < recompute
    # Eight instances recompute in parallel; their loads take turns: (1 + ... + 8) / 8 = 4.5.
    assert mean_return_s(8, Restore.RECOMPUTE) == pytest.approx(recompute, rel=0.01)
    together = mean_return_s(8, Restore.LOAD)
    assert together == pytest.approx(4.5 * alone, rel=0.1)
    assert together > 2.0 * recompute


# --- fidelity -------------------------------------------------------------------------------------


def test_c33_replaying_turns_open_loop_overstates_queueing() -> None:
    """C33: in a closed loop a turn waits for its predecessor; the same turns replayed at the times
    of an idle cluster do not, and pile up."""
    programs = agents(24, turns=10, first_tokens=3000, new_tokens=500, output_tokens=120,
                      gap_s=1.0, rate_per_s=0.5, prefix_tokens=0)  # fmt: skip
    idle = Simulation(cluster(programs, instances=24), record_turns=True)
    drive(idle, policy(lambda decision: int(decision.program.program_id[1:])))
    assert idle.metrics.records is not None
    replayed = [
        {
            "program_id": f"{record.program_id}-{record.turn}",
            "arrival_s": record.ready_s,
            "turns": [
                {"new_input_tokens": record.prompt_tokens, "output_tokens": record.output_tokens}
            ],
        }
        for record in idle.metrics.records
    ]
    closed = Simulation(cluster(programs, kv_blocks=30_000), record_turns=True)
    drive(closed, policy(sticky()))
    opened = Simulation(cluster(replayed, kv_blocks=30_000))
    drive(opened, policy(sticky()))
    assert opened.report()["turns"] == closed.report()["turns"] == 240
    assert opened.metrics.phase_s[Phase.QUEUE] > 5.0 * closed.metrics.phase_s[Phase.QUEUE]
    assert opened.report()["ttft_s"]["mean"] > 2.0 * closed.report()["ttft_s"]["mean"]
    # No turn of the closed loop starts before its predecessor's end plus the gap.
    assert closed.metrics.records is not None
    ends = {(record.program_id, record.turn): record.end_s for record in closed.metrics.records}
    for record in closed.metrics.records:
        if record.turn:
            plan = programs[int(record.program_id[1:])]["turns"][record.turn - 1]
            earliest_s = ends[record.program_id, record.turn - 1] + plan["gap_s"]
            assert record.ready_s >= earliest_s - 1e-9


def test_c35_time_and_blocks_are_accounted_for_across_tiers() -> None:
    """C35: JCT = queue + load + prefill + decode + gap exactly; no pool exceeds its capacity, and
    every block is free, cached or held (``audit`` recounts all of them after every event)."""
    programs = agents(10, turns=8, first_tokens=4000, new_tokens=600, rate_per_s=1.0)
    node = {
        "host_link": {"bandwidth_gbps": 5.0, "duplex_gbps": None},
        "dram": {"capacity_gib": 1.5},
    }
    scenario = cluster(programs, instances=2, kv_blocks=1000, node=node)
    simulation = simulate(scenario)
    drive(simulation, policy(least_loaded(), DRAM, Restore.LOAD), audit)
    assert simulation.report()["hit_rate"]["dram"] > 0.05
    assert simulation.report()["evicted_blocks"] > 100
    assert sum(simulation.metrics.phase_s) == pytest.approx(sum(simulation.metrics.jct_s), rel=1e-9)
