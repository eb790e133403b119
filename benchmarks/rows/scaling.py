"""Cost of a turn as runs, clusters and populations grow."""

from __future__ import annotations

from collections.abc import Sequence

from agentserve_gym.sim import Scenario
from benchmarks.drive import Drive
from benchmarks.long_run import Stretch, stretches
from benchmarks.measure import (
    Bench,
    Point,
    Result,
    Sample,
    Spread,
    Table,
    Target,
    costs,
    events,
    spread,
)
from benchmarks.workloads import crowded_scenario, growing_scenario

ONE = "affinity+lru"
"""Looks at a program's home; at all instances only when a program is new."""
ALL = "lmetric"
"""Looks at every instance for every turn."""

_FLAT = Target(limit=1.5, at="most", text="within 1.5x")
_WINDOWS = 6
_WARM_UP_TURNS = 300


def turns(bench: Bench) -> list[Result]:
    """One run: what its turns cost as it gets longer, and its memory."""
    sizes = bench.sizes.turns
    shorter = sizes[:-1] if len(sizes) > 2 else sizes
    runs = {ONE: _run(bench, ONE, sizes), ALL: _run(bench, ALL, shorter)}
    points = [
        _point(policy, size, _joined([s.sample for s in found if size // 2 < s.turns <= size]))
        for policy, found in runs.items()
        for size in sizes
        if size <= found[-1].turns
    ]
    longest = runs[ONE]
    return [
        Result(
            row="turns",
            title=f"cost of a turn, {sizes[0]:,} to {sizes[-1]:,} turns in one run",
            unit="x",
            measured=_worst(points),
            target=_FLAT,
            tables=[
                _table(
                    "One run that gets longer",
                    "turns so far",
                    points,
                    "Four instances, function-calling agents without end, about as many alive at "
                    "any time; the later half of each length is measured.",
                )
            ],
            points=points,
        ),
        _memory(longest),
    ]


def instances(bench: Bench) -> list[Result]:
    """Clusters of different size under a load in proportion."""
    sizes = bench.sizes.instances
    cases = [
        (policy, size, growing_scenario(size), 100 * size)
        for policy in (ONE, ALL)
        for size in sizes
    ]
    points = _windows(bench, cases)
    linear = [point for point in points if point.series == ALL]
    slope = (linear[-1].events - linear[0].events) / (linear[-1].size - linear[0].size)
    return [
        Result(
            row="instances",
            title=f"cost of a turn, {sizes[0]} to {sizes[-1]} instances, `{ONE}`",
            unit="x",
            measured=_worst([point for point in points if point.series == ONE]),
            target=_FLAT,
            remarks=[
                f"`{ALL}` looks at every instance for every turn; one more instance costs it "
                f"{slope:.1f} bare events a turn."
            ],
            tables=[_table("Larger clusters", "instances", points, "Load grows with them.")],
            points=points,
        )
    ]


def live_programs(bench: Bench) -> list[Result]:
    """Populations of different size on one cluster."""
    sizes = bench.sizes.live_programs
    cases = [
        (policy, size, crowded_scenario(size), 2 * size) for policy in (ONE, ALL) for size in sizes
    ]
    points = _windows(bench, cases)
    return [
        Result(
            row="live-programs",
            title=f"cost of a turn, {sizes[0]:,} to {sizes[-1]:,} live programs",
            unit="x",
            measured=_worst(points),
            target=_FLAT,
            tables=[
                _table(
                    "More live programs",
                    "live programs",
                    points,
                    "Four instances, a closed loop; gaps grow with the number of programs, so that "
                    "turns arrive at about one rate.",
                )
            ],
            points=points,
        )
    ]


def _run(bench: Bench, policy: str, sizes: Sequence[int]) -> list[Stretch]:
    every = min(5_000, sizes[0] // 2)
    found: list[Stretch] = []
    for stretch in stretches(policy, sizes[-1], every):
        bench.report(policy, stretch.turns, sizes[-1])
        found.append(stretch)
    return found


def _memory(found: list[Stretch]) -> Result:
    last = found[-1]
    marks = [0, *(10**power for power in range(3, 7))]
    rows = [
        [f"{stretch.turns:,}", f"{stretch.peak_mb:.0f}"]
        for stretch in found
        if stretch.turns in marks or stretch is last
    ]
    return Result(
        row="memory",
        title=f"peak memory of a run of {last.turns:,} turns",
        unit="MB",
        measured=spread([last.peak_mb]),
        target=Target(limit=500, at="most", text="under 500 MB"),
        tables=[
            Table(
                title="Memory of one run",
                heading=["turns so far", "peak resident memory, MB"],
                rows=rows,
                note="Of the whole process; the first line is the interpreter with the package.",
            )
        ],
    )


def _windows(bench: Bench, cases: Sequence[tuple[str, int, Scenario, int]]) -> list[Point]:
    """The cost of a turn of each case after a warm-up of as many turns as it names."""
    for policy, _, scenario, _ in cases[:: max(1, len(cases) // 2)]:
        # What is loaded on first use is loaded now.
        Drive(scenario, policy).run(_WARM_UP_TURNS)
    drives = []
    for number, (policy, size, scenario, warm_up) in enumerate(cases):
        bench.report(f"{policy}, {size:,}: warm-up", number, len(cases))
        drive = Drive(scenario, policy)
        drive.run(warm_up)
        drives.append(drive)
    length = max(1, bench.sizes.window_turns // _WINDOWS)
    samples: list[list[Sample]] = [[] for _ in cases]
    # In turns, so that a slow moment of the machine meets all of them.
    for window in range(_WINDOWS):
        bench.report("windows", window, _WINDOWS)
        for drive, found in zip(drives, samples, strict=True):
            found.append(drive.measure(length, bench.control))
    bench.report("", _WINDOWS, _WINDOWS)
    return [
        Point(
            series=policy,
            size=size,
            microseconds=costs(found).median,
            events=events(found).median,
        )
        for (policy, size, _, _), found in zip(cases, samples, strict=True)
    ]


def _joined(samples: Sequence[Sample]) -> Sample:
    """Several stretches as one; the middle one of the controls beside them."""
    return Sample(
        sum(sample.seconds for sample in samples),
        sum(sample.work for sample in samples),
        spread([sample.event_s for sample in samples]).median,
    )


def _point(policy: str, size: float, sample: Sample) -> Point:
    return Point(series=policy, size=size, microseconds=sample.microseconds, events=sample.events)


def _ratios(points: Sequence[Point]) -> dict[tuple[str, float], float]:
    """Cost in bare events over that of the smallest size of the same series."""
    first: dict[str, Point] = {}
    for point in points:
        first.setdefault(point.series, point)
    return {
        (point.series, point.size): point.events / first[point.series].events for point in points
    }


def _worst(points: Sequence[Point]) -> Spread:
    """The largest ratio to the smallest size, with all others as its spread."""
    ratios = list(_ratios(points).values())
    found = spread(ratios)
    return found.model_copy(update={"median": found.high})


def _table(title: str, what: str, points: Sequence[Point], note: str) -> Table:
    ratios = _ratios(points)
    rows = [
        [
            f"`{point.series}`, {point.size:,.0f}",
            f"{point.microseconds:.1f}",
            f"{point.events:,.0f}",
            f"{ratios[point.series, point.size]:.2f}",
        ]
        for point in points
    ]
    heading = [f"policy, {what}", "us per turn", "bare events per turn", "to the smallest"]
    return Table(title=title, heading=heading, rows=rows, note=note)
