"""Fused decode against one step at a time."""

from __future__ import annotations

from collections.abc import Callable

from agentserve_gym.baselines import parse_policy, run_policy
from agentserve_gym.sim import Simulation
from agentserve_gym.sim.metrics import TurnRecord
from benchmarks.measure import Bench, Result, Table, Target, costs, spread
from benchmarks.workloads import decode_scenario

_SAME = 1e-9


def fused(bench: Bench) -> list[Result]:
    """The same decode-heavy run in both modes, with equal results.

    Raises:
        ValueError: if the results differ.
    """
    sizes = bench.sizes
    scenario = decode_scenario(sizes.decode_turns, sizes.decode_tokens)
    records: dict[bool, list[TurnRecord]] = {}
    steps = 0

    def run(fuse: bool) -> Callable[[int], float]:
        def work(_: int) -> float:
            nonlocal steps
            simulation = Simulation(scenario, fused=fuse, record_turns=True)
            report = run_policy(simulation, parse_policy("affinity+lru"))
            records[fuse] = simulation.metrics.records or []
            steps = report["steps"]
            return float(report["turns"])

        return work

    samples = bench.interleaved({"fused": run(True), "step by step": run(False)}, 3)
    difference = _difference(records[True], records[False])
    if difference > _SAME:
        raise ValueError(f"fused and plain times differ by {difference:.1e}; allowed: {_SAME:.0e}")
    ratios = [
        plain.events / quick.events
        for plain, quick in zip(samples["step by step"], samples["fused"], strict=True)
    ]
    rows = [
        [name, f"{1e-3 * costs(found).median * sizes.decode_turns:,.1f}"]
        for name, found in samples.items()
    ]
    return [
        Result(
            row="fused",
            title="fused decode against step by step, same results",
            unit="x",
            measured=spread(ratios),
            target=Target(limit=50, at="least", text="50x"),
            tables=[
                Table(
                    title="A decode-heavy run",
                    heading=["mode", "ms"],
                    rows=rows,
                    note=f"{sizes.decode_turns} turns of about {sizes.decode_tokens:,} tokens, "
                    f"{steps:,} engine steps; the times of all turns agree within "
                    f"{max(difference, 1e-16):.0e} (relative).",
                )
            ],
        )
    ]


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
