"""The profile source: steps priced straight from measured tables, linearly interpolated.

::

    t = embedding(T) + L*[2*norm(T) + qkv(T) + ... + attention + o_proj(T) + (MLP or experts)(T)]
      + final_norm(T) + head(S) + sampler(S) + all-reduce

Interpolation is linear in every axis: leaving points out of the published tables gives 0.5 to 6 %
error that way, against 7 to 20 % by logarithmic position. Attention beyond the grid grows linearly
in the contexts and the decodes, as it does inside; the chunk is clamped. ``outside_grid`` counts
such pricings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .catalogue import Link, Model
from .compact import CACHED_TOKENS, AllReduce, Experts, ExpertSpread
from .curves import DecodeAttention, SkewShare, bracket, tabulate
from .profile_tables import SKEW_RATES, Array, ProfileTables, load_profile
from .roofline import all_reduce_s_per_step, exchange_s_per_step
from .timing import BatchStep, DecodeRun, LatencyModel

_US = 1e-6


class ProfileLatency(LatencyModel):
    """Prices steps from profile tables. Immutable but for its counter; shared by copies.

    Args:
        tables: measured times of one layer.
        model: gives the number of layers and the sizes of the all-reduce.
        tensor_parallel: of the tables.
        spread: how the experts are spread; ``ExpertSpread()`` for a dense model.
        peer_link: prices all-reduces, and the exchange of tokens between engines.

    Raises:
        ValueError: the model has experts and the tables do not, or the link cannot all-reduce.
    """

    __slots__ = (
        "_arguments",
        "_decode",
        "_expert",
        "_grid",
        "_head",
        "_largest",
        "_linear",
        "outside_grid",
    )

    def __init__(
        self,
        tables: ProfileTables,
        model: Model,
        tensor_parallel: int,
        spread: ExpertSpread,
        peer_link: Link,
    ) -> None:
        self._arguments = (tables, model, tensor_parallel, spread, peer_link)
        self.outside_grid = 0
        if model.experts is not None and not len(tables.experts):
            raise ValueError(f"{model.name} has experts, but the profile has no moe.csv")
        tokens, dense = tables.dense_step_us(model.layers)
        base, per_token = all_reduce_s_per_step(model, tensor_parallel, peer_link)
        self._expert = (0.0,) * CACHED_TOKENS
        if spread.count:
            self._expert = spread.table(expert_points(tables, model, spread.engines, peer_link))
        self._linear = tuple(
            cost + self._expert[size] + (base + per_token * size) * (size > 0)
            for size, cost in enumerate(tabulate(tokens, dense * _US, CACHED_TOKENS))
        )
        sequences, head = tables.head_step_us()
        self._head = tabulate(sequences, head * _US, CACHED_TOKENS)
        self._largest = int(tokens[-1])
        self._decode = _decode_attention(tables, model.layers)
        self._grid = AttentionGrid(tables, model.layers)

    def step_s(self, step: BatchStep) -> float:
        """Seconds that one iteration takes."""
        count, context, longest, prefills, chunk, _, area, sampled = step
        size = count + chunk
        if not size:
            return 0.0
        fixed = self._at(self._linear, size) + self._at(self._head, sampled)
        if not prefills:
            if self._decode.outside(count, context) or size > self._largest:
                self.outside_grid += 1
            return fixed + self._decode(count, context, longest)[0]
        mean_chunk = chunk / prefills
        history = area / chunk - (mean_chunk + 1) / 2
        mean = context / count if count else 0.0
        if self._grid.outside(mean_chunk, history, count, mean) or size > self._largest:
            self.outside_grid += 1
        return fixed + self._grid.seconds(prefills, mean_chunk, history, count, mean, longest)

    def decode_run(self, step: BatchStep) -> DecodeRun:
        """Price the run that starts with this decode-only step; linear to the next grid line."""
        count, context = step[0], step[1]
        if not count:
            return DecodeRun(0.0, 0.0, 1)
        if self._decode.outside(count, context):
            self.outside_grid += 1
        value, growth, steps = self._decode(count, context, step[2])
        fixed = self._at(self._linear, count) + self._at(self._head, step[7])
        return DecodeRun(fixed + value, growth, steps)

    def expert_s(self, tokens: int) -> float:
        """The part of a step that a data-parallel group shares, padded to its largest batch."""
        return self._at(self._expert, tokens)

    @staticmethod
    def _at(table: tuple[float, ...], index: int) -> float:
        return table[index] if index < CACHED_TOKENS else table[-1]

    def __deepcopy__(self, memo: dict[int, object]) -> ProfileLatency:
        return self

    def __reduce__(self) -> tuple[type[ProfileLatency], tuple[object, ...]]:
        return (ProfileLatency, self._arguments)


class AttentionGrid:
    """Attention of steps with prefill, linear in chunk, history, decodes and decode context.

    The published tables are the union of two grids, so a full one is filled in first, axis by axis,
    from the points that were measured.
    """

    __slots__ = ("_axes", "_skew", "_strides", "_values")

    def __init__(self, tables: ProfileTables, layers: int) -> None:
        points = tables.attention[tables.attention[:, 0] > 0]
        if not len(points):
            raise ValueError("the attention table has no rows with a prefill chunk")
        self._axes = [np.unique(points[:, axis]).tolist() for axis in range(4)]
        filled = _fill(points, self._axes)
        self._values = (filled * layers * _US).ravel().tolist()
        sizes = [len(axis) for axis in self._axes]
        self._strides = [int(np.prod(sizes[axis + 1 :])) for axis in range(4)]
        counts = [int(count) for count in self._axes[2] if count]
        self._skew = SkewShare(counts, SKEW_RATES, tables.skew_by_rate(counts))

    def seconds(
        self,
        prefills: int,
        chunk: float,
        history: float,
        count: int,
        mean: float,
        longest: float,
    ) -> float:
        """Attention of ``prefills`` equal chunks and ``count`` decodes.

        The tables have one chunk; each further one costs what a chunk costs alone, less the launch.
        """
        total = self.one_chunk(chunk, history, count, mean)
        if count and longest > mean:
            skew = self._skew(count, mean / longest)
            total += skew * (self.one_chunk(chunk, history, count, longest) - total)
        if prefills > 1:
            launch = self._values[0]
            alone = self.one_chunk(chunk, history, 0, 0.0)
            total += (prefills - 1) * max(alone - launch, 0.0)
        return total

    def outside(self, chunk: float, history: float, count: int, mean: float) -> bool:
        """Whether such a step lies beyond the measured grid."""
        last = [axis[-1] for axis in self._axes]
        beyond = (chunk > last[0], history > last[1], count > last[2], mean > last[3])
        return any(beyond)

    def one_chunk(self, chunk: float, history: float, count: float, context: float) -> float:
        """Seconds of one chunk beside ``count`` decodes of ``context`` tokens each."""
        corners = [(0, 1.0)]
        position = (chunk, history, count, context)
        for number, (axis, stride) in enumerate(zip(self._axes, self._strides, strict=True)):
            left, share = bracket(axis, position[number], extend=number > 0)
            near, far = left * stride, (left + 1) * stride
            if share == 0.0:
                corners = [(offset + near, weight) for offset, weight in corners]
            else:
                corners = [
                    corner
                    for offset, weight in corners
                    for corner in (
                        (offset + near, weight * (1 - share)),
                        (offset + far, weight * share),
                    )
                ]
        values = self._values
        return sum(values[offset] * weight for offset, weight in corners)


def profile_latency(
    folder: str | Path, model: Model, tensor_parallel: int, spread: ExpertSpread, peer_link: Link
) -> ProfileLatency:
    """Read a profile folder and price steps from it. Raises ValueError as its parts do."""
    return ProfileLatency(load_profile(folder), model, tensor_parallel, spread, peer_link)


def _fill(points: Array, axes: list[list[float]]) -> Array:
    """A full (chunk, history, decodes, context) array from scattered rows of a union of grids.

    Without decodes the context has no meaning: that plane is copied along it.
    """
    full = np.full([len(axis) for axis in axes], np.nan)
    index = tuple(np.searchsorted(axes[axis], points[:, axis]) for axis in range(4))
    full[index] = points[:, 4]
    if axes[2][0] == 0.0:
        full[:, :, 0, :] = full[:, :, 0, :1]
    # First only between known points: the ends of one grid lie inside the other.
    for ends in (False, True):
        for axis in (3, 2, 1, 0):
            _fill_along(full, np.asarray(axes[axis]), axis, ends)
    return full


def _fill_along(full: Array, grid: Array, axis: int, ends: bool = True) -> None:
    """Fill gaps along one axis by linear interpolation; beyond its ends too, with their values."""
    lines = np.moveaxis(full, axis, -1)
    for place in np.ndindex(lines.shape[:-1]):
        line = lines[place]
        known = ~np.isnan(line)
        if known.any() and not known.all():
            outside = None if ends else np.nan
            filled = np.interp(grid[~known], grid[known], line[known], outside, outside)
            line[~known] = filled


def _decode_attention(tables: ProfileTables, layers: int) -> DecodeAttention:
    rows = tables.attention
    rows = rows[(rows[:, 0] == 0) & (rows[:, 2] > 0)]
    if not len(rows):
        raise ValueError("the attention table has no rows with decodes alone")
    counts, contexts = np.unique(rows[:, 2]), np.unique(rows[:, 3])
    seconds = np.full((len(counts), len(contexts)), np.nan)
    seconds[np.searchsorted(counts, rows[:, 2]), np.searchsorted(contexts, rows[:, 3])] = rows[:, 4]
    _fill_along(seconds, contexts, 1)
    whole = [int(count) for count in counts]
    skew = tables.skew_by_decodes(whole)
    return DecodeAttention(
        whole, [int(c) for c in contexts], (seconds * layers * _US).tolist(), skew
    )


def expert_points(tables: ProfileTables, model: Model, engines: int, peer_link: Link) -> Experts:
    """The expert table of a whole step, and the exchange between ``engines`` engines."""
    tokens, activated, micros = tables.experts.T
    rows = zip(tokens, activated, micros * model.layers * _US, strict=True)
    base, per_token = exchange_s_per_step(model, engines, peer_link)
    return Experts(
        points=tuple((float(t), float(a), float(f"{s:.6g}")) for t, a, s in rows),
        dispatch=AllReduce(constant=base, token=per_token),
    )
