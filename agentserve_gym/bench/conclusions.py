"""What a study shows, in sentences that are only written where intervals carry them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from agentserve_gym.bench.choice import choice_sentences
from agentserve_gym.bench.luck import RESOLUTION
from agentserve_gym.bench.pictures import SINGLE_LEVERS
from agentserve_gym.bench.study import CONTROL_SPREAD, CellResult, Gain, Study
from agentserve_gym.bench.suite import Lever, has_lower_tier
from agentserve_gym.report.markdown import change, code, interval, plural
from agentserve_gym.report.statistics import Estimate, pooled_ratio

DECISIVE = 0.25
"""Of mean JCT: what a lever should be worth somewhere."""
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
    "routing": "routing",
    "residency": "residency in HBM",
    "tiers": "a lower tier",
    "order": "queue order",
    "admission": "admission",
}


def conclusions(study: Study, looking_ahead: Sequence[str] = ()) -> dict[str, list[str]]:
    """Sentences by the question that they answer: only of what was run; nothing is said of
    differences where there is one seed. Those on ``looking_ahead`` come from a run of its own."""
    cells = study.ranking_cells
    paired = [cell for cell in cells if len(cell.seeds) > 1]
    found = {lever: _gains(study, paired, lever) for lever in SINGLE_LEVERS}
    pins = {cell.name: gain for cell in paired if (gain := study.retention(cell)) is not None}
    groups = {
        "Which policy": [*_leaders(study), *_widest(study), *choice_sentences(study)],
        "Which lever": [
            *(_lever(lever, gains) for lever, gains in found.items() if gains),
            *_retention(pins), *_decisive(found, pins), *_strongest(paired, found),
            *_overlaps(paired), *_left_out(study),
        ],
        "How much is left": [
            *_oracles(study, paired), *looking_ahead, *_unknown(study, looking_ahead),
            *_bound(cells),
        ],
        "What this run can tell": [*_luck(study), *_one_seed(study), *_controls(study)],
    }  # fmt: skip
    return {question: lines for question, lines in groups.items() if lines}


def _leaders(study: Study) -> list[str]:
    if not study.overall:
        return ["In the cells that were run, no policy is ranked."]
    stock, reference = study.suite.stock, study.suite.reference
    first, *others = study.overall
    text = (
        f"Over all cells that rank, {code(first.label)} scores highest: {interval(first.score)}, "
        f"where the reference {code(reference)} has 0"
    )
    if stock not in (first.label, reference):
        text += f" and the stock policy {code(stock)} {_score(study, stock)}"
    if math.isinf(first.score.high):
        return [f"{text}. One seed has no interval: this may be luck, and separates nothing."]
    close = [row.label for row in others if row.score.high >= first.score.low]
    if close:
        named = ", ".join(code(label) for label in close[:_MOST_NAMED])
        more = len(close) - _MOST_NAMED
        text += f"; the intervals of {named}" + (f" and {more} more" if more > 0 else "")
        text += " overlap its own, so there is no single winner"
    return [f"{text}."]


def _widest(study: Study) -> list[str]:
    """Which policy is best, or tied, in the most cells, and whether that is more than half."""
    if not study.overall or any(len(cell.seeds) == 1 for cell in study.ranking_cells):
        return []
    total = len(study.ranking_cells)
    widest = max(study.overall, key=lambda row: row.tied_in)
    text = (
        "No policy is best, or not separated from the best, in more cells than "
        f"{code(widest.label)}: {widest.tied_in} of {total}"
    )
    if widest.tied_in == total:
        return [f"{text}."]
    if 2 * widest.tied_in > total:
        return [f"{text}, more than half; in the other {total - widest.tied_in} another is better."]
    return [f"{text}, not more than half: none should be chosen without its cell."]


def _score(study: Study, label: str) -> str:
    return next(f"{row.score.value:.2f}" for row in study.overall if row.label == label)


def _gains(study: Study, cells: Sequence[CellResult], lever: Lever) -> dict[str, Gain]:
    """By cell; those without the lever, or without a policy that moves it, are left out."""
    return {cell.name: gain for cell in cells if (gain := study.gain(cell, [lever])) is not None}


def _lever(lever: Lever, gains: dict[str, Gain]) -> str:
    where = " that have one" if lever == "tiers" else ""
    name = _OF_LEVER[lever]
    name = name[0].upper() + name[1:]
    return f"**{name}** alone beats the stock policy in {_beaten(gains, where)}."


def _retention(pins: dict[str, Gain]) -> list[str]:
    """Pins under first come, first served are judged as a lever; here those of papers."""
    if not pins:
        return []
    return [
        "**Pins with the queue order of their authors** beat the best policy that moves the order "
        f"alone in {_beaten(pins)}."
    ]


def _beaten(gains: dict[str, Gain], where: str = "") -> str:
    """In how many cells an interval is below 1, the largest effect, and where even it is worse."""
    better = [name for name, gain in gains.items() if gain.estimate.high < 1.0]
    worse = [name for name, gain in gains.items() if gain.estimate.low > 1.0]
    text = f"{len(better)} of {_cells(len(gains))}{where} (interval below 1)"
    most = min(better or gains, key=lambda name: gains[name].estimate.value)
    gain = gains[most]
    if better:
        text += (
            f"; most in {code(most)}, by {_percent(gain.estimate)} of mean JCT ({code(gain.label)})"
        )
    else:
        text += f"; at best it is {change(gain.estimate)} in {code(most)} ({code(gain.label)})"
    if worse:
        text += f"; even its best is worse in {', '.join(code(name) for name in worse)}"
    return text


def _decisive(found: dict[Lever, dict[str, Gain]], pins: dict[str, Gain]) -> list[str]:
    """Which levers are worth `DECISIVE` of mean JCT somewhere."""
    effects = {_OF_LEVER[lever]: gains for lever, gains in found.items() if gains}
    if not effects:
        return []
    if pins:
        effects["pins with their authors' order, beyond order alone"] = pins
    counts = {
        name: sum(
            gain.estimate.value <= 1.0 - DECISIVE and gain.estimate.high < 1.0
            for gain in gains.values()
        )
        for name, gains in effects.items()
    }
    reach = [f"{name} (in {_cells(count)})" for name, count in counts.items() if count]
    short = [name for name, count in counts.items() if not count]
    share = f"{DECISIVE:.0%} or more of mean JCT"
    if not reach:
        return [f"No lever that was moved is worth {share} in any cell."]
    text = f"Worth {share} in some cell: {', '.join(reach)}"
    return [f"{text}; nowhere: {', '.join(short)}." if short else f"{text}."]


def _strongest(cells: Sequence[CellResult], found: dict[Lever, dict[str, Gain]]) -> list[str]:
    """Which single lever is worth most, counted over cells; nothing unless several were moved."""
    moved = [lever for lever, gains in found.items() if gains]
    if len(moved) < 2:
        return []
    counts: dict[Lever, list[str]] = {}
    for cell in cells:
        gains = {
            lever: found[lever][cell.name].estimate for lever in moved if cell.name in found[lever]
        }
        best = min(gains, key=lambda lever: gains[lever].value, default=None)
        if best is not None and gains[best].high < 1.0:
            counts.setdefault(best, []).append(cell.name)
    parts = [
        f"{lever} in {len(names)} ({', '.join(code(name) for name in names)})"
        for lever, names in sorted(counts.items(), key=lambda item: -len(item[1]))
    ]
    whole = len(moved) == len(SINGLE_LEVERS)
    named = "" if whole else f" of those that were moved ({', '.join(moved)})"
    if not parts:
        return [f"No single lever{named} beats the stock policy in any cell."]
    return [f"The single lever{named} that is worth most: {'; '.join(parts)}."]


def _left_out(study: Study) -> list[str]:
    """Levers that no sentence can be about."""
    if not study.ranking_cells:
        return []
    ranked = set(study.ranked_labels)
    unmoved = [lever for lever in SINGLE_LEVERS if ranked.isdisjoint(study.labels(lever))]
    lines = []
    if unmoved:
        lines.append(f"No policy was run that moves one of these alone: {', '.join(unmoved)}.")
    if "tiers" not in unmoved and not any(has_lower_tier(c.scenario) for c in study.ranking_cells):
        lines.append("No cell that ranks has a lower tier for KV: nothing is said of one.")
    return lines


def _one_seed(study: Study) -> list[str]:
    single = [code(cell.name) for cell in study.ranking_cells if len(cell.seeds) == 1]
    if not single:
        return []
    return [f"One seed was run in {', '.join(single)}: nothing is said of levers there."]


def _luck(study: Study) -> list[str]:
    """In which of the cells that rank a difference of `RESOLUTION` is no luck."""
    smallest = {
        cell.name: found
        for cell in study.ranking_cells
        if (found := cell.smallest_difference) is not None and math.isfinite(found)
    }
    if not smallest:
        return []
    fine = [code(name) for name, found in smallest.items() if found <= RESOLUTION]
    coarse = {name: found for name, found in smallest.items() if found > RESOLUTION}
    text = (
        f"A difference of {RESOLUTION:.0%} between two policies can be told from luck in "
        f"{len(fine)} of {_cells(len(smallest))}" + (f" ({', '.join(fine)})" if fine else "")
    )
    if coarse:
        least, most = (pick(coarse, key=coarse.__getitem__) for pick in (min, max))
        text += f"; elsewhere it takes {coarse[least]:.1%} ({code(least)})"
        text += f" to {coarse[most]:.1%} ({code(most)})" if most != least else ""
    return [f"{text}."]


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


def _unknown(study: Study, looking_ahead: Sequence[str]) -> list[str]:
    cells = study.ranking_cells
    if not cells or looking_ahead or any(cell.oracles for cell in cells):
        return []
    return ["No oracle ran, so nothing is known about headroom beyond the lower bound."]


def _oracles(study: Study, cells: Sequence[CellResult]) -> list[str]:
    found = {cell.name: head for cell in cells if (head := study.headroom(cell)) is not None}
    if not found:
        return []
    better = {name: head for name, head in found.items() if head[1].high < 1.0}
    text = (
        f"Oracles of one decision beat the best policy in {len(better)} of {_cells(len(found))} "
        "(interval below 1)"
    )
    if better:
        most = min(better, key=lambda name: better[name][1].value)
        label, estimate = better[most]
        text += f", most in {code(most)}, by {_percent(estimate)} ({code(label)})"
    return [f"{text}."]


def _bound(cells: Sequence[CellResult]) -> list[str]:
    if not cells:
        return []
    room = [
        1.0 - cell.mean(cell.ranked[0], "ideal_s") / cell.mean(cell.ranked[0]) for cell in cells
    ]
    low, high = f"{min(room):.0%}", f"{max(room):.0%}"
    return [
        f"The lower bound leaves {low if low == high else f'{low} to {high}'} of the best policy's "
        "mean JCT, part of which may be queueing that nobody can avoid."
    ]


def _controls(study: Study) -> list[str]:
    """Why cells are not ranked."""
    lines = []
    controls = [cell for cell in study.cells if cell.is_control]
    alike = [
        f"{code(cell.name)} ({cell.spread:.2%} over {len(cell.compared)}, "
        f"{cell.mean(study.suite.stock, 'busy'):.0%} busy)"
        for cell in controls
        if cell.has_room
    ]
    if alike:
        lines.append(
            "Not ranked, because the policies that ran there spread by less than "
            f"{CONTROL_SPREAD:.0%} of mean JCT: {', '.join(alike)}."
        )
    full = [code(cell.name) for cell in controls if not cell.has_room]
    if full:
        lines.append(
            f"Not ranked, because the reference {code(study.suite.reference)} is at the lower "
            f"bound already: {', '.join(full)}."
        )
    return lines


def _cells(count: int) -> str:
    return plural(count, "cell")


def _percent(estimate: Estimate) -> str:
    return (
        f"{100 * (1 - estimate.value):.0f} % [{100 * (1 - estimate.high):.0f}, "
        f"{100 * (1 - estimate.low):.0f}]"
    )
