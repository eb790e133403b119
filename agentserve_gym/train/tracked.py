"""How SB3's learners tell trackers what they log."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from agentserve_gym.tracking import Tracker
from agentserve_gym.train.evaluation import METRICS, Evaluation

_LIKE = "tensorboard"


class TrackerOutput(KVWriter):
    """An output of SB3's logger: all numbers that TensorBoard shows, by decisions."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Log what was recorded since the last time."""
        metrics = {
            key: float(value)
            for key, value in key_values.items()
            if isinstance(value, int | float | np.number) and _LIKE not in key_excluded[key]
        }
        self._tracker.log(metrics, step)

    def close(self) -> None:
        """Nothing: the training closes its tracker."""


def tracker_callbacks(tracker: Tracker) -> list[BaseCallback]:
    """What services bring for SB3: W&B's callback notes the learner's own parameters."""
    if "wandb" not in tracker.services:
        return []
    from wandb.integration.sb3 import WandbCallback

    return [WandbCallback()]


def log_results(tracker: Tracker, evaluation: Evaluation, results: dict[str, Any]) -> None:
    """Log the evaluation on held-out seeds at the last step, and sum the run up."""
    trained = {f"evaluation/{metric}": evaluation.policy.mean(metric) for metric in METRICS}
    tracker.log(trained, results["steps"])
    metric = evaluation.metric
    compared: dict[str, float] = {}
    for scores, difference in zip(evaluation.others, evaluation.differences, strict=True):
        compared[f"evaluation/{scores.policy}/{metric}"] = scores.mean(metric)
        compared[f"evaluation/{scores.policy}/relative"] = difference.relative
    wall_s = {f"wall_s/{part}": seconds for part, seconds in results["wall_s"].items()}
    tracker.summarize(
        {
            **compared,
            **wall_s,
            "selection/best_step": results["selection"]["best_step"],
            "teacher": results["teacher"] or "none",
        }
    )
