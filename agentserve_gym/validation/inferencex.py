"""InferenceX's multi-turn sweeps, as published, turned into tables of measured runs.

A sweep is a folder of cells ``tp<k>_bs<clients>_offload<on|off>``. Each has three CSV files:
``metrics_client_metrics.csv`` (a row per request), ``metrics_server_metrics.csv`` (the engine about
once a second) and ``metrics_gpu_transfer.csv`` (PCIe). What is written, gzipped, for the cells of
one tensor parallelism, each ``clients-<n>_host-<on|off>``:

- ``<cell>.requests.csv.gz``: start_s (from the cell's first start), conversation, turn (from 0),
  prompt_tokens, output_tokens, ttft_ms, tpot_ms, e2e_ms;
- ``<cell>.engine.csv.gz``: t_s, kv_usage_pct, host_kv_usage_pct, running, waiting, and since the
  start prompt_tokens, generated_tokens, preemptions, finished;
- ``<cell>.pcie.csv.gz``: t_s, gpu, to_host_mb_per_s, from_host_mb_per_s;
- ``conversations.csv.gz``: conversation, turn, prompt_tokens, output_tokens.

Conversations are numbered as they first start, from the cell with the fewest clients on, without
host tier first. Their lengths differ a little between cells (answers are tokenized again); those of
the first cell by name are listed that has the turn.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from math import isfinite
from pathlib import Path

_CELL = re.compile(r"tp(\d+)_(?:bs|users)(\d+)_offload(on|off)")

_ENGINE = {
    "relative_time_sec": "t_s",
    "kv_cache_usage_pct": "kv_usage_pct",
    "cpu_kv_cache_usage_pct": "host_kv_usage_pct",
    "num_requests_running": "running",
    "num_requests_waiting": "waiting",
    "prompt_tokens_total": "prompt_tokens",
    "generation_tokens_total": "generated_tokens",
    "num_preemptions_total": "preemptions",
    "request_success_total": "finished",
}
_PCIE = {
    "relative_time_sec": "t_s",
    "gpu_id": "gpu",
    "tx_pci_mb_per_sec": "to_host_mb_per_s",
    "rx_pci_mb_per_sec": "from_host_mb_per_s",
}
_CLIENT = (
    "start_time_ms", "ttft_ms", "tpot_ms", "latency_ms", "input_num_turns", "input_num_tokens",
    "output_num_tokens", "conversation_id",
)  # fmt: skip
_REQUESTS = (
    "start_s", "conversation", "turn", "prompt_tokens", "output_tokens", "ttft_ms", "tpot_ms",
    "e2e_ms",
)  # fmt: skip

Table = list[list[str]]


@dataclass(frozen=True, slots=True)
class _Request:
    start_ms: float
    conversation: str
    turn: int
    prompt_tokens: int
    output_tokens: int
    ttft_ms: float
    tpot_ms: float
    e2e_ms: float


@dataclass(frozen=True, slots=True)
class _Cell:
    clients: int
    host: str
    folder: Path

    @property
    def name(self) -> str:
        return f"clients-{self.clients}_host-{self.host}"


def convert_sweep(sweep: Path, tensor_parallel: int = 1) -> dict[str, bytes]:
    """The files of a sweep's measured runs: name -> gzipped content, the same bytes every time.

    Raises:
        ValueError: naming the folder without cells, or the file and line that is wrong.
    """
    cells = _cells(sweep, tensor_parallel)
    requests = {cell.name: _requests(cell.folder) for cell in cells}
    numbers: dict[str, int] = {}
    for cell in cells:
        for request in requests[cell.name]:
            numbers.setdefault(request.conversation, len(numbers))
    files: dict[str, bytes] = {}
    for cell in cells:
        tables = {
            "requests": _request_table(requests[cell.name], numbers),
            "engine": _renamed(cell.folder / "metrics_server_metrics.csv", _ENGINE),
            "pcie": _renamed(cell.folder / "metrics_gpu_transfer.csv", _PCIE),
        }
        files |= {f"{cell.name}.{kind}.csv.gz": _packed(table) for kind, table in tables.items()}
    by_name = sorted(cells, key=lambda cell: cell.folder.name)
    listed = (request for cell in by_name for request in requests[cell.name])
    return files | {"conversations.csv.gz": _packed(_conversation_table(listed, numbers))}


def _cells(sweep: Path, tensor_parallel: int) -> list[_Cell]:
    """Cells with the fewest clients first, without host tier before with it."""
    if not sweep.is_dir():
        raise ValueError(f"{sweep} is not a folder")
    cells = []
    others = set()
    for folder in sweep.iterdir():
        named = _CELL.fullmatch(folder.name)
        if named and int(named[1]) == tensor_parallel:
            cells.append(_Cell(int(named[2]), named[3], folder))
        elif named:
            others.add(int(named[1]))
    if not cells:
        there = f"tp {', '.join(map(str, sorted(others)))} there" if others else "none at all"
        raise ValueError(
            f"{sweep} has no cells tp{tensor_parallel}_bs<clients>_offload<on|off>; {there}"
        )
    return sorted(cells, key=lambda cell: (cell.clients, cell.host))


def _requests(folder: Path) -> list[_Request]:
    """In order of start."""
    path = folder / "metrics_client_metrics.csv"
    rows = []
    for where, row in _rows(path, _CLIENT):
        start, ttft, tpot, latency = (_number(where, row, name) for name in _CLIENT[:4])
        messages, prompt, output = (int(_number(where, row, name)) for name in _CLIENT[4:7])
        # The conversation so far: a user's message, then an answer and a message per turn.
        rows.append(
            _Request(
                start, row["conversation_id"], messages // 2, prompt, output, ttft, tpot, latency
            )
        )
    return sorted(rows, key=lambda request: request.start_ms)


def _request_table(requests: Sequence[_Request], numbers: Mapping[str, int]) -> Table:
    first_ms = requests[0].start_ms
    return [
        list(_REQUESTS),
        *(
            [
                f"{(request.start_ms - first_ms) / 1000:.4f}",
                f"{numbers[request.conversation]}",
                f"{request.turn}",
                f"{request.prompt_tokens}",
                f"{request.output_tokens}",
                f"{request.ttft_ms:.2f}",
                f"{request.tpot_ms:.3f}",
                f"{request.e2e_ms:.2f}",
            ]
            for request in requests
        ),
    ]


def _conversation_table(requests: Iterable[_Request], numbers: Mapping[str, int]) -> Table:
    lengths: dict[tuple[int, int], tuple[int, int]] = {}
    for request in requests:
        key = (numbers[request.conversation], request.turn)
        lengths.setdefault(key, (request.prompt_tokens, request.output_tokens))
    heading = ["conversation", "turn", "prompt_tokens", "output_tokens"]
    return [heading, *([f"{n}" for n in (*key, *lengths[key])] for key in sorted(lengths))]


def _renamed(path: Path, columns: Mapping[str, str]) -> Table:
    """Some columns of a CSV file under other names, their numbers as they are written."""
    table = [list(columns.values())]
    for where, row in _rows(path, tuple(columns)):
        for name in columns:
            _number(where, row, name)
        table.append([row[name] for name in columns])
    return table


def _rows(path: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """(place, row) of a CSV file that has at least one row and all columns."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    reader = csv.DictReader(StringIO(text, newline=""))
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {reader.fieldnames}")
    rows = [(f"{path} line {reader.line_num}", row) for row in reader]
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def _number(where: str, row: Mapping[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = -1.0
    if not isfinite(value) or value < 0:
        raise ValueError(f"{where}: {column} = {row[column]!r} is not a number >= 0")
    return value


def _packed(table: Table) -> bytes:
    text = StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(table)
    return gzip.compress(text.getvalue().encode(), mtime=0)
