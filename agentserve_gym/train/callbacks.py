"""What a run does while SB3 learns: reports progress, keeps the best weights, writes checkpoints.

All of it happens between rollouts, where a learner's state is whole.
"""

from __future__ import annotations

import copy
import io
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from agentserve_gym.files import write_file
from agentserve_gym.sim import load_scenario
from agentserve_gym.train.checkpoints import save_checkpoint
from agentserve_gym.train.evaluation import METRICS, Report, score
from agentserve_gym.train.learned import MODEL_NAME, LearnedPolicy, ModelCard, add_card
from agentserve_gym.train.sb3_policies import scorer_of
from agentserve_gym.train.seeds import SELECTION_SEEDS
from agentserve_gym.train.settings import TrainSettings

SELECTION_NAME = "selection.json"


@dataclass(slots=True)
class Selection:
    """Which weights of a run are kept: those that did best on the selection seeds.

    Attributes:
        history: (decisions learned from, mean of the metric), in order.
        wall_s: time that measuring took.
    """

    history: list[tuple[int, float]] = field(default_factory=list)
    wall_s: float = 0.0

    @property
    def best_step(self) -> int:
        """When the kept weights were saved."""
        return min(self.history, key=lambda entry: entry[1])[0]

    def as_dict(self) -> dict[str, Any]:
        """What was measured, and when it was best."""
        history = [{"step": step, "mean": mean} for step, mean in self.history]
        return {"best_step": self.best_step, "history": history}


class Keeper:
    """Measures a learner on the selection seeds, notes it in ``selection.json``, and keeps
    ``model.zip`` at its best."""

    def __init__(
        self, run: Path, settings: TrainSettings, card: ModelCard, selection: Selection
    ) -> None:
        self.selection = selection
        self._run = run
        self._reward = settings.reward
        self._card = card
        self._scenario = load_scenario(settings.scenario)
        self._seeds = SELECTION_SEEDS[: settings.evaluation.selection_seeds]

    def measure(self, learner: BaseAlgorithm, report: Report) -> None:
        """Measure and log, and save the weights if they are the best so far."""
        started = time.perf_counter()
        history = self.selection.history
        learner.policy.set_training_mode(False)
        scorer = copy.deepcopy(scorer_of(learner.policy)).cpu()
        policy = LearnedPolicy(scorer, self._card, "selection")
        mean = score(policy, self._scenario, self._seeds, report).mean(self._reward)
        if all(mean < earlier for _, earlier in history):
            save_model(self._run / MODEL_NAME, learner, self._card)
        history.append((learner.num_timesteps, mean))
        measured = {"metric": METRICS[self._reward], **self.selection.as_dict()}
        write_file(self._run / SELECTION_NAME, json.dumps(measured, indent=2) + "\n")
        learner.logger.record(f"selection/{self._reward}", mean)
        learner.logger.dump(learner.num_timesteps)
        self.selection.wall_s += time.perf_counter() - started


class BetweenRollouts(BaseCallback):
    """Selection and checkpoints every so many decisions, progress all the time."""

    def __init__(
        self, run: Path, settings: TrainSettings, keeper: Keeper, notes: dict[str, Any],
        report: Report,
    ) -> None:  # fmt: skip
        super().__init__()
        self._run = run
        self._settings = settings
        self._keeper = keeper
        self._notes = notes
        self._report = report

    def _on_training_start(self) -> None:
        self._due = self.num_timesteps + self._settings.checkpoint_every

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        self._report("learning: decisions", self.num_timesteps, self._settings.steps)
        if self.num_timesteps >= self._due:
            self.save()
            self._due = self.num_timesteps + self._settings.checkpoint_every

    def save(self) -> None:
        """Measure and write a checkpoint."""
        self._keeper.measure(self.model, self._report)
        checkpoint(self._run, self.model, self._keeper.selection, self._notes)


def checkpoint(
    run: Path, learner: BaseAlgorithm, selection: Selection, notes: dict[str, Any]
) -> None:
    """Write a checkpoint that holds the selection and the caller's notes too."""
    save_checkpoint(run, learner, {"selection": selection, "notes": notes})


def save_model(file: Path, learner: BaseAlgorithm, card: ModelCard) -> None:
    """Write a model file whole or not at all."""
    content = io.BytesIO()
    learner.save(content)
    add_card(content, card)
    write_file(file, content.getvalue())
