"""``agentserve convert``: measured runs of other benchmarks in the form in which they are kept."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from agentserve_gym.cli.output import note
from agentserve_gym.validation.inferencex import convert_sweep


def convert(
    sweep: Annotated[
        Path, typer.Argument(help="Folder of cells named tp<k>_bs<clients>_offload<on|off>.")
    ],
    to: Annotated[Path, typer.Option(help="Folder for the tables; it must be absent or empty.")],
    tp: Annotated[int, typer.Option(min=1, help="Tensor parallelism of the cells to take.")] = 1,
) -> None:
    """Turn a sweep of InferenceX's multi-turn benchmark into tables of measured runs."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ValueError(f"{to} exists and is not an empty folder")
    files = convert_sweep(sweep, tp)
    to.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=to.parent, prefix=f".{to.name}.") as place:
        staged = Path(place) / to.name
        staged.mkdir()
        for name, content in files.items():
            (staged / name).write_bytes(content)
        staged.replace(to)
    note(f"wrote {len(files)} tables to {to}")
