"""``env.step``, what of it is simulation, and many environments at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

from agentserve_gym.envs.actions import RouteActions
from agentserve_gym.sim import KEEP, Answer, Route, RouteDecision, Simulation, load_scenario
from benchmarks.measure import (
    Bench,
    Result,
    Sample,
    Stopwatch,
    Table,
    Target,
    costs,
    events,
    rates,
    spread,
)

ENV_ID = "agentserve_gym:AgentServe-v0"
_CYCLE = 1024


def step(bench: Bench) -> list[Result]:
    """A step with wrappers, without them, and the same decisions without an environment."""
    wrapped = gym.make(ENV_ID)
    instances = load_scenario("default").cluster.nodes[0].instances[0].count
    actions = [np.array([RouteActions.to(number % instances), 0]) for number in range(_CYCLE)]
    steps = bench.sizes.steps
    with_wrappers = _Steps(wrapped, actions, bench.aside)
    bare = _Steps(gym.make(ENV_ID).unwrapped, actions, bench.aside)
    cases: dict[str, Callable[[int], float]] = {
        "gym.make": lambda _: with_wrappers.take(steps),
        "without wrappers": lambda _: bare.take(steps),
        "simulation alone": lambda _: _simulate(instances, steps, bench.aside),
    }
    resets, total_s = bench.aside.count, bench.aside.total_s
    samples = bench.interleaved(cases, bench.sizes.repetitions)
    reset_s = (bench.aside.total_s - total_s) / (bench.aside.count - resets)
    rows = _parts_of_a_step(samples)
    return [
        Result(
            row="step",
            title="`env.step` of AgentServe-v0, trivial policy, wrappers on",
            unit="steps/s",
            measured=rates(samples["gym.make"]),
            target=Target(limit=110, at="most", text="110 bare events a step", of="in_events"),
            in_events=events(samples["gym.make"]),
            per="step",
            tables=[
                Table(
                    title="What a step consists of",
                    heading=["part", "us per step", "share"],
                    rows=rows,
                    note="The policy sends turns to instances in rotation and leaves KV where it "
                    "is. `reset` is not part of a step; it took "
                    f"{1e3 * reset_s:.1f} ms on average.",
                )
            ],
        )
    ]


def vector(bench: Bench) -> list[Result]:
    """The native vector environment against SB3's over single environments, per step."""
    try:
        from stable_baselines3.common.vec_env import DummyVecEnv

        from agentserve_gym.train.vec_env import AgentServeVecEnv
    except ModuleNotFoundError as error:
        return [Result(row="vector", title=_VECTOR_TITLE, unit="x", missing=str(error))]
    rows: list[list[str]] = []
    ratios: list[list[float]] = []
    widest = 0
    for width in bench.sizes.vector_widths:
        widest = width
        native = gym.make_vec(ENV_ID, num_envs=width, vectorization_mode="vector_entry_point")
        adapter = AgentServeVecEnv(
            gym.make_vec(ENV_ID, num_envs=width, vectorization_mode="vector_entry_point")
        )
        dummy = DummyVecEnv([lambda: gym.make(ENV_ID)] * width)
        native.reset(seed=0)
        for sb3 in (adapter, dummy):
            sb3.seed(0)
            sb3.reset()
        actions = [
            np.array([[RouteActions.to((number + env) % 4), 0] for env in range(width)])
            for number in range(_CYCLE)
        ]
        rounds = max(1, 2 * bench.sizes.steps // width)
        cases = {
            "native": _vector_steps(native, actions, rounds, width),
            "native for SB3": _vector_steps(adapter, actions, rounds, width),
            "DummyVecEnv": _vector_steps(dummy, actions, rounds, width),
        }
        samples = bench.interleaved(cases, bench.sizes.repetitions)
        dummy_costs = [sample.events for sample in samples["DummyVecEnv"]]
        ratios.append(
            [
                theirs / ours.events
                for theirs, ours in zip(dummy_costs, samples["native"], strict=True)
            ]
        )
        for name, found in samples.items():
            cost = costs(found)
            rows.append(
                [
                    f"{name}, {width}",
                    f"{cost.median:.1f}",
                    f"{cost.q1:.1f} to {cost.q3:.1f}",
                    f"{events(found).median:,.0f}",
                    f"{np.median(dummy_costs) / events(found).median:.2f}",
                ]
            )
    return [
        Result(
            row="vector",
            title=f"native vector environment against SB3's DummyVecEnv, {widest} environments",
            unit="x",
            measured=spread(ratios[-1]),
            target=Target(limit=2.0, at="least", text="2x"),
            per="step",
            tables=[
                Table(
                    title="Many environments in one process",
                    heading=["vector environment, width", "us per step", "quartiles",
                             "bare events", "DummyVecEnv / this"],
                    rows=rows,
                    note="Per step of one environment, starts of episodes included.",
                )
            ],
        )
    ]  # fmt: skip


def _parts_of_a_step(samples: dict[str, list[Sample]]) -> list[list[str]]:
    """Shares from bare events, repetition by repetition: the machine may change in between."""
    whole = costs(samples["gym.make"]).median
    inner, alone = (
        spread(
            [
                part.events / total.events
                for part, total in zip(samples[name], samples["gym.make"], strict=True)
            ]
        ).median
        for name in ("without wrappers", "simulation alone")
    )
    shares = {
        "one step through gym.make": 1.0,
        "wrappers of gym.make": 1 - inner,
        "environment: observation, mask, reward, info": inner - alone,
        "simulation": alone,
    }
    return [[name, f"{share * whole:.1f}", f"{share:.0%}"] for name, share in shares.items()]


_VECTOR_TITLE = "native vector environment against SB3's DummyVecEnv"


class _Steps:
    """An environment that is stepped on and on; resets are timed apart."""

    def __init__(self, env: Any, actions: list[Any], stopwatch: Stopwatch) -> None:
        self._env = env
        self._actions = actions
        self._stopwatch = stopwatch

    def take(self, steps: int) -> float:
        """Whole episodes, at least so many steps; the same ones every time."""
        env, actions = self._env, self._actions
        taken = seed = 0
        while taken < steps:
            started = time.perf_counter()
            env.reset(seed=seed)
            self._stopwatch.stop(started)
            seed += 1
            over = False
            number = 0
            while not over:
                _, _, terminated, truncated, _ = env.step(actions[number % _CYCLE])
                over = terminated or truncated
                number += 1
            taken += number
        return float(taken)


def _simulate(instances: int, steps: int, stopwatch: Stopwatch) -> float:
    """The decisions of `_Steps.take`, answered without an environment."""
    scenario = load_scenario("default")
    routes = [Route(number) for number in range(instances)]
    taken = seed = 0
    while taken < steps:
        started = time.perf_counter()
        simulation = Simulation(scenario, seed)
        decision = simulation.advance()
        stopwatch.stop(started)
        seed += 1
        number = 0
        while decision is not None:
            answer: Answer = KEEP
            if isinstance(decision, RouteDecision):
                answer = routes[number % _CYCLE % instances]
            decision = simulation.advance(answer)
            number += 1
        taken += number
    return float(taken)


def _vector_steps(env: Any, actions: list[Any], rounds: int, width: int) -> Callable[[int], float]:
    def work(_: int) -> float:
        for number in range(rounds):
            env.step(actions[number % _CYCLE])
        return float(rounds * width)

    return work
