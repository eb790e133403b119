"""A training run from beginning to end, in one folder.

runs/NAME/settings.json   everything that was set
          imitation.json  how well the teacher was learned
          model.zip       the best weights on the selection seeds, loadable by SB3 as well
          selection.json  what the present weights were worth on these, as learning went on
          checkpoints/    the last two, to resume from
          tensorboard/    curves
          tracking.json   which services it is logged to, where it is
          results.json    the evaluation on held-out seeds, and where the time went
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure

import agentserve_gym
from agentserve_gym.baselines import parse_policy
from agentserve_gym.files import write_file
from agentserve_gym.report.page import current_commit
from agentserve_gym.sim import load_scenario
from agentserve_gym.tables import read_table
from agentserve_gym.tracking import NOT_LOGGED, LogTo, Tracker, note_log, open_tracker
from agentserve_gym.train.callbacks import BetweenRollouts, Keeper, Selection, checkpoint
from agentserve_gym.train.checkpoints import list_checkpoints, load_checkpoint
from agentserve_gym.train.evaluation import Evaluation, Report, evaluate
from agentserve_gym.train.imitation import (
    TEACHER_WORKER,
    Imitation,
    choose_teacher,
    demonstrate,
    imitate,
)
from agentserve_gym.train.learned import load_policy
from agentserve_gym.train.learners import check_device, component_sizes, make_card, make_learner
from agentserve_gym.train.sb3_policies import actor_critic_of, scorer_of
from agentserve_gym.train.seeds import evaluation_seeds, training_seed
from agentserve_gym.train.settings import TrainSettings, make_settings
from agentserve_gym.train.tracked import TrackerOutput, log_results, tracker_callbacks
from agentserve_gym.train.workers import make_env, make_workers

SETTINGS_NAME, RESULTS_NAME, IMITATION_NAME = "settings.json", "results.json", "imitation.json"


def train(
    settings: TrainSettings, run: Path, report: Report, log: LogTo = NOT_LOGGED
) -> tuple[Evaluation, dict[str, Any]]:
    """Train in a new folder and judge the result.

    Args:
        log: the services that the run is logged to, also when it is resumed.

    Returns:
        The evaluation, and the content of ``results.json``.

    Raises:
        ValueError: if the folder holds a run already, or torch does not have the device.
    """
    _create(settings, run)
    note_log(run, log)
    return _go(settings, run, report)


def learn(settings: TrainSettings, run: Path, report: Report) -> None:
    """Train in a new folder as ``train`` does, but judge nothing: what is chosen from by its result
    must not meet the evaluation seeds.

    Raises:
        ValueError: as ``train``.
    """
    _create(settings, run)
    _learned(settings, run, report, Tracker())


def _create(settings: TrainSettings, run: Path) -> None:
    if (run / SETTINGS_NAME).exists():
        raise ValueError(f"{run} holds a run already; resume it, or choose another folder")
    check_device(settings.device)
    run.mkdir(parents=True, exist_ok=True)
    write_json(run / SETTINGS_NAME, settings.model_dump(mode="json"))


def resume(run: Path, report: Report) -> tuple[Evaluation, dict[str, Any]]:
    """Go on with a run that was stopped: from its last checkpoint, or from the start if it had
    none yet. Returns what ``train`` does.

    Raises:
        ValueError: if the folder holds no run, or a finished one.
    """
    if not (run / SETTINGS_NAME).is_file():
        raise ValueError(f"{run} holds no run ({SETTINGS_NAME} is missing)")
    if (run / RESULTS_NAME).is_file():
        raise ValueError(f"the run in {run} is finished; there is nothing to resume")
    saved = run / SETTINGS_NAME
    return _go(make_settings(read_table(saved), str(saved)), run, report)


@dataclass(frozen=True, slots=True)
class SeedRun:
    """One of several trainings that differ in their seeds, as a worker gets it."""

    settings: TrainSettings
    run: Path
    log: LogTo = NOT_LOGGED


def finish(task: SeedRun) -> dict[str, Any]:
    """The content of ``results.json``: of a run that is begun, gone on with, or finished already,
    as the folder has it. So a task whose worker was lost goes on elsewhere.

    Raises:
        ValueError: if the folder holds a run that was set otherwise.
    """
    saved = task.run / SETTINGS_NAME
    if not saved.is_file():
        return train(task.settings, task.run, silent, task.log)[1]
    if make_settings(read_table(saved), str(saved)) != task.settings:
        raise ValueError(f"{task.run} holds a run that was set otherwise; choose another folder")
    if (task.run / RESULTS_NAME).is_file():
        return read_table(task.run / RESULTS_NAME)
    return resume(task.run, silent)[1]


def _go(settings: TrainSettings, run: Path, report: Report) -> tuple[Evaluation, dict[str, Any]]:
    config = {
        **settings.model_dump(mode="json"),
        "version": agentserve_gym.__version__,
        "commit": current_commit(),
    }
    with open_tracker(run, settings.run_name, config) as tracker:
        selection, notes = _learned(settings, run, report, tracker)
        evaluation, results = _judge(settings, run, selection, notes, report)
        log_results(tracker, evaluation, results)
    return evaluation, results


def _learned(
    settings: TrainSettings, run: Path, report: Report, tracker: Tracker
) -> tuple[Selection, dict[str, Any]]:
    """Go from the last checkpoint, or from the start, to the last decision."""
    learner = make_learner(settings, make_workers(settings))
    learner.set_logger(configure(str(run / "tensorboard"), ["tensorboard"]))
    learner.logger.output_formats.append(TrackerOutput(tracker))
    card = make_card(settings)
    if list_checkpoints(run):
        stored = load_checkpoint(run, learner)
        selection, notes = stored["selection"], stored["notes"]
        keeper = Keeper(run, settings, card, selection)
    else:
        selection, notes = Selection(), {"wall_s": {}}
        keeper = Keeper(run, settings, card, selection)
        _begin(settings, run, learner, keeper, notes, report)
    callback = BetweenRollouts(run, settings, keeper, notes, report)
    _learn(settings, learner, callback, keeper, notes, tracker)
    return selection, notes


def _begin(
    settings: TrainSettings,
    run: Path,
    learner: BaseAlgorithm,
    keeper: Keeper,
    notes: dict[str, Any],
    report: Report,
) -> None:
    """Imitate, measure, and write the checkpoint of step 0."""
    started = time.perf_counter()
    if settings.imitate != "none" and settings.algorithm != "dqn":
        imitation = _imitate(settings, learner, report)
        notes["teacher"] = imitation.teacher
        write_json(run / IMITATION_NAME, asdict(imitation))
        learner.logger.record("imitation/agreement", imitation.agreement)
    notes["wall_s"]["imitation"] = time.perf_counter() - started
    keeper.measure(learner, report)
    notes["wall_s"]["learning"] = 0.0
    checkpoint(run, learner, keeper.selection, notes)


def _imitate(settings: TrainSettings, learner: BaseAlgorithm, report: Report) -> Imitation:
    env = make_env(settings)
    teacher = settings.imitate
    measured: dict[str, float] = {}
    if teacher == "auto":
        teacher, measured = choose_teacher(env, settings.imitation, settings.seed, report)
    workloads = [
        training_seed(settings.seed, TEACHER_WORKER, number)
        for number in range(settings.imitation.episodes)
    ]
    shown = demonstrate(env, teacher, workloads, settings.ppo.gamma, report)
    agreement, explained = imitate(
        scorer_of(learner.policy),
        actor_critic_of(learner.policy),
        shown,
        settings.imitation,
        component_sizes(env.action_space),
        settings.seed,
        report,
    )
    return Imitation(teacher, len(shown.actions), measured, agreement, explained)


def _learn(
    settings: TrainSettings,
    learner: BaseAlgorithm,
    callback: BetweenRollouts,
    keeper: Keeper,
    notes: dict[str, Any],
    tracker: Tracker,
) -> None:
    """Learn up to the set number of decisions, then measure and write the last checkpoint."""
    left = settings.steps - learner.num_timesteps
    if left <= 0:
        return
    selecting_s = keeper.selection.wall_s
    started = time.perf_counter()
    fresh = learner.num_timesteps == 0
    callbacks = [callback, *tracker_callbacks(tracker)]
    learner.learn(left, callbacks, reset_num_timesteps=fresh)
    selecting_s = keeper.selection.wall_s - selecting_s
    notes["wall_s"]["learning"] = time.perf_counter() - started - selecting_s
    callback.save()


def _judge(
    settings: TrainSettings,
    run: Path,
    selection: Selection,
    notes: dict[str, Any],
    report: Report,
) -> tuple[Evaluation, dict[str, Any]]:
    started = time.perf_counter()
    teacher = [notes["teacher"]] if "teacher" in notes else []
    names = list(dict.fromkeys([*settings.evaluation.policies, *teacher]))
    evaluation = evaluate(
        load_policy(run, settings.baseline),
        [parse_policy(name) for name in names],
        load_scenario(settings.scenario),
        evaluation_seeds(settings.evaluation.seeds),
        settings.reward,
        report,
    )
    wall_s = {
        **notes["wall_s"],
        "selection": selection.wall_s,
        "evaluation": time.perf_counter() - started,
    }
    results = {
        "env": settings.env,
        "algorithm": settings.algorithm,
        "steps": settings.steps,
        "seed": settings.seed,
        "version": agentserve_gym.__version__,
        "commit": current_commit(),
        "teacher": notes.get("teacher"),
        "selection": selection.as_dict(),
        "evaluation": evaluation.as_dict(),
        "wall_s": wall_s,
    }
    write_json(run / RESULTS_NAME, results)
    return evaluation, results


def write_json(file: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_file(file, json.dumps(content, indent=2, allow_nan=False) + "\n")


def silent(what: str, done: int, total: int) -> None:
    """A ``Report`` that says nothing."""
