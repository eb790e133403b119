"""What an engine is told (its limits) and what it needs from the simulation around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.sim.kernel.request import Request


@mypyc_attr(allow_interpreted_subclasses=True)
@dataclass(frozen=True)
class EngineLimits(Copyable):
    """Scheduler limits; see ``EngineSpec``."""

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size_tokens: int
    async_scheduling: bool
    reclaim_unexpired_pins: bool
    preemption_victim: str = "last_admitted"


@mypyc_attr(allow_interpreted_subclasses=True)
class EngineHost(Copyable, ABC):
    """What an engine needs from the simulation around it."""

    @abstractmethod
    def begin_load(self, request: Request) -> tuple[int, int] | None:
        """Start loading KV for a turn if that pays; returns how many blocks come, and from where
        (``HBM``: another instance's)."""

    @abstractmethod
    def turn_reserved(self, request: Request, loaded_blocks: int, tier: int | None) -> None:
        """The turn has its ``hit_blocks`` and room for the rest; it loads or enters the batch."""

    @abstractmethod
    def turn_finished(self, request: Request) -> None:
        """The turn emitted its last token; its blocks are cached."""
