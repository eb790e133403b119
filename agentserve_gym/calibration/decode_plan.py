"""How FlashInfer spreads the decode attention of a batch over a GPU, and what that costs.

Its attention (not that of TensorRT-LLM) runs one thread block per piece of a context and KV head,
two blocks on a multiprocessor. The planner cuts contexts into pieces of equal length, the shortest
for which all blocks run at once; where a batch has more contexts than that allows, it cuts none
(FlashInfer, arXiv 2501.01005, section 3.3). So a lone long context among many makes the whole step
wait for its block. Kernel tables are measured with equal contexts and do not show it: here the
planner's rule is applied to unequal ones, with the rates of the tables.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from heapq import heappop, heappush
from math import ceil, sqrt

import numpy as np

from agentserve_gym.hardware.profile_tables import Array

BLOCKS_PER_MULTIPROCESSOR = 2
PAGE_TOKENS = 16
LONE_SPEEDUP = sqrt(2)
"""How much faster a block runs that has its multiprocessor to itself. Between 1 (two blocks share
what is the limit) and 2 (each waits for its own loads); taken in the middle, fitted to nothing."""

_SPREADS = (0.4, 0.6, 0.8)
"""Standard deviations of log context of the batches that stand for unequal ones: the longest has
two to seven times their mean."""
_BATCHES = 12


@dataclass(frozen=True, slots=True)
class DecodePlan:
    """The planner for one model on one GPU.

    Attributes:
        multiprocessors: of the GPU. ``kv_heads``: on one GPU.
    """

    multiprocessors: int
    kv_heads: int

    @property
    def most_pieces(self) -> int:
        """Pieces of contexts that run at once."""
        return BLOCKS_PER_MULTIPROCESSOR * self.multiprocessors // self.kv_heads

    def piece_tokens(self, contexts: Array) -> int:
        """Longest piece into which contexts (tokens, whole numbers) are cut."""
        pages = np.ceil(contexts / PAGE_TOKENS)
        longest = int(pages.max())
        if len(contexts) >= self.most_pieces:
            return longest * PAGE_TOKENS
        low, high = 1, longest
        while low < high:
            middle = (low + high) // 2
            if np.ceil(pages / middle).sum() > self.most_pieces:
                low = middle + 1
            else:
                high = middle
        return low * PAGE_TOKENS

    def makespan_tokens(self, contexts: Array) -> float:
        """How long the attention of a layer takes, in the time a block takes for a token where two
        share a multiprocessor."""
        piece = self.piece_tokens(contexts)
        one_head: list[float] = []
        for context in contexts.tolist():
            number = ceil(context / piece)
            one_head += [piece] * (number - 1) + [context - (number - 1) * piece]
        # The grid of blocks is as wide as the GPU holds, also where there are fewer pieces: then
        # the same piece of two heads shares a multiprocessor.
        one_head += [0.0] * (self.most_pieces - len(one_head))
        return _makespan(one_head * self.kv_heads, self.multiprocessors)

    def unequal(self, count: int) -> tuple[float, float]:
        """What ``count`` contexts of mean length 1 take, and how much more per length that the
        longest exceeds the mean by: a line through batches of many shapes."""
        random = np.random.default_rng(count)
        longest, makespans = [], []
        for spread in _SPREADS:
            for _ in range(_BATCHES):
                shape = random.lognormal(0.0, spread, count)
                contexts = np.maximum(np.round(shape * (4096 / shape.mean())), 1.0)
                mean = contexts.mean()
                longest.append(contexts.max() / mean)
                makespans.append(self.makespan_tokens(contexts) / mean)
        if count == 1:
            return float(np.mean(makespans)), 0.0
        slope, start = np.polyfit(np.array(longest) - 1.0, makespans, 1)
        return float(start), float(slope)


def _makespan(blocks: list[float], multiprocessors: int) -> float:
    """When the last block ends, if free places take blocks in order; tokens, see above."""
    waiting = deque(blocks)
    running: list[list[float]] = [[] for _ in range(multiprocessors)]
    since = [0.0] * multiprocessors
    ends: list[tuple[float, int, int]] = []
    version = [0] * multiprocessors

    def rate(here: list[float]) -> float:
        return 1.0 if len(here) == BLOCKS_PER_MULTIPROCESSOR else LONE_SPEEDUP

    def plan_end(place: int) -> None:
        version[place] += 1
        here = running[place]
        if here:
            heappush(ends, (since[place] + min(here) / rate(here), place, version[place]))

    for _ in range(BLOCKS_PER_MULTIPROCESSOR):
        for here in running:
            if waiting:
                here.append(waiting.popleft())
    for place in range(multiprocessors):
        plan_end(place)
    now = 0.0
    while ends:
        now, place, number = heappop(ends)
        if number != version[place]:
            continue
        here = running[place]
        done = (now - since[place]) * rate(here)
        here[:] = [left - done for left in here if left - done > 1e-6]
        while waiting and len(here) < BLOCKS_PER_MULTIPROCESSOR:
            here.append(waiting.popleft())
        since[place] = now
        plan_end(place)
    return now
