"""A Ray cluster of two machines, each with one CPU, that are processes of this one."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentserve_gym.bench import Job, Outcome, ResultsFile, load_suite, plan_jobs, run_jobs
from agentserve_gym.cli import app
from agentserve_gym.learning import Recipe, train_recipe
from agentserve_gym.learning.history import UPDATES
from agentserve_gym.scale import InThisProcess, Workers
from agentserve_gym.scale import cluster as ray_cluster
from agentserve_gym.tuning import Space, plan_recipe, tune
from agentserve_gym.tuning.space import Range
from tests.running_processes import children

pytest.importorskip("ray")
pytestmark = pytest.mark.whole_cluster
linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")

SOON_S = 120.0
SUITE = """
name = "small"
description = "Runs of some tenths of a second."
seeds = 3
first_seed = 0
policies = ["random", "affinity", "lmetric"]
[[cells]]
scenario = "functions-8b-4"
load = "saturated"
"""


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


@pytest.fixture
def workers(machines: Any) -> Iterator[Workers]:
    with ray_cluster.cluster(machines.address, 1) as opened:
        yield opened


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "small.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture(scope="module")
def local_rows(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Checksum of the rows that this process gives."""
    rows = ResultsFile(tmp_path_factory.mktemp("local") / "results.csv")
    run_jobs(jobs_of(suite), InThisProcess(), rows.append, no_failure)
    return checksum(rows.path)


def jobs_of(suite: Path) -> list[Job]:
    return plan_jobs(load_suite(str(suite)))


def checksum(rows: Path) -> str:
    return hashlib.sha256("\n".join(sorted(rows.read_text().splitlines())).encode()).hexdigest()


def no_failure(_job: Job, error: Exception) -> None:
    raise error


def until(condition: Callable[[], object], within_s: float = SOON_S) -> None:
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def descendants(ancestor: int) -> list[int]:
    """Children, their children, and so on."""
    found = children(ancestor)
    return found + [number for child in found for number in descendants(child)]


def busy_workers(raylet: int) -> list[int]:
    """Processes of a machine that run a task now: Ray calls them by the task's name."""
    titles = {number: Path(f"/proc/{number}/cmdline") for number in children(raylet)}
    return [n for n, title in titles.items() if title.read_bytes().startswith(b"ray::run_task")]


def have_a_worker_each(folder: Path) -> None:
    """Both machines run a task that ends when the other one's has begun."""
    import ray

    def meet(number: int) -> None:
        (folder / f"met-{number}").touch()
        while len(list(folder.glob("met-*"))) < 2:
            time.sleep(0.02)

    begin = ray.remote(num_cpus=1)(meet).remote
    ray.get([begin(number) for number in range(2)], timeout=SOON_S)


# --- results --------------------------------------------------------------------------------------


def test_a_version_that_differs_is_refused(
    workers: Workers, suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_cluster, "package_version", lambda: "agentserve-gym 9.9, code 0")
    rows: list[Outcome] = []
    with pytest.raises(ValueError, match=r"Ray cluster has agentserve-gym .*; this is .*9\.9"):
        run_jobs(jobs_of(suite), workers, rows.append, no_failure)
    assert rows == []


def test_a_run_that_fails_is_not_tried_again_and_does_not_stop_the_others(
    workers: Workers, suite: Path, tmp_path: Path
) -> None:
    first, *others = jobs_of(suite)[:3]
    log = tmp_path / "calls"
    (tmp_path / "faulty_policies.py").write_text(
        "def broken():\n"
        f"    print('called', file=open({str(log)!r}, 'a'))\n"
        "    raise ArithmeticError('broken')\n"
    )
    failures: list[tuple[Job, Exception]] = []
    rows: list[Outcome] = []
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        broken = replace(first, policy="faulty_policies:broken")
        run_jobs([broken, *others], workers, rows.append, lambda *item: failures.append(item))
    finally:
        os.chdir(before)
    assert sorted(row.label for row in rows) == sorted(job.label for job in others)
    ((job, error),) = failures
    assert job == broken
    assert "broken" in str(error)
    assert log.read_text() == "called\n"


RECIPE = Recipe(
    name="small", description="two updates on the toy", cells=["toy"], updates=2, pairs=2,
    select_every=1, selection_seeds=1,
)  # fmt: skip


def test_a_recipe_learns_what_it_learns_locally(workers: Workers, tmp_path: Path) -> None:
    trained = [
        train_recipe(RECIPE, tmp_path / name, where, lambda *_: None)
        for name, where in (("here", InThisProcess()), ("there", workers))
    ]
    assert trained[0].kept == trained[1].kept
    costs = [
        [line.partition('"wall_s"')[0] for line in (tmp_path / name / UPDATES).open()]
        for name in ("here", "there")
    ]
    assert costs[0] == costs[1]


def test_a_tuning_finds_what_it_finds_locally(workers: Workers, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    parameters = {"rate": Range(low=1.0, high=50.0, log=True)}
    plan = plan_recipe(RECIPE, Space(trials=4, round=2, seeds=1, parameters=parameters))
    here, there = (
        tune(plan, tmp_path / name, where, lambda *_: None)
        for name, where in (("here", InThisProcess()), ("there", workers))
    )
    assert here == there


# --- the command ----------------------------------------------------------------------------------


def command(*arguments: object, **variables: str) -> subprocess.Popen[str]:
    """A process of its own, leader of a session, that Ctrl-C would stop."""
    source = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from agentserve_gym.cli import app; app()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", source, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, **variables},
    )  # fmt: skip


def test_a_bench_goes_on_after_its_death(
    machines: Any, suite: Path, local_rows: str, tmp_path: Path
) -> None:
    rows = tmp_path / "results.csv"
    arguments = ["bench", "--suite", suite, "--out", tmp_path, "--ray", machines.address]
    with command(*arguments) as bench:
        until(lambda: rows.exists() and len(rows.read_text().splitlines()) > 3)
        bench.kill()
    assert len(ResultsFile(rows).outcomes) < 9
    result = CliRunner().invoke(app, [*map(str, arguments), "--resume", "--json"])
    assert result.exit_code == 0, result.stderr
    assert result.stderr.startswith("Ray: 2 CPUs\n")
    assert checksum(rows) == local_rows


@linux
def test_a_stopped_bench_ends_the_cluster_that_it_started(suite: Path, tmp_path: Path) -> None:
    rows = tmp_path / "results.csv"
    arguments = ["bench", "--suite", suite, "--out", tmp_path, "--ray", "--jobs", "2"]
    home = tmp_path / "home"  # where Ray keeps the token of the clusters that it starts
    home.mkdir()
    with command(*arguments, HOME=str(home)) as bench:
        until(lambda: rows.exists() and len(rows.read_text().splitlines()) > 1)
        assert len(descendants(bench.pid)) > 3
        begun = descendants(bench.pid)
        os.killpg(bench.pid, signal.SIGINT)  # as the terminal sends Ctrl-C
        output, errors = bench.communicate(timeout=SOON_S)
    assert bench.returncode == 128 + signal.SIGINT
    assert output == ""
    given = " ".join(map(str, arguments))
    assert errors.splitlines()[-1] == f"stopped; to go on: agentserve {given} --resume"
    until(lambda: not any(Path(f"/proc/{number}").exists() for number in begun))


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("ray", ["bench", "--suite", "quick", "--scenario", "toy", "--ray"]),
        ("optuna", ["tune", "train", "--recipe", "default", "--jobs", "1"]),
    ],
)
def test_a_missing_package_is_named(
    module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    out = tmp_path / "out"
    result = CliRunner().invoke(app, [*arguments, "--out", str(out)])
    assert result.exit_code == 2
    assert f"{module} is not installed; it comes with the extra 'scale'" in result.stderr
    assert not out.exists() or [path.name for path in out.iterdir()] == ["results.csv"]


def test_addresses_are_checked_before_anything_runs(tmp_path: Path) -> None:
    for address, message in (
        ("nonsense", "--ray is 'nonsense'; allowed: auto, or HOST:PORT"),
        ("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"),
    ):
        arguments = ["bench", "--suite", "quick", "--scenario", "toy", "--seeds", "1"]
        result = CliRunner().invoke(
            app, [*arguments, "--out", str(tmp_path / address), "--ray", address]
        )
        assert result.exit_code == 2
        assert message in result.stderr


# --- losses; last, as the cluster has one machine less afterwards -------------------------------


@linux
def test_a_lost_worker_and_a_lost_machine_cost_no_result(
    machines: Any, workers: Workers, suite: Path, local_rows: str, tmp_path: Path
) -> None:
    *_, lost = machines.worker_nodes
    (raylet,) = lost.all_processes["raylet"]
    rows = ResultsFile(tmp_path / "results.csv")
    killed: list[int] = []
    removed: list[int] = []

    def done(outcome: Outcome) -> None:
        """Waits for nothing: no task is handed out meanwhile."""
        rows.append(outcome)
        if not killed:
            killed.extend(busy_workers(raylet.process.pid))
            for number in killed:
                os.kill(number, signal.SIGKILL)
        elif not removed:
            removed.append(len(rows.outcomes))
            machines.remove_node(lost, allow_graceful=False)

    have_a_worker_each(tmp_path)
    run_jobs(jobs_of(suite), workers, done, no_failure)
    assert killed
    assert removed
    assert checksum(rows.path) == local_rows
