"""What a step costs apart from attention, looked up by the tokens in its batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from agentserve_gym.hardware.pricing.curves import ExpertSurface, Points, TokenCost, tabulate

CACHED_TOKENS: Final = 8705
"""Batches up to a budget of 8,192 tokens and 512 sequences are looked up in tables."""


class ExpertTable(NamedTuple):
    """All expert layers of a step.

    Attributes:
        points: (tokens on the rank, experts it runs, seconds). A table, not a formula: few experts
            stay in the GPU's cache, many are read from memory.
        dispatch: the gather and scatter of tokens between data-parallel engines.
    """

    points: Sequence[tuple[float, float, float]]
    dispatch: TokenCost


class ExpertSpread:
    """How a model's experts are spread over an engine group.

    Attributes:
        count, per_token: of the model; 0 for a dense model.
        ranks: shares of whole experts (expert parallelism).
        engines: data-parallel engines that exchange tokens.
        slices: parts that every expert is cut into (tensor parallelism without expert parallelism).
    """

    __slots__ = ("count", "engines", "per_token", "ranks", "slices")

    def __init__(
        self,
        count: int = 0,
        per_token: int = 0,
        ranks: int = 1,
        engines: int = 1,
        slices: int = 1,
    ) -> None:
        self.count: Final = count
        self.per_token: Final = per_token
        self.ranks: Final = ranks
        self.engines: Final = engines
        self.slices: Final = slices

    def activated(self, tokens_per_engine: int) -> float:
        """Experts that a rank runs, if tokens choose theirs at random."""
        everyone = tokens_per_engine * self.engines
        return self.count / self.ranks * (1.0 - (1.0 - self.per_token / self.count) ** everyone)

    def layers_s(self, surface: ExpertSurface, dispatch: TokenCost, tokens: int) -> float:
        """Seconds of all expert layers when every engine brings ``tokens`` > 0 tokens."""
        local = tokens * self.engines / self.ranks
        busy = surface.seconds(local, self.activated(tokens)) / self.slices
        if self.engines == 1:
            return busy
        return busy + dispatch.constant_s + dispatch.token_s * tokens * self.engines

    def table(self, experts: ExpertTable) -> list[float]:
        """``layers_s`` for every number of tokens that an engine may bring."""
        surface = ExpertSurface(experts.points)
        sizes = range(1, CACHED_TOKENS)
        return [0.0, *[self.layers_s(surface, experts.dispatch, tokens) for tokens in sizes]]

    def __reduce__(self) -> tuple[type[ExpertSpread], tuple[object, ...]]:
        return (
            ExpertSpread,
            (self.count, self.per_token, self.ranks, self.engines, self.slices),
        )


def expert_table_s(experts: ExpertTable | None, spread: ExpertSpread) -> list[float]:
    """Seconds of the expert layers by tokens per engine; zeros where there are no experts."""
    if experts is None or not spread.count:
        return [0.0] * CACHED_TOKENS
    return spread.table(experts)


def linear_table_s(dense: Points, expert_s: list[float], all_reduce: TokenCost) -> list[float]:
    """Seconds of the linear and expert layers and the all-reduces, by tokens; 0 for none."""
    constant_s, token_s = all_reduce
    values = tabulate(dense, CACHED_TOKENS)
    for tokens in range(1, CACHED_TOKENS):
        values[tokens] = values[tokens] + expert_s[tokens] + (constant_s + token_s * tokens)
    return values
