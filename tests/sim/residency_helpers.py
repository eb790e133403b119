"""Small clusters whose transfers take round times: what tests of residency share.

KV of Llama-3.1-8B: 131,072 bytes a token, 2 MiB a block of 16. The host link moves one block in
exactly .1 s unless a test says otherwise, and a step takes 1 s + .01 s per prefilled token.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sim_helpers import LinearLatency, audit, drive, program, scenario, simulate

from agentserve_gym.sim import (
    Answer,
    Decision,
    Place,
    PlacementDecision,
    Restore,
    Route,
    RouteDecision,
    Simulation,
    offload,
)
from agentserve_gym.sim.metrics import TurnRecord

BLOCK_BYTES = 16 * 131_072
BLOCK_GIB = BLOCK_BYTES / 1024**3
SLOW_LINK = {"bandwidth_gbps": BLOCK_BYTES * 10 / 1e9, "latency_us": 0.0, "duplex_gbps": None}
LATENCY = LinearLatency(1.0, per_prefill_token_s=0.01)
DRAM = offload("dram")
CXL = offload("cxl")


def node(dram_blocks: float | None = 100, **more: Any) -> dict[str, Any]:
    result: dict[str, Any] = {"host_link": SLOW_LINK, **more}
    if dram_blocks is not None:
        result["dram"] = {
            "capacity_gib": dram_blocks * BLOCK_GIB,
            "bandwidth_gbps": 1000.0,
            "latency_us": 0.0,
        }
    return result


def build(programs: list[dict[str, Any]], **parts: Any) -> Simulation:
    engine = {"async_scheduling": False, **parts.pop("engine", {})}
    parts.setdefault("node", node())
    return simulate(scenario(programs, engine=engine, **parts), LATENCY)


def placing(
    place: Callable[[PlacementDecision], Place] | Place, restore: Restore = Restore.LOAD
) -> Callable[[Decision], Answer]:
    def answer(decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision):
            return Route(0, restore=restore)
        return place(decision) if callable(place) else place

    return answer


def records(simulation: Simulation) -> dict[tuple[str, int], TurnRecord]:
    assert simulation.metrics.records is not None
    return {(record.program_id, record.turn): record for record in simulation.metrics.records}


def stop_at(simulation: Simulation, time_s: float, decide: Callable[[Decision], Answer]) -> None:
    """Drive until the clock has reached ``time_s``, checking every pool on the way."""

    class Reached(Exception):
        pass

    def check(simulation: Simulation) -> None:
        audit(simulation)
        if simulation.now_s >= time_s:
            raise Reached

    with pytest.raises(Reached):
        drive(simulation, decide, check)


def two_turns(gap_s: float = 20.0, tokens: int = 160) -> list[dict[str, Any]]:
    """Its first turn leaves tokens / 16 full blocks and ends at 1 + tokens / 100."""
    return [program((tokens, 1, gap_s), (16, 1), program_id="a")]


def evicted_between_turns(b_tokens: int = 186, **parts: Any) -> Simulation:
    """a: 10 blocks, offloaded; b takes all of the pool but one block while a is away."""
    parts.setdefault("kv_blocks", 13)
    return build(
        [
            program((160, 1, 30.0), (16, 1), program_id="a"),
            program((b_tokens, 3), program_id="b", arrival_s=10.0),
        ],
        **parts,
    )
