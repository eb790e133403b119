"""Replay of shared-prefix load on several engines behind a router, stage by stage."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from agentserve_gym.baselines import NamedPolicy, drive, parse_policy
from agentserve_gym.messages import shown
from agentserve_gym.sim import Scenario, Simulation, load_scenario
from agentserve_gym.sim.kernel.tiers import HBM, HBM_NAME
from agentserve_gym.sim.metrics import TurnRecord
from agentserve_gym.validation.replay import Replay, ReplaySettings
from agentserve_gym.workloads.shared_prefixes import LoadStage, SharedPrefixLoad

ROUTERS = {"load": "llmd_load", "default": "llmd_default", "precise": "llmd_precise"}
"""Short names of routers, as llm-d's benchmarks of its scheduler have them."""

_APART_S = 1e5
"""Between the starts of stages: nothing looks at the clock while the engines are idle."""


@dataclass(frozen=True, slots=True)
class RouterReplaySettings:
    """A router, the engines behind it, and the load.

    Attributes:
        engine: each engine, or data-parallel group; its ``workload`` is not used.
        router: a short name of ``ROUTERS``, or a policy as ``parse_policy`` reads it.
        instances: engines (or groups), each a node of its own.
        load: the prompts. ``stages``: when they are sent; each stage begins once the one before has
            ended to the last token, and caches stay.
        warm_up: a stage before the others that is not reported, if any.
        seed: of the prompts' order and of arrivals.
    """

    engine: ReplaySettings
    router: str
    instances: int
    load: SharedPrefixLoad
    stages: tuple[LoadStage, ...]
    warm_up: LoadStage | None = None
    seed: int = 0

    def policy(self) -> NamedPolicy:
        """The router. Raises ValueError for an unknown name or parameter."""
        return parse_policy(ROUTERS.get(self.router, self.router))

    def scenario(self) -> Scenario:
        """The settings as a scenario. Raises ValueError naming what is wrong.

        The router knows of loads what the engines' metrics show: the end of the last step.
        """
        if self.instances < 1:
            raise ValueError(
                f"instances is {shown(self.instances)}; allowed: an integer of at least 1"
            )
        if not self.stages:
            raise ValueError("stages is empty; at least one stage is needed")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; allowed: an integer of at least 0")
        content = self.engine.scenario().model_dump(mode="json", exclude_none=True)
        (node,) = content["cluster"]["nodes"]
        nodes = [node | {"name": f"node{number}"} for number in range(self.instances)]
        return load_scenario(
            content
            | {
                "name": f"shared prefixes, router {self.router}",
                "cluster": content["cluster"] | {"nodes": nodes},
                "workload": {"kind": "inline", "programs": self._programs()},
                "arrivals": {"kind": "trace"},
                "router": {"load_signal": "step_end"},
            }
        )

    def named_stages(self) -> list[tuple[str, LoadStage]]:
        """All stages with what their requests' ids begin with, the warm-up first."""
        warm_up = [] if self.warm_up is None else [("warm-up", self.warm_up)]
        return warm_up + [(f"stage {number}", stage) for number, stage in enumerate(self.stages)]

    def _programs(self) -> list[dict[str, Any]]:
        return [
            request
            for place, (name, stage) in enumerate(self.named_stages())
            for request in self.load.requests(stage, name, place * _APART_S, self.seed)
        ]


@dataclass(frozen=True, slots=True)
class StageReplay:
    """One stage as it was served.

    Attributes:
        stage: what was sent.
        served: its turns.
        hit_rate: share of prompt tokens found in HBM.
    """

    stage: LoadStage
    served: Replay
    hit_rate: float

    def as_dict(self) -> dict[str, Any]:
        """A replay's figures, with the rate, and requests by instance. ``requests_per_s`` and
        ``output_tokens_per_s`` are over the time to the last token: the drain is in it."""
        turns = self.served.turns
        by_instance = [turn.instance for turn in turns]
        return {
            "rate_per_s": self.stage.rate_per_s,
            "seconds": self.stage.seconds,
            **self.served.as_dict(),
            "requests_per_s": len(turns) / self.served.makespan_s(),
            "prefix_hit_rate": self.hit_rate,
            "requests_by_instance": [
                by_instance.count(instance) for instance in range(max(by_instance) + 1)
            ],
        }


def replay_router(settings: RouterReplaySettings) -> list[StageReplay]:
    """Serve the load; one result per stage, in order.

    Raises:
        ValueError: a setting is wrong, a prompt cannot fit the KV pool, or a stage takes longer
            than a day.
    """
    simulation = Simulation(settings.scenario(), settings.seed, record_turns=True)
    stages = settings.named_stages()
    totals = _totals_by_stage(simulation, settings.policy(), [name for name, _ in stages])
    turns: dict[str, list[TurnRecord]] = {name: [] for name, _ in stages}
    for turn in settings.engine.as_sent(simulation.metrics.records or []):
        turns[turn.program_id.rpartition("-")[0]].append(turn)
    served = []
    for (name, stage), (before, after) in zip(stages, pairwise(totals), strict=True):
        own = turns[name]
        if max(turn.end_s for turn in own) - own[0].ready_s > _APART_S - stage.seconds:
            raise ValueError(f"{name}: {stage.rate_per_s:g} requests per second take over a day")
        hit_tokens, prompt_tokens = (b - a for a, b in zip(before, after, strict=True))
        report = simulation.report() | {
            "preemptions": sum(turn.preemptions for turn in own),
            "hit_tokens": {HBM_NAME: hit_tokens},
        }
        served.append(StageReplay(stage, Replay(own, report), hit_tokens / prompt_tokens))
    return served[-len(settings.stages) :]


def _totals_by_stage(
    simulation: Simulation, policy: NamedPolicy, names: list[str]
) -> list[tuple[int, int]]:
    """Run a simulation to its end; prompt tokens found in HBM so far, and all prompt tokens so far,
    when each stage begins, and at the end."""
    metrics = simulation.metrics
    totals = [(0, 0)]
    for _ in drive(simulation, policy):
        pending = simulation.pending
        if pending is None or len(totals) == len(names):
            continue
        if pending.program.program_id == f"{names[len(totals)]}-0":
            totals.append((metrics.hit_tokens[HBM], metrics.prompt_tokens))
    return [*totals, (metrics.hit_tokens[HBM], metrics.prompt_tokens)]
