"""``agentserve --version``."""

from __future__ import annotations

import platform
from typing import Annotated

import typer

from agentserve_gym import __version__
from agentserve_gym.compiled import kernel


def version_lines() -> list[str]:
    """What a report of a defect needs to say."""
    return [
        f"agentserve {__version__}",
        f"Python {platform.python_version()}",
        f"kernel: {kernel()}",
    ]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo("\n".join(version_lines()))
        raise typer.Exit


def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Simulate clusters that serve LLM agents, and compare policies that run them."""
