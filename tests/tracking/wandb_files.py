"""What W&B has written to its own files, which are a log of LevelDB's kind with its messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEADER_BYTES, _BLOCK_BYTES, _RECORD_HEADER_BYTES = 7, 2**15, 7
_WHOLE, _LAST = 1, 4


def messages(file: Path) -> Iterator[bytes]:
    """The messages of a file, in order."""
    content, place, message = file.read_bytes(), _HEADER_BYTES, b""
    while place + _RECORD_HEADER_BYTES <= len(content):
        left = _BLOCK_BYTES - place % _BLOCK_BYTES
        if left < _RECORD_HEADER_BYTES:  # a block's end is filled up
            place += left
            continue
        size = int.from_bytes(content[place + 4 : place + 6], "little")
        kind = content[place + 6]
        place += _RECORD_HEADER_BYTES
        message += content[place : place + size]
        place += size
        if kind in (_WHOLE, _LAST):
            yield message
            message = b""


class WandbFile:
    """A run as one file has it.

    Attributes:
        id, name, group, project: of the run. ``exit_code``: how it ended, if it did.
        config, summary: by name.
        curves: by name, (step, value) in order.
    """

    def __init__(self, file: Path) -> None:
        from wandb.proto import wandb_internal_pb2 as proto

        self.id = self.name = self.group = self.project = ""
        self.exit_code: int | None = None
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.curves: dict[str, list[tuple[int, float]]] = {}
        for message in messages(file):
            record = proto.Record.FromString(message)
            match record.WhichOneof("record_type"):
                case "run":
                    run = record.run
                    self.id, self.name, self.group = run.run_id, run.display_name, run.run_group
                    self.project = run.project
                    self.config.update(_items(run.config.update))
                case "config":
                    self.config.update(_items(record.config.update))
                case "summary":
                    self.summary.update(_items(record.summary.update))
                case "exit":
                    self.exit_code = record.exit.exit_code
                case "history":
                    for key, value in _items(record.history.item).items():
                        if not key.startswith("_"):
                            point = (record.history.step.num, value)
                            self.curves.setdefault(key, []).append(point)


def _items(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def wandb_files(folder: Path) -> list[WandbFile]:
    """Those below a training's folder, in the order in which they were begun."""
    found = sorted(
        folder.glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime
    )
    return [WandbFile(file) for file in found]
