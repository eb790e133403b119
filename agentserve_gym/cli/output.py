"""What commands print: tables and notes for people, or one JSON document."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console

JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document and nothing else.")
]


_NO_LIMIT = 100_000


def console() -> Console:
    """Standard output, for people: as wide as the terminal, or as ``COLUMNS`` says.

    A file has no width: nothing that goes there is folded or cut.
    """
    out = Console(highlight=False)
    if not out.is_terminal and "COLUMNS" not in os.environ:
        out.width = _NO_LIMIT
    return out


def print_json(document: Any) -> None:
    """One JSON document on standard output; NaN and infinity are refused."""
    typer.echo(json.dumps(document, indent=2, allow_nan=False))


def note(text: str) -> None:
    """A remark on standard error, so that standard output stays what was asked for."""
    typer.echo(text, err=True)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings are one line each, without the place in the code that they come from."""

    def show(message: Warning | str, *_: Any, **_named: Any) -> None:
        note(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
