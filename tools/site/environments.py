"""A page of an environment, from its docstring and its spaces."""

from __future__ import annotations

import inspect

import gymnasium as gym

from agentserve_gym.envs import AgentServeBase
from agentserve_gym.report.markdown import text_table
from tools.site import docstrings

PRESET = "default"


def made(env_id: str, render_mode: str | None = None) -> AgentServeBase:
    """An environment on the preset that its page and picture show, without wrappers."""
    env = gym.make(f"agentserve_gym:{env_id}", scenario=PRESET, render_mode=render_mode).unwrapped
    assert isinstance(env, AgentServeBase)
    return env


def page(env_id: str) -> str:
    """What the docstring says, spaces at a glance, and what each number of an action means."""
    env = made(env_id)
    docstring = inspect.getdoc(type(env))
    assert docstring is not None
    opening, sections = docstrings.split(docstring)
    task = opening.partition(": ")[2]
    parts = [task[:1].upper() + task[1:], _glance(env_id, env)]
    for section in sections:
        if section.title == "Observation":
            parts.append(_numbers(env))
        parts.append(docstrings.markdown(section))
    return "\n\n".join(parts)


def _glance(env_id: str, env: AgentServeBase) -> str:
    rows = [
        ("made by", f'`gym.make("agentserve_gym:{env_id}", scenario="{PRESET}")`'),
        ("many at once", f'`gym.make_vec("agentserve_gym:{env_id}", num_envs=8)`'),
        ("action space, with this preset", f"`{' '.join(str(env.action_space).split())}`"),
        ("observation space, with this preset", f"`{env.observation_space}`"),
        ("class", f"`agentserve_gym.envs.{type(env).__name__}`"),
    ]
    return text_table(("", ""), rows)


def _numbers(env: AgentServeBase) -> str:
    """The names of the numbers that the action space has."""
    kinds = {"routes": env.routes.names, "placements": env.placements.names}
    size = env.action_space
    if isinstance(size, gym.spaces.Discrete):
        kinds = {kind: names for kind, names in kinds.items() if len(names) == size.n}
    parts = [f"## Actions of the preset `{PRESET}`"]
    for kind, names in kinds.items():
        rows = [(str(number), name) for number, name in enumerate(names)]
        parts.append(text_table((kind, "`" + f"env.unwrapped.{kind}.names" + "`"), rows))
    return "\n\n".join(parts)
