"""Complete tables: every policy in every cell."""

from __future__ import annotations

from agentserve_gym.bench.study import CellResult, Study
from agentserve_gym.report.markdown import code, interval, plural, table
from agentserve_gym.report.page import current_commit, joined, opening

_READING = """Means over seeds. *JCT / best* is the geometric mean over seeds of
the ratio to the policy of smallest mean, with its 95 % interval (paired seeds); a policy whose
interval reaches 1 is not separated from it. *p99* is the mean over seeds of each seed's 99th
percentile over the programs: of fewer than a hundred, close to the longest. *SLO* is the
share of turns within both objectives. *Hits* are shares of prompt tokens found in HBM, or loaded
from lower tiers. *Recomputed* is the share of prompt tokens that were computed although the program
had computed them before. *Moved* is KV offloaded plus loaded. *Silent* names parts whose defining
event fired for no seed: the result is not theirs.
"""

_HEADING = (
    "policy", "mean JCT, s", "JCT / best", "p99, s", "slowdown", "TTFT p95, s", "SLO",
    "hits {tiers}", "recomputed", "moved, GB", "preempted", "holds", "silent",
)  # fmt: skip


def cells_page(study: Study) -> str:
    """The page."""
    first = opening("Every cell", study.suite.command, current_commit())
    return joined([first, _READING, *(_cell(cell) for cell in study.cells)])


def _cell(cell: CellResult) -> str:
    programs = cell.outcomes[cell.ranked[0]][0].programs
    facts = (
        f"{cell.scenario.description}\n\n"
        f"{plural(programs, 'program')} a seed, {plural(len(cell.seeds), 'seed')}"
    )
    if len(cell.compared) > 1:
        facts += f"; policies, the reference aside, spread by {cell.spread:.1%}"
    facts += "."
    if cell.is_control:
        facts += " A control: the order below is no ranking."
    heading = [title.format(tiers=cell.tier_names) for title in _HEADING]
    rows = [_row(cell, label) for label in cell.ranked]
    rows += [_row(cell, label) for label in cell.oracles]
    return f"## {cell.name}\n\n{facts}\n\n{table(heading, rows)}"


def _row(cell: CellResult, label: str) -> tuple[str, ...]:
    def mean(column: str) -> float:
        return cell.mean(label, column)

    name = f"{label} (oracle)" if label in cell.oracles else label
    return (
        name,
        f"{mean('jct_mean_s'):.1f}",
        interval(cell.against(label, cell.ranked[0])),
        f"{mean('jct_p99_s'):.1f}",
        f"{mean('slowdown'):.2f}",
        f"{mean('ttft_p95_s'):.2f}",
        f"{mean('slo_goodput'):.1%}",
        cell.hits(label),
        f"{mean('recomputed_tokens') / mean('prompt_tokens'):.1%}",
        f"{mean('offloaded_gb') + mean('loaded_gb'):.0f}",
        f"{mean('preemptions'):.0f}",
        f"{mean('holds'):.0f}",
        " ".join(code(part) for part in cell.silent(label)),
    )
