"""Progress without a terminal: nothing of short work, a line now and then of long work."""

from __future__ import annotations

import pytest

from agentserve_gym.cli import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_short_work_says_nothing(clock, capsys):
    with progress.reporting() as report:
        for done in range(10):
            clock[0] += 0.2
            report("lru: programs", done, 10)
    assert lines(capsys) == []


def test_long_work_says_a_line_now_and_then_and_how_long_it_takes(clock, capsys):
    with progress.reporting() as report:
        for done in range(100):
            report("bench: runs", done, 100)
            clock[0] += 1.0
    said = lines(capsys)
    assert 5 <= len(said) <= 8
    assert said[0].startswith("bench: runs 4 of 100, about ")
    assert said[-1].endswith("s left")


def test_something_else_is_told_soon(clock, capsys):
    with progress.reporting() as report:
        clock[0] += 4.0
        report("imitating: epochs", 0, 12)
        clock[0] += 4.0
        report("imitating: epochs", 1, 12)
        report("learning: decisions", 0, 200_000)
    assert lines(capsys) == [
        "imitating: epochs 0 of 12",
        "learning: decisions 0 of 200,000",
    ]


def test_what_is_left_counts_interruptions_too(clock, capsys):
    """A run that stops to measure itself takes that time until its end."""
    with progress.reporting() as report:
        report("learning: decisions", 0, 100)
        clock[0] += 50.0
        report("selection: seeds", 0, 4)
        clock[0] += 50.0
        report("learning: decisions", 50, 100)
    assert lines(capsys)[-1] == "learning: decisions 50 of 100, about 2 min left"
