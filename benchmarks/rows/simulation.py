"""Turns per second of the simulation under heuristics."""

from __future__ import annotations

import time
from collections.abc import Callable

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import Scenario, Simulation, load_scenario
from benchmarks.measure import Bench, Result, Sample, Table, Target, events, rates
from benchmarks.workloads import peer_scenario

PEER_POLICIES = ("lmetric", "dynamo", "sglang", "affinity+lru")
DEFAULT_POLICIES = ("affinity+lru", "lmetric+write_through", "sglang", "least_loaded+dram")


def peer(bench: Bench) -> list[Result]:
    """The peer workload under policies that know where KV is cached."""
    scenario = peer_scenario(bench.sizes.programs)
    samples = _measure(bench, scenario, PEER_POLICIES, seeds=1)
    return [
        Result(
            row="peer",
            title=f"peer workload, 4 x H100, `{PEER_POLICIES[0]}`",
            unit="turns/s",
            measured=rates(samples[PEER_POLICIES[0]]),
            target=Target(limit=10_000, at="least", text="10,000 turns/s"),
            in_events=events(samples[PEER_POLICIES[0]]),
            tables=[_table("Peer workload by policy", samples)],
        )
    ]


def default(bench: Bench) -> list[Result]:
    """The default scenario under heuristics, workload generation included."""
    samples = _measure(bench, load_scenario("default"), DEFAULT_POLICIES, bench.sizes.seeds)
    return [
        Result(
            row="default",
            title=f"default scenario, `{DEFAULT_POLICIES[0]}`",
            unit="turns/s",
            measured=rates(samples[DEFAULT_POLICIES[0]]),
            target=Target(limit=120, at="most", text="120 bare events a turn", of="in_events"),
            in_events=events(samples[DEFAULT_POLICIES[0]]),
            tables=[_table("Default scenario by policy", samples)],
        )
    ]


def _measure(
    bench: Bench, scenario: Scenario, policies: tuple[str, ...], seeds: int
) -> dict[str, list[Sample]]:
    cases: dict[str, Callable[[int], float]] = {}
    for name in policies:

        def work(repetition: int, name: str = name) -> float:
            # Every policy meets the same workloads, every repetition others.
            first = repetition * seeds
            return sum(_turns(bench, scenario, name, seed) for seed in range(first, first + seeds))

        cases[name] = work
    return bench.interleaved(cases, bench.sizes.repetitions)


def _turns(bench: Bench, scenario: Scenario, policy: str, seed: int) -> float:
    """Simulate to the end, metrics included; building the simulation is left out."""
    started = time.perf_counter()
    simulation, parsed = Simulation(scenario, seed), parse_policy(policy)
    bench.aside.stop(started)
    return float(run_policy(simulation, parsed)["turns"])


def _table(title: str, samples: dict[str, list[Sample]]) -> Table:
    rows = []
    for name, found in samples.items():
        rate, cost = rates(found), events(found)
        rows.append(
            [
                f"`{name}`",
                f"{rate.median:,.0f}",
                f"{rate.q1:,.0f} to {rate.q3:,.0f}",
                f"{1e6 / rate.median:.1f}",
                f"{cost.median:,.0f}",
            ]
        )
    heading = ["policy", "turns/s", "quartiles", "us per turn", "bare events per turn"]
    note = "Metrics and the drawing of programs included; building the simulation is left out."
    return Table(title=title, heading=heading, rows=rows, note=note)
