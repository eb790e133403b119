"""``benchmark.md``: what was run, who is better where, what follows. Numbers come from the run."""

from __future__ import annotations

import numpy as np

from agentserve_gym.bench.choice import search_section
from agentserve_gym.bench.conclusions import conclusions
from agentserve_gym.bench.directions import directions
from agentserve_gym.bench.facts import pressure_section
from agentserve_gym.bench.headroom import HeadroomFigures
from agentserve_gym.bench.headroom_page import looking_ahead_section, looking_ahead_sentence
from agentserve_gym.bench.pictures import shown_levers
from agentserve_gym.bench.study import CellResult, Study
from agentserve_gym.bench.tuning_page import tuning_section
from agentserve_gym.report.markdown import (
    change,
    code,
    interval,
    plural,
    share,
    table,
    text_table,
)
from agentserve_gym.report.page import current_commit, joined, opening
from agentserve_gym.workloads.spec import GeneratedWorkload, InlineWorkload, TraceWorkload

_READING = """## How to read it

- **Cell**: a scenario. All of its programs count and run to their end, so a policy that makes some
  of them wait for the others gains nothing.
- **Paired seeds**: with the same seed every policy meets the same programs, arrivals and tools.
- **Score**: 0 is the reference ({reference}), 1 the lower bound: the mean JCT on an idle cluster
  with full reuse, which no policy can beat. Means are interquartile, over all runs; intervals are
  95 %, resampling seeds within each cell.
- **JCT / stock**: ratio of mean JCT to the stock policy ({stock}), geometric mean. Per cell the
  interval is Student's of the log-ratio over paired seeds. **Bold** excludes no difference;
  intervals are not corrected for the number of comparisons: where there is no difference, one in
  twenty is bold by chance, and the largest of several differences is likely to shrink on new seeds.
- **Control**: a cell whose policies, the reference aside, spread by less than 1 % of mean JCT, or
  whose reference is at the lower bound. It ranks nothing.
- **Best of a lever**: choosing the best of several on the seeds that measure it flatters it, so the
  choice for each seed is made on the other seeds.
- **Oracles** know what no live system can. They are never ranked; they show headroom.
"""

_LIMITS = """## What not to conclude

- Cells are short: {programs} programs a seed. Policies that learn slowly (per-tool
  statistics, feedback windows) are judged while they learn.
{pools}- Baselines are implemented from their papers' rules, one engine model underneath; systems
  may differ from their papers' descriptions. Tuned parameters come from few cells and seeds.
- The lower bound ignores queueing altogether, so a score of 1 is out of reach under load.
- Tiers and routing were not measured on real clusters; see the validation page of the
  documentation.
"""

_POOLS = """- KV pools of {cells} are set, not derived from the GPU's memory (as where several
  models share it): policies differ most where HBM is scarce.
"""


def benchmark_page(study: Study, folder: str, headroom: HeadroomFigures | None = None) -> str:
    """The page as Markdown; ``folder`` holds pictures, the tables per cell and, where a run
    measured it, ``headroom``'s page."""
    parts = [
        _opening(study, folder), _conclusions(study, folder, headroom), _what_was_run(study),
        pressure_section(study), _reading(study),
    ]  # fmt: skip
    if study.ranking_cells:
        parts += [
            _overall(study, folder), _by_cell(study, folder), search_section(study),
            _levers(study, folder), _tiers(study), _headroom(study),
        ]  # fmt: skip
    if headroom is not None:
        parts.append(looking_ahead_section(headroom, study, folder))
    parts += [
        _directions(study), _silent(study), _invalid(study), tuning_section(study),
        _limits(study),
    ]  # fmt: skip
    return joined(parts)


def _opening(study: Study, folder: str) -> str:
    outcomes = sum(len(runs) for cell in study.cells for runs in cell.outcomes.values())
    seeds = sorted({len(cell.seeds) for cell in study.cells})
    first = opening(f"Benchmark: {study.suite.name}", study.suite.command, current_commit())
    return (
        f"{first}\n"
        "Every number, those of tuning, of a search and of looking ahead aside, is of that run: "
        f"{plural(len(study.cells), 'cell')}, "
        f"{plural(len(study.ranked_labels), 'policy')}, "
        f"{plural(len(study.labels('oracle')), 'oracle')}, "
        f"{' or '.join(plural(count, 'seed') for count in seeds)} a cell, "
        f"{plural(outcomes, 'outcome')}. Complete tables: [cells.md]({folder}/cells.md).\n"
    )


def _reading(study: Study) -> str:
    return _READING.format(reference=code(study.suite.reference), stock=code(study.suite.stock))


def _limits(study: Study) -> str:
    """What bounds every sentence above, as far as it is true of these cells."""
    counts = [cell.outcomes[cell.ranked[0]][0].programs for cell in study.cells]
    low, high = min(counts), max(counts)
    set_pools = [
        cell.name
        for cell in study.cells
        for node in cell.scenario.cluster.nodes
        if any(group.kv_blocks is not None for group in node.instances)
    ]
    named = _cells(list(dict.fromkeys(set_pools)), len(study.cells))
    return _LIMITS.format(
        programs=str(low) if low == high else f"{low} to {high}",
        pools=_POOLS.format(cells=named) if set_pools else "",
    )


def _conclusions(study: Study, folder: str, headroom: HeadroomFigures | None) -> str:
    ahead = [] if headroom is None else looking_ahead_sentence(headroom, folder)
    return "## What a reader should conclude\n" + "".join(
        f"\n{question}:\n\n" + "".join(f"- {line}\n" for line in lines)
        for question, lines in conclusions(study, ahead).items()
    )


def _what_was_run(study: Study) -> str:
    heading = (
        "cell", "meant as", "instances", "tiers", "workload", "programs", "turns", "seeds", "busy",
        "stock / bound", "spread",
    )  # fmt: skip
    rows = [_facts(cell, study.suite.stock) for cell in study.cells]
    text = "## What was run\n\n" + table(heading, rows)
    text += (
        "\n*busy*: share of time in which instances compute, under the stock policy; *stock / "
        "bound*: its mean JCT over the lower bound; *spread*: (worst - best) / best mean JCT of "
        "policies, the reference aside.\n"
    )
    if study.suite.seeds > min(len(cell.seeds) for cell in study.cells):
        text += f"\nThe suite asks for {study.suite.seeds} seeds; this run has fewer.\n"
    if len(study.codes) > 1:
        text += (
            f"\nThese outcomes come from {len(study.codes)} versions of the simulation (column "
            "`code`): a resumed run.\n"
        )
    for name, reason in study.suite.skipped.items():
        text += f"\n`{name}` was left out: {reason}.\n"
    for name in study.missing:
        text += f"\n`{name}` has no complete seed and is left out.\n"
    return text


def _facts(cell: CellResult, stock: str) -> tuple[str, ...]:
    cluster = cell.scenario.cluster
    groups = [(group, node) for node in cluster.nodes for group in node.instances]
    kinds: dict[str, int] = {}
    for group, _ in groups:
        tensor = f" tp{group.tensor_parallel}" if group.tensor_parallel > 1 else ""
        kind = group.accelerator + tensor
        kinds[kind] = kinds.get(kind, 0) + group.num_instances
    workload = cell.scenario.workload
    match workload:
        case GeneratedWorkload():
            programs = ", ".join(name.replace("_", " ") for name in workload.mix)
        case TraceWorkload():
            programs = "recorded sessions"
        case InlineWorkload():
            programs = "written out"
    runs = cell.outcomes[stock]
    bound = cell.mean(stock) / cell.mean(stock, "ideal_s")
    return (
        code(cell.name),
        "control" if cell.is_control else cell.cell.load,
        f"{', '.join(f'{n} {kind}' for kind, n in kinds.items())}; {', '.join(cluster.models)}",
        cell.tier_names.replace(" / ", " + "),
        programs,
        str(runs[0].programs),
        f"{np.mean([run.turns for run in runs]):.0f}",
        str(len(cell.seeds)),
        f"{cell.mean(stock, 'busy'):.0%}",
        f"{bound:.2f}",
        f"{cell.spread:.1%}" if len(cell.compared) > 1 else "",
    )


def _overall(study: Study, folder: str) -> str:
    count = len(study.ranking_cells)
    heading = ("policy", "lever", "score", "JCT / stock", "beats stock in", "best", "not separated")
    rows = [
        (
            code(row.label),
            study.suite.entry(row.label).lever,
            interval(row.score),
            interval(row.against_stock),
            share(row.beats_stock),
            str(row.best_in),
            str(row.tied_in),
        )
        for row in study.overall
    ]
    return (
        f"## Policies over the cells that rank ({count})\n\n"
        "*Beats stock in*: share of paired runs that are faster than the stock policy. "
        "*Best*: cells with the smallest mean JCT; *not separated*: cells where the interval "
        "against the best reaches 1.\n\n"
        f"{table(heading, rows)}\n"
        f"![scores]({folder}/scores.png)\n\n![profile]({folder}/profile.png)\n"
    )


def _levers(study: Study, folder: str) -> str:
    levers = shown_levers(study)
    cells = f"![cells]({folder}/cells.png)\n"
    if not levers:
        return f"## Which lever matters where\n\nNo policy of any lever was run.\n\n{cells}"
    heading = ("cell", *levers, "pins with their order")
    rows = []
    for cell in study.ranking_cells:
        gains = [*(study.gain(cell, [lever]) for lever in levers), study.retention(cell)]
        named = [
            "" if gain is None else f"{change(gain.estimate)} {code(gain.label)}" for gain in gains
        ]
        rows.append([code(cell.name), *named])
    return (
        "## Which lever matters where\n\n"
        "Mean JCT of the best policy that moves one lever, against the stock policy"
        + ("; *mixed* moves several, or was named by the user" if "mixed" in levers else "")
        + ("; *learned* is of weights that were trained here. " if "learned" in levers else ". ")
        + "Named is the best over all seeds; the number is with held-out choice. Levers that no "
        "policy of this run moves are left out, and so are lower tiers where a cell has none. The "
        "last column is of pins that come with the queue order of their authors, against the best "
        "policy that moves the order alone: pins under first come, first served protect a context "
        "during its gap, and lose it in the queue that follows.\n\n"
        f"{text_table(heading, rows)}\n![levers]({folder}/levers.png)\n\n{cells}"
    )


def _tiers(study: Study) -> str:
    groups: dict[str, list[CellResult]] = {}
    for cell in study.ranking_cells:
        if cell.cell.parallel is not None:
            groups.setdefault(cell.cell.parallel, []).append(cell)
    heading = ("cell", "stock", "best tier policy", "best of all", "its hits, HBM first")
    text = ""
    for name, cells in groups.items():
        if len(cells) < 2:
            continue
        rows = []
        for cell in cells:
            tiers = [label for label in study.labels("tiers") if label in cell.ranked]
            tier = min(tiers, key=cell.mean, default=None)
            best = cell.ranked[0]
            rows.append(
                (
                    code(cell.name),
                    f"{cell.mean(study.suite.stock):.1f}",
                    "" if tier is None else f"{cell.mean(tier):.1f} {code(tier)}",
                    f"{cell.mean(best):.1f} {code(best)}",
                    cell.hits(best),
                )
            )
        text += (
            f"## The same work on other tiers: {name}\n\nMean JCT, s. These cells have the same "
            f"programs, arrivals and HBM.\n\n{table(heading, rows)}"
        )
    return text


def _headroom(study: Study) -> str:
    heading = ("cell", "best policy, s", "best oracle", "oracle / policy", "lower bound, s")
    rows = []
    for cell in study.ranking_cells:
        found = study.headroom(cell)
        if found is None:
            continue
        label, estimate = found
        rows.append(
            (
                code(cell.name),
                f"{cell.mean(cell.ranked[0]):.1f} {code(cell.ranked[0])}",
                f"{cell.mean(label):.1f} {code(label)}",
                change(estimate),
                f"{cell.mean(cell.ranked[0], 'ideal_s'):.1f}",
            )
        )
    slow = [
        f"`{label}` in `{cell.name}` ({len(cell.values(label))} seeds): "
        f"{change(cell.against(label, cell.ranked[0]))} against `{cell.ranked[0]}`."
        for cell in study.ranking_cells
        for label in cell.oracles
        if len(cell.values(label)) < len(cell.seeds)
    ]
    if not rows and not slow:
        return ""
    text = "## Headroom\n\n"
    if rows:
        text += (
            "Oracles on the same seeds; both choices held out. An oracle that does not beat the "
            "best policy says that its one lever, even with perfect foresight, is worth less than "
            "what that policy does elsewhere; it is no bound. The bound is the last column. "
        )
    if "min-completion" not in study.labels("oracle"):
        text += (
            "The look-ahead oracle of routing (`min-completion`) copies the simulation at every "
            "decision and is too slow for a suite; `--policy min-completion` adds it."
        )
    text = text.rstrip() + "\n\n" + (table(heading, rows) if rows else "")
    return text + ("\nOn fewer seeds: " + " ".join(slow) + "\n" if slow else "")


def _by_cell(study: Study, folder: str, most: int = 5) -> str:
    most = min(most, len(study.ranked_labels))
    heading = ("cell", *(str(place + 1) for place in range(most)), "not separated from the best")
    rows = [
        (
            code(cell.name),
            *(f"{code(label)} {cell.mean(label):.1f} s" for label in cell.ranked[:most]),
            str(len(cell.tied_with_best())),
        )
        for cell in study.ranking_cells
    ]
    return (
        "## The best in each cell\n\nBy mean JCT over seeds; the last column counts the first and "
        "those whose interval against it reaches 1: places among them mean little. All policies: "
        f"[cells.md]({folder}/cells.md).\n\n{text_table(heading, rows)}"
    )


def _directions(study: Study) -> str:
    found = directions(study)
    if not found:
        return ""
    remarks = [f"- {item.number}: {item.remark}" for item in found if item.wants_remark]
    heading = ("", "published", "measured here", "ratio", "band", "verdict", "evidence")
    rows = [
        (
            item.number,
            item.statement,
            item.measured,
            interval(item.estimate),
            _band(item.band),
            f"**{item.verdict}**",
            item.evidence,
        )
        for item in found
    ]
    return (
        "## Published directions\n\nA direction *holds* if the whole interval is inside the band "
        "of its published size; *direction holds* if it is only on the band's side of 1; *does not "
        "hold* if it is outside; otherwise it is *undecided*.\n\n"
        + text_table(heading, rows)
        + "".join(f"\n{remark}\n" for remark in remarks)
    )


def _band(band: tuple[float, float]) -> str:
    low, high = band
    if np.isinf(high):
        return f"at least {low:.2f}"
    return f"at most {high:.2f}" if low == 0.0 else f"{low:.2f} to {high:.2f}"


def _silent(study: Study) -> str:
    silent: dict[tuple[str, str], list[str]] = {}
    for cell in study.cells:
        for label in cell.outcomes:
            for part in cell.silent(label):
                silent.setdefault((label, part), []).append(cell.name)
    if not silent:
        return ""
    rows = [
        (code(label), code(part), _cells(cells, len(study.cells)))
        for (label, part), cells in silent.items()
    ]
    return (
        "## Mechanisms that never fired\n\nIn these cells the part's defining event happened for "
        "no seed: what the policy achieved there is not that part's doing.\n\n"
        + text_table(("policy", "part", "cells"), rows)
    )


def _invalid(study: Study) -> str:
    rows = [
        (code(entry.label), f"{count:,}")
        for entry in study.suite.policies
        if (count := study.invalid_answers(entry.label))
    ]
    if not rows:
        return ""
    return (
        "## Answers that were not possible\n\nA safe answer stood in for these, so the figures of "
        "the policy are partly those of the safe answers.\n\n"
        + table(("policy", "invalid answers"), rows)
    )


def _cells(names: list[str], total: int) -> str:
    return "every cell" if len(names) == total else ", ".join(code(name) for name in names)
