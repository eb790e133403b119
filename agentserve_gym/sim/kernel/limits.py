"""What an engine's scheduler is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable


class Footprint(NamedTuple):
    """Blocks that a turn takes besides those of its context, by its model's kinds of attention.

    Attributes:
        windows: that a running turn holds in layers with sliding windows.
        states: that it holds in layers with linear attention; they stay when it ends.
        passing: that windows pass over, for each block of the context.
    """

    windows: int = 0
    states: int = 0
    passing: int = 0


FULL_ATTENTION: Final = Footprint()


@mypyc_attr(allow_interpreted_subclasses=True)
@dataclass(frozen=True)
class EngineLimits(Copyable):
    """Scheduler limits; see ``EngineSpec``.

    Attributes:
        hard_pins: whether pins outlast a shortage of blocks as long as any turn makes progress.
        footprint: what a turn takes of the pool besides the blocks of its context.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    block_size_tokens: int
    async_scheduling: bool
    hard_pins: bool
    preemption_victim: str = "last_admitted"
    footprint: Footprint = FULL_ATTENTION
