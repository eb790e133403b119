"""Draw programs of an agent class.

The recipe: a number of turns; a shared prefix in two levels; per turn an output length, and after
it either a person's message or tool calls whose kinds follow the class's chain, each with a heavy
-tailed duration (cut at the timeout) and a result; the context grows by output and result, now and
then drops old thinking, and is compacted before it outgrows the window. Some gaps start sub-agents.

Random streams are separate: structure, tokens, tools and sub-agents each have their own generator,
derived from (seed, stream, index). A setting that touches one (say the timeout) leaves the others'
draws as they were, and program ``i`` does not depend on which others are drawn with it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from itertools import chain
from typing import NamedTuple

import numpy as np

from agentserve_gym.workloads.generators.assembly import Gap, Values, assemble, gaps_of
from agentserve_gym.workloads.generators.draws import (
    Draws,
    DrawSettings,
    compaction_threshold_tokens,
    draw,
    evaluate,
)
from agentserve_gym.workloads.generators.parameters import ClassParameters, SubAgents
from agentserve_gym.workloads.generators.streams import (
    STREAM_CHILDREN,
    STREAM_STRUCTURE,
    STREAM_TOKENS,
    STREAM_TOOLS,
    stream_rng,
)
from agentserve_gym.workloads.program import PrefixSegment, Program, Turn

_SOURCE = "agentserve_gym generator"

Prefix = tuple[PrefixSegment, ...]


class _Outline(NamedTuple):
    """A program's shared prefix, first own tokens, and all that is random about its turns."""

    prefix: Prefix
    initial_tokens: int
    draws: Draws


class _Started(NamedTuple):
    """A sub-agent before its draws are looked up, and the turn whose gap starts it."""

    turn: int
    name: str
    outline: _Outline


def draw_program(
    parameters: ClassParameters, seed: int, index: int, settings: DrawSettings
) -> Program:
    """Program ``index`` of its class; a pure function of its arguments."""
    return draw_programs(parameters, seed, [index], settings)[0]


def draw_programs(
    parameters: ClassParameters, seed: int, indices: Iterable[int], settings: DrawSettings
) -> list[Program]:
    """Several programs of a class, each as ``draw_program`` draws it, at a lower price."""
    numbers = list(indices)
    outlines = [_outline(parameters, seed, index, settings) for index in numbers]
    values = evaluate(parameters, [outline.draws for outline in outlines], settings)
    gaps = [gaps_of(of_turns, parameters.chain.kinds) for of_turns in values]
    started = [
        _start_sub_agents(parameters, seed, index, outline.prefix, of_gaps, settings)
        for index, outline, of_gaps in zip(numbers, outlines, gaps, strict=True)
    ]
    sub_agents = iter(_draw_sub_agents(parameters, list(chain.from_iterable(started)), settings))
    programs: list[Program] = []
    for index, outline, of_turns, of_gaps, own in zip(
        numbers, outlines, values, gaps, started, strict=True
    ):
        children = {one.turn: next(sub_agents) for one in own}
        turns = _turns(parameters, outline, of_turns, of_gaps, children, settings)
        programs.append(
            Program(
                _name(parameters, index),
                parameters.name,
                turns,
                outline.prefix,
                source=_SOURCE,
                model=settings.model,
            )
        )
    return programs


def _name(parameters: ClassParameters, index: int) -> str:
    return f"{parameters.name}-{index:06d}"


def _outline(
    parameters: ClassParameters, seed: int, index: int, settings: DrawSettings
) -> _Outline:
    rng = stream_rng(seed, STREAM_STRUCTURE, index)
    z_turns, z_initial = rng.standard_normal(2).tolist()
    prefix, level = _draw_prefix(parameters, rng, index, settings.token_scale)
    turns = max(1, round(parameters.turns.at(z_turns)))
    if settings.max_turns is not None:
        turns = min(turns, settings.max_turns)
    initial = _tokens(parameters.initial.at(z_initial), settings.token_scale)
    tokens_rng = stream_rng(seed, STREAM_TOKENS, index)
    tools_rng = stream_rng(seed, STREAM_TOOLS, index)
    is_user = tokens_rng.random(turns) < parameters.p_user
    draws = draw(parameters, z_turns, level, is_user, tokens_rng, tools_rng)
    return _Outline(prefix, initial, draws)


def _tokens(value: float, scale: float) -> int:
    return max(1, round(value * scale))


def _draw_prefix(
    parameters: ClassParameters, rng: np.random.Generator, index: int, scale: float
) -> tuple[Prefix, float]:
    """The shared prefix, and the group's level of output lengths."""
    prefixes = parameters.prefixes
    pick, private = rng.random(2).tolist()
    group = bisect_right(prefixes.edges, pick)
    name = parameters.name
    owner = f"own-{index}" if private < prefixes.private_system else "common"
    levels = (
        (f"{name}/tools-{group}", prefixes.tools_tokens[group]),
        (f"{name}/tools-{group}/system-{owner}", prefixes.system_tokens[group]),
    )
    segments = tuple([PrefixSegment(key, _tokens(n, scale)) for key, n in levels if n > 0])
    return segments, prefixes.output_level[group]


def _start_sub_agents(
    parameters: ClassParameters,
    seed: int,
    index: int,
    prefix: Prefix,
    gaps: list[Gap],
    settings: DrawSettings,
) -> list[_Started]:
    """The sub-agents of a program; replaces the gaps that they stand for."""
    if not (settings.sub_agents and parameters.sub_agents):
        return []
    rng = stream_rng(seed, STREAM_CHILDREN, index)
    uniforms = rng.random(len(gaps)).tolist()
    kinds = parameters.chain.kinds
    started: list[_Started] = []
    for turn, (gap, u) in enumerate(zip(gaps[:-1], uniforms, strict=False)):
        if gap.kind < 0:
            continue
        chosen = _sub_agent(parameters.sub_agents, kinds[gap.kind], u)
        if chosen is not None:
            if chosen.tool_kind is not None:  # the sub-agent is the tool, so its time is simulated
                gaps[turn] = Gap("tool", 0.0, (), gap.kind)
            name = f"{_name(parameters, index)}/{turn}-{chosen.name}"
            outline = _sub_agent_outline(parameters, chosen, prefix, rng, settings)
            started.append(_Started(turn, name, outline))
    return started


def _sub_agent(options: tuple[SubAgents, ...], kind: str, u: float) -> SubAgents | None:
    for option in options:
        if option.tool_kind == kind:
            return option
        if u < option.probability:
            return option
        u -= option.probability
    return None


def _sub_agent_outline(
    parameters: ClassParameters,
    option: SubAgents,
    parent_prefix: Prefix,
    rng: np.random.Generator,
    settings: DrawSettings,
) -> _Outline:
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
    initial = _tokens(option.initial.at(z_initial), scale)
    draws = draw(parameters, 0.0, 0.0, np.zeros(turns, dtype=bool), rng, rng)
    return _Outline(prefix, initial, draws)


def _draw_sub_agents(
    parameters: ClassParameters, started: list[_Started], settings: DrawSettings
) -> list[Program]:
    if not started:
        return []
    values = evaluate(parameters, [one.outline.draws for one in started], settings)
    programs: list[Program] = []
    for one, of_turns in zip(started, values, strict=True):
        gaps = gaps_of(of_turns, parameters.chain.kinds)
        programs.append(
            Program(
                program_id=one.name,
                agent_class=parameters.name,
                turns=_turns(parameters, one.outline, of_turns, gaps, {}, settings),
                prefix=one.outline.prefix,
                arrival_s=0.0,
                source=_SOURCE,
                labels=("sub_agent",),
                model=settings.sub_agent_model,
            )
        )
    return programs


def _turns(
    parameters: ClassParameters,
    outline: _Outline,
    values: Values,
    gaps: list[Gap],
    children: dict[int, Program],
    settings: DrawSettings,
) -> tuple[Turn, ...]:
    return assemble(
        values,
        gaps,
        children,
        sum([segment.tokens for segment in outline.prefix]),
        outline.initial_tokens,
        settings.window,
        round(compaction_threshold_tokens(parameters, settings)),
    )
