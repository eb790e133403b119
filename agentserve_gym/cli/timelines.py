"""Writing timelines of runs to files that trace viewers open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentserve_gym.cli.driving import Run
from agentserve_gym.cli.progress import reporting
from agentserve_gym.files import open_whole, require_replaceable
from agentserve_gym.timeline import (
    CHROME_BEGINNING,
    lay_out,
    perfetto_beginning,
    write_chrome,
    write_perfetto,
)

_WRITERS = {".pftrace": write_perfetto, ".json": write_chrome}


def require_traceable(path: Path, policies: Sequence[str]) -> None:
    """Find out before a long run whether its trace can be written.

    Raises:
        ValueError: if there are several policies, the name ends in neither ``.pftrace`` nor
            ``.json``, the folder does not exist, or a file of that name is no trace of a run.
        ModuleNotFoundError: naming the extra to install, where Perfetto's classes are missing.
    """
    if len(policies) > 1:
        raise ValueError(
            f"trace is {str(path)!r}, of {len(policies)} policies ({', '.join(policies)}); "
            "allowed: one policy a trace"
        )
    if path.suffix.lower() not in _WRITERS:
        raise ValueError(
            f"trace is {str(path)!r}; allowed: a file whose name ends in .pftrace (Perfetto's "
            "format) or .json (Chrome's)"
        )
    if not path.absolute().parent.is_dir():
        raise ValueError(f"trace is {str(path)!r}, but there is no folder {path.parent}")
    if path.suffix.lower() == ".json":
        require_replaceable(path, CHROME_BEGINNING, "a trace of a run")
    else:
        require_replaceable(path, perfetto_beginning(), "a trace of a run")


def write_trace(path: Path, run: Run, title: str) -> None:
    """Write the timeline of a recorded run."""
    history = run.record.history
    assert history is not None  # recorded, because a trace was asked for
    with reporting() as report, open_whole(path) as stream:
        report("trace: laying it out", 0, 1)
        timeline = lay_out(history, title)
        write = _WRITERS[path.suffix.lower()]
        write(timeline, stream, lambda done, total: report("trace: events", done, total))
