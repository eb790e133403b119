"""What may be known of a program and of its current turn: the past and the present.

Policies see both. The future (lengths of outputs, gaps and turns to come) is in neither: it stays
in the immutable ``Program``, which the orchestrator keeps.
"""

from __future__ import annotations

from enum import IntEnum

from mypy_extensions import mypyc_attr

from agentserve_gym.sim.kernel.copying import Copyable
from agentserve_gym.workloads.program import Program, Turn


class Phase(IntEnum):
    """Where the time of a program goes. JCT is the sum over all phases."""

    QUEUE = 0
    LOAD = 1
    PREFILL = 2
    DECODE = 3
    GAP = 4


QUEUE, LOAD, PREFILL, DECODE, GAP = Phase
"""The phases by themselves: looking a member up in its enumeration takes a function call."""


class ProgramStatus(IntEnum):
    """Where a program stands in its life."""

    PLANNED = 0
    HELD = 1
    QUEUED = 2
    LOADING = 3
    RUNNING = 4
    TOOL_GAP = 5
    DONE = 6


PLANNED, HELD, QUEUED, LOADING, RUNNING, TOOL_GAP, DONE = ProgramStatus


Prefix = tuple[tuple[str, int], ...]
"""Levels of a shared prefix, each (key, blocks)."""


@mypyc_attr(allow_interpreted_subclasses=True)
class ProgramState(Copyable):
    """One live program.

    It changes through its methods; only the residency model keeps notes of its own here,
    ``copied_from``, ``pinned_at`` and ``version``.

    Attributes:
        index: number of the program in order of creation; keys its own KV chain in every pool.
        stream: identity for random draws, the same under every policy.
        parent: the program that started this one as a sub-agent, if any.
        model: what serves it, as the scenario names it: what it named, or its parent's, or the
            cluster's.
        status: see ``ProgramStatus``.
        arrival_s: when its first turn was ready.
        turns_done, generated_tokens, context_tokens: past turns, tokens generated in them, and
            length of the chain (prompt and output of the last turn).
        home: instance of the last turn, -1 before the first.
        attained_service_s: prefill and decode time so far.
        gaps, gap_total_s, last_gap_s: completed gaps.
        gap_kind, gap_tool_kinds, gap_started_s: of the gap that is on or was last.
        phase, phase_since_s: where its time goes now, and since when.
        phase_s: seconds spent per ``Phase``, complete up to the last change of phase.
        prefix: levels of the shared prefix, each (key, blocks); ``chain_keys``: their keys and the
            own part's; ``shared_blocks``: blocks of all levels together.
        copied_from: instances from whose HBM copies went to lower tiers, one per node.
        pinned_at: instance where its chain is pinned, or -1.
        version: resets of the chain so far: copies in flight from before one are worthless.
    """

    __slots__ = (
        "agent_class",
        "arrival_s",
        "attained_service_s",
        "chain_keys",
        "context_tokens",
        "copied_from",
        "gap_kind",
        "gap_started_s",
        "gap_tool_kinds",
        "gap_total_s",
        "gaps",
        "generated_tokens",
        "home",
        "index",
        "last_gap_s",
        "model",
        "parent",
        "phase",
        "phase_s",
        "phase_since_s",
        "pinned_at",
        "prefix",
        "program_id",
        "shared_blocks",
        "status",
        "stream",
        "turns_done",
        "version",
    )

    def __init__(
        self,
        plan: Program,
        index: int,
        stream: int,
        block_size_tokens: int,
        parent: ProgramState | None,
        default_model: str = "",
    ) -> None:
        self.index = index
        self.stream = stream
        self.parent = parent
        self.program_id = plan.program_id
        self.agent_class = plan.agent_class
        self.status = PLANNED
        self.arrival_s = 0.0
        self.turns_done = 0
        self.generated_tokens = 0
        self.context_tokens = 0
        self.home = -1
        self.attained_service_s = 0.0
        self.gaps = 0
        self.gap_total_s = 0.0
        self.last_gap_s = 0.0
        self.gap_kind = "end"
        self.gap_tool_kinds: tuple[str, ...] = ()
        self.gap_started_s = 0.0
        self.phase_s = [0.0] * len(Phase)
        self.copied_from: tuple[int, ...] = ()
        self.pinned_at = -1
        self.version = 0
        self.model: str = plan.model or (default_model if parent is None else parent.model)
        owner = "" if self.model == default_model else f"{self.model}/"
        self._share(_prefix_in_blocks(plan, block_size_tokens, owner))
        self.phase = QUEUE
        self.phase_since_s = 0.0

    def arrive(self, now_s: float) -> None:
        """Its first turn is ready: its time starts to count."""
        self.arrival_s = self.phase_since_s = now_s

    def enter(self, phase: Phase, status: ProgramStatus, now_s: float) -> None:
        """Book the time since the last change of phase and begin another phase."""
        self.phase_s[self.phase] += now_s - self.phase_since_s
        self.phase = phase
        self.phase_since_s = now_s
        self.status = status

    def sent(self) -> None:
        """Its turn left the router and waits at an engine: the same phase goes on."""
        self.status = QUEUED

    def end_turn(
        self,
        instance: int,
        generated_tokens: int,
        context_tokens: int,
        status: ProgramStatus,
        now_s: float,
    ) -> None:
        """A turn that ran on ``instance`` emitted its last token: a gap begins, or all is done."""
        self.turns_done += 1
        self.generated_tokens += generated_tokens
        self.context_tokens = context_tokens
        self.home = instance
        self.enter(GAP, status, now_s)
        self.attained_service_s = self.phase_s[PREFILL] + self.phase_s[DECODE]

    def leave(self) -> None:
        """Its session is forgotten. Its time was booked when its last turn ended."""
        self.status = DONE

    def begin_gap(self, kind: str, tool_kinds: tuple[str, ...], now_s: float) -> None:
        """What the gap that begins waits for."""
        self.gap_kind = kind
        self.gap_tool_kinds = tool_kinds
        self.gap_started_s = now_s

    def end_gap(self, now_s: float) -> None:
        """The gap is over."""
        self.last_gap_s = now_s - self.gap_started_s
        self.gaps += 1
        self.gap_total_s += self.last_gap_s

    def cut_prefix(self, blocks: int) -> None:
        """End the sharing beyond the chain's first ``blocks`` blocks: a reset fell below its shared
        prefix. A level that is kept in part counts as the program's own text from now on."""
        kept: list[tuple[str, int]] = []
        for key, size in self.prefix:
            blocks -= size
            if blocks < 0:
                break
            kept.append((key, size))
        self._share(tuple(kept))

    def _share(self, prefix: Prefix) -> None:
        self.prefix = prefix
        self.chain_keys: tuple[int | str, ...] = (*(key for key, _ in prefix), self.index)
        self.shared_blocks = sum(size for _, size in prefix)

    @property
    def is_subagent(self) -> bool:
        return self.parent is not None


def _prefix_in_blocks(plan: Program, block_size_tokens: int, owner: str) -> Prefix:
    """The levels of the shared prefix that fill whole blocks. ``owner`` begins their keys: the KV
    of one text differs between models."""
    levels: list[tuple[str, int]] = []
    tokens = counted = 0
    for segment in plan.prefix:
        tokens += segment.tokens
        whole = tokens // block_size_tokens - counted
        if whole > 0:
            levels.append((owner + segment.key, whole))
            counted += whole
    return tuple(levels)


@mypyc_attr(allow_interpreted_subclasses=True)
class TurnState(Copyable):
    """One LLM call as it stands when it is released; it never changes.

    Attributes:
        program: whose turn it is. ``number``: 0 for the program's first turn.
        prompt_tokens, reuse_tokens: the prompt, and how much of it the program computed before.
        has_prefix: whether the prompt starts with the whole shared prefix of its group.
        match_limit_blocks: leading blocks that may be taken from caches.
        ready_s: when it was released.
    """

    __slots__ = (
        "has_prefix",
        "match_limit_blocks",
        "number",
        "program",
        "prompt_tokens",
        "ready_s",
        "reuse_tokens",
    )

    def __init__(
        self, program: ProgramState, plan: Turn, ready_s: float, block_size_tokens: int
    ) -> None:
        number = program.turns_done
        prompt_tokens: int = plan.input_tokens
        reuse_tokens: int = plan.reuse_tokens
        known = program.shared_blocks if number == 0 else reuse_tokens // block_size_tokens
        self.program = program
        self.number = number
        self.prompt_tokens = prompt_tokens
        self.reuse_tokens = reuse_tokens
        self.has_prefix = known >= program.shared_blocks
        self.match_limit_blocks = min(known, (prompt_tokens - 1) // block_size_tokens)
        self.ready_s = ready_s
