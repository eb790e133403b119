"""``agentserve data``: the data sets that the project can read, which are here, and adding one."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from collections.abc import Callable
from json import loads as parse_json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from agentserve_gym.cli.output import JsonOption, console, note, print_json
from agentserve_gym.datasets import DataSet, State, data_folder, data_sets
from agentserve_gym.files import write_file
from agentserve_gym.hardware.profile_tables import load_profile
from agentserve_gym.messages import unknown
from agentserve_gym.validation import find_cases, read_case
from agentserve_gym.validation.conversation_cells import find_cells, read_cell
from agentserve_gym.validation.router_runs import read_router_runs
from agentserve_gym.workloads import read_programs

data = typer.Typer(
    name="data",
    help="List recorded traces, measured runs and GPU profiles that can be read, or add one.",
    invoke_without_command=True,
)

_WORDS = {
    State.ABSENT: "not here",
    State.VERIFIED: "here, checksum verified",
    State.OTHER: "here, another copy than the documents' numbers are from",
}


@data.callback()
def list_data_sets(context: typer.Context, json: JsonOption = False) -> None:
    """List the data sets: what they are, where they come from, and whether they are here."""
    if context.invoked_subcommand is not None:
        return
    known = [(entry, entry.state()) for entry in data_sets().values()]
    if json:
        print_json(
            {
                "folder": str(data_folder()),
                "data_sets": [_row(entry, state) for entry, state in known],
            }
        )
        return
    table = Table("data set", "what it is, and where it comes from", show_lines=True)
    table.columns[0].no_wrap = True
    for entry, state in known:
        table.add_row(
            entry.name,
            f"{entry.what} ({entry.size_bytes / 1e3:,.0f} kB)\n{entry.source}; {entry.licence}\n"
            f"[bold]{_WORDS[state]}[/bold]",
        )
    out = console()
    out.print(table)
    out.print(f"folder: {data_folder()} (set AGENTSERVE_DATA for another)", markup=False)
    out.print("docs/data.md says how to get each; agentserve data add NAME FILE puts it there.")


@data.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Of the data set, as agentserve data lists it.")],
    files: Annotated[
        list[Path], typer.Argument(help="Its file; for profiles and runs files and folders.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there under the same name.")
    ] = False,
) -> None:
    """Check files of a data set and copy them into the data folder."""
    known = data_sets()
    if name not in known:
        raise ValueError(unknown("data set", name, known))
    entry = known[name]
    for path in files:
        if not path.exists():
            raise ValueError(f"there is no {path}")
    (_add_folder if entry.is_folder else _add_file)(entry, files, force)
    note(f"{name}: {_WORDS[entry.state()]}, in {entry.location()}")


def _row(entry: DataSet, state: State) -> dict[str, str | int]:
    return {
        "name": entry.name,
        "kind": entry.kind,
        "what": entry.what,
        "source": entry.source,
        "licence": entry.licence,
        "path": str(entry.location()),
        "state": state.value,
        "size_bytes": entry.size_bytes,
    }


def _add_file(entry: DataSet, files: list[Path], force: bool) -> None:
    """A data set of one file, packed where its name in the data folder says so."""
    target = entry.location()
    if len(files) != 1:
        raise ValueError(f"{entry.name} is one file; {len(files)} are given")
    _refuse_replacing([target], force)
    _CHECKS[entry.kind](files[0])
    content = files[0].read_bytes()
    is_packed = content.startswith(b"\x1f\x8b")
    if target.suffix == ".gz" and not is_packed:
        content = gzip.compress(content, mtime=0)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_file(target, content)


def _add_folder(entry: DataSet, files: list[Path], force: bool) -> None:
    """Files and folders of a data set that is a folder: what is there already stays."""
    target = entry.location()
    _refuse_replacing([target / path.resolve().name for path in files], force)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as place:
        staged = Path(place) / target.name
        if target.is_dir():
            shutil.copytree(target, staged)
        for path in files:
            copy = staged / path.resolve().name
            staged.mkdir(exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, copy, dirs_exist_ok=True)
            else:
                shutil.copyfile(path, copy)
        _CHECKS[entry.kind](staged)
        old = Path(place) / "old"
        if target.exists():
            os.rename(target, old)
        os.rename(staged, target)


def _refuse_replacing(targets: list[Path], force: bool) -> None:
    there = [target for target in targets if target.exists()]
    if there and not force:
        raise ValueError(f"{there[0]} exists; replace it with --force")


def _check_profiles(folder: Path) -> None:
    cases = sorted({path.parent for path in folder.rglob("attention.csv*")})
    if not cases:
        raise ValueError("no profile tables there; allowed: folders <accelerator>/<model>/tp<k>")
    for case in cases:
        load_profile(case)


def _check_runs(folder: Path) -> None:
    for case in find_cases(folder):
        read_case(case)


def _check_conversation_runs(folder: Path) -> None:
    for requests in find_cells(folder):
        read_cell(requests)


def _check_fits(file: Path) -> None:
    try:
        parse_json(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error


_CHECKS: dict[str, Callable[[Path], object]] = {
    "programs": read_programs,
    "fits": _check_fits,
    "profiles": _check_profiles,
    "runs": _check_runs,
    "conversation_runs": _check_conversation_runs,
    "router_runs": read_router_runs,
}
