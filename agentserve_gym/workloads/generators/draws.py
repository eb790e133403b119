"""What is random about programs: scores first, program by program, then values, many at once.

A program's random numbers come from its own generators in a fixed order (``draw``); what they stand
for is looked up in the class's tables, and that is done for several programs together
(``evaluate``): arrays of a dozen entries cost as much as arrays of hundreds.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.workloads.generators.assembly import Values
from agentserve_gym.workloads.generators.parameters import ClassParameters

FloatArray = NDArray[np.float64]

_UNLIMITED_TOKENS = 1 << 40


@dataclass(frozen=True)
class DrawSettings:
    """What a scenario changes about every drawn program of a class (see `GeneratedWorkload`).

    ``model``, ``sub_agent_model``: what programs and their sub-agents name, if anything.
    """

    window_tokens: int | None = None
    max_turns: int | None = None
    tool_timeout_s: float = 120.0
    host_factor: float = 1.0
    gap_scale: float = 1.0
    token_scale: float = 1.0
    human_users: bool = True
    max_user_gap_s: float = 43_200.0
    sub_agents: bool = True
    model: str | None = None
    sub_agent_model: str | None = None

    @property
    def window(self) -> int:
        """The window, tokens; a number that nobody reaches where there is none."""
        return self.window_tokens or _UNLIMITED_TOKENS


class Draws(NamedTuple):
    """The random part of one program; arrays have one entry per turn.

    Attributes:
        is_user: whether a person speaks after the turn, instead of tools.
        kinds: index of the tool kind called after the turn, -1 for a person.
        output, new, wait: scores of the output, of what is added after it, and of a person's wait.
        drop, kept: uniform numbers that pick where old thinking is dropped, and scores of what is
            kept there; empty for classes that drop none.
        calls: how many tool calls a gap has.
        durations: scores of their durations, shape (turns, most calls a gap may have).
        compact: uniform numbers that pick what a compaction leaves.
    """

    is_user: NDArray[np.bool_]
    kinds: NDArray[np.int64]
    output: FloatArray
    new: FloatArray
    wait: FloatArray
    drop: FloatArray
    kept: FloatArray
    calls: list[int]
    durations: FloatArray
    compact: FloatArray


_NONE = np.zeros(0)


def draw(
    parameters: ClassParameters,
    z_turns: float,
    output_level: float,
    is_user: NDArray[np.bool_],
    tokens_rng: np.random.Generator,
    tools_rng: np.random.Generator,
) -> Draws:
    """Draw all that is random about a program with these turns (a sub-agent passes one generator
    twice). ``z_turns``: its score of the number of turns; ``output_level``: its group's."""
    turns = len(is_user)
    kinds = np.full(turns, -1, dtype=np.int64)
    uniforms = tools_rng.random(turns)
    kinds[~is_user] = parameters.chain.walk(uniforms[~is_user].tolist())
    output, new = _length_scores(parameters, tokens_rng, z_turns, output_level, turns)
    drop = kept = _NONE
    if parameters.dropping is not None:
        drop = tokens_rng.random(turns)
        kept = tokens_rng.standard_normal(turns)
    calls = [1 + bisect_right(parameters.calls_edges, u) for u in tools_rng.random(turns).tolist()]
    # Scores are drawn for the largest number of calls, so the stream does not depend on it.
    width = 1 + len(parameters.calls_edges)
    share = parameters.correlation.duration_program
    own = math.sqrt(share) * tools_rng.standard_normal()
    durations = own + math.sqrt(1.0 - share) * tools_rng.standard_normal((turns, width))
    wait = tools_rng.standard_normal(turns)
    compact = tokens_rng.random(turns)
    return Draws(is_user, kinds, output, new, wait, drop, kept, calls, durations, compact)


def _length_scores(
    parameters: ClassParameters,
    rng: np.random.Generator,
    z_turns: float,
    output_level: float,
    turns: int,
) -> tuple[FloatArray, FloatArray]:
    """Scores of outputs and of what is added after them."""
    c = parameters.correlation
    own_output, own_new = _program_scores(rng, z_turns, parameters)
    rest = 1.0 - c.output_program - parameters.prefixes.output_level_variance
    output = (
        output_level
        + math.sqrt(c.output_program) * own_output
        + math.sqrt(max(0.0, rest)) * rng.standard_normal(turns)
    )
    noise = rng.standard_normal(turns)
    new = math.sqrt(c.new_program) * own_new + math.sqrt(1.0 - c.new_program) * (
        c.output_new * output + math.sqrt(1.0 - c.output_new**2) * noise
    )
    return output, new


def _program_scores(
    rng: np.random.Generator, z_turns: float, parameters: ClassParameters
) -> tuple[float, float]:
    """The program's own levels of output and new input, correlated with its number of turns.

    Centred so that the pool of all turns, to which long programs contribute more, has mean 0.
    """
    c = parameters.correlation
    a, b = rng.standard_normal(2).tolist()
    centred = z_turns - parameters.turns.weighted_score
    return (
        c.turns_output * centred + math.sqrt(1.0 - c.turns_output**2) * a,
        c.turns_new * centred + math.sqrt(1.0 - c.turns_new**2) * b,
    )


def evaluate(
    parameters: ClassParameters, drawn: Sequence[Draws], settings: DrawSettings
) -> list[Values]:
    """Look up what the draws of several programs of one class stand for."""
    ends = np.cumsum([len(draws.kinds) for draws in drawn]).tolist()
    starts = [0, *ends[:-1]]
    columns = [np.concatenate(column) for column in zip(*map(_arrays, drawn), strict=True)]
    is_user, kinds, z_output, z_new, z_wait, drop, z_kept, z_durations, compact = columns
    output = parameters.output(z_output)
    new = _new_tokens(parameters, is_user, kinds, z_new, starts, ends)
    kept = np.ones(len(kinds))
    if parameters.dropping is not None:
        dropped = drop < parameters.dropping.probability
        kept[dropped] = np.minimum(1.0, parameters.dropping.kept(z_kept))[dropped]
        new = np.where(dropped, 0.0, new)
    scale = settings.token_scale
    table = (
        is_user.tolist(),
        kinds.tolist(),
        [count for draws in drawn for count in draws.calls],
        np.maximum(1, np.rint(output * scale)).astype(np.int64).tolist(),
        np.rint(output * kept * scale).astype(np.int64).tolist(),
        (kept < 1.0).tolist(),
        np.maximum(0, np.rint((new + parameters.overhead_tokens) * scale)).astype(int).tolist(),
        _durations_s(parameters, kinds, z_durations, settings).tolist(),
        _waits_s(parameters, z_wait, settings).tolist(),
        _compacted_tokens(parameters, compact, settings),
    )
    return [
        Values._make(column[start:end] for column in table)
        for start, end in zip(starts, ends, strict=True)
    ]


def _arrays(draws: Draws) -> tuple[NDArray[np.generic], ...]:
    """Everything but the number of calls."""
    return (
        draws.is_user, draws.kinds, draws.output, draws.new, draws.wait, draws.drop, draws.kept,
        draws.durations, draws.compact,
    )  # fmt: skip


def _new_tokens(
    parameters: ClassParameters,
    is_user: NDArray[np.bool_],
    kinds: NDArray[np.int64],
    z: FloatArray,
    starts: Sequence[int],
    ends: Sequence[int],
) -> FloatArray:
    """Unscaled tokens added after each turn, overhead aside."""
    if parameters.results is not None:
        new = parameters.results(np.maximum(kinds, 0), z)
    else:
        assert parameters.new_tool is not None
        new = parameters.new_tool(z)
    if parameters.new_user is not None:
        new = np.where(is_user, parameters.new_user(z), new)
    for start, end in zip(starts, ends, strict=True):
        for at, table in zip(range(start, end), parameters.opening, strict=False):
            new[at] = table.at(float(z[at]))
    return new


def _durations_s(
    parameters: ClassParameters,
    kinds: NDArray[np.int64],
    z: FloatArray,
    settings: DrawSettings,
) -> FloatArray:
    """Durations of the calls, shape (turns, most calls a gap may have)."""
    rows = np.repeat(np.maximum(kinds, 0), z.shape[1])
    raw = parameters.durations(rows, z.ravel()).reshape(z.shape)
    return np.asarray(
        np.minimum(raw * settings.host_factor, settings.tool_timeout_s) * settings.gap_scale
    )


def _waits_s(parameters: ClassParameters, z: FloatArray, settings: DrawSettings) -> FloatArray:
    waits = parameters.human_gap if settings.human_users else parameters.simulated_gap
    return np.asarray(np.minimum(waits(z), settings.max_user_gap_s) * settings.gap_scale)


def compaction_threshold_tokens(parameters: ClassParameters, settings: DrawSettings) -> float:
    """Context beyond which a program compacts, unrounded; never where its class does not."""
    rule = parameters.compaction
    if rule is None:
        return _UNLIMITED_TOKENS
    at = rule.threshold_tokens * settings.token_scale
    if settings.window_tokens is not None:
        at = min(at, rule.of_window * settings.window_tokens)
    return at


def _compacted_tokens(
    parameters: ClassParameters, uniforms: FloatArray, settings: DrawSettings
) -> list[int]:
    rule = parameters.compaction
    if rule is None:
        return []
    low, high = rule.low_tokens * settings.token_scale, rule.high_tokens * settings.token_scale
    if settings.window_tokens is not None:
        # A small window compacts to the same share of the threshold.
        at = compaction_threshold_tokens(parameters, settings)
        shrink = min(1.0, at / (rule.threshold_tokens * settings.token_scale))
        low, high = low * shrink, high * shrink
    tokens: list[int] = np.rint(low + (high - low) * uniforms).astype(int).tolist()
    return tokens
