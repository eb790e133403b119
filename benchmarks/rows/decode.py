"""Fused decode against one step at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import Simulation
from agentserve_gym.sim.metrics import TurnRecord
from benchmarks.measure import Bench, Result, Table, Target, costs, spread
from benchmarks.workloads import decode_scenario

_SAME = 1e-9
_REPETITIONS = 3
_FUSED, _PLAIN = "fused, {} tokens", "step by step, {} tokens"


def fused(bench: Bench) -> list[Result]:
    """The same decode-heavy runs in both modes, with equal results.

    Raises:
        ValueError: if the results differ.
    """
    sizes = bench.sizes
    runs = {tokens: _Run(bench, tokens) for tokens in sizes.decode_tokens}
    cases: dict[str, Callable[[int], float]] = {}
    for tokens, run in runs.items():
        cases[_FUSED.format(tokens)] = partial(run.simulate, True)
        cases[_PLAIN.format(tokens)] = partial(run.simulate, False)
    samples = bench.interleaved(cases, _REPETITIONS)
    difference = max(run.difference() for run in runs.values())
    ratios: dict[int, list[float]] = {}
    rows = []
    for tokens, run in runs.items():
        quick, plain = samples[_FUSED.format(tokens)], samples[_PLAIN.format(tokens)]
        ratios[tokens] = [a.events / b.events for a, b in zip(plain, quick, strict=True)]
        rows.append(
            [
                f"{tokens:,}",
                f"{run.steps:,}",
                f"{1e-3 * sizes.decode_turns * costs(quick).median:,.1f}",
                f"{1e-3 * sizes.decode_turns * costs(plain).median:,.1f}",
                f"{spread(ratios[tokens]).median:.0f}",
            ]
        )
    judged = sizes.decode_tokens[2]
    heading = ["mean output, tokens", "engine steps", "fused, ms", "step by step, ms", "ratio"]
    return [
        Result(
            row="fused",
            title=f"fused decode against step by step, outputs of {judged:,} tokens, same results",
            unit="x",
            measured=spread(ratios[judged]),
            target=Target(limit=50, at="least", text="50x"),
            tables=[
                Table(
                    title="Decode-heavy runs",
                    heading=heading,
                    rows=rows,
                    note=f"{sizes.decode_turns} turns each on one instance, about half a dozen at "
                    "a time, outputs of half to one and a half times the mean. First-token and end "
                    f"times of all turns agree within {max(difference, 1e-16):.0e} (relative).",
                )
            ],
        )
    ]


class _Run:
    """One workload, and what was recorded of it in each mode."""

    def __init__(self, bench: Bench, tokens: int) -> None:
        self._bench = bench
        self._scenario = decode_scenario(bench.sizes.decode_turns, tokens)
        self._records: dict[bool, list[TurnRecord]] = {}
        self.steps = 0

    def simulate(self, fuse: bool, _repetition: int) -> float:
        """Simulate once; returns the number of turns."""
        started = time.perf_counter()
        simulation = Simulation(self._scenario, fused=fuse, record_turns=True)
        policy = parse_policy("affinity+lru")
        self._bench.aside.stop(started)
        report = run_policy(simulation, policy)
        self._records[fuse] = simulation.metrics.records or []
        self.steps = report["steps"]
        return float(report["turns"])

    def difference(self) -> float:
        """Largest relative difference between the modes.

        Raises:
            ValueError: if it is too large.
        """
        found = _difference(self._records[True], self._records[False])
        if found > _SAME:
            raise ValueError(f"fused and plain times differ by {found:.1e}; allowed: {_SAME:.0e}")
        return found


def _difference(ours: list[TurnRecord], theirs: list[TurnRecord]) -> float:
    """Largest relative difference of first-token and end times.

    Raises:
        ValueError: if the turns are not the same.
    """
    found, expected = (
        {(record.program_id, record.turn): record for record in records}
        for records in (ours, theirs)
    )
    if found.keys() != expected.keys():
        raise ValueError(f"fused ran {len(found)} turns, plain {len(expected)}; allowed: the same")
    return max(
        max(
            _relative(found[key].first_token_s, expected[key].first_token_s),
            _relative(found[key].end_s, expected[key].end_s),
        )
        for key in found
    )


def _relative(value: float, reference: float) -> float:
    return abs(value - reference) / reference if reference else abs(value)
