"""Shared by the tests of the environments: small scenarios and ways to play an episode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np

import agentserve_gym
from agentserve_gym.envs import AgentServeBase
from agentserve_gym.sim import RouteDecision, Scenario, load_scenario

IDS = tuple(f"agentserve_gym:{name}" for name in agentserve_gym.ENV_IDS)
JOINT, ROUTING, OFFLOAD = IDS

Chooser = Callable[[gym.Env[Any, Any]], Any]


class Step(NamedTuple):
    observation: np.ndarray
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


def base(env: gym.Env[Any, Any]) -> AgentServeBase:
    """The environment below the wrappers."""
    found = env.unwrapped
    assert isinstance(found, AgentServeBase)
    return found


def masked(env: gym.Env[Any, Any], generator: np.random.Generator) -> Any:
    """A uniform choice among possible actions, component by component."""
    unwrapped = base(env)
    parts = split_mask(unwrapped, unwrapped.action_masks())
    picks = [int(generator.choice(np.flatnonzero(part))) for part in parts]
    return np.array(picks) if len(picks) == 2 else picks[0]


def split_mask(env: AgentServeBase, mask: np.ndarray) -> list[np.ndarray]:
    """A mask by component of the action."""
    if isinstance(env.action_space, gym.spaces.MultiDiscrete):
        return [mask[: env.routes.size], mask[env.routes.size :]]
    return [mask]


def random_chooser(seed: int = 0) -> Chooser:
    generator = np.random.default_rng(seed)
    return lambda env: masked(env, generator)


def play(env: gym.Env[Any, Any], choose: Chooser, limit: int = 1_000_000) -> Iterator[Step]:
    """Steps until the episode ends (or ``limit`` of them)."""
    for _ in range(limit):
        step = Step(*env.step(choose(env)))
        yield step
        if step.terminated or step.truncated:
            return


def crowded(**changes: Any) -> Scenario:
    """Six programs on two small instances: queues, holds, evictions and offloads within a second
    of wall time; every turn has a successor but the last."""
    programs = [
        {
            "program_id": f"program-{number}",
            "agent_class": "inline",
            "arrival_s": 0.5 * number,
            "turns": [
                {
                    "new_input_tokens": 600 + 97 * number,
                    "output_tokens": 40 + 13 * ((number + turn) % 4),
                    "tools": []
                    if turn == 3
                    else [{"kind": ("shell", "web")[turn % 2], "duration_s": 0.5 + 0.7 * turn}],
                }
                for turn in range(4)
            ],
        }
        for number in range(6)
    ]
    content: dict[str, Any] = {
        "name": "crowded",
        "cluster": {
            "model": "llama-3.1-8b",
            "nodes": [
                {
                    "name": "node0",
                    "instances": [{"accelerator": "rtx-pro-6000", "count": 2, "kv_blocks": 400}],
                    "dram": {"capacity_gib": 2.0},
                }
            ],
        },
        "workload": {"kind": "inline", "programs": programs},
        "arrivals": {"kind": "trace"},
    }
    content.update(changes)
    return load_scenario(content)


def is_route(env: gym.Env[Any, Any]) -> bool:
    return isinstance(base(env).pending, RouteDecision)


def structure(info: dict[str, Any]) -> dict[str, Any]:
    """Keys with types, and shapes and dtypes of arrays: what recorders want to be constant."""
    return {
        key: (type(value), getattr(value, "shape", None), getattr(value, "dtype", None))
        for key, value in info.items()
    }


def thrashing(**changes: Any) -> Scenario:
    """Nine programs on two small instances whose one tool always takes about two seconds: its end
    can be foreseen, and contexts that were moved to a lower tier have left HBM by then."""
    programs = [
        {
            "program_id": f"program-{number}",
            "arrival_s": 0.3 * number,
            "turns": [
                {
                    "new_input_tokens": 700 + 61 * number,
                    "output_tokens": 30 + 11 * ((number + turn) % 5),
                    "tools": [] if turn == 4 else [{"kind": "shell", "duration_s": duration_s}],
                }
                for turn, duration_s in enumerate((1.9, 2.3, 1.7, 2.1, 0.0))
            ],
        }
        for number in range(9)
    ]
    cluster = crowded().cluster.model_dump(mode="json", exclude_none=True)
    cluster["nodes"][0]["instances"][0]["kv_blocks"] = 420
    cluster["tiers"] = [
        {"name": "nvme", "capacity_gib": 2.0, "read_gbps": 6.0, "write_gbps": 3.0, "staged": False}
    ]
    content = {"cluster": cluster, "workload": {"kind": "inline", "programs": programs}}
    return crowded(**(content | changes))
