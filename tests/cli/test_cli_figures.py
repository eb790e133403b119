"""Tables at every width: figures are whole, names give way, files have no width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import console

NAMES = ["least_loaded+dram", "dynamo(overlap=1.0,temperature=0.5)+infercept", "lru"]
FIGURES = ["1,234.56", "-12.3 [-15.1, -9.24]", "100.00%", "7,702,800"]


def printed(width: int, columns: int = 6) -> list[str]:
    heading = ["policy", *(f"figure number {number}" for number in range(columns))]
    rows = [[name, *(FIGURES[n % len(FIGURES)] for n in range(columns))] for name in NAMES]
    target = io.StringIO()
    Figures("A title", heading, rows, ["a remark"]).print(Console(file=target, width=width))
    return target.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_line_is_too_long_and_no_figure_is_cut(width):
    lines = printed(width)
    assert max(map(len, lines)) <= width
    assert "…" not in "".join(lines)
    for figure in FIGURES:
        wanted = len(NAMES) * sum(FIGURES[n % len(FIGURES)] == figure for n in range(6))
        assert sum(line.count(figure) for line in lines) == wanted


def test_names_are_whole_where_there_is_room_and_broken_between_parts_where_not():
    assert any(line.startswith(NAMES[1]) for line in printed(200))
    narrow = [line.split()[0] for line in printed(50, columns=2) if line.strip()]
    assert "dynamo(overlap=1.0," in narrow or "dynamo(" in narrow
    assert "".join(part for part in narrow if part in NAMES[1]).startswith("dynamo(")


def test_what_does_not_fit_beside_each_other_follows_below_with_the_same_names():
    lines = printed(60)
    assert sum(line.startswith("A title") for line in lines) > 1
    assert sum(line.startswith("lru") for line in lines) > 1
    assert lines[-1].strip() == "a remark"


def test_a_file_has_no_width_unless_columns_says_one(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console().width > 1000
    monkeypatch.setenv("COLUMNS", "80")
    assert console().width == 80


@pytest.mark.parametrize("width", ["80", "200"])
@pytest.mark.parametrize(
    "command",
    [
        ["run", "--scenario", "toy", *(f"--policy={name}" for name in NAMES)],
        ["policies"],
        ["scenarios"],
        ["scenarios", "default"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_commands_fit_the_terminal(agentserve, monkeypatch, command, width):
    monkeypatch.setenv("COLUMNS", width)
    lines = agentserve(*command).stdout.splitlines()
    assert max(map(len, lines)) <= int(width)
    assert "…" not in "".join(lines)
