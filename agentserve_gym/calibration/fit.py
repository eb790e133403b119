"""Fit the compact form to profile tables, component by component, with held-out errors.

Each component is fitted to its own table (a joint fit is not identifiable), on some of the points,
and checked on the rest. Errors are shares of the time of the whole step that a point stands for, so
a launch-bound microsecond weighs what it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agentserve_gym.hardware.catalogue import Link, accelerator, link, model
from agentserve_gym.hardware.coefficient_file import CompactFile
from agentserve_gym.hardware.coefficients import (
    AllReduce,
    CompactCoefficients,
    Curve,
    DecodeGrid,
    Experts,
    OverlapAttention,
)
from agentserve_gym.hardware.decoder import Model
from agentserve_gym.hardware.kv_pool import kv_pool_blocks
from agentserve_gym.hardware.pricing.compact import CompactLatency
from agentserve_gym.hardware.pricing.curves import DecodeAttention, DecodeTable, ExpertSurface
from agentserve_gym.hardware.pricing.layers import CACHED_TOKENS, ExpertSpread
from agentserve_gym.hardware.pricing.profile import ProfileLatency
from agentserve_gym.hardware.profile import expert_table, load_profile_of, tables_latency
from agentserve_gym.hardware.profile_tables import Array, ProfileTables
from agentserve_gym.hardware.roofline import all_reduce_s_per_step

from .fit_mixed import Mask, fit_mixed, mixed_rows, rounded
from .skewed_steps import skewed_steps

_US = 1e-6
_HELD_OUT_SHARE = 0.3
_CURVE_TOLERANCE = 0.003
_SKEWED_STEPS = 1000


@dataclass(frozen=True, slots=True)
class HeldOutError:
    """Absolute errors of points that were not fitted to, as shares of the step, in percent."""

    points: int
    mean_percent: float
    p90_percent: float
    bias_percent: float

    def __str__(self) -> str:
        return (
            f"mean {self.mean_percent:.2f} %, p90 {self.p90_percent:.2f} %, "
            f"bias {self.bias_percent:+.2f} % over {self.points} points"
        )


@dataclass(frozen=True, slots=True)
class CompactFit:
    """Fitted coefficients, and the held-out error of each component."""

    coefficients: CompactCoefficients
    errors: dict[str, HeldOutError]

    def error_text(self) -> str:
        """One line for the coefficient file."""
        return "held-out table error: " + "; ".join(f"{k} {v}" for k, v in self.errors.items())


@dataclass(frozen=True, slots=True)
class ProfileCase:
    """What a profile folder is of; ``kv_dtype``: precision of the KV, if not the model's own."""

    accelerator: str
    model: str
    tensor_parallel: int
    kv_dtype: str | None = None


def profile_case(folder: str | Path) -> ProfileCase:
    """Read the case off a folder named ``<gpu>/<model>/tp<k>``, or ``tp<k>-kv-<precision>``.

    Raises:
        ValueError: the path is not of that form.
    """
    parts = Path(folder).resolve().parts
    digits, _, kv_dtype = parts[-1].removeprefix("tp").partition("-kv-")
    if len(parts) < 3 or not parts[-1].startswith("tp") or not digits.isdigit():
        raise ValueError(f"profile folder {folder} is not named <accelerator>/<model>/tp<k>")
    return ProfileCase(parts[-3], parts[-2], int(digits), kv_dtype or None)


def fit_compact(folder: str | Path, case: ProfileCase | None = None) -> CompactFit:
    """Fit the compact form to a profile folder.

    Args:
        folder: ``<gpu>/<model>/tp<k>`` with the tables.
        case: what it is of, where its path does not say.

    Raises:
        ValueError: the folder or a file in it is not valid, or its names are not in the catalogue.
    """
    what = case or profile_case(folder)
    gpu, llm = accelerator(what.accelerator), model(what.model, what.kv_dtype)
    tables = load_profile_of(folder, llm)
    peers = link(gpu.peer_link)
    pool = kv_pool_blocks(gpu, llm, what.tensor_parallel) * 16
    base, per_token = all_reduce_s_per_step(llm, what.tensor_parallel, peers)
    all_reduce = AllReduce(constant=base, token=per_token)
    experts, further = _fit_experts(tables, llm, peers)
    spread = ExpertSpread(count=llm.experts or 0, per_token=llm.experts_per_token or 0)
    fit = fit_tables(tables, llm.layers, all_reduce, experts, pool, spread)
    whole = tables_latency(tables, llm, what.tensor_parallel, spread, peers)
    skewed = _skewed_error(CompactLatency(fit.coefficients.plain(), spread), whole, pool)
    return CompactFit(fit.coefficients, {**fit.errors, "skewed mixed steps": skewed, **further})


def calibrate_fit(folder: str | Path, case: ProfileCase | None = None) -> CompactFile:
    """Fit a profile folder and give the coefficient file to write. Arguments as fit_compact."""
    what = case or profile_case(folder)
    fit = fit_compact(folder, what)
    return CompactFile(
        **dict(fit.coefficients),
        accelerator=what.accelerator,
        model=what.model,
        tensor_parallel=what.tensor_parallel,
        kv_dtype=model(what.model, what.kv_dtype).kv_dtype,
        provenance="fitted to measured tables",
        source=f"profile tables {what.accelerator}/{what.model}/tp{what.tensor_parallel}",
        error=fit.error_text(),
    )


def fit_tables(
    tables: ProfileTables,
    layers: int,
    all_reduce: AllReduce,
    experts: Experts | None,
    pool_tokens: int,
    spread: ExpertSpread,
) -> CompactFit:
    """Fit loaded tables; attention only where the batch fits a KV pool of ``pool_tokens``."""
    tokens, dense_us = tables.dense_step_us(layers)
    sequences, head_us = tables.head_step_us()
    dense, dense_error = _fit_curve(tokens, dense_us)
    head, head_error = _fit_curve(sequences, head_us)
    errors = {"linear layers": dense_error, "head": head_error}
    other = _OtherParts(dense, head, all_reduce, experts, spread)
    rows = tables.attention[_fits(tables.attention, pool_tokens)]
    grid, errors["decode steps"] = _fit_decode(tables, rows, layers, other)
    mixed, errors["mixed steps"] = _fit_mixed(tables, layers, other, pool_tokens)
    coefficients = CompactCoefficients(
        dense=dense,
        head=head,
        all_reduce=all_reduce,
        decode_attention=grid,
        mixed_attention=mixed,
        experts=experts,
    )
    return CompactFit(coefficients, errors)


class _OtherParts:
    """Time of a step apart from attention, to weigh attention errors with."""

    def __init__(
        self,
        dense: Curve,
        head: Curve,
        all_reduce: AllReduce,
        experts: Experts | None,
        spread: ExpertSpread,
    ) -> None:
        self._reduce = all_reduce
        self._dense = dense
        self._head = head
        self._expert = np.zeros(CACHED_TOKENS)
        if experts is not None:
            self._expert = np.array(spread.table(experts.plain()))

    def seconds(self, tokens: Array, sequences: Array) -> Array:
        dense = np.interp(tokens, self._dense.at, self._dense.seconds)
        head = np.interp(sequences, self._head.at, self._head.seconds)
        expert = self._expert[np.minimum(tokens, CACHED_TOKENS - 1).astype(int)]
        between = self._reduce.constant + self._reduce.token * tokens
        return np.asarray(dense + head + expert + between)


def _fits(rows: Array, pool_tokens: int) -> Mask:
    chunk, history, count, context = rows[:, :4].T
    return np.asarray(chunk + history + count * context <= pool_tokens, dtype=np.bool_)


def held_out_error(predicted: Array, true: Array, whole: Array) -> HeldOutError:
    """Errors of predictions as shares of the time of the whole step.

    Raises:
        ValueError: if there are none.
    """
    if len(predicted) == 0:
        raise ValueError("the tables have too few points to fit: none is left to be held out")
    shares = 100 * (predicted - true) / whole
    return HeldOutError(
        len(shares),
        float(np.abs(shares).mean()),
        float(np.percentile(np.abs(shares), 90)),
        float(shares.mean()),
    )


def _fit_curve(at: Array, micros: Array) -> tuple[Curve, HeldOutError]:
    """A curve through the points that matter, and the error of every other point without it."""
    odd = np.arange(1, len(at) - 1, 2)
    kept = np.setdiff1d(np.arange(len(at)), odd)
    predicted = np.interp(at[odd], at[kept], micros[kept])
    error = held_out_error(predicted, micros[odd], micros[odd])
    knots = _prune(at, micros)
    return (
        Curve(at=tuple(int(at[k]) for k in knots), seconds=rounded(micros[knots] * _US)),
        error,
    )


def _prune(at: Array, values: Array) -> list[int]:
    """Indices of a subset whose interpolation stays within the tolerance of all points."""
    chosen = [0, len(at) - 1]
    while True:
        line = np.interp(at, at[chosen], values[chosen])
        misses = np.abs(line - values) / values
        worst = int(misses.argmax())
        if misses[worst] <= _CURVE_TOLERANCE:
            return chosen
        chosen = sorted([*chosen, worst])


def _fit_decode(
    tables: ProfileTables, rows: Array, layers: int, other: _OtherParts
) -> tuple[DecodeGrid, HeldOutError]:
    """The grid of powers of two; its error is that of every other context, interpolated."""
    everything = tables.attention
    decode = everything[(everything[:, 0] == 0) & (everything[:, 2] > 0)]
    counts = [int(n) for n in np.unique(decode[:, 2])]
    contexts = _shared_contexts(decode, counts)
    skew = tables.skew_by_decodes(counts)
    full = _grid_seconds(decode, counts, contexts, layers)
    coarse_contexts = contexts[::2] if len(contexts) % 2 else [*contexts[::2], contexts[-1]]
    coarse = DecodeAttention(
        DecodeTable(
            counts,
            coarse_contexts,
            _grid_seconds(decode, counts, coarse_contexts, layers).tolist(),
            [0.0] * len(counts),
        )
    )
    held = rows[(rows[:, 0] == 0) & (rows[:, 2] > 0) & ~np.isin(rows[:, 3], coarse_contexts)]
    predicted = np.array([coarse.run(int(n), int(n * c), int(c))[0] for n, c in held[:, 2:4]])
    true = held[:, 4] * layers * _US
    error = held_out_error(predicted, true, true + other.seconds(held[:, 2], held[:, 2]))
    grid = DecodeGrid(
        counts=tuple(counts),
        contexts=tuple(contexts),
        seconds=tuple(rounded(row) for row in full),
        skew=tuple(round(alpha, 4) for alpha in skew),
    )
    return grid, error


def _shared_contexts(decode: Array, counts: Sequence[int]) -> list[int]:
    """Contexts measured for every batch size, each at least twice the one before it."""
    shared = set(decode[:, 3].astype(int))
    for count in counts:
        shared &= set(decode[decode[:, 2] == count, 3].astype(int))
    chosen: list[int] = []
    for context in sorted(map(int, shared)):
        if not chosen or context >= 2 * chosen[-1]:
            chosen.append(context)
    return chosen


def _grid_seconds(
    decode: Array, counts: Sequence[int], contexts: Sequence[int], layers: int
) -> Array:
    known = {(int(n), int(c)): t for _, _, n, c, t in decode}
    scale = layers * _US
    return np.array([[known[n, c] * scale for c in contexts] for n in counts], dtype=np.float64)


def _fit_mixed(
    tables: ProfileTables, layers: int, other: _OtherParts, pool_tokens: int
) -> tuple[OverlapAttention, HeldOutError]:
    """Fitted to 70 % of the points; the error is that of the others that fit the KV pool."""
    rows = mixed_rows(tables)
    chunk, _, count, _, micros = rows.T
    true = micros * layers * _US
    whole = true + other.seconds(chunk + count, count + 1)
    held = np.random.default_rng(0).random(len(true)) < _HELD_OUT_SHARE
    inside = _fits(rows, pool_tokens)
    attention, predicted = fit_mixed(tables, layers, whole, ~held, inside)
    # Chunks alone are in the form as they are: nothing is held out of them.
    checked = held & inside & (count > 0)
    return attention, held_out_error(predicted[checked], true[checked], whole[checked])


def _skewed_error(compact: CompactLatency, tables: ProfileLatency, pool: int) -> HeldOutError:
    """Error of random steps with unequal decodes and several chunks, against the tables."""
    steps = skewed_steps(_SKEWED_STEPS, pool, seed=1)
    priced = np.array([compact.step_s(step) for step in steps])
    true = np.array([tables.step_s(step) for step in steps])
    return held_out_error(priced, true, true)


def _fit_experts(
    tables: ProfileTables, llm: Model, peer_link: Link
) -> tuple[Experts | None, dict[str, HeldOutError]]:
    """The table itself; its error is that of every other batch size, interpolated."""
    if llm.experts is None:
        return None, {}
    if not len(tables.experts):
        raise ValueError(f"{llm.name} has experts, but the profile has no moe.csv")
    sizes = np.unique(tables.experts[:, 0])
    held = np.isin(tables.experts[:, 0], sizes[1:-1:2])
    kept = tables.experts[~held].tolist()
    surface = ExpertSurface([(tokens, activated, seconds) for tokens, activated, seconds in kept])
    rows = tables.experts[held]
    predicted = np.array([surface.seconds(t, activated) for t, activated, _ in rows.tolist()])
    error = held_out_error(predicted, rows[:, 2], rows[:, 2])
    points, dispatch = expert_table(tables, llm, 2, peer_link)
    exchange = AllReduce(constant=dispatch.constant_s, token=dispatch.token_s)
    return Experts(points=tuple(points), dispatch=exchange), {"experts": error}
