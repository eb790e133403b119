"""docs/performance.md, from what was measured."""

from __future__ import annotations

from pathlib import Path

from agentserve_gym.plots.style import png
from agentserve_gym.report import page as shell
from agentserve_gym.report.markdown import table as markdown
from benchmarks.control import BARE
from benchmarks.files import PeerRun, PeersFile, SpeedFile
from benchmarks.machine import KERNELS
from benchmarks.measure import Result, Table
from benchmarks.pictures import draw_scaling

PEER_TARGET = 3.0
"""Times a peer's rate."""

_COMMANDS = """Every number is of a run of that command{peers}.
Measure again, on an idle machine, with

```
make bench-speed    # all rows with both kernels, the pictures and this page
make bench-peers    # other simulators on the same programs, side by side
make bench          # both
.venv/bin/python -m benchmarks.speed peer step    # some rows; --help lists them, --quick is tiny
```
"""

_RATIOS = """A second here is not a second elsewhere. So each repetition was measured between two
runs of a bare event loop (a heap, and a method call for each event), and **bare events** says how
many such events take as long: a figure that holds elsewhere about as well as here. Medians of
{repetitions} repetitions and more, after a warm-up; ranges are the smallest and the largest.
"""

_TARGETS_HEADING = (
    "what", "target", "{}", "met", "bare events", "interpreted", "bare events, interpreted",
)  # fmt: skip

Speeds = dict[str, SpeedFile]
"""By kernel. The page is about the first, and says of the interpreted one what it differs in."""


def write_page(speeds: Speeds, peers: PeersFile | None, to: Path) -> None:
    """Write the page and its pictures, each whole or not at all."""
    pictures = _pictures(_first(speeds), to.stem)
    shell.write_page(to, render(speeds, peers, list(pictures)), pictures)


def _first(speeds: Speeds) -> SpeedFile:
    return next(speeds[name] for name in KERNELS if name in speeds)


def render(speeds: Speeds, peers: PeersFile | None, pictures: list[str]) -> str:
    """The page; ``pictures`` are their paths from it."""
    speed = _first(speeds)
    parts = [
        shell.opening("Performance", "make bench-speed", speed.machine.commit),
        _COMMANDS.format(peers=", or of `make bench-peers`" if peers else ""),
        _summary(speed, peers),
        _machine(speed),
        "## Targets\n",
        _RATIOS.format(repetitions=_repetitions(speed)),
        _targets(speeds, peers),
        _peers(peers),
        *(_details(result) for result in speed.results if result.tables),
        *(f"![Cost of a turn]({picture})\n" for picture in pictures),
        _controls(speed),
    ]
    return shell.joined(parts)


def _repetitions(speed: SpeedFile) -> int:
    counts = [
        result.measured.count
        for result in speed.results
        if result.measured is not None and result.in_events is not None
    ]
    return min(counts, default=1)


def _summary(speed: SpeedFile, peers: PeersFile | None) -> str:
    judged = [result for result in speed.results if result.met is not None]
    missed = [result for result in judged if not result.met]
    lines = [f"{len(judged) - len(missed)} of {len(judged)} targets of a row are met."]
    lines += [f"Missed: {result.title}: {_miss(result)}." for result in missed]
    costs = [result for result in speed.results if result.in_events is not None]
    if costs:
        said = ", ".join(
            f"a {result.per} of `{result.row}` costs {_short(result.in_events.median)}"
            for result in costs
            if result.in_events is not None
        )
        lines.append(f"In bare events: {said}.")
    if peers is not None:
        for pair, ratio in peers.ratios.items():
            lines.append(f"{pair}: {ratio.median:.2f} times its rate.")
    return "\n".join(f"- {line}" for line in lines) + "\n"


def _miss(result: Result) -> str:
    assert result.measured is not None
    assert result.target is not None
    assert result.judged is not None
    factor = result.judged / result.target.limit
    if result.target.at == "least":
        return f"{factor:.0%} of the target"
    return f"{factor:.2f} times the limit"


def _machine(speed: SpeedFile) -> str:
    machine = speed.machine
    libraries = ", ".join(f"{name} {number}" for name, number in machine.libraries.items())
    taken = {result.wall_s for result in speed.results}  # results of one row share it
    return (
        f"Measured on {machine.processor}, {machine.cores} cores, {machine.system}, "
        f"Python {machine.python}, {machine.kernel} kernel; {libraries}. "
        "One process and one thread, unless a row says otherwise; "
        f"{sum(taken) / 60:.1f} min for all rows.\n"
    )


def _targets(speeds: Speeds, peers: PeersFile | None) -> str:
    speed = _first(speeds)
    plain: dict[str, Result] = {}
    if "compiled" in speeds and "interpreted" in speeds:
        plain = {result.title: result for result in speeds["interpreted"].results}
    rows = [
        _target_row(result, plain.get(result.title))
        for result in speed.results
        if result.target is not None
    ]
    if peers is not None:
        rows += [
            [
                f"peer trace, {pair}",
                f"{PEER_TARGET:g} x",
                f"{ratio.median:.2f} x ({ratio.low:.2f} to {ratio.high:.2f})",
                "yes" if ratio.median >= PEER_TARGET else "no",
                "",
                "",
                "",
            ]
            for pair, ratio in peers.ratios.items()
        ]
    heading = [title.format(speed.machine.kernel.split()[0]) for title in _TARGETS_HEADING]
    return markdown(heading, rows)


def _target_row(result: Result, plain: Result | None) -> list[str]:
    assert result.target is not None
    return [
        result.title,
        result.target.text,
        _measured(result),
        "" if result.met is None else "yes" if result.met else "no",
        _events(result),
        _measured(plain) if plain is not None else "",
        _events(plain) if plain is not None else "",
    ]


def _measured(result: Result) -> str:
    value = result.measured
    if value is None:
        return "not measured"
    over = f" ({_short(value.low)} to {_short(value.high)})" if value.count > 1 else ""
    return f"{_short(value.median)} {result.unit}{over}"


def _events(result: Result) -> str:
    return f"{_short(result.in_events.median)} a {result.per}" if result.in_events else ""


def _peers(peers: PeersFile | None) -> str:
    if peers is None:
        return "## Other simulators\n\nNot measured beside this run; `make bench-peers` does it.\n"
    rows = [_peer_row(run) for run in (*peers.ours, *peers.peers)]
    heading = ["simulator", "version", "turns/s", "range", "mean TTFT, ms", "mean TPOT, ms",
               "prompt tokens from cache"]  # fmt: skip
    what = "\n".join(f"- {run.name}: {run.what}" for run in (*peers.ours, *peers.peers))
    return (
        "## Other simulators\n\n"
        f"The same trace file of {peers.turns:,} turns, reading it included, in turns "
        f"({peers.repetitions} repetitions, each in a fresh process after a warm-up run in it). "
        "Rates are of wall time on one core.\n\n"
        f"{markdown(heading, rows)}\n{what}\n"
    )


def _peer_row(run: PeerRun) -> list[str]:
    if run.rate is None:
        return [run.name, run.version, run.missing, "", "", "", ""]
    figures = run.figures
    return [
        run.name,
        run.version,
        f"{run.rate.median:,.0f}",
        f"{run.rate.low:,.0f} to {run.rate.high:,.0f}",
        f"{figures['ttft_ms']:.1f}",
        f"{figures['tpot_ms']:.2f}",
        f"{figures['cached_share']:.0%}",
    ]


def _details(result: Result) -> str:
    tables = "\n".join(_table(table) for table in result.tables)
    remarks = "".join(f"\n{remark}\n" for remark in result.remarks)
    return f"{tables}{remarks}"


def _table(table: Table) -> str:
    note = f"\n{table.note}\n" if table.note else ""
    return f"## {table.title}\n\n{markdown(table.heading, table.rows)}{note}"


def _controls(speed: SpeedFile) -> str:
    bare = speed.controls[BARE].median
    rows = [
        [
            name,
            f"{1e6 * found.median:.2f}",
            f"{1e6 * found.q1:.2f} to {1e6 * found.q3:.2f}",
            f"{1e-6 / found.median:.2f}",
            f"{found.median / bare:.1f}",
        ]
        for name, found in speed.controls.items()
    ]
    heading = ["event loop", "us per event", "quartiles", "million events/s", "in bare events"]
    return (
        "## Controls\n\nMeasured between the rows: what an event costs that does nothing.\n\n"
        f"{markdown(heading, rows)}"
    )


def _pictures(speed: SpeedFile, folder: str) -> dict[str, bytes]:
    """PNG files by path from the page; none without points, or without matplotlib."""
    points = {result.row: result.points for result in speed.results if result.points}
    figure = draw_scaling(points) if points else None
    return {} if figure is None else {f"{folder}/scaling.png": png(figure)}


def _short(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
