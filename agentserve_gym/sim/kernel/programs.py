"""What the simulation knows of a program and of its current turn, as they change over time.

``ProgramState`` and ``TurnState`` hold the past and the present; the future (lengths of outputs and
gaps to come) stays in the immutable ``Program``, which policies must not read: its attribute starts
with an underscore, and views never show it.
"""

from __future__ import annotations

from enum import IntEnum

from agentserve_gym.sim.kernel.answers import Restore
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


class ProgramState:
    """One live program.

    Attributes:
        index: number of the program in order of creation; keys its own KV chain in every pool.
        stream: identity for random draws, the same under every policy.
        parent: the program that started this one as a sub-agent, if any.
        status: see ``ProgramStatus``.
        arrival_s: when its first turn was ready.
        turns_done, generated_tokens, context_tokens: past turns, tokens generated in them, and
            length of the chain (prompt and output of the last turn).
        home: instance of the last turn, -1 before the first.
        attained_service_s: prefill and decode time so far.
        gaps, gap_total_s, last_gap_s: completed gaps.
        gap_kind, gap_tool_kinds, gap_started_s: of the gap that is on or was last.
        phase_s: seconds spent per ``Phase``, complete up to the last change of phase.
        prefix: levels of the shared prefix, each (key, blocks); ``chain_keys``: their keys and the
            own part's; ``shared_blocks``: blocks of all levels together.
        pinned_at: instance where its chain is pinned, or -1.
    """

    __slots__ = (
        "_children_running",
        "_gap_tool_done",
        "_phase",
        "_phase_since_s",
        "_plan",
        "agent_class",
        "arrival_s",
        "attained_service_s",
        "chain_keys",
        "context_tokens",
        "gap_kind",
        "gap_started_s",
        "gap_tool_kinds",
        "gap_total_s",
        "gaps",
        "generated_tokens",
        "home",
        "index",
        "last_gap_s",
        "parent",
        "phase_s",
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
    ) -> None:
        self._plan = plan
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
        self.pinned_at = -1
        self.version = 0
        """Counts resets of the chain: copies in flight from before one are worthless."""
        self._share(_prefix_in_blocks(plan, block_size_tokens))
        self._phase = QUEUE
        self._phase_since_s = 0.0
        self._children_running = 0
        self._gap_tool_done = True

    def enter(self, phase: Phase, now_s: float) -> None:
        """Book the time since the last change of phase and begin another phase."""
        self.phase_s[self._phase] += now_s - self._phase_since_s
        self._phase = phase
        self._phase_since_s = now_s

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


def _prefix_in_blocks(plan: Program, block_size_tokens: int) -> Prefix:
    """The levels of the shared prefix that fill whole blocks."""
    levels: list[tuple[str, int]] = []
    tokens = counted = 0
    for segment in plan.prefix:
        tokens += segment.tokens
        whole = tokens // block_size_tokens - counted
        if whole > 0:
            levels.append((segment.key, whole))
            counted += whole
    return tuple(levels)


class TurnState:
    """One LLM call on its way through router and engine.

    Attributes:
        program: whose turn it is. ``number``: 0 for the program's first turn.
        prompt_tokens, reuse_tokens: the prompt, and how much of it the program computed before.
        ready_s, queued_s, first_token_s: when it was released, reached an engine, emitted token 1.
        offers: how often a policy was asked where it should run.
        hold_priority, hold_lane: its place among held turns, from the policy's last ``Hold``.
        instance, priority, restore: the policy's answer.
        generated: tokens emitted so far. ``preemptions``: how often it lost its place in the batch.
        target_tokens: tokens to prefill: the prompt, or prompt + generated after a preemption.
        computed_tokens: how many of them have their KV in this instance's HBM.
        has_prefix: whether the prompt starts with the whole shared prefix of its group.
        match_limit_blocks: leading blocks that may be taken from caches.
        hit_blocks: leading blocks that belong to cached entries; ``private_blocks``: blocks that
            only this turn owns, not counting those that decoding added since it joined the batch.
        visible_after_s: an engine with async scheduling sees it from the first step on that is
            planned after this time.
    """

    __slots__ = (
        "_output_tokens",
        "_plan",
        "chunk_tokens",
        "computed_tokens",
        "decode_start",
        "finish_step",
        "first_token_s",
        "generated",
        "has_prefix",
        "hit_blocks",
        "hold_lane",
        "hold_priority",
        "instance",
        "loaded_from",
        "match_limit_blocks",
        "number",
        "offers",
        "preemptions",
        "priority",
        "private_blocks",
        "program",
        "prompt_tokens",
        "queue_key",
        "queued_s",
        "ready_s",
        "reserved",
        "restore",
        "reuse_tokens",
        "sequence",
        "target_tokens",
        "uncached_tokens",
        "visible_after_s",
    )

    def __init__(
        self, program: ProgramState, plan: Turn, ready_s: float, block_size_tokens: int
    ) -> None:
        self.program = program
        self._plan = plan
        self._output_tokens = plan.output_tokens
        self.number = program.turns_done
        self.prompt_tokens = plan.input_tokens
        self.reuse_tokens = plan.reuse_tokens
        known = (
            program.shared_blocks if self.number == 0 else plan.reuse_tokens // block_size_tokens
        )
        self.has_prefix = known >= program.shared_blocks
        self.match_limit_blocks = min(known, (plan.input_tokens - 1) // block_size_tokens)
        self.ready_s = ready_s
        self.queued_s = ready_s
        self.first_token_s = -1.0
        self.offers = 0
        self.hold_priority = 0.0
        self.hold_lane = 0
        self.instance = -1
        self.priority = 0.0
        self.restore = Restore.CHEAPEST
        self.generated = 0
        self.preemptions = 0
        self.target_tokens = plan.input_tokens
        self.computed_tokens = 0
        self.hit_blocks = 0
        self.private_blocks = 0
        self.reserved = False
        self.loaded_from: int | None = None
        self.chunk_tokens = 0
        self.uncached_tokens = 0
        self.decode_start = 0
        self.finish_step = -1
        self.sequence = -1
        self.queue_key: tuple[int, float, int] = (0, 0.0, 0)
        self.visible_after_s = ready_s
