"""The coefficients of the compact form as files have them; ``plain`` gives what evaluators take.

What they mean is said where they are evaluated: ``pricing.compact`` and ``pricing.overlap``.
Seconds are those of the whole step (all layers).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pydantic import BaseModel, ConfigDict, Field, model_validator

from .pricing.compact import NO_HOST_TIME, CompactTables, HostTime
from .pricing.curves import DecodeTable, Points, SkewTable, TokenCost
from .pricing.layers import ExpertTable
from .pricing.overlap import BesideTable, OverlapTables, PrefillTable

Table = tuple[tuple[float, ...], ...]


class Coefficients(BaseModel):
    """Base of all coefficient groups: unknown keys and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Curve(Coefficients):
    """Points of a piecewise linear curve."""

    at: tuple[int, ...] = Field(min_length=1)
    seconds: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _shape(self) -> Curve:
        if len(self.at) != len(self.seconds):
            raise ValueError(f"at has {len(self.at)} points, seconds {len(self.seconds)}")
        _check_increasing("at", self.at)
        return self

    def plain(self) -> Points:
        return Points(self.at, self.seconds)


class DecodeGrid(Coefficients):
    """Attention of decode-only steps: seconds by (sequences, context tokens of each)."""

    counts: tuple[int, ...] = Field(min_length=1)
    contexts: tuple[int, ...] = Field(min_length=2)
    seconds: Table
    skew: tuple[float, ...]

    @model_validator(mode="after")
    def _shape(self) -> DecodeGrid:
        _check_increasing("counts", self.counts)
        _check_increasing("contexts", self.contexts)
        _check_table("seconds", self.seconds, len(self.counts), len(self.contexts))
        if len(self.skew) != len(self.counts):
            raise ValueError(f"skew has {len(self.skew)} values for {len(self.counts)} counts")
        return self

    def plain(self) -> DecodeTable:
        return DecodeTable(self.counts, self.contexts, self.seconds, self.skew)


class AllReduce(Coefficients):
    """All all-reduces of a step, or all exchanges of tokens: seconds, and seconds per token."""

    constant: float = Field(ge=0)
    token: float = Field(ge=0)

    def plain(self) -> TokenCost:
        return TokenCost(self.constant, self.token)


class Experts(Coefficients):
    """All expert layers of a step: points of (tokens on the rank, experts it runs, seconds)."""

    points: tuple[tuple[float, float, float], ...] = Field(min_length=1)
    dispatch: AllReduce = AllReduce(constant=0.0, token=0.0)

    def plain(self) -> ExpertTable:
        return ExpertTable(self.points, self.dispatch.plain())


class PrefillGrid(Coefficients):
    """Attention of one chunk alone: seconds by (chunk tokens, history tokens)."""

    chunks: tuple[int, ...] = Field(min_length=1)
    histories: tuple[int, ...] = Field(min_length=2)
    seconds: Table

    @model_validator(mode="after")
    def _shape(self) -> PrefillGrid:
        _check_increasing("chunks", self.chunks)
        _check_increasing("histories", self.histories)
        _check_table("seconds", self.seconds, len(self.chunks), len(self.histories))
        return self

    def plain(self) -> PrefillTable:
        return PrefillTable(self.chunks, self.histories, self.seconds)


class BesideGrid(Coefficients):
    """Decodes beside a chunk: see `BesideTable`."""

    counts: tuple[int, ...] = Field(min_length=1)
    contexts: tuple[int, ...] = Field(min_length=2)
    seconds: Table
    serial: Table
    extra: Table

    @model_validator(mode="after")
    def _shape(self) -> BesideGrid:
        _check_increasing("counts", self.counts)
        _check_increasing("contexts", self.contexts)
        _check_table("seconds", self.seconds, len(self.counts), len(self.contexts))
        return self

    def plain(self) -> BesideTable:
        return BesideTable(self.counts, self.contexts, self.seconds, self.serial, self.extra)


class SkewGrid(Coefficients):
    """Share of the way from mean to longest context that unequal decodes cost.

    By (sequences, mean context over longest), as measured with a few long contexts among short
    ones.
    """

    counts: tuple[int, ...] = Field(min_length=1)
    rates: tuple[float, ...] = Field(min_length=1)
    share: Table

    @model_validator(mode="after")
    def _shape(self) -> SkewGrid:
        _check_increasing("counts", self.counts)
        _check_increasing("rates", self.rates)
        _check_table("share", self.share, len(self.counts), len(self.rates))
        return self

    def plain(self) -> SkewTable:
        return SkewTable(self.counts, self.rates, self.share)


class OverlapAttention(Coefficients):
    """Attention of steps with prefill."""

    prefill: PrefillGrid
    beside: BesideGrid
    skew: SkewGrid

    @model_validator(mode="after")
    def _shape(self) -> OverlapAttention:
        counts, chunks = len(self.beside.counts), len(self.prefill.chunks)
        _check_table("beside.serial", self.beside.serial, counts, chunks)
        _check_table("beside.extra", self.beside.extra, counts, chunks)
        return self

    def plain(self) -> OverlapTables:
        return OverlapTables(self.prefill.plain(), self.beside.plain(), self.skew.plain())


class CompactCoefficients(Coefficients):
    """Everything that prices a step of one (accelerator, model, tensor parallelism)."""

    dense: Curve
    head: Curve
    all_reduce: AllReduce = AllReduce(constant=0.0, token=0.0)
    decode_attention: DecodeGrid
    mixed_attention: OverlapAttention
    experts: Experts | None = None

    def plain(self, host: HostTime = NO_HOST_TIME) -> CompactTables:
        """The tables that evaluators take, with what the host adds."""
        return CompactTables(
            self.dense.plain(),
            self.head.plain(),
            self.all_reduce.plain(),
            self.decode_attention.plain(),
            self.mixed_attention.plain(),
            self.experts.plain() if self.experts is not None else None,
            host,
        )


def _check_increasing(name: str, values: Sequence[float]) -> None:
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError(f"{name} must increase: {tuple(values)}")


def _check_table(name: str, rows: Table, count: int, columns: int) -> None:
    if len(rows) != count or any(len(row) != columns for row in rows):
        raise ValueError(f"{name} must have {count} rows of {columns} values")
