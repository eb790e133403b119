"""What commands print: tables and notes for people, or one JSON document."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else.")
]


def console() -> Console:
    """Standard output, for people."""
    return Console(highlight=False)


def progress() -> Progress:
    """A progress bar on standard error that leaves nothing behind; hidden where that is a file."""
    errors = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,
    )


def print_json(document: Any) -> None:
    """One JSON document on standard output; NaN and infinity are refused."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def note(text: str) -> None:
    """A remark on standard error, so that standard output stays what was asked for."""
    typer.echo(text, err=True)
