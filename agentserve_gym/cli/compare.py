"""``agentserve compare``: saved runs, benchmarks and trainings side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.learning import difference_cells
from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.cli.pictures import require_drawable
from agentserve_gym.cli.saved import Compared, Measured, Row, compare, read_saved
from agentserve_gym.files import write_file
from agentserve_gym.messages import unknown
from agentserve_gym.plots import Difference, Differences, draw_differences

_HEADING = ("policy", "seeds", "mean JCT, s", "difference", "relative", "wins")


def compare_saved(
    run: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of bench or train; files with what run or evaluate printed with --json."
        ),
    ],
    against: Annotated[
        str | None, typer.Option(help="The policy to compare with; default: the first.")
    ] = None,
    scenario: Annotated[
        list[str] | None, typer.Option(help="Only this scenario; repeatable.")
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Only this policy; repeatable.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw the differences to this PNG file.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare saved runs, benchmarks and trainings, paired by seed."""
    if picture is not None:
        require_drawable(picture)
    found = [measured for path in run for measured in read_saved(path)]
    found = _only(found, "scenario", scenario)
    found = _only(found, "policy", [*policy, *([against] if against else [])] if policy else None)
    compared = compare(found, against)
    if picture is not None:
        write_file(picture, draw_differences([_drawn(each) for each in compared]))
        note(f"picture: {picture}")
    if json:
        print_json({"comparisons": [_as_dict(each) for each in compared]})
        return
    out = console()
    for each in compared:
        _table(each).print(out)


def _only(found: list[Measured], field: str, names: Sequence[str] | None) -> list[Measured]:
    """Those of the named scenarios or policies; all where none is named."""
    if not names:
        return found
    known = list(dict.fromkeys(getattr(measured, field) for measured in found))
    for name in names:
        if name not in known:
            raise ValueError(unknown(field, name, known))
    return [measured for measured in found if getattr(measured, field) in names]


def _table(compared: Compared) -> Figures:
    table = Figures(compared.scenario, _HEADING)
    for row in compared.rows:
        cells = ("",) * 3 if row.difference is None else difference_cells(row.difference)
        table.rows.append((row.name, f"{len(row.jct_s)}", f"{row.mean_jct_s:,.2f}", *cells))
    table.remarks.append(
        f"difference: mean JCT minus that of {compared.rows[0].name}, s, paired by seed, with its "
        "95 % bootstrap interval; negative is better; none for fewer than two common seeds"
    )
    return table


def _drawn(compared: Compared) -> Differences:
    return Differences(
        f"{compared.scenario}: mean JCT against {compared.rows[0].name}",
        [
            Difference(
                row.name,
                row.difference.relative,
                row.difference.relative_bootstrap.low,
                row.difference.relative_bootstrap.high,
            )
            for row in compared.rows
            if row.difference is not None
        ],
    )


def _as_dict(compared: Compared) -> dict[str, Any]:
    return {
        "scenario": compared.scenario,
        "against": compared.rows[0].name,
        "rows": [_row_as_dict(row) for row in compared.rows],
    }


def _row_as_dict(row: Row) -> dict[str, Any]:
    return {
        "policy": row.policy,
        "from": row.origins,
        "seeds": sorted(row.jct_s),
        "mean_jct_s": row.mean_jct_s,
        "difference": row.difference.as_dict() if row.difference is not None else None,
    }
