"""Draw one program of an agent class.

The recipe: a number of turns; a shared prefix in two levels; per turn an output length, and after
it either a person's message or tool calls whose kinds follow the class's chain, each with a heavy
-tailed duration (cut at the timeout) and a result; the context grows by output and result, now and
then drops old thinking, and is compacted before it outgrows the window. Some gaps start sub-agents.

Random streams are separate: structure, tokens, tools and sub-agents each have their own generator,
derived from (seed, stream, index). A setting that touches one (say the timeout) leaves the others'
draws as they were, and program ``i`` does not depend on whether program ``j`` was drawn.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.workloads.generators.parameters import ClassParameters, SubAgents
from agentserve_gym.workloads.program import GapKind, PrefixSegment, Program, ToolCall, Turn

FloatArray = NDArray[np.float64]

STREAM_MIX, STREAM_STRUCTURE, STREAM_TOKENS, STREAM_TOOLS, STREAM_CHILDREN = range(1, 6)
STREAM_ARRIVALS, STREAM_SHUFFLE = 6, 7

_UNLIMITED_TOKENS = 1 << 40


@dataclass(frozen=True)
class DrawSettings:
    """What a scenario changes about every drawn program (see `GeneratedWorkload`)."""

    window_tokens: int | None = None
    max_turns: int | None = None
    tool_timeout_s: float = 120.0
    host_factor: float = 1.0
    gap_scale: float = 1.0
    token_scale: float = 1.0
    human_users: bool = True
    max_user_gap_s: float = 43_200.0
    sub_agents: bool = True


class _Gap(NamedTuple):
    """One gap before its place in the program is known.

    Attributes:
        who: ``user`` or ``tool``. ``kind``: index of the tool kind in the chain; -1 for a person's
            message.
    """

    who: GapKind
    gap_s: float
    tools: tuple[ToolCall, ...]
    kind: int


@dataclass(frozen=True)
class _Lengths:
    """Unscaled token counts per turn; all arrays have shape (turns,).

    ``new[i]`` is added after turn ``i``; ``kept[i]`` is the share of output ``i`` that stays, below
    1 where old thinking is dropped.
    """

    output: FloatArray
    new: FloatArray
    kept: FloatArray


def draw_program(
    parameters: ClassParameters, seed: int, index: int, settings: DrawSettings
) -> Program:
    """Program ``index`` of its class; a pure function of its arguments."""
    rng = np.random.default_rng([seed, STREAM_STRUCTURE, index])
    z_turns, z_initial = rng.standard_normal(2)
    prefix, level = _draw_prefix(parameters, rng, index, settings.token_scale)
    turns = max(1, round(parameters.turns.at(float(z_turns))))
    if settings.max_turns is not None:
        turns = min(turns, settings.max_turns)
    initial = sum(segment.tokens for segment in prefix) + _tokens(
        parameters.initial.at(float(z_initial)), settings.token_scale
    )
    tokens_rng = np.random.default_rng([seed, STREAM_TOKENS, index])
    tools_rng = np.random.default_rng([seed, STREAM_TOOLS, index])
    is_user = tokens_rng.random(turns) < parameters.p_user
    kinds = _walk(parameters, tools_rng, turns, is_user)
    lengths = _draw_lengths(parameters, tokens_rng, float(z_turns), level, is_user, kinds)
    gaps = _draw_gaps(parameters, tools_rng, is_user, kinds, lengths.new, settings)
    children = _draw_children(parameters, prefix, seed, index, gaps, settings)
    name = f"{parameters.name}-{index:06d}"
    drawn = _assemble(parameters, initial, lengths, gaps, children, tokens_rng, settings, prefix)
    return Program(
        program_id=name,
        agent_class=parameters.name,
        turns=drawn,
        prefix=prefix,
        source="agentserve_gym generator",
    )


def _tokens(value: float, scale: float) -> int:
    return max(1, round(value * scale))


def _draw_prefix(
    parameters: ClassParameters, rng: np.random.Generator, index: int, scale: float
) -> tuple[tuple[PrefixSegment, ...], float]:
    """The shared prefix, and the group's level of output lengths."""
    prefixes = parameters.prefixes
    pick, private = rng.random(2)
    group = bisect_right(prefixes.edges, pick)
    name = parameters.name
    owner = f"own-{index}" if private < prefixes.private_system else "common"
    levels = (
        (f"{name}/tools-{group}", prefixes.tools_tokens[group]),
        (f"{name}/tools-{group}/system-{owner}", prefixes.system_tokens[group]),
    )
    segments = tuple(PrefixSegment(key, _tokens(n, scale)) for key, n in levels if n > 0)
    return segments, prefixes.output_level[group]


def _walk(
    parameters: ClassParameters,
    rng: np.random.Generator,
    turns: int,
    is_user: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Tool kind of each gap; the chain steps over the user's turns."""
    kinds = np.full(turns, -1, dtype=np.int64)
    uniforms = rng.random(turns)
    kinds[~is_user] = parameters.chain.walk(uniforms[~is_user].tolist())
    return kinds


def _draw_lengths(
    parameters: ClassParameters,
    rng: np.random.Generator,
    z_turns: float,
    output_level: float,
    is_user: NDArray[np.bool_],
    kinds: NDArray[np.int64],
) -> _Lengths:
    c = parameters.correlation
    turns = len(kinds)
    own_output, own_new = _program_scores(rng, z_turns, parameters)
    rest = 1.0 - c.output_program - parameters.prefixes.output_level_variance
    z_output = (
        output_level
        + math.sqrt(c.output_program) * own_output
        + math.sqrt(max(0.0, rest)) * rng.standard_normal(turns)
    )
    noise = rng.standard_normal(turns)
    z_new = math.sqrt(c.new_program) * own_new + math.sqrt(1.0 - c.new_program) * (
        c.output_new * z_output + math.sqrt(1.0 - c.output_new**2) * noise
    )
    if parameters.results is not None:
        new = parameters.results(np.maximum(kinds, 0), z_new)
    else:
        assert parameters.new_tool is not None
        new = parameters.new_tool(z_new)
    if parameters.new_user is not None:
        new = np.where(is_user, parameters.new_user(z_new), new)
    for gap, table in enumerate(parameters.opening[:turns]):
        new[gap] = table.at(float(z_new[gap]))
    kept = np.ones(turns)
    if parameters.dropping is not None:
        dropped = rng.random(turns) < parameters.dropping.probability
        kept[dropped] = np.minimum(1.0, parameters.dropping.kept(rng.standard_normal(turns)))[
            dropped
        ]
        new = np.where(dropped, 0.0, new)
    return _Lengths(parameters.output(z_output), new + parameters.overhead_tokens, kept)


def _program_scores(
    rng: np.random.Generator, z_turns: float, parameters: ClassParameters
) -> tuple[float, float]:
    """The program's own levels of output and new input, correlated with its number of turns.

    Centred so that the pool of all turns, to which long programs contribute more, has mean 0.
    """
    c = parameters.correlation
    a, b = rng.standard_normal(2)
    centred = z_turns - parameters.turns.weighted_score
    return (
        c.turns_output * centred + math.sqrt(1.0 - c.turns_output**2) * float(a),
        c.turns_new * centred + math.sqrt(1.0 - c.turns_new**2) * float(b),
    )


def _draw_gaps(
    parameters: ClassParameters,
    rng: np.random.Generator,
    is_user: NDArray[np.bool_],
    kinds: NDArray[np.int64],
    new: FloatArray,
    settings: DrawSettings,
) -> list[_Gap]:
    turns = len(kinds)
    calls = [1 + bisect_right(parameters.calls_edges, u) for u in rng.random(turns).tolist()]
    # Tables are drawn for the largest number of calls, so that the stream does not depend on it.
    width = 1 + len(parameters.calls_edges)
    share = parameters.correlation.duration_program
    own = rng.standard_normal()
    z = math.sqrt(share) * own + math.sqrt(1.0 - share) * rng.standard_normal((turns, width))
    rows = np.repeat(np.maximum(kinds, 0), width)
    raw = parameters.durations(rows, z.ravel()).reshape(turns, width)
    durations = np.minimum(raw * settings.host_factor, settings.tool_timeout_s) * settings.gap_scale
    waits = parameters.human_gap if settings.human_users else parameters.simulated_gap
    user_s = np.minimum(waits(rng.standard_normal(turns)), settings.max_user_gap_s)
    user_s = user_s * settings.gap_scale
    names = parameters.chain.kinds
    scale = settings.token_scale
    gaps: list[_Gap] = []
    for user, kind, n, row, wait, result in zip(
        is_user.tolist(),
        kinds.tolist(),
        calls,
        durations.tolist(),
        user_s.tolist(),
        new.tolist(),
        strict=True,
    ):
        if user:
            gaps.append(_Gap("user", wait, (), -1))
            continue
        name, tokens = names[kind], _count(result, scale)
        if n == 1:
            gaps.append(_Gap("tool", row[0], (ToolCall(name, row[0], tokens),), kind))
            continue
        part, rest = divmod(tokens, n)
        tools = tuple(
            [ToolCall(name, row[call], part + (0 if call else rest)) for call in range(n)]
        )
        gaps.append(_Gap("tool", max(row[:n]), tools, kind))
    return gaps


def _count(value: float, scale: float) -> int:
    return max(0, round(value * scale))


def _draw_children(
    parameters: ClassParameters,
    prefix: tuple[PrefixSegment, ...],
    seed: int,
    index: int,
    gaps: list[_Gap],
    settings: DrawSettings,
) -> dict[int, Program]:
    """Sub-agents by the turn whose gap starts them; replaces the gaps that they stand for."""
    if not settings.sub_agents or not parameters.sub_agents or len(gaps) < 2:
        return {}
    rng = np.random.default_rng([seed, STREAM_CHILDREN, index])
    uniforms = rng.random(len(gaps)).tolist()
    kinds = parameters.chain.kinds
    children: dict[int, Program] = {}
    for turn, (gap, u) in enumerate(zip(gaps[:-1], uniforms, strict=False)):
        if gap.kind < 0:
            continue
        chosen = _sub_agent(parameters.sub_agents, kinds[gap.kind], u)
        if chosen is not None:
            if chosen.tool_kind is not None:  # the sub-agent is the tool, so its time is simulated
                gaps[turn] = _Gap("tool", 0.0, (), gap.kind)
            name = f"{parameters.name}-{index:06d}/{turn}-{chosen.name}"
            children[turn] = _draw_child(parameters, chosen, name, prefix, rng, settings)
    return children


def _sub_agent(options: tuple[SubAgents, ...], kind: str, u: float) -> SubAgents | None:
    for option in options:
        if option.tool_kind == kind:
            return option
        if u < option.probability:
            return option
        u -= option.probability
    return None


def _draw_child(
    parameters: ClassParameters,
    option: SubAgents,
    name: str,
    parent_prefix: tuple[PrefixSegment, ...],
    rng: np.random.Generator,
    settings: DrawSettings,
) -> Program:
    """A sub-agent: the class's own turns, without people and without sub-agents of its own."""
    scale = settings.token_scale
    prefix = parent_prefix
    if option.prefix_tokens > 0:
        key = f"{parameters.name}/sub-agent-{option.name}"
        prefix = (PrefixSegment(key, _tokens(option.prefix_tokens, scale)),)
    z_turns, z_initial = rng.standard_normal(2).tolist()
    turns = max(1, round(option.turns.at(z_turns)))
    if settings.max_turns is not None:
        turns = min(turns, settings.max_turns)
    initial = sum(segment.tokens for segment in prefix) + _tokens(
        option.initial.at(z_initial), scale
    )
    is_user = np.zeros(turns, dtype=bool)
    kinds = _walk(parameters, rng, turns, is_user)
    lengths = _draw_lengths(parameters, rng, 0.0, 0.0, is_user, kinds)
    gaps = _draw_gaps(parameters, rng, is_user, kinds, lengths.new, settings)
    drawn = _assemble(parameters, initial, lengths, gaps, {}, rng, settings, prefix)
    return Program(
        program_id=name,
        agent_class=parameters.name,
        turns=drawn,
        prefix=prefix,
        arrival_s=0.0,
        source="agentserve_gym generator",
        labels=("sub_agent",),
    )


def _assemble(
    parameters: ClassParameters,
    initial: int,
    lengths: _Lengths,
    gaps: list[_Gap],
    children: dict[int, Program],
    rng: np.random.Generator,
    settings: DrawSettings,
    prefix: tuple[PrefixSegment, ...],
) -> tuple[Turn, ...]:
    """Run the context forward and build the turns, up to the window."""
    scale = settings.token_scale
    window = settings.window_tokens or _UNLIMITED_TOKENS
    shared = sum(segment.tokens for segment in prefix)
    compact_at, compact_to = _compaction(parameters, rng, len(gaps), settings)
    outputs = np.maximum(1, np.rint(lengths.output * scale)).astype(np.int64).tolist()
    kept_tokens = np.rint(lengths.output * lengths.kept * scale).astype(np.int64).tolist()
    kept = lengths.kept.tolist()
    new = np.maximum(1, np.rint(lengths.new * scale)).astype(np.int64).tolist()
    context, reuse = min(initial, max(shared + 1, window - 1)), 0
    added = context
    prompts: list[tuple[int, int, int]] = []  # (input, new, reuse) while it fits the window
    for turn, output in enumerate(outputs):
        if context >= window:
            break
        outputs[turn] = output = min(output, window - context)
        prompts.append((context, added, reuse))
        if kept[turn] < 1.0:  # thinking dropped: the chain diverges where the output began
            reuse, added = context, 0
            context += max(1, min(kept_tokens[turn], output))
        else:
            reuse, added = context + output, new[turn]
            context = reuse + added
        if prompts[-1][0] + output > compact_at or (compact_to and context >= window):
            reuse = min(shared, context - 1)
            context = max(compact_to[turn], shared + 1)
            added = context - reuse
    last = len(prompts) - 1
    turns: list[Turn] = []
    for index, (prompt, gap) in enumerate(zip(prompts, gaps, strict=False)):
        size, fresh, reused = prompt
        if index == last:
            turns.append(Turn(size, fresh, outputs[index], reused))
            break
        child = children.get(index)
        started = () if child is None else (child,)
        turns.append(
            Turn(size, fresh, outputs[index], reused, gap.gap_s, gap.who, gap.tools, started)
        )
    return tuple(turns)


def _compaction(
    parameters: ClassParameters, rng: np.random.Generator, turns: int, settings: DrawSettings
) -> tuple[int, list[int]]:
    rule = parameters.compaction
    uniforms = rng.random(turns)
    if rule is None:
        return _UNLIMITED_TOKENS, []
    at = rule.threshold_tokens * settings.token_scale
    low, high = rule.low_tokens * settings.token_scale, rule.high_tokens * settings.token_scale
    if settings.window_tokens is not None:
        at = min(at, rule.of_window * settings.window_tokens)
        # A small window compacts to the same share of the threshold.
        shrink = min(1.0, at / (rule.threshold_tokens * settings.token_scale))
        low, high = low * shrink, high * shrink
    return round(at), np.rint(low + (high - low) * uniforms).astype(np.int64).tolist()
