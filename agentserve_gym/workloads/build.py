"""From a specification to a workload: which programs there are, and when each arrives.

A `Workload` is lazy: program ``i`` is drawn (or looked up) when asked for, in any order, and
depends on the seed and ``i`` only. It is immutable but for a cache of the programs drawn last; it
pickles, and may be shared.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from typing import Protocol

import numpy as np

from agentserve_gym.workloads import arrivals as processes
from agentserve_gym.workloads.generators.agent import draw_programs
from agentserve_gym.workloads.generators.draws import DrawSettings
from agentserve_gym.workloads.generators.parameters import ClassParameters, load_parameters
from agentserve_gym.workloads.generators.streams import (
    STREAM_ARRIVALS,
    STREAM_MIX,
    STREAM_SHUFFLE,
    stream_rng,
)
from agentserve_gym.workloads.program import (
    Frozen,
    GapKind,
    PrefixSegment,
    Program,
    ToolCall,
    Turn,
)
from agentserve_gym.workloads.readers import read_programs
from agentserve_gym.workloads.spec import (
    ArrivalSpec,
    ClosedLoopArrivals,
    DiurnalArrivals,
    GammaArrivals,
    GeneratedWorkload,
    InlineProgram,
    InlineWorkload,
    PoissonArrivals,
    StagedArrivals,
    TraceArrivals,
    TraceWorkload,
    WorkloadSpec,
)
from agentserve_gym.workloads.validation import distinct, validate_program


class ProgramSource(Protocol):
    """Programs by index, the same value for the same index every time."""

    def __len__(self) -> int: ...

    def program(self, index: int) -> Program: ...

    def classes_with_people(self) -> frozenset[str]:
        """Agent classes in which a person may speak after a turn."""
        ...


@dataclass(frozen=True)
class Workload(Frozen):
    """Programs and their arrivals, for one seed. Immutable, so copies of it are itself."""

    source: ProgramSource
    arrivals: ArrivalSpec
    seed: int

    def __len__(self) -> int:
        """Number of root programs (sub-agents are part of their parents)."""
        return len(self.source)

    def program(self, index: int) -> Program:
        """Program ``index``; programs arrive in the order of their indices.

        Raises:
            IndexError: outside ``range(len(self))``.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"program {index} of {len(self)}")
        return self.source.program(index)

    def classes_with_people(self) -> frozenset[str]:
        """Agent classes in which a person may speak after a turn."""
        return self.source.classes_with_people()

    @property
    def concurrency(self) -> int | None:
        """How many programs run at once in a closed loop; ``None`` for an open loop."""
        arrivals = self.arrivals
        return arrivals.concurrency if isinstance(arrivals, ClosedLoopArrivals) else None

    def pause_before_s(self, index: int) -> float:
        """In a closed loop, seconds from the end of a program to the start of program ``index``."""
        arrivals = self.arrivals
        if not isinstance(arrivals, ClosedLoopArrivals):
            return 0.0
        if not arrivals.pause_token_s:
            return arrivals.pause_s
        tokens = self.program(index).turns[0].input_tokens
        return arrivals.pause_s + arrivals.pause_token_s * tokens

    def arrival_times(self) -> Iterator[float]:
        """Arrival of each program in seconds, non-decreasing, ``len(self)`` of them, lazily.

        Raises:
            ValueError: for a closed loop, where programs start as others finish.
        """
        if isinstance(self.arrivals, ClosedLoopArrivals):
            raise ValueError("arrivals: closed_loop has no arrival times; use concurrency")
        if isinstance(self.arrivals, TraceArrivals):
            return self._trace_times(self.arrivals.speedup)
        return islice(self._drawn_times(self.arrivals), len(self))

    def _drawn_times(
        self, spec: PoissonArrivals | GammaArrivals | DiurnalArrivals | StagedArrivals
    ) -> Iterator[float]:
        rng = np.random.default_rng([self.seed, STREAM_ARRIVALS])
        match spec:
            case PoissonArrivals():
                return processes.poisson_times(spec, rng)
            case GammaArrivals():
                return processes.gamma_times(spec, rng)
            case DiurnalArrivals():
                return processes.diurnal_times(spec, rng)
            case StagedArrivals():
                return processes.staged_times(spec, rng)

    def _trace_times(self, speedup: float) -> Iterator[float]:
        for index in range(len(self)):
            arrival_s = self.program(index).arrival_s
            assert arrival_s is not None  # build_workload refuses programs without one
            yield arrival_s / speedup


def build_workload(
    spec: WorkloadSpec,
    arrivals: ArrivalSpec,
    seed: int,
    windows_tokens: Mapping[str, int] | None = None,
) -> Workload:
    """Build the workload that ``spec`` and ``arrivals`` describe.

    Args:
        spec: which programs.
        arrivals: when they arrive.
        seed: at least 0; the same seed gives the same programs and arrivals, whatever the policy.
        windows_tokens: the window of each agent class of a generated workload; default:
            ``max_context_tokens`` for all.

    Raises:
        ValueError: if the seed is negative, a trace cannot be read or leaves no program, the window
            cannot hold a shared prefix, or trace arrivals are asked of programs without times.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; allowed: an integer of at least 0")
    source = _source(spec, seed, windows_tokens)
    if isinstance(arrivals, TraceArrivals):
        source = _ordered_by_arrival(source, spec)
    return Workload(source, arrivals, seed)


def _source(
    spec: WorkloadSpec, seed: int, windows_tokens: Mapping[str, int] | None
) -> ProgramSource:
    match spec:
        case GeneratedWorkload():
            return GeneratedPrograms(spec, seed, windows_tokens)
        case TraceWorkload():
            return ListedPrograms(tuple(_trace_programs(spec, seed)))
        case InlineWorkload():
            programs = [_inline_program(p, f"inline-{i}") for i, p in enumerate(spec.programs)]
            places = (f"workload.programs.{i}" for i in range(len(programs)))
            return ListedPrograms(tuple(distinct(zip(places, programs, strict=True))))


def _ordered_by_arrival(source: ProgramSource, spec: WorkloadSpec) -> ListedPrograms:
    if isinstance(spec, GeneratedWorkload):
        raise ValueError(
            "arrivals: kind is 'trace', but generated programs have no arrival times; allowed: "
            "poisson, gamma, diurnal, staged, closed_loop"
        )
    programs = [source.program(index) for index in range(len(source))]
    for program in programs:
        if program.arrival_s is None:
            raise ValueError(
                f"arrivals: kind is 'trace', but program {program.program_id!r} has no arrival_s; "
                "use poisson, gamma, diurnal, staged or closed_loop arrivals (agentserve replay: "
                "--clients)"
            )
    return ListedPrograms(tuple(sorted(programs, key=lambda p: p.arrival_s or 0.0)))


# ---------------------------------------------------------------------------------------- generated


_BLOCK_PROGRAMS = 32
_OWN_TOKENS = 64  # the least that a window leaves beside a shared prefix


class GeneratedPrograms:
    """Programs drawn on demand, a block at a time; holds no more, so any number costs nothing."""

    def __init__(
        self, spec: GeneratedWorkload, seed: int, windows_tokens: Mapping[str, int] | None = None
    ) -> None:
        self._spec = spec
        self._seed = seed
        self._block = -1
        self._drawn: dict[int, Program] = {}
        self._classes = tuple(spec.mix)
        weights = np.cumsum(list(spec.mix.values()))
        self._edges = tuple(float(edge) for edge in weights[:-1] / weights[-1])
        windows: Mapping[str, int | None] = windows_tokens or dict.fromkeys(
            spec.mix, spec.max_context_tokens
        )
        _require_windows(spec, windows)
        self._settings = {name: _settings(spec, name, windows[name]) for name in spec.mix}

    def __len__(self) -> int:
        return self._spec.programs

    def program(self, index: int) -> Program:
        block = index // _BLOCK_PROGRAMS
        if block != self._block:
            self._drawn = self._draw_block(block)
            self._block = block
        return self._drawn[index]

    def classes_with_people(self) -> frozenset[str]:
        return frozenset(name for name in self._classes if load_parameters(name).p_user > 0.0)

    def _draw_block(self, block: int) -> dict[int, Program]:
        first = block * _BLOCK_PROGRAMS
        by_class: dict[str, list[int]] = {}
        for index in range(first, min(first + _BLOCK_PROGRAMS, len(self))):
            by_class.setdefault(self._class_of(index), []).append(index)
        return {
            index: program
            for name, indices in by_class.items()
            for index, program in zip(
                indices,
                draw_programs(load_parameters(name), self._seed, indices, self._settings[name]),
                strict=True,
            )
        }

    def _class_of(self, index: int) -> str:
        if len(self._classes) == 1:
            return self._classes[0]
        u = stream_rng(self._seed, STREAM_MIX, index).random()
        return self._classes[bisect_right(self._edges, u)]


def _settings(spec: GeneratedWorkload, name: str, window_tokens: int | None) -> DrawSettings:
    """What a workload changes about the programs of one of its classes."""
    return DrawSettings(
        window_tokens=window_tokens,
        max_turns=spec.max_turns,
        tool_timeout_s=spec.tool_timeout_s,
        host_factor=spec.host_factor,
        gap_scale=spec.gap_scale,
        token_scale=spec.token_scale,
        human_users=spec.user_gaps == "human",
        max_user_gap_s=spec.max_user_gap_s,
        sub_agents=spec.sub_agents,
        model=spec.models.get(name),
        sub_agent_model=spec.sub_agent_models.get(name),
    )


def window_floors(spec: GeneratedWorkload) -> dict[str, int]:
    """The smallest window that each class of the mix needs for its shared prefix, largest first."""
    floors = {name: _window_floor(load_parameters(name), spec.token_scale) for name in spec.mix}
    return dict(sorted(floors.items(), key=lambda item: item[1], reverse=True))


def _window_floor(parameters: ClassParameters, token_scale: float) -> int:
    sizes = [
        round(tools * token_scale) + round(system * token_scale)
        for tools, system in zip(
            parameters.prefixes.tools_tokens, parameters.prefixes.system_tokens, strict=True
        )
    ]
    sizes += [round(child.prefix_tokens * token_scale) for child in parameters.sub_agents]
    return max(sizes) + _OWN_TOKENS


def _require_windows(spec: GeneratedWorkload, windows: Mapping[str, int | None]) -> None:
    for name, floor in window_floors(spec).items():
        window = windows[name]
        if window is not None and window < floor:
            raise ValueError(
                f"max_context_tokens is {window}; class {name!r} needs at "
                f"least {floor}, because its shared prefix has up to {floor - _OWN_TOKENS} tokens"
            )


# ----------------------------------------------------------------------------------- listed: traces


@dataclass(frozen=True)
class ListedPrograms:
    """Programs held in memory."""

    programs: tuple[Program, ...]

    def __len__(self) -> int:
        return len(self.programs)

    def program(self, index: int) -> Program:
        return self.programs[index]

    def classes_with_people(self) -> frozenset[str]:
        return frozenset(
            program.agent_class
            for program in self.programs
            if any(turn.gap_kind == "user" for turn in program.turns)
        )


def _trace_programs(spec: TraceWorkload, seed: int) -> list[Program]:
    programs: Sequence[Program] = read_programs(spec.path, spec.format)
    if spec.models:
        _require_classes(programs, spec)
    if spec.split is not None:
        programs = _keep(programs, f"split:{spec.split}", spec, "split", spec.split)
    if spec.fresh_start_only:
        programs = _keep(programs, "fresh_start", spec, "fresh_start_only", "true")
    cut = [kept for program in programs if (kept := _cut_program(program, spec)) is not None]
    if spec.models:
        cut = [_with_model(program, spec.models) for program in cut]
    if not cut:
        raise ValueError(
            f"{spec.path}: no program is left; max_context_tokens is {spec.max_context_tokens}, "
            f"the smallest first turn has "
            f"{min(p.turns[0].input_tokens + p.turns[0].output_tokens for p in programs)} tokens"
        )
    if spec.shuffle:
        order = np.random.default_rng([seed, STREAM_SHUFFLE]).permutation(len(cut))
        cut = [cut[i] for i in order]
    return cut[: spec.programs]


def _keep(
    programs: Sequence[Program], label: str, spec: TraceWorkload, field: str, value: str
) -> list[Program]:
    kept = [program for program in programs if label in program.labels]
    if not kept:
        labels = sorted({name for program in programs for name in program.labels})
        raise ValueError(
            f"{spec.path}: no program has {field} {value!r}; labels in this file: "
            f"{', '.join(labels) or 'none'}"
        )
    return kept


def _cut_program(program: Program, spec: TraceWorkload) -> Program | None:
    """The program up to the first turn beyond a limit, gaps scaled; ``None`` if nothing is left."""
    window = spec.max_context_tokens
    kept: list[Turn] = []
    for number, plain in enumerate(program.turns[: spec.max_turns]):
        turn = _with_template(plain, number, spec)
        if window is not None and turn.input_tokens + turn.output_tokens > window:
            break
        kept.append(_adjust_gap(turn, spec))
    if not kept:
        return None
    for at, (turn, following) in enumerate(pairwise(kept)):
        further_s = spec.further_gap_s + spec.further_gap_token_s * following.input_tokens
        kept[at] = turn._replace(gap_s=turn.gap_s + further_s)
    last = kept[-1]
    kept[-1] = Turn(last.input_tokens, last.new_input_tokens, last.output_tokens, last.reuse_tokens)
    return replace(program, turns=tuple(kept))


def _require_classes(programs: Iterable[Program], spec: TraceWorkload) -> None:
    """Refuse models for classes that the file does not have."""
    classes = {one.agent_class for program in programs for one in _family(program)}
    for name in spec.models:
        if name not in classes:
            raise ValueError(
                f"{spec.path}: models names class {name!r}; the file has "
                f"{', '.join(sorted(classes))}"
            )


def _family(program: Program) -> Iterator[Program]:
    """A program and its sub-agents."""
    yield program
    for turn in program.turns:
        for child in turn.children:
            yield from _family(child)


def _with_model(program: Program, models: Mapping[str, str]) -> Program:
    """The program, and its sub-agents, with the models of their classes where they name none."""
    turns = tuple(
        turn._replace(children=tuple(_with_model(child, models) for child in turn.children))
        for turn in program.turns
    )
    named = program.model or models.get(program.agent_class)
    return replace(program, turns=turns, model=named)


def _with_template(turn: Turn, number: int, spec: TraceWorkload) -> Turn:
    """The turn with the chat template's tokens in its prompt, old ones and new ones."""
    start, each = spec.template_start_tokens, spec.template_turn_tokens
    if not (start or each):
        return turn
    reused = start + each * (number - 1) if turn.reuse_tokens else 0
    added = start + each * number
    return turn._replace(
        input_tokens=turn.input_tokens + added,
        new_input_tokens=turn.new_input_tokens + added - reused,
        reuse_tokens=turn.reuse_tokens + reused,
    )


def _adjust_gap(turn: Turn, spec: TraceWorkload) -> Turn:
    scale = spec.gap_scale
    timeout_s = math.inf if spec.tool_timeout_s is None else spec.tool_timeout_s
    longest_s = timeout_s
    if turn.gap_kind == "user":
        longest_s = math.inf if spec.max_gap_s is None else spec.max_gap_s
    children: tuple[Program, ...] = ()
    if spec.sub_agents:
        cut = (_cut_program(child, spec) for child in turn.children)
        children = tuple(
            replace(child, arrival_s=(child.arrival_s or 0.0) * scale)
            for child in cut
            if child is not None
        )
    tools = tuple(
        tool._replace(duration_s=min(tool.duration_s, timeout_s) * scale) for tool in turn.tools
    )
    gap_s = min(turn.gap_s, longest_s) * scale
    return turn._replace(gap_s=gap_s, tools=tools, children=children)


# ----------------------------------------------------------------------------------- listed: inline


def _inline_program(spec: InlineProgram, name: str) -> Program:
    prefix = tuple(PrefixSegment(segment.key, segment.tokens) for segment in spec.prefix)
    program_id = spec.program_id or name
    chain = sum(segment.tokens for segment in prefix)
    turns: list[Turn] = []
    last = len(spec.turns) - 1
    for index, turn in enumerate(spec.turns):
        if turn.reset_to_tokens is not None:
            chain = min(chain, turn.reset_to_tokens)
        input_tokens = chain + turn.new_input_tokens
        reuse = min(chain, input_tokens - 1) if index else 0
        tools = tuple(
            ToolCall(tool.kind, tool.duration_s, tool.result_tokens, tool.failures)
            for tool in turn.tools
        )
        gap_s = turn.gap_s
        if gap_s is None:
            gap_s = max((tool.duration_s for tool in tools), default=0.0)
        kind: GapKind = turn.gap_kind if index < last else "end"
        children = tuple(
            _inline_program(child, f"{program_id}/{index}-{number}")
            for number, child in enumerate(turn.children)
        )
        turns.append(
            Turn(
                input_tokens,
                input_tokens - reuse,
                turn.output_tokens,
                reuse,
                gap_s,
                kind,
                tools,
                children,
            )
        )
        chain = input_tokens + turn.output_tokens
    program = Program(
        program_id,
        spec.agent_class,
        tuple(turns),
        prefix,
        spec.arrival_s,
        "inline",
        model=spec.model,
    )
    validate_program(program)
    return program
