"""Measured closed-loop runs of conversations: what a real engine did for so many clients.

A folder ``<model>_<accelerator>_<serving software>`` holds ``conversations.csv`` (see the reader of
that name) and per cell ``clients-N_host-on`` or ``clients-N_host-off`` with the endings

- ``.requests.csv``: start_s, conversation, turn, prompt_tokens, output_tokens, ttft_ms, tpot_ms,
  e2e_ms of every request, as the client saw it;
- ``.engine.csv``: once a second t_s, kv_usage_pct, running, waiting, preemptions (a total);
- ``.pcie.csv``: t_s, to_host_mb_per_s, from_host_mb_per_s, as NVML samples them.

Each may be packed (``.gz``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agentserve_gym.validation.closed_loop import ClosedLoop
from agentserve_gym.validation.csv_columns import Columns, read_columns
from agentserve_gym.validation.replay import Column, ReplaySettings

_CELL = re.compile(r"clients-(\d+)_host-(on|off)\.requests\.csv(\.gz)?")
_BLOCK_TOKENS = 16

ENDED_REQUESTS = 5000
"""No turn started after so many requests had ended; then one less than there were clients was in
flight."""
THINK_S = 0.007
"""From an answer to the client's next request: median of the runs of InferenceX."""
HOST_GIB = 300.0
KV_TOKENS = {16: 782_160, 32: 782_160, 64: 782_160, 128: 782_160, 256: 780_992, 512: 773_312}
"""Pool that vLLM 0.15 reported in the runs of InferenceX, by clients."""
BATCHED_TOKENS = 8192


_REQUESTS = (
    "start_s", "conversation", "turn", "prompt_tokens", "output_tokens", "ttft_ms", "tpot_ms",
    "e2e_ms",
)  # fmt: skip
_ENGINE = ("t_s", "kv_usage_pct", "running", "waiting", "preemptions")
_PCIE = ("t_s", "to_host_mb_per_s", "from_host_mb_per_s")


@dataclass(frozen=True, slots=True)
class MeasuredCell:
    """One cell.

    Attributes:
        settings: the closed loop that corresponds to it.
        requests, engine, pcie: columns of its files, by name.
    """

    settings: ClosedLoop
    requests: Columns
    engine: Columns
    pcie: Columns

    @property
    def start_s(self) -> Column:
        """When each request was sent."""
        return self.requests["start_s"]

    @property
    def ttft_s(self) -> Column:
        """Time to first token of each request."""
        return self.requests["ttft_ms"] / 1e3

    @property
    def tpot_s(self) -> Column:
        """Time per further token of each request that has several."""
        return self.requests["tpot_ms"][self.requests["output_tokens"] > 1] / 1e3

    @property
    def e2e_s(self) -> Column:
        """Time to last token of each request."""
        return self.requests["e2e_ms"] / 1e3

    @property
    def name(self) -> str:
        host = "with" if self.settings.host_gib is not None else "without"
        return f"{self.settings.clients} clients, {host} host memory"

    @property
    def requests_per_s(self) -> float:
        """All requests over the time from the first start to the last end."""
        return len(self.start_s) / float((self.start_s + self.e2e_s).max() - self.start_s.min())

    def moved_gb(self, column: str) -> tuple[float, float]:
        """What NVML's samples of a direction add up to, and the standard error of that, 1e9 bytes.

        A sample covers some hundredths of a second, so that short transfers are hit by chance.
        """
        rates, time_s = self.pcie[column], self.pcie["t_s"]
        span_s = float(time_s[-1] - time_s[0])
        total = float(np.trapezoid(rates, time_s)) / 1e3
        return total, float(rates.std() / np.sqrt(len(rates))) * span_s / 1e3


def find_cells(folder: Path) -> list[Path]:
    """The files of requests at or below a folder, by host memory and clients.

    Raises:
        ValueError: if there are none.
    """
    found = [path for path in folder.rglob("*.requests.csv*") if _CELL.fullmatch(path.name)]
    if not found:
        raise ValueError(f"{folder} has no clients-N_host-on or -off.requests.csv")
    return sorted(found, key=_order)


def read_cell(requests: Path) -> MeasuredCell:
    """A cell, named by its file of requests.

    Raises:
        ValueError: naming the file, and the column or line, that is missing or wrong.
    """
    clients, host = _cell(requests)
    stem = requests.name.split(".requests.csv")[0]
    return MeasuredCell(
        cell_settings(requests.parent, clients, host),
        read_columns(requests, _REQUESTS),
        read_columns(_file(requests.parent, f"{stem}.engine.csv"), _ENGINE),
        read_columns(_file(requests.parent, f"{stem}.pcie.csv"), _PCIE),
    )


def cell_settings(folder: Path, clients: int, host: bool) -> ClosedLoop:
    """The closed loop of a cell of a folder of runs.

    Raises:
        ValueError: the folder is not named as it should be, or has no conversations.
    """
    parts = folder.resolve().name.split("_")
    if len(parts) != 3:
        raise ValueError(f"{folder} is not named <model>_<accelerator>_<serving software>")
    pool = KV_TOKENS.get(clients)
    engine = ReplaySettings(
        workload=_file(folder, "conversations.csv"),
        accelerator=parts[1],
        model=parts[0],
        max_num_seqs=clients,
        max_num_batched_tokens=BATCHED_TOKENS,
        kv_blocks=None if pool is None else pool // _BLOCK_TOKENS,
    )
    started = ENDED_REQUESTS + clients - 1
    return ClosedLoop(engine, clients, started, THINK_S, HOST_GIB if host else None)


def _file(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise ValueError(f"{folder} has no {name}")


def _cell(requests: Path) -> tuple[int, bool]:
    found = _CELL.fullmatch(requests.name)
    if found is None:
        raise ValueError(f"{requests} is not named clients-N_host-on or -off.requests.csv")
    return int(found[1]), found[2] == "on"


def _order(path: Path) -> tuple[bool, int, str]:
    clients, host = _cell(path)
    return host, clients, str(path)
