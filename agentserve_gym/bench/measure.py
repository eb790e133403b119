"""One outcome: a cell under a policy with a seed, reduced to the measured window."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from agentserve_gym.baselines import ComposedPolicy, NamedPolicy, drive, require_valid_answers
from agentserve_gym.bench.luck import nudged_workload
from agentserve_gym.bench.pressure import NO_PRESSURE, Pressure, PressureMeter
from agentserve_gym.sim import Scenario, Simulation
from agentserve_gym.sim.metrics import TurnRecord
from agentserve_gym.workloads.program import Program


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a policy achieved in a cell with one seed. Column names of the results file.

    Times and rates down to ``slo_goodput`` are of the programs that arrived in the window (turns:
    of these programs and their sub-agents); what follows counts everything that happened until
    the last of them was done. ``slo_goodput`` is the share of turns within both the TTFT and the
    TPOT objective. ``ideal_s`` is the mean JCT on an idle cluster with full reuse: no policy can
    be below it. ``digest`` and ``code`` are fingerprints of what was run (scenario, window, policy)
    and by which version of the simulation. ``silent`` names parts of the policy whose defining
    event never fired. ``hit_lower`` are the hit rates of the lower tiers, by name. ``nudge``: see
    ``luck.nudged_workload``. ``live``, ``working_set`` and ``working_set_p90`` are those of
    ``Pressure`` while measured programs run. ``drift`` is the mean slowdown of the later half of
    the measured programs over that of the earlier half: far above 1 where a queue only grows.
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


class Window:
    """The measured programs of a workload, and which of them are still to finish."""

    def __init__(self, simulation: Simulation, warmup: int, measured: int) -> None:
        """Look the programs up.

        Raises:
            ValueError: if the workload has fewer programs than the window needs.
        """
        workload = simulation.workload
        if warmup + measured > len(workload):
            raise ValueError(
                f"the window needs {warmup + measured} programs (warmup_programs {warmup}, "
                f"measured_programs {measured}); scenario {simulation.scenario.name!r} has "
                f"{len(workload)}"
            )
        self.programs = [workload.program(warmup + number) for number in range(measured)]
        self.members = {member for program in self.programs for member in _family(program)}
        self.last_turn = {p.program_id: len(p.turns) - 1 for p in self.programs}
        self._unfinished = len(self.programs)
        self._seen = 0

    def is_over(self, records: list[TurnRecord]) -> bool:
        """Whether every measured program is done; looks at new records only."""
        for record in records[self._seen :]:
            if self.last_turn.get(record.program_id) == record.turn:
                self._unfinished -= 1
        self._seen = len(records)
        return self._unfinished == 0

    def require_over(self, simulation: Simulation) -> None:
        """Refuse a run that ended too early.

        Raises:
            ValueError: if measured programs are unfinished.
        """
        if self._unfinished:
            raise ValueError(
                f"horizon_s is {simulation.scenario.horizon_s:g}, which ends the run with "
                f"{self._unfinished} of {len(self.programs)} measured programs unfinished"
            )


def measure(
    scenario: Scenario,
    label: str,
    policy: NamedPolicy,
    seed: int,
    *,
    warmup: int,
    measured: int,
    nudge: int = 0,
    digest: str = "",
    code: str = "",
) -> Outcome:
    """Run a policy until the measured programs are done.

    Raises:
        ValueError: if the window does not fit the workload, the scenario's horizon cuts it off, or
            every answer of the policy is invalid.
    """
    simulation = Simulation(
        scenario, seed, record_turns=True, vary=lambda workload: nudged_workload(workload, nudge)
    )
    window = Window(simulation, warmup, measured)
    records = simulation.metrics.records
    assert records is not None
    meter: PressureMeter | None = None
    answers = 0
    for answers, _ in enumerate(drive(simulation, policy), start=1):  # noqa: B007
        if meter is not None:
            meter.observe()
        elif simulation.orchestrator.arrived > warmup:
            meter = PressureMeter(simulation)
        if window.is_over(records):
            break
    require_valid_answers(simulation, policy.name, answers)
    window.require_over(simulation)
    pressure = meter.result() if meter is not None else NO_PRESSURE
    outcome = _reduce(simulation, window, records, policy, label, pressure)
    return replace(outcome, digest=digest, code=code, nudge=nudge)


def _reduce(
    simulation: Simulation,
    window: Window,
    records: list[TurnRecord],
    policy: NamedPolicy,
    label: str,
    pressure: Pressure,
) -> Outcome:
    report = simulation.report()
    kept = [record for record in records if record.program_id in window.members]
    ideal_s = np.array([simulation.ideal.jct_s(program) for program in window.programs])
    arrived_s, ended_s = lifetimes(window, kept)
    jct_s = ended_s - arrived_s
    ttft_s = np.array([record.first_token_s - record.ready_s for record in kept])
    tpot_s = np.array([_tpot_s(record) for record in kept])
    objective = simulation.scenario.objective
    within = (ttft_s <= objective.slo_ttft_s) & ~(tpot_s > objective.slo_tpot_s)
    p50_s, p99_s = np.percentile(jct_s, (50, 99))
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
        programs=len(window.programs),
        turns=len(kept),
        jct_mean_s=float(jct_s.mean()),
        jct_p50_s=float(p50_s),
        jct_p99_s=float(p99_s),
        slowdown=float((jct_s / ideal_s).mean()),
        ideal_s=float(ideal_s.mean()),
        ttft_mean_s=float(ttft_s.mean()),
        ttft_p95_s=float(np.percentile(ttft_s, 95)),
        tpot_p95_s=_percentile_of_numbers(tpot_s, 95),
        slo_goodput=float(within.mean()),
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
        drift=_drift(jct_s / ideal_s),
    )


def lifetimes(window: Window, records: list[TurnRecord]) -> tuple[np.ndarray, np.ndarray]:
    """When each measured program arrived, and when it was done; NaN for what has not happened. A
    root program is ready when it arrives."""
    arrived_s: dict[str, float] = {}
    ended_s: dict[str, float] = {}
    for record in records:
        name = record.program_id
        if record.turn == 0:
            arrived_s[name] = record.ready_s
        if record.turn == window.last_turn.get(name):
            ended_s[name] = record.end_s
    names = [program.program_id for program in window.programs]
    arrived, ended = ([times.get(name, np.nan) for name in names] for times in (arrived_s, ended_s))
    return np.array(arrived), np.array(ended)


def _drift(slowdown: np.ndarray) -> float:
    """Mean over the later half of the programs, in order of arrival, over that of the earlier."""
    half = slowdown.size // 2
    return float(slowdown[half:].mean() / slowdown[:half].mean()) if half else 1.0


def _family(program: Program) -> Iterator[str]:
    """Ids of a program and its sub-agents."""
    yield program.program_id
    for turn in program.turns:
        for child in turn.children:
            yield from _family(child)


def _tpot_s(record: TurnRecord) -> float:
    if record.output_tokens < 2:
        return float("nan")
    return (record.end_s - record.first_token_s) / (record.output_tokens - 1)


def _percentile_of_numbers(values: np.ndarray, percent: float) -> float:
    numbers = values[~np.isnan(values)]
    return float(np.percentile(numbers, percent)) if numbers.size else 0.0
