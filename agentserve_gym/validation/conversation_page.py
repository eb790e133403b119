"""The validation page's part on conversations: its text, its tables and its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from agentserve_gym.plots import style
from agentserve_gym.report import palette
from agentserve_gym.report.markdown import plain_table
from agentserve_gym.validation.conversation_study import CellResult, WithheldResult
from agentserve_gym.validation.replay import Column

HEADING = "## Conversations on a B200, with and without host memory"
WITHHELD_HEADING = "### Cells under pressure, measurements withheld"
_WITHHELD = f"""{WITHHELD_HEADING}

With 256 and 512 clients the contexts exceed the KV pool. Simulated here without measurements, for
others to compare.
"""
DRAWN_CLIENTS = (64, 128)

_OPENING = f"""{HEADING}

vLLM 0.15 serves Llama 3.3 70B in NVFP4 with fp8 KV on one B200 (InferenceX, multi-turn): each
client runs one conversation to its end and takes the next, until some 5,000 requests have ended;
the pool holds 782,160 tokens, host memory 300 GiB. FlashInfer's own attention, chunks of up to
8,192 tokens, CUDA graphs in pure decode steps only.

Step times are sums of kernels measured by others (aiconfigurator-core), the attention's in another
engine, spread over unequal contexts by FlashInfer's planner. Two constants are measured on the
cells with 16 and 32 clients without host memory: what every step takes beside its kernels, and what
launching the kernels of a step with prefill takes (`agentserve calibrate host`). No other number is
fitted, but how attention is priced (which rows of the tables count, how unequal the batches are
that stand for all, how fast a lone block runs) was settled with all open cells in view: the
withheld ones are the test. Targets, for the cells not used: requests/s 4 %, TTFT 20 %, TPOT 4 %,
E2E 5 %, bytes to the host 10 % (beyond two standard errors: NVML samples some hundredths of each
second).
"""

_REMARKS = """What decides:

- **One long context holds up the batch.** From 37 contexts on, FlashInfer's planner cuts none into
  pieces, so a step waits for the longest: with 64 clients a conversation of 21,000 tokens takes a
  step from 37 to 57 ms, measured and simulated. Tables of equal contexts do not show it.
- **Steps with prefill are bound by launches**: their linear layers take some 41 ms however few
  tokens they have.
- **A client's pause of 7 ms** and the way through HTTP and tokenizer make the next turn miss a step
  boundary more often than not, which is a third of the time to first token at 16 clients.
- **Host memory costs next to nothing and brings nothing** as long as HBM holds every context.
"""


def conversation_section(
    results: Sequence[CellResult], withheld: Sequence[WithheldResult], pictures: str
) -> list[str]:
    """The part as pieces of Markdown. ``pictures``: folder of the page's, relative to it."""
    drawn = [picture_name(result) for result in results if is_drawn(result)]
    return [
        _OPENING,
        _table(cell_rows(results)),
        *(f"![Conversations: measured and simulated]({pictures}/{name})\n" for name in drawn),
        _REMARKS,
        _WITHHELD,
        _table(withheld_rows(withheld)),
    ]


def is_drawn(result: CellResult) -> bool:
    """Whether a cell gets a picture: those with host memory and pressure of sorts."""
    settings = result.cell.settings
    return settings.host_gib is not None and settings.clients in DRAWN_CLIENTS


def picture_name(result: CellResult) -> str:
    return f"conversations-{result.cell.settings.clients}.png"


def cell_rows(results: Sequence[CellResult]) -> list[tuple[str, ...]]:
    """Measured and simulated means: a heading, then a row per cell."""
    rows: list[tuple[str, ...]] = [
        (
            "clients", "requests/s", "simulated", "TTFT, ms", "simulated", "TPOT, ms", "simulated",
            "E2E, s", "simulated", "GB to host", "simulated", "targets",
        )
    ]  # fmt: skip
    for result in results:
        means, errors = result.means(), result.errors()
        host = result.cell.settings.host_gib is not None
        row = [f"{result.cell.settings.clients}{', host memory' if host else ''}"]
        for name, unit, digits in (
            ("requests/s", 1.0, 3), ("TTFT", 1e3, 0), ("TPOT", 1e3, 1), ("E2E", 1.0, 2),
        ):  # fmt: skip
            measured, simulated = (value * unit for value in means[name])
            row += [f"{measured:.{digits}f}", f"{simulated:.{digits}f} ({errors[name]:+.1%})"]
        if host:
            true_gb, error_gb = result.host_gb_out()
            row += [
                f"{true_gb:.0f} (standard error {error_gb:.0f})",
                f"{result.run.host_gb_out:.0f}",
            ]
        else:
            row += ["", ""]
        rows.append((*row, _verdict(result)))
    return rows


def withheld_rows(results: Sequence[WithheldResult]) -> list[tuple[str, ...]]:
    """Simulated figures of cells whose measurements are not here."""
    rows: list[tuple[str, ...]] = [
        (
            "clients", "requests/s", "TTFT mean, s", "TPOT mean, ms", "E2E mean, s", "preemptions",
            "GB to host", "GB from host",
        )
    ]  # fmt: skip
    for result in results:
        figures = result.run.as_dict()
        rows.append(
            (
                f"{result.clients}{', host memory' if result.host else ''}",
                f"{figures['requests_per_s']:.3f}",
                f"{figures['ttft_ms']['mean'] / 1e3:.2f}",
                f"{figures['tpot_ms']['mean']:.1f}",
                f"{figures['e2e_s']['mean']:.1f}",
                f"{figures['preemptions']:,}",
                f"{figures['host_gb_out']:,.0f}",
                f"{figures['host_gb_in']:,.0f}",
            )
        )
    return rows


def draw_cell(result: CellResult) -> bytes:
    """One cell: two CDFs, and running turns, KV use and bytes to the host over time.

    Returns:
        A PNG file's bytes, the same for the same results.

    Raises:
        ModuleNotFoundError: naming the extra to install, where matplotlib is missing.
    """
    cell, run = result.cell, result.run
    states, engine, pcie = run.states, cell.engine, cell.pcie
    figure = style.new_figure(11.0, 9.6)
    figure.suptitle(
        cell.name, x=0.015, y=0.985, ha="left", fontsize=15, fontweight="bold", color=palette.INK
    )
    grid = figure.add_gridspec(
        3, 2, left=0.06, right=0.98, top=0.92, bottom=0.06, hspace=0.35, wspace=0.16
    )
    ttft, tpot, running, waiting, usage, moved = (
        figure.add_subplot(grid[row, column]) for row in range(3) for column in range(2)
    )
    _cdf(ttft, "Time to first token, ms", cell.ttft_s * 1e3, run.replay.ttft_s() * 1e3)
    ttft.set_xlim(0, 3 * float(np.median(cell.ttft_s)) * 1e3)
    _cdf(tpot, "Time per output token, ms", cell.tpot_s * 1e3, run.replay.tpot_s() * 1e3)
    tpot.set_xlim(0, 2 * float(np.median(cell.tpot_s)) * 1e3)
    time_s = np.array(states.time_s)
    series = (
        (running, "Running turns", engine["running"], states.running),
        (waiting, "Waiting turns", engine["waiting"], states.waiting),
        (usage, "KV use, %", engine["kv_usage_pct"], states.kv_usage_pct),
    )
    for axes, title, measured, simulated in series:
        style.tidy(axes, title)
        _lines(axes, engine["t_s"], measured, time_s, np.array(simulated, dtype=np.float64))
    style.tidy(moved, "To host memory, GB/s, mean of a minute")
    _lines(
        moved,
        *_by_minute(pcie["t_s"], pcie["to_host_mb_per_s"] / 1e3),
        *_by_minute(time_s[1:], np.diff(states.host_gb_out) / np.diff(time_s)),
    )
    for axes in (running, waiting, usage, moved):
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel("seconds", fontsize=9, color=palette.INK)
    style.legend(tpot, loc="lower right")
    return style.png(figure, dpi=100)


_MEASURED = {"color": palette.INK, "linewidth": 2.6, "alpha": 0.8, "label": "measured"}
_SIMULATED = {"color": palette.ORANGE, "linewidth": 1.5, "label": "simulated"}


def _cdf(axes: Any, title: str, measured: Column, simulated: Column) -> None:
    style.tidy(axes, title)
    for values, settings in ((measured, _MEASURED), (simulated, _SIMULATED)):
        ordered = np.sort(values)
        share = np.arange(1, len(ordered) + 1) / len(ordered)
        axes.step(ordered, share, where="post", **settings)
    axes.set_ylim(0, 1.015)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _lines(
    axes: Any, measured_s: Column, measured: Column, simulated_s: Column, simulated: Column
) -> None:
    axes.plot(measured_s, measured, **_MEASURED)
    axes.plot(simulated_s, simulated, **_SIMULATED)


def _by_minute(time_s: Column, values: Column) -> tuple[Column, Column]:
    """Middles and means of whole minutes."""
    minute = (time_s // 60).astype(int)
    count = np.bincount(minute)
    whole = count > 0
    sums = np.asarray(np.bincount(minute, weights=values), dtype=np.float64)
    middles = np.asarray(np.flatnonzero(whole), dtype=np.float64) * 60.0 + 30.0
    return middles, sums[whole] / count[whole]


def _verdict(result: CellResult) -> str:
    if result.calibrated_on:
        return "used for calibration"
    return "met" if not result.missed else "missed: " + ", ".join(result.missed)


def _table(rows: list[tuple[str, ...]]) -> str:
    return plain_table(rows[0], rows[1:])
