"""A bench that is stopped, however, leaves no worker and no damage, and says how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench_helpers import toy_suite

from agentserve_gym.bench import ResultsFile, plan_jobs, run_jobs, runner
from agentserve_gym.scale.processes import processes, worker_pool
from tests.running_processes import of_session

pytest.importorskip("matplotlib")
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")

LONG = ["bench", "--suite", "quick", "--scenario", "functions-8b-4", "--seeds", "500"]
SOON_S = 30.0


def until(condition: Callable[[], bool], within_s: float) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def started(out: Path, jobs: int) -> subprocess.Popen[str]:
    """A bench with outcomes in its file, leader of a session of its own."""
    bench = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGINT, "
         "signal.default_int_handler); from agentserve_gym.cli import app; app()",
         *LONG, "--jobs", str(jobs), "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    rows = out / "results.csv"
    assert until(lambda: rows.exists() and len(rows.read_text().splitlines()) > 2, 120.0)
    return bench


@linux
def test_workers_end_with_a_killed_parent(tmp_path):
    with started(tmp_path, 2) as bench:
        assert len(of_session(bench.pid)) >= 3  # with the two workers
        bench.kill()
        assert until(lambda: not of_session(bench.pid), SOON_S)
    assert len(ResultsFile(tmp_path / "results.csv").outcomes) >= 2


@linux
@pytest.mark.parametrize(
    ("number", "everyone", "jobs"),
    [
        (signal.SIGINT, True, 2),  # as the terminal sends Ctrl-C
        (signal.SIGTERM, False, 2),
        (signal.SIGINT, False, 1),
    ],
)
def test_a_stopped_bench_says_how_to_go_on(tmp_path, number, everyone, jobs):
    with started(tmp_path, jobs) as bench:
        if everyone:
            os.killpg(bench.pid, number)
        else:
            bench.send_signal(number)
        output, errors = bench.communicate(timeout=SOON_S)
        assert until(lambda: not of_session(bench.pid), SOON_S)
    assert bench.returncode == 128 + number
    assert output == ""
    # A line of progress may stand before it.
    assert errors.splitlines()[-1] == (
        f"stopped; to go on: agentserve {' '.join(LONG)} --jobs {jobs} --out {tmp_path} --resume"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]
    assert len(ResultsFile(tmp_path / "results.csv").outcomes) >= 2


def _never() -> None:
    time.sleep(3600)


def test_an_error_beside_the_workers_ends_them_at_once():
    began_s = time.monotonic()
    with pytest.raises(RuntimeError, match="beside"), worker_pool(2) as pool:  # noqa: PT012
        running = pool.submit(_never)
        assert until(running.running, 30.0)
        raise RuntimeError("beside")
    assert time.monotonic() - began_s < 120.0
    assert isinstance(running.exception(timeout=10), Exception)


def test_a_killed_worker_is_an_error_that_says_so(monkeypatch):
    monkeypatch.setattr(runner, "run_job", _die)
    killed = pytest.raises(ChildProcessError, match="one of 2 worker processes was killed")
    with killed, processes(2) as workers:
        run_jobs(plan_jobs(toy_suite()), workers, lambda _: None, lambda _job, _error: None)


def _die(_job: object) -> None:
    os._exit(9)
