"""Measure what learned parts see over the benchmark's cells, and write learning/features.toml.

python -m tools.learning_features
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np

import agentserve_gym.learning
from agentserve_gym.baselines.learned import parts
from agentserve_gym.baselines.learned.situation import TurnsLeft, dot, order_features
from agentserve_gym.baselines.learned.weights import Weights, heuristic_weights
from agentserve_gym.cli.progress import reporting
from agentserve_gym.files import write_file
from agentserve_gym.learning.episodes import Episode, Episodes, episode_cost
from agentserve_gym.learning.features import CONSTANT, KINDS, kinds_of
from agentserve_gym.learning.recipe import load_recipe
from agentserve_gym.report.statistics import Array
from agentserve_gym.sim import RouteDecision

TARGET = Path(agentserve_gym.learning.__file__).parent / "features.toml"
LEAST_DEVIATION = 0.05
_HEAD = """# Mean and standard deviation of every feature of the learned parts, under the heuristics
# that training starts from; every cell of the recipe `general` counts the same. `order.ready` is of
# the time since then: what differs between turns of a queue.
# Made by `python -m tools.learning_features`.
"""

Rows = dict[str, list[list[float]]]
Moments = dict[str, tuple[Array, Array]]


def main() -> None:
    """Measure and write."""
    episodes = Episodes(load_recipe("general")).selection()[::2]
    found = []
    with reporting() as report:
        for number, episode in enumerate(episodes, start=1):
            found.append(_moments(_seen(episode, heuristic_weights())))
            report("cells", number, len(episodes))
    write_file(TARGET, _HEAD + "".join(_table(kind, found) for kind in KINDS))
    print(f"wrote {TARGET}")


def _seen(episode: Episode, weights: Weights) -> Rows:
    """By kind, the features of every decision of an episode."""
    rows: Rows = {kind: [] for kind in KINDS}
    groups = {id(values): group for group, values in weights.groups.items()}

    def seen_dot(values: Sequence[float], features: Sequence[float]) -> float:
        group = groups[id(values)]
        start = 0
        for kind in kinds_of(group):
            if kind != "order":  # see below
                rows[kind].append(list(features[start : start + len(KINDS[kind])]))
            start += len(KINDS[kind])
        return dot(values, features)

    def seen_order(decision: RouteDecision, instance: int, left: TurnsLeft) -> list[float]:
        features = order_features(decision, instance, left)
        rows["order"].append(list(features))
        rows["order"][-1][KINDS["order"].index("ready")] -= decision.time_s / 10.0
        return features

    with (
        patch.object(parts, "dot", seen_dot),
        patch.object(parts, "order_features", seen_order),
    ):
        episode_cost(episode, parts.learned_policy(weights), 0.0)
    return rows


def _moments(rows: Rows) -> Moments:
    """Mean and variance of each kind that was seen."""
    return {
        kind: (np.mean(seen, axis=0), np.var(seen, axis=0)) for kind, seen in rows.items() if seen
    }


def _table(kind: str, found: Sequence[Moments]) -> str:
    means = np.array([moments[kind][0] for moments in found if kind in moments])
    variances = np.array([moments[kind][1] for moments in found if kind in moments])
    deviations = np.sqrt(variances.mean(axis=0) + means.var(axis=0))
    lines = [
        f"{name} = [{mean:.3f}, {max(deviation, LEAST_DEVIATION):.3f}]\n"
        for name, mean, deviation in zip(KINDS[kind], means.mean(axis=0), deviations, strict=True)
        if name != CONSTANT
    ]
    return f"\n[{kind}]\n{''.join(lines)}"


if __name__ == "__main__":
    main()
