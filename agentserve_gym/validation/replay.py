"""Replay of a request workload on one engine, or one data-parallel group of engines."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agentserve_gym.hardware import ServingSoftware, latency_software
from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Load,
    Route,
    RouteDecision,
    Scenario,
    Simulation,
    load_scenario,
    run,
)
from agentserve_gym.sim.metrics import TurnRecord

Column = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """What is replayed on what.

    Attributes:
        workload: a request or program file of any format that ``agentserve trace`` reads; arrivals
            are the file's.
        accelerator, model: names in the catalogue.
        tensor_parallel, data_parallel, expert_parallel: of the engine group.
        max_num_seqs, max_num_batched_tokens: scheduler limits of each engine.
        kv_blocks: KV pool of each engine, blocks of 16 tokens; derived where ``None``.
        kv_dtype: precision of the KV, ``bf16`` or ``fp8``; the model's own where ``None``.
        software: serving software of the catalogue whose host time steps get; ``auto``: that of the
            coefficients, ``none``: kernels alone.
        timing: ``auto``, ``profile``, ``compact`` or ``roofline``.
        profile: folder of profile tables for ``timing="profile"``.
    """

    workload: Path
    accelerator: str
    model: str
    tensor_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: int = 1
    max_num_seqs: int = 128
    max_num_batched_tokens: int = 2048
    kv_blocks: int | None = None
    timing: str = "auto"
    profile: Path | None = None
    kv_dtype: str | None = None
    software: str = "auto"

    def scenario(self) -> Scenario:
        """The settings as a scenario. Raises ValueError naming what is wrong."""
        return load_scenario(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The scenario's content. Raises ValueError where the timing is contradictory."""
        instance = {
            "accelerator": self.accelerator,
            "tensor_parallel": self.tensor_parallel,
            "data_parallel": self.data_parallel,
            "expert_parallel": self.expert_parallel,
            "kv_blocks": self.kv_blocks,
            "timing": self._timing(),
        }
        return {
            "name": self.workload.name,
            "cluster": {
                "model": self.model,
                "kv_dtype": self.kv_dtype,
                "nodes": [{"name": "node0", "instances": [instance]}],
            },
            "workload": {"kind": "trace", "path": str(self.workload)},
            "arrivals": {"kind": "trace"},
            "engine": {
                "max_num_seqs": self.max_num_seqs,
                "max_num_batched_tokens": self.max_num_batched_tokens,
                "software": self.software,
            },
        }

    def serving_software(self) -> ServingSoftware | None:
        """Whose host time the steps get, if any."""
        return latency_software(
            self.accelerator,
            self.model,
            self.tensor_parallel,
            kv_dtype=self.kv_dtype,
            source=str(self.profile or self.timing),
            software=self.software,
        )

    def request_s(self, prompt_tokens: int) -> float:
        """From a client's request to an engine's queue."""
        software = self.serving_software()
        return 0.0 if software is None else software.request_s + prompt_tokens * software.token_s

    def as_sent(self, turns: Iterable[TurnRecord]) -> list[TurnRecord]:
        """Turns as their clients see them, whose clocks start when they send; in that order."""
        sent = [
            replace(turn, ready_s=turn.ready_s - self.request_s(turn.prompt_tokens))
            for turn in turns
        ]
        return sorted(sent, key=lambda turn: (turn.ready_s, turn.program_id))

    def _timing(self) -> str:
        if self.timing == "profile" and self.profile is None:
            raise ValueError("timing is 'profile', but no profile folder is given")
        if self.profile is not None and self.timing not in ("profile", "auto"):
            raise ValueError(f"profile is {self.profile}, but timing is {self.timing!r}")
        return self.timing if self.profile is None else str(self.profile)


@dataclass(frozen=True, slots=True)
class Replay:
    """A finished replay.

    Attributes:
        turns: one record per turn, in order of release; times in seconds.
        report: the simulation's report.
    """

    turns: list[TurnRecord]
    report: dict[str, Any]

    def ttft_s(self) -> Column:
        """From release to first token, per turn."""
        return np.array([turn.first_token_s - turn.ready_s for turn in self.turns])

    def tpot_s(self) -> Column:
        """Per output token after the first, for turns that have one."""
        return np.array(
            [
                (turn.end_s - turn.first_token_s) / (turn.output_tokens - 1)
                for turn in self.turns
                if turn.output_tokens > 1
            ]
        )

    def e2e_s(self) -> Column:
        """From release to last token, per turn."""
        return np.array([turn.end_s - turn.ready_s for turn in self.turns])

    def makespan_s(self) -> float:
        """From the first release to the last token."""
        start = min(turn.ready_s for turn in self.turns)
        return max(turn.end_s for turn in self.turns) - start

    def output_tokens_per_s(self) -> float:
        """From the first release to the last token."""
        return sum(turn.output_tokens for turn in self.turns) / self.makespan_s()

    def as_dict(self) -> dict[str, Any]:
        """The figures that engines' benchmark tools print."""
        return {
            "ttft_ms": _figures(self.ttft_s() * 1e3),
            "tpot_ms": _figures(self.tpot_s() * 1e3),
            "e2e_s": _figures(self.e2e_s()),
            "makespan_s": self.makespan_s(),
            "output_tokens_per_s": self.output_tokens_per_s(),
            "preemptions": self.report["preemptions"],
            "prefix_hit_tokens": self.report["hit_tokens"]["hbm"],
            "turns": len(self.turns),
        }


class DataParallelBalancer:
    """vLLM's balancer between data-parallel engines: the least of 4 x waiting + running."""

    def decide(self, decision: Decision) -> Answer:
        """Answer one decision; placements stay with the prefix cache."""
        if not isinstance(decision, RouteDecision):
            return KEEP
        loads = [view.load() for view in decision.cluster.instances]
        return Route(min(range(len(loads)), key=lambda index: (_score(loads[index]), index)))


def replay(settings: ReplaySettings) -> Replay:
    """Replay a workload.

    Raises:
        ValueError: a setting or the workload is wrong, or a request cannot fit the KV pool.
    """
    return replay_scenario(settings.scenario())


def replay_scenario(scenario: Scenario) -> Replay:
    """Replay a scenario's workload as it arrives, with prefix caching and nothing else.

    Raises:
        ValueError: unknown hardware, or a request cannot fit the KV pool.
    """
    simulation = Simulation(scenario, record_turns=True)
    report = run(simulation, DataParallelBalancer())
    turns = sorted(
        simulation.metrics.records or [], key=lambda turn: (turn.ready_s, turn.program_id)
    )
    return Replay(turns, report)


def _score(load: Load) -> int:
    return 4 * load.queued_turns + load.running_turns


def _figures(values: Column) -> dict[str, float]:
    p50, p90, p99 = np.percentile(values, (50, 90, 99)) if len(values) else (0.0, 0.0, 0.0)
    mean = float(values.mean()) if len(values) else 0.0
    return {"mean": mean, "p50": float(p50), "p90": float(p90), "p99": float(p99)}
