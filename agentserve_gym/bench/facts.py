"""What a cell is like before policies are compared: pressure, stability, and luck."""

from __future__ import annotations

import math

from agentserve_gym.bench.luck import NUDGED_OF, RESOLUTION
from agentserve_gym.bench.study import CellResult, Study
from agentserve_gym.report.markdown import code, table

_GROWS = 1.5

FACTS = (
    "cell", "programs", "live", "working set / pool", "p90", "hit rate", "busy", "drift", "luck",
    "smallest difference",
)  # fmt: skip

_READING = """\
Under the stock policy ({stock}), means over seeds. *Live*: programs that have arrived and are not
done, until the last one arrives. *Working set / pool*: what their contexts would take of all HBM
blocks in that time, mean and 90th percentile; a shared prefix counts once an instance. *Hit rate*:
of prompt tokens, in HBM. *Drift*: mean slowdown of the half of the programs that finishes later
over that of the other half. *Luck*: standard deviation of mean JCT, in percent, over runs that
differ in one output token of the first turn of one program in {one_of} alone. *Smallest
difference*: what two policies' mean JCT must differ by so that luck does not hide it at the
cell's number of seeds (the half width of a 95 % interval that luck alone would make).
{nudged}"""


def pressure_section(study: Study) -> str:
    """The section of the page."""
    nudged = sorted({label for cell in study.cells for label in cell.luck})
    reading = _READING.format(
        stock=code(study.suite.stock),
        one_of=NUDGED_OF,
        nudged=f"Nudged: {', '.join(map(code, nudged))} (root mean square).\n" if nudged else "",
    )
    rows = [(code(cell.name), *cell_facts(cell, study.suite.stock)) for cell in study.cells]
    remarks = "".join(f"\n{remark}\n" for remark in (_hidden(study), _growing(study)) if remark)
    return f"## Pressure and luck\n\n{reading}\n{table(FACTS, rows)}{remarks}"


def cell_facts(cell: CellResult, stock: str) -> tuple[str, ...]:
    """The columns of `FACTS` but the first."""

    def mean(column: str) -> float:
        return cell.mean(stock, column)

    luck_of_a_run, smallest = cell.luck_of_a_run, cell.smallest_difference
    return (
        f"{mean('programs'):.0f}",
        f"{mean('live'):.0f}",
        f"{mean('working_set'):.2f}",
        f"{mean('working_set_p90'):.2f}",
        f"{mean('hit_hbm'):.2f}",
        f"{mean('busy'):.0%}",
        f"{mean('drift'):.2f}",
        "" if luck_of_a_run is None else f"{luck_of_a_run:.1%}",
        "" if smallest is None or math.isinf(smallest) else f"{smallest:.1%}",
    )


def _hidden(study: Study) -> str:
    """Which cells cannot tell a difference of `RESOLUTION`."""
    found = {
        cell.name: smallest
        for cell in study.cells
        if (smallest := cell.smallest_difference) is not None and RESOLUTION < smallest < math.inf
    }
    if not found:
        return ""
    named = ", ".join(f"{code(name)} ({smallest:.1%})" for name, smallest in found.items())
    return (
        f"A difference of {RESOLUTION:.0%} cannot be told from luck in {named}; smaller ones than "
        "those in brackets mean nothing there."
    )


def _growing(study: Study) -> str:
    """Cells whose queue grows to the end under the stock policy."""
    stock = study.suite.stock
    found = [code(cell.name) for cell in study.cells if cell.mean(stock, "drift") > _GROWS]
    if not found:
        return ""
    return (
        f"In {', '.join(found)} the queue grows to the end under {code(stock)}: the "
        "load is more than it can serve, and its mean JCT is that of so many programs, not of a "
        "steady state. Policies that can serve the load stand out all the more."
    )
