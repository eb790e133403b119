"""What happened in a run: the one record that pictures, traces and pages read."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple


class Stage(Enum):
    """What a program does. ``HELD`` and ``QUEUE`` are its time in ``Phase.QUEUE``, at the router
    and at an engine; ``LEFT``: its person will not come back, which the router does not know."""

    HELD = "held"
    QUEUE = "queue"
    LOAD = "load"
    PREFILL = "prefill"
    DECODE = "decode"
    GAP = "gap"
    LEFT = "left"


NOBODY = -1
"""In the place of a program or an instance: none, or not known."""


class InstanceNote(NamedTuple):
    """An instance, what it runs on, and the lower tiers that it reaches, nearest first."""

    node: int
    model: str
    accelerator: str
    tensor_parallel: int
    tiers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ProgramNote:
    """A program or sub-agent that arrived. ``parent``: the index of who started it."""

    index: int
    program_id: str
    agent_class: str
    model: str
    parent: int


class StageSlice(NamedTuple):
    """A program, by index, in one stage of a turn, or in the gap after it. ``instance``: where the
    turn runs, or ran."""

    program: int
    turn: int
    stage: Stage
    instance: int
    start_s: float
    end_s: float


class Chunk(NamedTuple):
    """A turn's part in each step of a prefill."""

    program: int
    turn: int
    tokens: int


class BatchSlice(NamedTuple):
    """Steps of an instance that ran as one: a run of decode steps, or of a prefill's chunks.

    ``decoding``: turns that decode in each. A member of a group whose engines step together may
    have nothing to do in them.
    """

    instance: int
    start_s: float
    end_s: float
    steps: int
    decoding: int
    chunks: tuple[Chunk, ...]


class Preemption(NamedTuple):
    """A turn lost its place in the batch. One whose last token was on its way is not named."""

    time_s: float
    instance: int
    program: int
    turn: int


@dataclass(slots=True)
class LinkPassage:
    """When a link, by name, serves a transfer."""

    link: str
    start_s: float
    end_s: float


@dataclass(slots=True)
class TransferNote:
    """KV that moved from pool to pool.

    Attributes:
        kind: ``offload``, ``load``, ``prefetch``, or ``write-through`` for what engines copied by
            themselves: one per link, of which programs and pools are not known.
        program: whose, by index. ``turn``: the last one released. ``instance``: whose HBM it left
            or entered.
        source, destination: names of the pools.
        size_bytes: as counted on every link that it crosses.
        queued_s, arrives_s: from its start until all of it has arrived; nothing waits for what was
            written through.
        passages: by link.
    """

    kind: str
    program: int
    turn: int
    instance: int
    source: str
    destination: str
    size_bytes: float
    queued_s: float
    arrives_s: float | None
    passages: list[LinkPassage] = field(default_factory=list)


class RouteNote(NamedTuple):
    """A turn was offered, and the policy's answer. ``valid``: whether it was carried out; if not,
    the safe default was. ``instance``: where the turn went; nobody's if it is held."""

    time_s: float
    program: int
    turn: int
    prompt_tokens: int
    offers: int
    may_hold: bool
    answer: object
    valid: bool
    instance: int


class PlacementNote(NamedTuple):
    """It was asked where KV waits in a gap, and the policy's answer."""

    time_s: float
    program: int
    turn: int
    instance: int
    context_tokens: int
    gap_kind: str
    tool_kinds: tuple[str, ...]
    elapsed_s: float
    answer: object
    valid: bool


@dataclass(slots=True)
class PoolHistory:
    """How full a pool was: a sample at every change.

    Attributes:
        name, tier: of the pool. ``instance``: whose HBM it is, or nobody's.
        capacity_blocks, block_bytes: its size.
        time_s: of the samples.
        used_blocks: all that are not free. ``held_blocks``: those of them that cannot be reclaimed:
            running, in flight or pinned; the rest is cache. ``pinned_blocks``: those of the held
            ones that only pins hold.
    """

    name: str
    tier: str
    instance: int
    capacity_blocks: int
    block_bytes: float
    time_s: list[float] = field(default_factory=list)
    used_blocks: list[int] = field(default_factory=list)
    held_blocks: list[int] = field(default_factory=list)
    pinned_blocks: list[int] = field(default_factory=list)


class FiguresNote(NamedTuple):
    """Figures of the run so far, where one has changed.

    ``programs_done`` and ``jct_sum_s``: of finished root programs; ``prompt_tokens``: of turns
    admitted, of which ``hit_tokens`` were in HBM and ``loaded_tokens`` came from a lower tier.
    """

    time_s: float
    programs_done: int
    jct_sum_s: float
    prompt_tokens: int
    hit_tokens: int
    loaded_tokens: int


@dataclass(slots=True)
class RunHistory:
    """One run. It is complete once the run is over; every list is in the order of time of what it
    holds, slices by their ends.

    Attributes:
        end_s: how far it goes.
        links: names of all links.
    """

    end_s: float = 0.0
    instances: list[InstanceNote] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    pools: list[PoolHistory] = field(default_factory=list)
    programs: list[ProgramNote] = field(default_factory=list)
    stages: list[StageSlice] = field(default_factory=list)
    batches: list[BatchSlice] = field(default_factory=list)
    preemptions: list[Preemption] = field(default_factory=list)
    transfers: list[TransferNote] = field(default_factory=list)
    routes: list[RouteNote] = field(default_factory=list)
    placements: list[PlacementNote] = field(default_factory=list)
    figures: list[FiguresNote] = field(default_factory=list)
