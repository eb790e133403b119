"""Bad input ends with exit code 2 and one line on standard error, never with a traceback."""

from __future__ import annotations

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from agentserve_gym.cli.stopping import orderly
from agentserve_gym.extras import how_to_install

BAD_INPUT_EXIT_CODE = 2

# What wrong values, unknown names and unreadable or unwritable files raise. The last entry is
# Typer's own class of wrong usage, which older versions take from click.
_BAD_INPUT: tuple[type[BaseException], ...] = (
    ValueError,
    OSError,
    ModuleNotFoundError,
    *typer.BadParameter.__bases__,
)


class OneLineErrors(TyperGroup):
    """A command group that turns errors of its commands' input into one line."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Commands and groups of commands together, by name."""
        return sorted(super().list_commands(ctx))

    def main(self, *arguments: Any, **settings: Any) -> Any:
        """Read the command line, which may print help or the version, and run the command."""
        try:
            return super().main(*arguments, **settings)
        except OSError as error:
            typer.echo(f"agentserve: {one_line(error)}", err=True)
            sys.exit(BAD_INPUT_EXIT_CODE)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with orderly():
                return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except _BAD_INPUT as error:
            typer.echo(f"agentserve: {one_line(error)}", err=True)
            raise typer.Exit(BAD_INPUT_EXIT_CODE) from error


def one_line(error: BaseException) -> str:
    """What is wrong and what is allowed, without line breaks."""
    match error:
        case ModuleNotFoundError():
            text = _missing_module(error)
        case OSError() if error.strerror and error.filename:
            text = f"{error.filename}: {error.strerror}"
        case OSError() if error.strerror:
            text = error.strerror
        case _:
            format_message = getattr(error, "format_message", None)
            text = format_message() if format_message is not None else str(error)
    return " ".join(text.split()) or type(error).__name__


def _missing_module(error: ModuleNotFoundError) -> str:
    text = how_to_install(error.name or "")
    if text is None:
        raise error  # not an optional part: a defect, which needs its traceback
    return text
