"""Measured closed-loop cells against the same cells simulated, and cells that others measured."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentserve_gym.validation.closed_loop import ClosedLoopRun, replay_closed_loop
from agentserve_gym.validation.conversation_cells import (
    MeasuredCell,
    cell_settings,
    find_cells,
    read_cell,
)

CALIBRATED_CLIENTS = (16, 32)
"""Without host memory, these two cells gave the host time of the serving software."""
WITHHELD_CELLS = ((256, False), (256, True), (512, False), (512, True))
"""(Clients, host memory) of cells whose measurements are kept for acceptance."""

TARGETS = {"requests/s": 0.04, "TTFT": 0.2, "TPOT": 0.04, "E2E": 0.05}
"""Largest error of each mean in cells that were not used for calibration."""
HOST_GB_TARGET = 0.1
"""Likewise of what is written to host memory, beyond two standard errors of the measurement."""


@dataclass(frozen=True, slots=True)
class CellResult:
    """One cell, measured and simulated.

    Attributes:
        idle_gb: what NVML counts to the host in the same cell without host memory, 1e9 bytes; 0
            where that was not measured.
    """

    cell: MeasuredCell
    run: ClosedLoopRun
    wall_s: float
    idle_gb: float

    @property
    def calibrated_on(self) -> bool:
        """Whether the host time comes from this cell: then its errors say little."""
        settings = self.cell.settings
        return settings.clients in CALIBRATED_CLIENTS and settings.host_gib is None

    def means(self) -> dict[str, tuple[float, float]]:
        """Measured and simulated mean of each figure; seconds, or requests per second."""
        replay, cell = self.run.replay, self.cell
        return {
            "requests/s": (
                cell.requests_per_s,
                len(replay.turns) / replay.makespan_s(),
            ),
            "TTFT": (float(cell.ttft_s.mean()), float(replay.ttft_s().mean())),
            "TPOT": (float(cell.tpot_s.mean()), float(replay.tpot_s().mean())),
            "E2E": (float(cell.e2e_s.mean()), float(replay.e2e_s().mean())),
        }

    def errors(self) -> dict[str, float]:
        """Simulated over measured mean, less 1."""
        return {name: simulated / true - 1 for name, (true, simulated) in self.means().items()}

    def host_gb_out(self) -> tuple[float, float]:
        """Measured beyond an idle host link, and the standard error of that; 1e9 bytes."""
        total_gb, error_gb = self.cell.moved_gb("to_host_mb_per_s")
        return total_gb - self.idle_gb, error_gb

    @property
    def missed(self) -> list[str]:
        """Targets that it misses."""
        errors = self.errors()
        missed = [name for name, allowed in TARGETS.items() if abs(errors[name]) > allowed]
        if self.cell.settings.host_gib is not None:
            true_gb, error_gb = self.host_gb_out()
            beyond_gb = abs(self.run.host_gb_out - true_gb) - 2 * error_gb
            if beyond_gb > HOST_GB_TARGET * true_gb:
                missed.append("GB to the host")
        return missed

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        simulated = self.run.as_dict()
        del simulated["states"]
        return {
            "cell": self.cell.name,
            "calibrated_on": self.calibrated_on,
            "errors": self.errors(),
            "missed": self.missed,
            "measured_host_gb_out": self.host_gb_out()[0],
            "wall_s": self.wall_s,
            "simulated": simulated,
        }


@dataclass(frozen=True, slots=True)
class WithheldResult:
    """A cell that is simulated here without its measurements."""

    clients: int
    host: bool
    run: ClosedLoopRun

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        simulated = self.run.as_dict()
        del simulated["states"]
        return {"clients": self.clients, "host": self.host, "simulated": simulated}


def run_cells(folder: Path) -> list[CellResult]:
    """Every measured cell of a folder of runs, simulated.

    Raises:
        ValueError: a cell cannot be read.
    """
    cells = [read_cell(path) for path in find_cells(folder)]
    idle_gb = {
        cell.settings.clients: cell.moved_gb("to_host_mb_per_s")[0]
        for cell in cells
        if cell.settings.host_gib is None
    }
    results = []
    for cell in cells:
        start = time.perf_counter()
        run = replay_closed_loop(cell.settings)
        wall_s = time.perf_counter() - start
        results.append(CellResult(cell, run, wall_s, idle_gb.get(cell.settings.clients, 0.0)))
    return results


def run_withheld(folder: Path) -> list[WithheldResult]:
    """The cells of which only the workload is in a folder of runs."""
    runs = sorted({path.parent for path in find_cells(folder)})
    return [
        WithheldResult(clients, host, replay_closed_loop(cell_settings(run, clients, host)))
        for run in runs
        for clients, host in WITHHELD_CELLS
    ]
