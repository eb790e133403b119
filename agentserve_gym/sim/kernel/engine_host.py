"""What an engine is told (its limits) and what it needs from the simulation around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from agentserve_gym.sim.kernel.programs import TurnState


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Scheduler limits; see ``EngineSpec``."""

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size_tokens: int
    async_scheduling: bool
    reclaim_unexpired_pins: bool
    preemption_victim: str = "last_admitted"


class EngineHost(Protocol):
    """What an engine needs from the simulation around it."""

    def begin_load(self, turn: TurnState) -> int:
        """Start loading KV for a turn if that pays; returns blocks to be loaded, 0 for none."""
        ...

    def turn_reserved(self, turn: TurnState, loaded_blocks: int) -> None:
        """The turn has its ``hit_blocks`` and room for the rest; it loads or enters the batch."""
        ...

    def turn_finished(self, turn: TurnState) -> None:
        """The turn emitted its last token; its blocks are cached."""
        ...
