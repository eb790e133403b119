"""What an engine's scheduler is told."""

from __future__ import annotations

from dataclasses import dataclass

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable


@mypyc_attr(allow_interpreted_subclasses=True)
@dataclass(frozen=True)
class EngineLimits(Copyable):
    """Scheduler limits; see ``EngineSpec``. ``sequence_blocks``: what a running turn holds besides
    the blocks of its context, in windows of attention and in states."""

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size_tokens: int
    async_scheduling: bool
    reclaim_unexpired_pins: bool
    preemption_victim: str = "last_admitted"
    sequence_blocks: int = 0
