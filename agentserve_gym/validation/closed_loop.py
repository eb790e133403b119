"""Closed-loop replay of conversations: so many clients, each with one conversation at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentserve_gym.hardware import model
from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Hold,
    Restore,
    Route,
    RouteDecision,
    Scenario,
    Simulation,
    load_scenario,
)
from agentserve_gym.validation.engine_states import EngineStates, moved_gb
from agentserve_gym.validation.replay import Replay, ReplaySettings
from agentserve_gym.workloads import detect_format

_HOLD = Hold()
_BETWEEN_REPORTS = 100

Progress = Callable[[str, int, int], None]


def _silent(_what: str, _done: int, _total: int) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """A closed-loop run of one engine.

    Each client runs one conversation to its end and takes the next of the file. Once ``requests``
    requests have started, no further turn starts; those in flight end.

    Attributes:
        engine: what serves; its workload is a file of conversations (or of any other programs).
        clients: conversations at once.
        requests: how many start; every one of the file where ``None``.
        think_s: what a client waits after each answer, on top of the file's own gaps.
        host_gib: host memory into which the engine writes through what it computes, as vLLM's
            native KV offloading does (its ``--kv-offloading-size``); none where ``None``.
    """

    engine: ReplaySettings
    clients: int
    requests: int | None = None
    think_s: float = 0.0
    host_gib: float | None = None

    def scenario(self) -> Scenario:
        """The settings as a scenario. Raises ValueError naming what is wrong."""
        content = self.engine.as_dict()
        software = self.engine.serving_software()
        between_s = self.think_s + (software.request_s if software is not None else 0.0)
        token_s = software.token_s if software is not None else 0.0
        content["arrivals"] = {
            "kind": "closed_loop", "concurrency": self.clients,
            "pause_s": between_s, "pause_token_s": token_s,
        }  # fmt: skip
        content["workload"] |= {"further_gap_s": between_s, "further_gap_token_s": token_s}
        if detect_format(self.engine.workload) == "conversations":
            llm = model(self.engine.model)
            content["workload"]["template_start_tokens"] = llm.template_start_tokens or 0
            content["workload"]["template_turn_tokens"] = llm.template_turn_tokens or 0
        if self.host_gib is not None:
            node = content["cluster"]["nodes"][0]
            node["dram"] = {"capacity_gib": self.host_gib}
            content["engine"]["native_offloading"] = True
        return load_scenario(content)


@dataclass(frozen=True, slots=True)
class ClosedLoopRun:
    """A finished run.

    Attributes:
        replay: turns and report. ``states``: once a second.
        host_gb_out, host_gb_in: moved to and from host memory, 1e9 bytes.
    """

    replay: Replay
    states: EngineStates
    host_gb_out: float
    host_gb_in: float

    def as_dict(self) -> dict[str, Any]:
        """The figures that engines' benchmark tools print, and the states."""
        usage = self.states.kv_usage_pct
        figures = self.replay.as_dict()
        return {
            **figures,
            "requests_per_s": figures["turns"] / figures["makespan_s"],
            "kv_usage_pct": {"mean": sum(usage) / len(usage), "max": max(usage)},
            "host_gb_out": self.host_gb_out,
            "host_gb_in": self.host_gb_in,
            "states": self.states.as_dict(),
        }


class _Clients:
    """Sends every turn to the one engine until enough have started.

    With host memory, what it holds is always loaded, however short: so does vLLM.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.sent = 0
        self._route = Route(0, restore=Restore.LOAD)

    def decide(self, decision: Decision) -> Answer | None:
        """Answer a decision; ``None`` once nothing is in flight and no turn may start."""
        if not isinstance(decision, RouteDecision):
            return KEEP
        if self.sent == self.limit:
            return _HOLD if decision.may_hold else None
        self.sent += 1
        return self._route


def replay_closed_loop(settings: ClosedLoop, progress: Progress = _silent) -> ClosedLoopRun:
    """Run the clients.

    Args:
        progress: called now and then with what goes on, requests sent, and how many will be.

    Raises:
        ValueError: a setting or the workload is wrong, or a conversation cannot fit the KV pool.
    """
    simulation = Simulation(settings.scenario(), record_turns=True)
    workload = simulation.workload
    states = EngineStates()
    states.watch(simulation)
    total = sum(len(program.turns) for program in map(workload.program, range(len(workload))))
    clients = _Clients(min(total, settings.requests or total))
    decision = simulation.advance()
    while decision is not None:
        answer = clients.decide(decision)
        if answer is None:
            break
        decision = simulation.advance(answer)
        if clients.sent % _BETWEEN_REPORTS == 0:
            progress("replay: requests", clients.sent, clients.limit)
    states.sample(simulation)
    turns = settings.engine.as_sent(simulation.metrics.records or [])
    return ClosedLoopRun(Replay(turns, simulation.report()), states, *moved_gb(simulation))
