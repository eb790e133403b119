"""A scenario small enough to learn from in seconds, and settings to do it."""

from __future__ import annotations

from typing import Any

from agentserve_gym.sim import load_scenario

SMALL_RUN: dict[str, Any] = {
    "steps": 256,
    "workers": 2,
    "width": 16,
    "checkpoint_every": 64,
    "ppo": {"rollout_steps": 32, "batch_size": 32, "epochs": 2},
    "dqn": {"learning_starts": 32, "buffer_size": 200, "batch_size": 16},
    "imitation": {"candidates": ["affinity+lru", "affinity+dram"], "measured_episodes": 2,
                  "episodes": 4, "epochs": 4},
    "evaluation": {"policies": ["affinity+lru"], "seeds": 3, "selection_seeds": 2},
}  # fmt: skip


def small_scenario(instances: int = 4, programs: int = 8) -> dict[str, Any]:
    """The default preset with few short programs and little HBM."""
    content = load_scenario("default").model_dump(mode="json", exclude_unset=True)
    content["name"] = f"small-{instances}"
    content["cluster"]["nodes"][0]["instances"][0].update(count=instances, kv_blocks=3000)
    content["workload"].update(programs=programs, max_turns=6, max_context_tokens=30_000)
    content["arrivals"]["rate_per_s"] = 1.0
    return content
