"""Ctrl-C and SIGTERM: a command puts things in order, and says how to go on."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer

from agentserve_gym.cli.output import note

_SIGNALLED = 128


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ends a command as Ctrl-C does."""


@contextmanager
def orderly() -> Iterator[None]:
    """SIGTERM unwinds a command instead of cutting it off, so that nothing is left half-done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except Terminated as stop:
        raise typer.Exit(_SIGNALLED + signal.SIGTERM) from stop
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def resumable(command: str) -> Iterator[None]:
    """What is stopped within says in one line which command goes on."""
    try:
        yield
    except KeyboardInterrupt as stop:
        number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
        note(f"stopped; to go on: {command}")
        raise typer.Exit(_SIGNALLED + number) from stop


def given_command(*more: str) -> str:
    """The command that was given, with arguments that it may have already."""
    given = sys.argv[1:]
    return shlex.join(["agentserve", *given, *(each for each in more if each not in given)])


def _terminate(_number: int, _frame: Any) -> None:
    raise Terminated
