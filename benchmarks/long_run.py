"""One long run in a process of its own: ``python -m benchmarks.long_run POLICY TURNS EVERY``.

Prints a JSON line every so many turns: turns so far, seconds and bare seconds per event of the
stretch, and the peak resident memory so far. A process of its own, so that its memory is its own.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.control import Control
from benchmarks.drive import Drive
from benchmarks.files import ROOT
from benchmarks.measure import Sample, Value
from benchmarks.workloads import growing_scenario

_CONTROL_EVENTS = 4_000
_WARM_UP_TURNS = 300


class Stretch(Value):
    """A part of a run: its last turn, its cost, and the peak memory at its end."""

    turns: int
    length: int
    seconds: float
    event_s: float
    peak_mb: float

    @property
    def sample(self) -> Sample:
        return Sample(self.seconds, self.length, self.event_s)


def stretches(policy: str, turns: int, every: int) -> Iterator[Stretch]:
    """Run in a child process; yields stretches as they come.

    Raises:
        ValueError: if the child fails, with the last line of what it said.
    """
    command = [sys.executable, "-m", "benchmarks.long_run", policy, str(turns), str(every)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        for line in child.stdout:
            yield Stretch.model_validate_json(line)
        said = child.stderr.read().strip().splitlines()
    if child.returncode:
        raise ValueError(f"the long run failed: {said[-1] if said else 'without a word'}")


def _main(policy: str, turns: int, every: int) -> None:
    control = Control(_CONTROL_EVENTS)
    scenario = growing_scenario()
    # Another run first, so that what is loaded on first use is loaded.
    Drive(scenario, policy, seed=1).run(_WARM_UP_TURNS)
    _tell(Stretch(turns=0, length=1, seconds=0.0, event_s=control.bare(), peak_mb=_peak_mb()))
    drive = Drive(scenario, policy)
    while drive.turns < turns:
        sample = drive.measure(min(every, turns - drive.turns), control)
        _tell(
            Stretch(
                turns=drive.turns,
                length=int(sample.work),
                seconds=sample.seconds,
                event_s=sample.event_s,
                peak_mb=_peak_mb(),
            )
        )


def _tell(stretch: Stretch) -> None:
    sys.stdout.write(json.dumps(stretch.model_dump()) + "\n")
    sys.stdout.flush()


def _peak_mb() -> float:
    """Peak resident memory of this process; Linux's ru_maxrss may be the parent's, so not that."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        # macOS, where it is in bytes and this process's own.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(peak) * 1024 / 1e6


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
