"""A tuning from beginning to end, in one folder.

runs/NAME/tuning.json  everything that was set
          trials.log   every trial and what came of it: Optuna's journal, from which it goes on
          best.json    all settings of the best trial so far, to train with

Trials are proposed in rounds. A round is proposed from the rounds before it alone, whichever of its
trials ends first, by a sampler whose randomness follows from the space's seed and the trial's
number. So a tuning proposes the same wherever it runs, and goes on after a stop as if there had
been none.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from agentserve_gym.files import drop_partial_line, write_file
from agentserve_gym.messages import validated
from agentserve_gym.scale import Workers
from agentserve_gym.scale.version import package_version
from agentserve_gym.sim.kernel.randomness import mix
from agentserve_gym.tables import read_table
from agentserve_gym.tuning.plans import Changes, Plan, Trial, trial_value
from agentserve_gym.tuning.space import Choices, Range

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

PLAN, TRIALS, BEST = "tuning.json", "trials.log", "best.json"
_NAME = "tuning"
_VERSION = "version"
_ERROR = "error"

Report = Callable[[str, int, int], None]
"""Told what is going on, how much of it is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A trial that has ended.

    Attributes:
        changes: of the base's settings. ``value``: as ``trial_value``; ``None`` if it failed.
        error: why it failed.
        version: of the package, as of ``package_version``.
    """

    number: int
    changes: Changes
    value: float | None
    error: str | None
    version: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a tuning has found.

    Attributes:
        trials: by number. The first has the settings as they were given.
    """

    plan: Plan
    trials: list[TrialResult]

    @property
    def best(self) -> TrialResult:
        """The trial with the smallest value, the earliest of equals.

        Raises:
            ValueError: if none has succeeded.
        """
        ended = [trial for trial in self.trials if trial.value is not None]
        if not ended:
            reason = self.trials[0].error if self.trials else "none has ended"
            raise ValueError(f"no trial has succeeded; the first: {reason}")
        return min(ended, key=lambda trial: trial.value or 0.0)


def tune(plan: Plan, run: Path, workers: Workers, report: Report) -> Tuned:
    """Tune in a new folder.

    Raises:
        ModuleNotFoundError: if Optuna is not installed.
        ValueError: if the folder holds a tuning already, or no trial succeeds.
    """
    if (run / PLAN).exists():
        raise ValueError(f"{run} holds a tuning already; resume it, or choose another folder")
    import_module("optuna")  # where it is missing nothing is written
    run.mkdir(parents=True, exist_ok=True)
    write_file(run / PLAN, json.dumps(plan.model_dump(mode="json"), indent=1) + "\n")
    return _Tuning(plan, run).go(workers, report)


def resume_tuning(run: Path, workers: Workers, report: Report, trials: int | None = None) -> Tuned:
    """Go on with a tuning that was stopped, or to more trials than it was set to.

    Raises:
        ValueError: if the folder holds no tuning, or no trial succeeds.
    """
    saved = run / PLAN
    if not saved.is_file():
        raise ValueError(f"{run} holds no tuning ({PLAN} is missing)")
    plan = validated(Plan, read_table(saved), str(saved))
    if trials is not None:
        plan = plan.model_copy(update={"space": plan.space.model_copy(update={"trials": trials})})
    return _Tuning(plan, run).go(workers, report)


class _Tuning:
    def __init__(self, plan: Plan, run: Path) -> None:
        import optuna
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._plan, self._run = plan, run
        self._tried = {n: _distribution(tried) for n, tried in plan.space.parameters.items()}
        drop_partial_line(run / TRIALS)  # which Optuna would write on
        self._storage = optuna.storages.JournalStorage(JournalFileBackend(str(run / TRIALS)))
        self._study = optuna.create_study(
            storage=self._storage, study_name=_NAME, load_if_exists=True
        )
        if not self._study.get_trials():
            self._study.enqueue_trial(plan.stock())

    def go(self, workers: Workers, report: Report) -> Tuned:
        """Round after round, to the last trial."""
        while begun := self._round():
            self._train(begun, workers, report)
        tuned = Tuned(self._plan, self._results())
        best = self._plan.changed(tuned.best.changes)
        write_file(self._run / BEST, json.dumps(best, indent=1) + "\n")
        return tuned

    def _round(self) -> list[FrozenTrial]:
        """Trials that are proposed and have not ended: those of a round that was stopped, or of
        the next; none after the last."""
        running = self._running()
        size, number = self._plan.space.round, len(running) + len(self._results())
        whole = -(-number // size) if running else number // size + 1
        for new in range(number, min(whole * size, self._plan.space.trials)):
            self._propose(new)
        return self._running()

    def _propose(self, number: int) -> None:
        from optuna.samplers import TPESampler

        self._study.sampler = TPESampler(seed=mix(self._plan.space.seed, number) % 2**32)
        self._study.ask(self._tried)

    def _train(self, begun: list[FrozenTrial], workers: Workers, report: Report) -> None:
        from optuna.trial import TrialState

        total, ended = self._plan.space.trials, len(self._results())
        report("tune: trials", ended, total)

        def done(position: int, value: float) -> None:
            self._mark(begun[position], _VERSION, package_version())
            self._study.tell(begun[position].number, value)
            report("tune: trials", len(self._results()), total)

        def failed(position: int, error: Exception) -> None:
            self._mark(begun[position], _VERSION, package_version())
            self._mark(begun[position], _ERROR, f"{type(error).__name__}: {error}")
            self._study.tell(begun[position].number, state=TrialState.FAIL)
            report("tune: trials", len(self._results()), total)

        trials = [Trial(self._plan, trial.params) for trial in begun]
        workers.run(trial_value, trials, done, failed)

    def _mark(self, trial: FrozenTrial, key: str, value: str) -> None:
        study = self._storage.get_study_id_from_name(_NAME)
        number = self._storage.get_trial_id_from_study_id_trial_number(study, trial.number)
        self._storage.set_trial_user_attr(number, key, value)

    def _running(self) -> list[FrozenTrial]:
        """Proposed and not ended. One that was being proposed when the tuning was stopped lacks
        parameters, and counts as failed."""
        from optuna.trial import TrialState

        found = self._study.get_trials(states=[TrialState.RUNNING])
        for trial in found:
            if set(trial.params) != set(self._tried):
                self._mark(trial, _ERROR, "stopped while it was proposed")
                self._study.tell(trial.number, state=TrialState.FAIL)
        return [trial for trial in found if set(trial.params) == set(self._tried)]

    def _results(self) -> list[TrialResult]:
        from optuna.trial import TrialState

        return [
            TrialResult(
                trial.number,
                trial.params,
                trial.value,
                trial.user_attrs.get(_ERROR),
                trial.user_attrs.get(_VERSION, ""),
            )
            for trial in self._study.get_trials(states=[TrialState.COMPLETE, TrialState.FAIL])
        ]


def _distribution(tried: Range | Choices) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(tried, Choices):
        return CategoricalDistribution(tried.choices)
    if tried.is_whole:
        step = 1 if tried.step is None else int(tried.step)
        return IntDistribution(int(tried.low), int(tried.high), log=tried.log, step=step)
    return FloatDistribution(tried.low, tried.high, log=tried.log, step=tried.step)
