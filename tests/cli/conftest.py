"""How CLI tests call the command line, in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from agentserve_gym.cli import app


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def agentserve() -> Callable[..., Outcome]:
    """Call ``agentserve`` with arguments; an unexpected exception fails the test."""

    def call(*arguments: Any) -> Outcome:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return call


@pytest.fixture
def refused(agentserve: Callable[..., Outcome]) -> Callable[..., str]:
    """Call with bad input: exit code 2 and one line on stderr, which is returned."""

    def call(*arguments: Any) -> str:
        outcome = agentserve(*arguments)
        assert outcome.code == 2
        assert outcome.stdout == ""
        lines = outcome.stderr.splitlines()
        assert len(lines) == 1, outcome.stderr
        return lines[0].removeprefix("agentserve: ")

    return call
