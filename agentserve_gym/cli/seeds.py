"""``agentserve train --seeds``: one training with several seeds, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agentserve_gym.cli.figures import Figures
from agentserve_gym.cli.output import console, note, print_json
from agentserve_gym.cli.progress import reporting
from agentserve_gym.cli.stopping import given_command, resumable
from agentserve_gym.cli.workers import Opening
from agentserve_gym.tracking import LogTo

if TYPE_CHECKING:
    from agentserve_gym.train import TrainSettings

Result = TypeVar("Result")


class SeedRun(Protocol):
    """A training with one of the seeds."""

    @property
    def run(self) -> Path:
        """Its folder."""


Run = TypeVar("Run", bound=SeedRun)


def seed_folder(folder: Path, seed: int) -> Path:
    """Of one training of several, from any working directory."""
    return (folder / f"seed-{seed}").resolve()


def train_seeds(
    settings: TrainSettings,
    number: int,
    out: Path | None,
    opening: Opening,
    services: tuple[str, ...],
    *,
    json: bool,
) -> None:
    """Train through an environment with several seeds, and say what each gave."""
    from agentserve_gym.train.runs import SeedRun, finish

    folder = out or Path("runs") / settings.name_without_seed
    log = LogTo(services, group=folder.name)
    runs = {
        seed: SeedRun(settings.model_copy(update={"seed": seed}), seed_folder(folder, seed), log)
        for seed in range(settings.seed, settings.seed + number)
    }
    trained = train_side_by_side(finish, runs, opening)
    if json:
        print_json({"run": str(folder), "seeds": list(trained.values())})
        return
    _table([results["evaluation"] for results in trained.values()], list(trained)).print(console())
    runs_given = " ".join(str(folder / each.run.name) for each in runs.values())
    note(f"every policy: agentserve compare {runs_given}")


def train_side_by_side(
    finish: Callable[[Run], Result], runs: Mapping[int, Run], opening: Opening
) -> dict[int, Result]:
    """What each training gave, by its seed.

    Raises:
        ValueError: naming the failures, after everything else has run; or if the folders are not
            those of this machine.
    """
    seeds = list(runs)
    found: dict[int, Result] = {}
    failures: list[str] = []
    with resumable(given_command()), opening as workers, reporting() as report:

        def progressed() -> None:
            report("train: seeds", len(found) + len(failures), len(seeds))

        def done(number: int, result: Result) -> None:
            if not runs[seeds[number]].run.is_dir():
                raise ValueError(
                    f"{runs[seeds[number]].run} was written on another machine; name a folder that "
                    "all machines of the cluster share with --out"
                )
            found[seeds[number]] = result
            progressed()

        def failed(number: int, error: Exception) -> None:
            failures.append(f"seed {seeds[number]}: {error!r}")
            progressed()

        progressed()
        workers.run(finish, list(runs.values()), done, failed)
    for failure in failures:
        note(f"failed: {failure}")
    if failures:
        raise ValueError(
            f"{len(failures)} of {len(seeds)} trainings failed; give the command again to go on"
        )
    return {seed: found[seed] for seed in seeds}


def _table(evaluations: list[dict[str, Any]], seeds: list[int]) -> Figures:
    """One row a seed, beside the heuristic that did best there."""
    unit = evaluations[0]["unit"]
    table = Figures(
        f"{evaluations[0]['scenario']}, {len(evaluations[0]['seeds'])} held-out seeds",
        ["seed of the training", unit, "best heuristic", "relative to it"],
    )
    for seed, evaluation in zip(seeds, evaluations, strict=True):
        metric = f"mean_{evaluation['metric']}"
        trained, *others = evaluation["policies"]
        best = min(others, key=lambda scores: float(scores[metric]))
        table.rows.append(
            [
                str(seed),
                f"{trained[metric]:.4g}",
                f"{best['policy']} {best[metric]:.4g}",
                f"{best['difference']['relative']:+.1%}",
            ]
        )
    return table
