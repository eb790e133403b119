"""Profile tables as the evaluators take them: whole steps, in seconds, on full grids.

::

    t = embedding(T) + L*[2*norm(T) + qkv(T) + ... + attention + o_proj(T) + (MLP or experts)(T)]
      + final_norm(T) + head(S) + sampler(S) + all-reduce
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .catalogue import Link
from .decoder import Model
from .pricing.curves import DecodeTable, Points, SkewTable
from .pricing.layers import ExpertSpread, ExpertTable
from .pricing.profile import AttentionTable, MeasuredTables, ProfileLatency
from .profile_meta import read_profile_meta
from .profile_tables import SKEW_RATES, Array, ProfileTables, load_profile
from .roofline import all_reduce_s_per_step, exchange_s_per_step

_US = 1e-6


def profile_latency(
    folder: str | Path, model: Model, tensor_parallel: int, spread: ExpertSpread, peer_link: Link
) -> ProfileLatency:
    """Read a profile folder and price steps from it. Raises ValueError as its parts do."""
    tables = load_profile_of(folder, model)
    return tables_latency(tables, model, tensor_parallel, spread, peer_link)


def load_profile_of(folder: str | Path, model: Model) -> ProfileTables:
    """Read a profile folder that is to be of a model.

    Raises:
        ValueError: as ``load_profile`` does, its ``meta.yaml`` says that it is of another
            precision, or the model has layers that such tables cannot have.
    """
    model.require_plain_layers("profile tables")
    tables = load_profile(folder)
    meta = read_profile_meta(Path(folder))
    if "variant" in meta.model_fields_set and not model.is_bf16:
        raise ValueError(
            f"{folder} is of {meta.variant} (meta.yaml), but {model.name} has {model.weight_dtype} "
            f"weights and {model.kv_dtype} KV"
        )
    return tables


def tables_latency(
    tables: ProfileTables,
    model: Model,
    tensor_parallel: int,
    spread: ExpertSpread,
    peer_link: Link,
) -> ProfileLatency:
    """Price steps from profile tables.

    Args:
        tables: measured times of one layer.
        model: gives the number of layers and the sizes of the all-reduce.
        tensor_parallel: of the tables.
        spread: how the experts are spread; ``ExpertSpread()`` for a dense model.
        peer_link: prices all-reduces, and the exchange of tokens between engines.

    Raises:
        ValueError: the model has experts and the tables do not, or the link cannot all-reduce.
    """
    if model.experts is not None and not len(tables.experts):
        raise ValueError(f"{model.name} has experts, but the profile has no moe.csv")
    tokens, dense = tables.dense_step_us(model.layers)
    sequences, head = tables.head_step_us()
    experts = None
    if spread.count:
        experts = expert_table(tables, model, spread.engines, peer_link)
    measured = MeasuredTables(
        dense=Points(tokens.tolist(), (dense * _US).tolist()),
        head=Points(sequences.tolist(), (head * _US).tolist()),
        all_reduce=all_reduce_s_per_step(model, tensor_parallel, peer_link),
        decode=_decode_table(tables, model.layers),
        attention=attention_table(tables, model.layers),
        experts=experts,
    )
    return ProfileLatency(measured, spread)


def attention_table(tables: ProfileTables, layers: int) -> AttentionTable:
    """Attention of steps with prefill, all layers.

    The published tables are the union of two grids, so a full one is filled in first, axis by axis,
    from the points that were measured.
    """
    points = tables.attention[tables.attention[:, 0] > 0]
    if not len(points):
        raise ValueError("the attention table has no rows with a prefill chunk")
    axes: list[list[float]] = [np.unique(points[:, axis]).tolist() for axis in range(4)]
    seconds = _fill(points, axes) * layers * _US
    counts = [int(count) for count in axes[2] if count]
    skew = SkewTable(counts, SKEW_RATES, tables.skew_by_rate(counts))
    return AttentionTable(axes, seconds.ravel().tolist(), skew)


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


def _decode_table(tables: ProfileTables, layers: int) -> DecodeTable:
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
    return DecodeTable(whole, [int(c) for c in contexts], (seconds * layers * _US).tolist(), skew)


def expert_table(tables: ProfileTables, model: Model, engines: int, peer_link: Link) -> ExpertTable:
    """The expert table of a whole step, and the exchange between ``engines`` engines."""
    tokens, activated, micros = tables.experts.T
    rows = zip(tokens, activated, micros * model.layers * _US, strict=True)
    points = [(float(t), float(a), float(f"{s:.6g}")) for t, a, s in rows]
    return ExpertTable(points, exchange_s_per_step(model, engines, peer_link))
