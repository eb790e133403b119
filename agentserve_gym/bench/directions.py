"""Published directions that concern policies, each measured on the study's cells.

A direction has a band for one ratio. It *holds* if the ratio's 95 % interval lies inside; if the
interval is only on the band's side of 1, the *direction holds* but not the size; if it lies
outside, the direction *does not hold*; otherwise it is *undecided*. A direction whose cells or
policies were not run is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agentserve_gym.bench.study import CellResult, Study
from agentserve_gym.bench.suite import has_lower_tier
from agentserve_gym.report.markdown import plural
from agentserve_gym.report.statistics import Estimate, pooled_ratio, ratio

Verdict = str
HOLDS, SIGN, FAILS, UNDECIDED = "holds", "direction holds", "does not hold", "undecided"


@dataclass(frozen=True, slots=True)
class Direction:
    """What was published, what was measured, and whether they agree.

    Attributes:
        number: as in the list of published trends. ``statement``: with its source.
        band: allowed values of ``estimate``, a ratio. ``measured``: of what, and where.
        evidence: figures that explain the outcome, all of them in the results file.
        remark: why it may differ here, and how to check that; for what does not simply hold.
    """

    number: str
    statement: str
    band: tuple[float, float]
    measured: str
    estimate: Estimate
    evidence: str = ""
    remark: str = ""

    @property
    def wants_remark(self) -> bool:
        """Whether there is something to explain, and an explanation."""
        return bool(self.remark) and self.verdict != HOLDS

    @property
    def verdict(self) -> Verdict:
        """From the interval."""
        low, high = self.band
        if low <= self.estimate.low and self.estimate.high <= high:
            return HOLDS
        if (high <= 1.0 and self.estimate.high < 1.0) or (low >= 1.0 and self.estimate.low > 1.0):
            return SIGN
        if self.estimate.high < low or self.estimate.low > high:
            return FAILS
        return UNDECIDED


def directions(study: Study) -> list[Direction]:
    """Every direction that the study can measure."""
    return [found for measure in _MEASURES if (found := measure(study)) is not None]


# --- helpers -------------------------------------------------------------------------------------


def _has_tier(cell: CellResult) -> bool:
    return has_lower_tier(cell.scenario)


def _instances(cell: CellResult) -> int:
    return cell.scenario.cluster.num_instances


def _pool(
    cells: Sequence[CellResult], label: str, other: str, column: str = "jct_mean_s"
) -> Estimate | None:
    """Ratio over cells that have both policies; ``None`` where there are none, or a figure is 0."""
    kept = _with_both(cells, label, other)
    values = [cell.values(label, column) for cell in kept]
    others = [cell.values(other, column) for cell in kept]
    if not kept or any((found <= 0).any() for found in (*values, *others)):
        return None
    return pooled_ratio(values, others)


def _with_both(cells: Sequence[CellResult], label: str, other: str) -> list[CellResult]:
    return [
        cell
        for cell in cells
        if all(len(cell.outcomes.get(name, ())) == len(cell.seeds) for name in (label, other))
    ]


def _mean(cells: Sequence[CellResult], label: str, column: str) -> float:
    return float(np.mean([cell.mean(label, column) for cell in cells]))


def _compare(
    study: Study,
    number: str,
    statement: str,
    band: tuple[float, float],
    label: str,
    other: str,
    keep: Callable[[CellResult], bool],
    where: str,
    column: str = "jct_mean_s",
    figure: str = "mean JCT",
    also: Sequence[tuple[str, str]] = (),
    remark: str = "",
) -> Direction | None:
    """One ratio over cells; ``also`` names further pairs for the evidence."""
    cells = _with_both([cell for cell in study.ranking_cells if keep(cell)], label, other)
    estimate = _pool(cells, label, other, column)
    if estimate is None:
        return None
    evidence = (
        f"hit rate HBM {_mean(cells, label, 'hit_hbm'):.0%} against "
        f"{_mean(cells, other, 'hit_hbm'):.0%}; busy {_mean(cells, label, 'busy'):.0%} against "
        f"{_mean(cells, other, 'busy'):.0%}"
    )
    for first, second in also:
        further = _pool(cells, first, second)
        if further is not None:
            evidence += f"; mean JCT `{first}` / `{second}` {further.value:.2f}"
    if _mean(cells, label, "holds"):
        evidence += f"; {_mean(cells, label, 'holds'):.0f} holds a run"
    measured = f"{figure}, `{label}` / `{other}`, {where} ({plural(len(cells), 'cell')})"
    return Direction(number, statement, band, measured, estimate, evidence, remark)


def _several(cell: CellResult) -> bool:
    return _instances(cell) > 1


def _anywhere(_cell: CellResult) -> bool:
    return True


def _saturated(cell: CellResult) -> bool:
    return cell.cell.load == "saturated"


# --- the directions ------------------------------------------------------------------------------


def _affinity_hits(study: Study) -> Direction | None:
    return _compare(
        study, "C1", "session affinity hits more than load-aware routing (AgentServeSim v1)",
        (1.0, math.inf), "affinity", "least-loaded", _several, "several instances",
        "hit_hbm", "HBM hit rate",
    )  # fmt: skip


def _hybrid_beats_sticky(study: Study) -> Direction | None:
    return _compare(
        study, "C2", "a hybrid of cache and load beats pure stickiness (CacheRoute, SMetric)",
        (0.0, 1.0), "sglang", "affinity", _several, "several instances",
    )  # fmt: skip


def _hybrid_tail(study: Study) -> Direction | None:
    return _compare(
        study, "C2", "so does its tail", (0.0, 1.0), "sglang", "affinity", _several,
        "several instances", "jct_p99_s", "p99 JCT",
    )  # fmt: skip


def _lmetric(study: Study) -> Direction | None:
    return _compare(
        study, "C7", "without a shared tier LMetric loses to a tuned linear score (-36 %)",
        (1.0, math.inf), "lmetric", "dynamo",
        lambda cell: _several(cell) and not _has_tier(cell), "several instances, HBM only",
        remark="LMetric lost where its reuse fell (45 % against 74 % in SMetric's paper). Here "
        "signals are exact, and its reuse does not fall: by signals 5 s old it does, and LMetric "
        "loses (docs/validation.md, C7).",
    )  # fmt: skip


def _ttl(study: Study) -> Direction | None:
    return _compare(
        study, "C9", "a TTL beats LRU by 10 to 35 % under moderate pressure (Continuum)",
        (0.65, 0.90), "ttl", "affinity",
        lambda cell: cell.cell.load == "near saturation", "near saturation",
        also=[("continuum", "ttl")],
        remark="A pin keeps a context until its program returns; under first come, first served "
        "the program then queues behind others all the same, and its blocks stay idle meanwhile. "
        "The published systems also keep a pin until the turn is admitted and let pinned turns go "
        "first (`continuum`, the next row); on AgentServeSim's own kind of programs a TTL alone "
        "gains nothing either (docs/validation.md, C9).",
    )  # fmt: skip


def _continuum(study: Study) -> Direction | None:
    return _compare(
        study, "C9", "the same TTL with Continuum's queue order (pinned first, then by program)",
        (0.65, 0.90), "continuum", "affinity",
        lambda cell: cell.cell.load == "near saturation", "near saturation",
        also=[("program-fcfs", "affinity")],
        remark="How much of this is the pins? Compare the queue order without them "
        "(`program-fcfs`), and the pins without it (`ttl`).",
    )  # fmt: skip


def _predictors(study: Study) -> Direction | None:
    return _compare(
        study, "C10", "a duration predictor is within 5 % of a fixed TTL in the same queue order",
        (0.95, 1.05), "continuum-paper", "continuum", _anywhere, "everywhere",
    )  # fmt: skip


def _pins_in_saturation(study: Study) -> Direction | None:
    return _compare(
        study, "C12", "in deep saturation pinning first can be worse than LRU (by 19 to 23 %)",
        (1.0, math.inf), "retain", "affinity", _saturated, "saturated",
        remark="Where pins are soft (`engine.pins`), a shortage of blocks breaks them, so the "
        "worst that they can do is to change what is evicted.",
    )  # fmt: skip


def _gate(study: Study) -> Direction | None:
    return _compare(
        study, "C16", "capping the active working set gives 1.5 to 4 x where memory thrashes "
        "(ThunderAgent, CONCUR)",
        (0.25, 1 / 1.5), "gate", "affinity",
        lambda cell: _saturated(cell) and not _has_tier(cell), "saturated, HBM only",
        also=[("concur", "affinity"), ("thunderagent", "affinity"), ("searched-gate", "affinity")],
        remark="The gate holds a turn only while its uncached prompt exceeds free plus evictable "
        "blocks. Under LRU every waiting context is evictable, so the turns that it lets in still "
        "evict each other: compare the hit rates. Rules that keep contexts out (`concur`, "
        "`thunderagent`) or pin them (`searched-gate`) act on that: see the other ratios, and "
        "docs/validation.md, C16, for whole programs.",
    )  # fmt: skip


def _window(study: Study) -> Direction | None:
    return _compare(
        study, "C16", "the same for a congestion window (CONCUR)",
        (0.25, 1 / 1.5), "concur", "affinity",
        lambda cell: _saturated(cell) and not _has_tier(cell), "saturated, HBM only",
        remark="The published figures are of throughput with hundreds of agents at once. Mean JCT "
        "also counts the time that programs wait at the gate.",
    )  # fmt: skip


def _write_through(study: Study) -> Direction | None:
    return _compare(
        study, "C19", "adding a DRAM tier recovers 20 to 35 % of mean JCT at high load",
        (0.65, 0.80), "write-through", "affinity",
        lambda cell: _saturated(cell) and _has_tier(cell), "saturated, with a tier",
    )  # fmt: skip


def _prefetch(study: Study) -> Direction | None:
    return _compare(
        study, "C27", "backup with prefetch (KVFlow, 1.8 to 2.2 x) against backup without; a "
        "counter-result finds prefetch useless (2609.16215)",
        (0.0, 1.0), "kvflow", "write-through", _has_tier, "with a tier",
    )  # fmt: skip


def _plas(study: Study) -> Direction | None:
    return _compare(
        study, "C29", "least attained service beats first come first served on mixed lengths "
        "(Autellix)",
        (0.0, 1.0), "plas", "affinity", _saturated, "saturated",
        also=[("shortest-prefill", "affinity"), ("srpt", "affinity")],
        remark="Whether order as such is worth something, orders by what a turn costs now "
        "(`shortest-prefill`) or by what is left (`srpt`, an oracle) say.",
    )  # fmt: skip


def _plas_tail(study: Study) -> Direction | None:
    return _compare(
        study, "C29", "at the price of the longest programs", (1.0, math.inf), "plas", "affinity",
        _saturated, "saturated", "jct_p99_s", "p99 JCT",
    )  # fmt: skip


def _belady(study: Study) -> Direction | None:
    """Misses of every ranked HBM policy with session affinity against Belady's."""
    cells = [cell for cell in study.ranking_cells if "belady" in cell.oracles]
    names = [*study.labels("residency"), "continuum", "continuum-paper"]
    labels = [label for label in names if label in study.ranked_labels]
    if not cells or not labels or "affinity" not in study.ranked_labels:
        return None
    ratios = {label: _misses(cells, label, "belady") for label in ("affinity", *labels)}
    best = min(ratios, key=lambda label: ratios[label].value)
    return Direction(
        "C14", "no residency policy misses less than Belady's order; a good one is within 1.2 to "
        "1.6 x (SAGA: 1.31 x)",
        (1.0, 1.6), f"misses, `{best}` (the fewest) / `belady` "
        f"({plural(len(cells), 'cell')})", ratios[best],
        f"LRU misses {ratios['affinity'].value:.2f} x Belady's",
        "Belady's order is optimal for a given sequence of requests. Pins and Continuum's queue "
        "order change the sequence (programs finish one after the other, so fewer contexts are "
        "alive at once); policies that keep first come, first served are the fair comparison: "
        + ", ".join(f"`{label}` {found.value:.2f} x" for label, found in ratios.items()) + ".",
    )  # fmt: skip


def _misses(cells: Sequence[CellResult], label: str, other: str) -> Estimate:
    def missed(cell: CellResult, name: str) -> np.ndarray:
        return np.asarray(1.0 - cell.values(name, "hit_hbm"))

    return pooled_ratio([missed(c, label) for c in cells], [missed(c, other) for c in cells])


def _between_cells(
    study: Study,
    number: str,
    statement: str,
    band: tuple[float, float],
    first: tuple[str, str],
    second: tuple[str, str],
) -> Direction | None:
    """Ratio of mean JCT of (cell, policy) pairs; the cells differ in their hardware alone."""
    a, b = study.cell(first[0]), study.cell(second[0])
    if a is None or b is None or first[1] not in a.outcomes or second[1] not in b.outcomes:
        return None
    count = min(len(a.values(first[1])), len(b.values(second[1])))
    estimate = ratio(a.values(first[1])[:count], b.values(second[1])[:count])
    measured = f"mean JCT, `{first[1]}` in {first[0]} / `{second[1]}` in {second[0]}"
    evidence = (
        f"hits {a.tier_names}: {a.hits(first[1])}, against {b.tier_names}: {b.hits(second[1])}"
    )
    return Direction(number, statement, band, measured, estimate, evidence)


def _dram(study: Study) -> Direction | None:
    return _between_cells(
        study, "C19", "DRAM recovers 20 to 35 % at high load, on the seed paper's hardware",
        (0.65, 0.80), ("coding-70b-dram", "write-through"), ("coding-70b-hbm", "affinity"),
    )  # fmt: skip


def _cxl(study: Study) -> Direction | None:
    return _between_cells(
        study, "C25", "CXL at the same link speed is within 10 % of DRAM (XCENA)",
        (0.9, 1.1), ("coding-70b-cxl", "kvbm"), ("coding-70b-dram", "write-through"),
    )  # fmt: skip


def _c2c(study: Study) -> Direction | None:
    return _between_cells(
        study, "C20", "a faster link to the tier is worth 0 to 10 % of mean JCT",
        (0.9, 1.0), ("coding-70b-c2c", "write-through"), ("coding-70b-dram", "write-through"),
    )  # fmt: skip


_MEASURES: tuple[Callable[[Study], Direction | None], ...] = (
    _affinity_hits, _hybrid_beats_sticky, _hybrid_tail, _lmetric, _ttl, _continuum, _predictors,
    _pins_in_saturation, _belady, _gate, _window, _dram, _write_through, _c2c, _cxl, _prefetch,
    _plas, _plas_tail,
)  # fmt: skip
