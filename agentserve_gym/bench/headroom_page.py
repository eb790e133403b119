"""Headroom by looking ahead: a page of its own, and what the suite's page says of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from shlex import quote

from agentserve_gym.bench.headroom import LEVERS, Headroom, HeadroomFigures
from agentserve_gym.bench.origin import origin
from agentserve_gym.bench.study import Study
from agentserve_gym.report.markdown import change, code, plural, table
from agentserve_gym.report.page import current_commit, joined, opening
from agentserve_gym.report.statistics import Estimate

HEADROOM = "headroom.md"
HEADROOM_TITLE = "Headroom by looking ahead"
_TOGETHER, *_SINGLE = LEVERS

_READING = """At a share of the decisions, alternatives to the answer of {base} are simulated,
with it deciding from then on, and the best one is given. *Clairvoyant*: in the true future, which
no live system knows. *Placebo*: the same, but the alternatives are the same answer with one, two or
three more output tokens of the program's turn; what it gains is nothing but choosing among lucky
futures. *Net*: clairvoyant against placebo, the part of the gain that answers make. Changes of mean
JCT, geometric mean over paired seeds with Student's 95 % interval; **bold** excludes no change.
"""


_ALONE = "The first three are of all levers together, then each alone, net of luck. "


def _reading(figures: HeadroomFigures) -> str:
    text = _READING.format(base=code(figures.base))
    if figures.programs_share < 1.0:
        text += (
            f"Cells have the first {figures.programs_share:.0%} of their programs here: looking "
            "ahead to the end of a run costs the square of them.\n"
        )
    return text


def headroom_page(figures: HeadroomFigures) -> str:
    """The page as Markdown."""
    return joined(
        [
            opening(HEADROOM_TITLE, _command(figures), current_commit()),
            _reading(figures),
            _levers(figures),
            _deployable(figures),
        ]
    )


def _command(figures: HeadroomFigures) -> str:
    command = f"agentserve bench --headroom --policy {quote(figures.base)}"
    if figures.programs_share < 1.0:
        command += f" --programs-share {figures.programs_share:g}"
    return command


def _levers(figures: HeadroomFigures) -> str:
    rows = [
        (
            code(found.cell),
            found.lever,
            str(found.seeds),
            f"{found.base_s:.1f}",
            change(found.clairvoyant),
            change(found.placebo),
            change(found.net),
        )
        for found in figures.levers
    ]
    heading = ("cell", "lever", "seeds", "base, s", "clairvoyant", "placebo", "net")
    return f"## By lever\n\n{table(heading, rows)}" if rows else ""


def _deployable(figures: HeadroomFigures) -> str:
    rows = [
        (code(found.cell), str(found.seeds), f"{found.base_s:.1f}", change(found.against_base))
        for found in figures.deployable
    ]
    text = (
        "## What sampled futures gain\n\nThe same with futures drawn from what may be known "
        f"({code(figures.lookahead)}), and alternatives taken only where samples agree.\n\n"
    )
    return text + table(("cell", "seeds", "base, s", "lookahead"), rows) if rows else ""


# --- on the suite's page -------------------------------------------------------------------------


def looking_ahead_section(figures: HeadroomFigures, study: Study, folder: str) -> str:
    """A row a cell: all levers together, each alone net of luck, and the look-ahead that samples.

    Args:
        figures: of a headroom run, which may be of other cells than the suite's.
        study: the page's.
        folder: of the page of headroom, from the suite's page.
    """
    found = {(item.cell, item.lever): item for item in figures.levers}
    ahead = {item.cell: item for item in figures.deployable}
    measured = [lever for lever in _SINGLE if any(item.lever == lever for item in figures.levers)]
    rows = []
    for cell in dict.fromkeys([*(name for name, _ in found), *ahead]):
        whole = found.get((cell, _TOGETHER))
        single = (found.get((cell, lever)) for lever in measured)
        seeds = {item.seeds for item in figures.levers if item.cell == cell}
        seeds |= {ahead[cell].seeds} if cell in ahead else set()
        rows.append(
            (
                code(cell),
                " to ".join(map(str, sorted({min(seeds), max(seeds)}))),
                "" if whole is None else change(whole.clairvoyant),
                "" if whole is None else change(whole.placebo),
                "" if whole is None else change(whole.net),
                *("" if item is None else change(item.net) for item in single),
                change(ahead[cell].against_base) if cell in ahead else "",
            )
        )
    if not rows:
        return ""
    nets = (f"net, {lever}" for lever in measured)
    heading = ("cell", "seeds", "clairvoyant", "placebo", "net", *nets, "look-ahead")
    return (
        f"## {HEADROOM_TITLE}\n\nMeasured by `agentserve bench --headroom` "
        f"({origin(figures.version, figures.codes, study)}).\n"
        f"{_reading(figures)}"
        f"{_ALONE if measured else ''}*Look-ahead*: {code(figures.lookahead)}, a policy that "
        "samples futures from what a live system knows. In detail: "
        f"[{HEADROOM}]({folder}/{HEADROOM}).\n\n"
        f"{table(heading, rows)}"
    )


def looking_ahead_sentence(figures: HeadroomFigures, folder: str) -> list[str]:
    """What one better answer at a time gains beyond luck, and what of it a live system could."""
    net = {item.cell: item.net for item in figures.levers if item.lever == _TOGETHER}
    ahead = {item.cell: item.against_base for item in figures.deployable}
    parts = [
        f"{_gains(measured)} {how}"
        for how, measured in (
            ("with the true future known, net of luck", net),
            ("with futures that a live system could sample", ahead),
        )
        if any(not math.isinf(estimate.high) for estimate in measured.values())
    ]
    if not parts:
        return []
    strongest = _strongest([item for item in figures.levers if item.lever != _TOGETHER])
    return [
        f"Trying alternatives to the answers of {code(figures.base)} gains in "
        f"{', and in '.join(parts)}{strongest}: [{HEADROOM}]({folder}/{HEADROOM})."
    ]


def _gains(measured: dict[str, Estimate]) -> str:
    """In how many cells an interval is below 1, and where the most."""
    paired = {cell: found for cell, found in measured.items() if not math.isinf(found.high)}
    better = {cell: found for cell, found in paired.items() if found.high < 1.0}
    text = f"{len(better)} of {plural(len(paired), 'cell')}"
    if not better:
        return text
    most = min(better, key=lambda cell: better[cell].value)
    return f"{text} (most in {code(most)}, {change(better[most])})"


def _strongest(levers: Sequence[Headroom]) -> str:
    """The single lever with the largest net gain, if one has any."""
    better = [item for item in levers if item.net.high < 1.0]
    if not better:
        return ""
    most = min(better, key=lambda item: item.net.value)
    return f"; of single levers {most.lever} most, in {code(most.cell)} ({change(most.net)})"
