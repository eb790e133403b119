"""What a study shows, in sentences that are only written where intervals carry them."""

from __future__ import annotations

from collections.abc import Sequence

from agentserve_gym.bench.markdown import change, code, interval
from agentserve_gym.bench.pictures import SINGLE_LEVERS
from agentserve_gym.bench.statistics import Estimate, pooled_ratio
from agentserve_gym.bench.study import CellResult, Study
from agentserve_gym.bench.suite import Lever, has_lower_tier

_MOST_NAMED = 6
_TIER = "Where there is one, a lower tier"

_ADDED: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    (_TIER, (("write-through", "affinity"), ("lmetric+write-through", "lmetric"))),
    ("Routing by cache and load", (("lmetric", "affinity"),
                                   ("lmetric+write-through", "write-through"))),
    ("The capacity gate", (("gate", "affinity"), ("hicache+gate", "hicache"))),
    ("Least attained service", (("plas", "affinity"), ("hicache+plas", "hicache"))),
)  # fmt: skip
"""What a rule adds on top of one policy and of another: pairs of labels, with and without it."""

_OF_LEVER: dict[Lever, str] = {
    "routing": "Routing",
    "residency": "Residency in HBM",
    "tiers": "A lower tier",
    "order": "Queue order",
    "admission": "Admission",
}


def conclusions(study: Study) -> list[str]:
    """Sentences, most important first."""
    cells = study.ranking_cells
    if not cells:
        return ["Nothing separates in any cell that was run; no policy is ranked."]
    lines = [_leaders(study)]
    lines += [_lever(study, cells, lever) for lever in SINGLE_LEVERS]
    lines += [_strongest(study, cells), *_overlaps(cells), _oracles(study, cells)]
    controls = [cell for cell in study.cells if cell.is_control]
    if controls:
        names = ", ".join(f"{code(cell.name)} ({cell.spread:.2%})" for cell in controls)
        lines.append(f"Where nothing is scarce nothing separates: policies spread by {names}.")
    return lines


def _leaders(study: Study) -> str:
    first = study.overall[0]
    close = [row.label for row in study.overall[1:] if row.score.high >= first.score.low]
    text = (
        f"Over all cells that rank, {code(first.label)} scores highest: {interval(first.score)}, "
        f"where session affinity + LRU has "
        f"{_score(study, study.suite.stock)} and random routing 0"
    )
    if close:
        named = ", ".join(code(label) for label in close[:_MOST_NAMED])
        more = len(close) - _MOST_NAMED
        text += f"; the intervals of {named}" + (f" and {more} more" if more > 0 else "")
        text += " overlap its own, so there is no single winner"
    return f"{text}. It is best, or not separated from the best, in {first.tied_in} of " + (
        f"{len(study.ranking_cells)} cells: no policy should be chosen without its cell."
        if first.tied_in < len(study.ranking_cells)
        else f"{len(study.ranking_cells)} cells."
    )


def _score(study: Study, label: str) -> str:
    return next(f"{row.score.value:.2f}" for row in study.overall if row.label == label)


def _lever(study: Study, cells: Sequence[CellResult], lever: Lever) -> str:
    gains = {cell.name: gain for cell in cells if (gain := study.gain(cell, [lever])) is not None}
    better = {name: gain for name, gain in gains.items() if gain.estimate.high < 1.0}
    worse = [name for name, gain in gains.items() if gain.estimate.low > 1.0]
    text = (
        f"**{_OF_LEVER[lever]}** alone beats the stock policy in {len(better)} of {len(gains)} "
        "cells (interval below 1)"
    )
    if better:
        most = min(better, key=lambda name: better[name].estimate.value)
        gain = better[most]
        text += (
            f"; most in {code(most)}, by {_percent(gain.estimate)} of mean JCT ({code(gain.label)})"
        )
    if worse:
        text += f"; even its best is worse in {', '.join(code(name) for name in worse)}"
    return text + "."


def _strongest(study: Study, cells: Sequence[CellResult]) -> str:
    """Which single lever is worth most, counted over cells."""
    counts: dict[str, list[str]] = {}
    for cell in cells:
        gains = {
            lever: gain.estimate
            for lever in SINGLE_LEVERS
            if (gain := study.gain(cell, [lever])) is not None
        }
        if not gains:
            continue
        best = min(gains, key=lambda lever: gains[lever].value)
        if gains[best].high < 1.0:
            counts.setdefault(best, []).append(cell.name)
    parts = [
        f"{lever} in {len(names)} ({', '.join(code(name) for name in names)})"
        for lever, names in sorted(counts.items(), key=lambda item: -len(item[1]))
    ]
    if not parts:
        return "No single lever beats the stock policy anywhere."
    return f"The single lever that is worth most: {'; '.join(parts)}."


def _overlaps(cells: Sequence[CellResult]) -> list[str]:
    """Whether levers add up: the same rule on top of the stock policy and of a stronger one."""
    lines = []
    for rule, pairs in _ADDED:
        found = []
        for label, other in pairs:
            kept = [cell for cell in cells if label in cell.ranked and other in cell.ranked]
            if rule == _TIER:
                kept = [cell for cell in kept if has_lower_tier(cell.scenario)]
            if kept:
                jct = [[cell.values(name) for cell in kept] for name in (label, other)]
                found.append(f"{change(pooled_ratio(*jct))} on top of {code(other)}")
        if len(found) == len(pairs):
            lines.append(f"{rule} changes mean JCT by {', and '.join(found)}.")
    return lines


def _oracles(study: Study, cells: Sequence[CellResult]) -> str:
    found = {cell.name: head for cell in cells if (head := study.headroom(cell)) is not None}
    if not found:
        return "No oracle ran, so nothing is known about headroom beyond the lower bound."
    better = {name: head for name, head in found.items() if head[1].high < 1.0}
    text = (
        f"Oracles of one decision beat the best policy in {len(better)} of {len(found)} cells "
        "(interval below 1)"
    )
    if better:
        most = min(better, key=lambda name: better[name][1].value)
        label, estimate = better[most]
        text += f", most in {code(most)}, by {_percent(estimate)} ({code(label)})"
    room = [
        1.0 - cell.mean(cell.ranked[0], "ideal_s") / cell.mean(cell.ranked[0]) for cell in cells
    ]
    return (
        f"{text}. The lower bound leaves {min(room):.0%} to {max(room):.0%} of the best policy's "
        "mean JCT, part of which is queueing that nobody can avoid."
    )


def _percent(estimate: Estimate) -> str:
    return (
        f"{100 * (1 - estimate.value):.0f} % [{100 * (1 - estimate.high):.0f}, "
        f"{100 * (1 - estimate.low):.0f}]"
    )
