"""One outcome: a cell under a policy with a seed, run until its last program is done."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from agentserve_gym.baselines import ComposedPolicy, NamedPolicy, drive, require_valid_answers
from agentserve_gym.bench.luck import nudged_workload
from agentserve_gym.bench.pressure import Pressure, PressureMeter
from agentserve_gym.report.statistics import Array
from agentserve_gym.sim import Scenario, Simulation


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy achieved in a cell with one seed. Column names of the results file.

    Every program counts, so that none can be starved for the others' sake; turns are those of
    sub-agents, too. ``slo_goodput`` is the share of turns within both the TTFT and the TPOT
    objective. ``ideal_s`` is the mean JCT on an idle cluster with full reuse: no policy can be
    below it. ``digest`` and ``code`` are fingerprints of what was run (scenario, policy) and by
    which version of the simulation. ``silent`` names parts of the policy whose defining event
    never fired. ``hit_lower`` are the hit rates of the lower tiers, by name. ``nudge``: see
    ``luck.nudged_workload``. ``live``, ``working_set`` and ``working_set_p90`` are those of
    ``Pressure`` until the last program arrives. ``drift`` is the mean slowdown of the half of the
    programs that finishes later over that of the other: far above 1 where a queue only grows.
    """

    scenario: str
    label: str
    policy: str
    seed: int
    digest: str
    code: str
    programs: int
    turns: int
    jct_mean_s: float
    jct_p50_s: float
    jct_p99_s: float
    slowdown: float
    ideal_s: float
    ttft_mean_s: float
    ttft_p95_s: float
    tpot_p95_s: float
    slo_goodput: float
    hit_hbm: float
    hit_lower: str
    prompt_tokens: int
    recomputed_tokens: int
    offloaded_gb: float
    loaded_gb: float
    preemptions: int
    holds: int
    invalid_answers: int
    busy: float
    counters: str
    silent: str
    nudge: int
    live: float
    working_set: float
    working_set_p90: float
    drift: float


def measure(
    scenario: Scenario,
    label: str,
    policy: NamedPolicy,
    seed: int,
    *,
    nudge: int = 0,
    digest: str = "",
    code: str = "",
) -> Outcome:
    """Run a policy until every program is done.

    Raises:
        ValueError: if the scenario's horizon cuts programs off, or every answer of the policy is
            invalid.
    """
    simulation = Simulation(scenario, seed, vary=lambda workload: nudged_workload(workload, nudge))
    meter = PressureMeter(simulation)
    programs = len(simulation.workload)
    answers = 0
    for answers, _ in enumerate(drive(simulation, policy), start=1):  # noqa: B007
        if simulation.orchestrator.arrived < programs:
            meter.observe()
    require_valid_answers(simulation, policy.name, answers)
    if simulation.truncated:
        raise ValueError(
            f"horizon_s is {scenario.horizon_s:g}, which ends the run before all of its "
            f"{programs} programs are done"
        )
    outcome = _reduce(simulation, policy, label, meter.result())
    return replace(outcome, digest=digest, code=code, nudge=nudge)


def _reduce(simulation: Simulation, policy: NamedPolicy, label: str, pressure: Pressure) -> Outcome:
    report = simulation.report()
    jct_s, slowdown = map(np.array, (simulation.metrics.jct_s, simulation.metrics.slowdown))
    moved = report["residency"]
    rates = report["hit_rate"]
    counters = ";".join(f"{name}={count}" for name, count in policy.counters().items())
    silent = policy.silent_parts() if isinstance(policy, ComposedPolicy) else []
    busy_s = report["busy_s"]
    return Outcome(
        scenario=simulation.scenario.name,
        label=label,
        policy=policy.name,
        seed=simulation.seed,
        digest="",
        code="",
        programs=report["programs"],
        turns=report["turns"],
        jct_mean_s=report["jct_s"]["mean"],
        jct_p50_s=report["jct_s"]["p50"],
        jct_p99_s=report["jct_s"]["p99"],
        slowdown=report["slowdown"]["mean"],
        ideal_s=float((jct_s / slowdown).mean()),
        ttft_mean_s=report["ttft_s"]["mean"],
        ttft_p95_s=report["ttft_s"]["p95"],
        tpot_p95_s=report["tpot_s"]["p95"],
        slo_goodput=report["slo_goodput"],
        hit_hbm=rates["hbm"],
        hit_lower=";".join(f"{tier}={rates[tier]!r}" for tier in list(rates)[1:]),
        prompt_tokens=report["prompt_tokens"],
        recomputed_tokens=report["recomputed_tokens"],
        offloaded_gb=moved["offloaded_bytes"] / 1e9,
        loaded_gb=moved["loaded_bytes"] / 1e9,
        preemptions=report["preemptions"],
        holds=report["holds"],
        invalid_answers=report["invalid_answers"],
        busy=sum(busy_s) / len(busy_s) / max(simulation.now_s, 1e-9),
        counters=counters,
        silent=" ".join(silent),
        nudge=0,
        live=pressure.live,
        working_set=pressure.working_set,
        working_set_p90=pressure.working_set_p90,
        drift=_drift(slowdown),
    )


def _drift(slowdown: Array) -> float:
    """Mean over the later half of the programs, in order of completion, over the earlier half's."""
    half = slowdown.size // 2
    return float(slowdown[half:].mean() / slowdown[:half].mean()) if half else 1.0
