"""What the page is told of runs: their records, in columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from math import isfinite
from typing import Any

from agentserve_gym.baselines import Scores
from agentserve_gym.messages import shown
from agentserve_gym.sim import Hold, Place, PlacementKind, Restore, Route
from agentserve_gym.sim.recording.history import (
    PlacementNote,
    PoolHistory,
    RouteNote,
    RunHistory,
    Stage,
)
from agentserve_gym.watch.packing import MICROSECONDS, Words, packed, packed_table, packed_times

STAGES = tuple(stage.value for stage in Stage)

HOLD = "hold"
THOUSANDTHS = 1000
"""Units of one in which scores are kept."""

_NO_SCORES = Scores({}, True)
_ROUTE, _PLACEMENT = 0, 1


@dataclass(frozen=True, slots=True)
class WatchedRun:
    """A run to look at.

    Attributes:
        policy: its name, as given.
        programs: how many root programs the workload has.
        history: what happened.
        route_scores, placement_scores: of each decision in the history, ``None`` where the policy
            has none.
    """

    policy: str
    programs: int
    history: RunHistory
    route_scores: Sequence[Scores | None]
    placement_scores: Sequence[Scores | None]


def contents(runs: Sequence[WatchedRun], about: Mapping[str, Any]) -> dict[str, Any]:
    """A document that JSON can hold: times in microseconds, scores in thousandths, blocks as
    counts. Every list of numbers is `packed`.

    Args:
        runs: of the same scenario and seed.
        about: what else the page shows of them.
    """
    words = Words()
    tables = [_run(run, words) for run in runs]
    return {**about, "stages": STAGES, "runs": tables, "words": words.all()}


def _run(run: WatchedRun, words: Words) -> dict[str, Any]:
    history = run.history
    return {
        "policy": run.policy,
        "programCount": run.programs,
        "end": round(history.end_s * MICROSECONDS),
        "instances": [note._asdict() for note in history.instances],
        "links": history.links,
        "pools": [_pool(pool) for pool in history.pools],
        "programs": [
            [note.index, note.program_id, note.agent_class, note.model, note.parent]
            for note in history.programs
        ],
        "slices": _stages(history),
        "batches": _batches(history),
        "preemptions": _preemptions(history),
        "transfers": _transfers(history, words),
        "decisions": _decisions(run, words),
        "figures": _figures(history),
    }


def _pool(pool: PoolHistory) -> dict[str, Any]:
    return {
        "name": pool.name,
        "tier": pool.tier,
        "instance": pool.instance,
        "capacity": pool.capacity_blocks,
        "blockBytes": pool.block_bytes,
        "time": packed_times(pool.time_s),
        "used": packed(pool.used_blocks),
        "held": packed(pool.held_blocks),
        "pinned": packed(pool.pinned_blocks),
    }


def _stages(history: RunHistory) -> dict[str, str]:
    """By program, then by time, so that a slice mostly begins where the one before ends."""
    slices = sorted(history.stages, key=lambda found: (found.program, found.start_s))
    number = {stage: index for index, stage in enumerate(Stage)}
    rows = [(found.program, found.turn, number[found.stage], found.instance) for found in slices]
    return {
        **packed_table(("program", "turn", "stage", "instance"), rows),
        "start": packed_times(found.start_s for found in slices),
        "end": packed_times(found.end_s for found in slices),
    }


def _batches(history: RunHistory) -> dict[str, str]:
    batches = sorted(history.batches, key=lambda batch: (batch.instance, batch.start_s))
    rows = [
        (
            batch.instance, batch.steps, batch.decoding, len(batch.chunks),
            sum(chunk.tokens for chunk in batch.chunks),
        )
        for batch in batches
    ]  # fmt: skip
    return {
        **packed_table(("instance", "steps", "decoding", "prefilling", "tokens"), rows),
        "start": packed_times(batch.start_s for batch in batches),
        "end": packed_times(batch.end_s for batch in batches),
    }


def _preemptions(history: RunHistory) -> dict[str, str]:
    rows = [(note.instance, note.program) for note in history.preemptions]
    times = packed_times(note.time_s for note in history.preemptions)
    return {"time": times, **packed_table(("instance", "program"), rows)}


def _transfers(history: RunHistory, words: Words) -> dict[str, str]:
    """A row for each passage over a link, by link and time."""
    links = {name: number for number, name in enumerate(history.links)}
    passages = sorted(
        (links[passage.link], passage.start_s, number)
        for number, transfer in enumerate(history.transfers)
        for passage in transfer.passages
    )
    rows, queued, starts, ends = [], [], [], []
    for link, start_s, number in passages:
        transfer = history.transfers[number]
        name = history.links[link]
        end_s = next(each.end_s for each in transfer.passages if each.link == name)
        kind = words.number(transfer.kind)
        rows.append((link, kind, transfer.program, round(transfer.size_bytes)))
        queued.append(transfer.queued_s)
        starts.append(start_s)
        ends.append(end_s)
    return {
        **packed_table(("link", "kind", "program", "bytes"), rows),
        "queued": packed_times(queued),
        "start": packed_times(starts),
        "end": packed_times(ends),
    }


def _figures(history: RunHistory) -> dict[str, str]:
    rows = [
        (
            note.programs_done, round(note.jct_sum_s * MICROSECONDS), note.prompt_tokens,
            note.hit_tokens, note.loaded_tokens,
        )
        for note in history.figures
    ]  # fmt: skip
    return {
        "time": packed_times(note.time_s for note in history.figures),
        **packed_table(("done", "jctSum", "prompt", "hit", "loaded"), rows),
    }


# --- decisions -----------------------------------------------------------------------------------


def _decisions(run: WatchedRun, words: Words) -> dict[str, str]:
    """Routes and placements by time. ``chosen`` is an option's name: an instance's number, hold, or
    a placement's; ``asked`` and ``details`` are words."""
    routes: Iterable[tuple[float, Sequence[int], Scores]] = (
        (note.time_s, _route(note, words), scores or _NO_SCORES)
        for note, scores in zip(run.history.routes, run.route_scores, strict=True)
    )
    placements: Iterable[tuple[float, Sequence[int], Scores]] = (
        (note.time_s, _placement(note, words), scores or _NO_SCORES)
        for note, scores in zip(run.history.placements, run.placement_scores, strict=True)
    )
    # A turn that ends is placed before others take what it frees.
    rows = list(merge(placements, routes, key=lambda row: row[0]))
    names = (
        "kind", "program", "turn", "instance", "tokens", "asked", "chosen", "details", "valid",
        "mayHold",
    )  # fmt: skip
    scores = [_finite(scores) for *_, scores in rows]
    return {
        "time": packed_times(time_s for time_s, *_ in rows),
        **packed_table(names, [row for _, row, _ in rows]),
        "scores": packed(len(each.of) for each in scores),
        "leastWins": packed(each.least_wins for each in scores),
        "option": packed(words.number(name) for each in scores for name in each.of),
        "score": packed(
            round(value * THOUSANDTHS) for each in scores for value in each.of.values()
        ),
    }


def _finite(scores: Scores) -> Scores:
    """Without what is infinitely bad or not a number."""
    of = {name: float(value) for name, value in scores.of.items() if isfinite(value)}
    return Scores(of, scores.least_wins)


def _route(note: RouteNote, words: Words) -> tuple[int, ...]:
    asked = f"offered {note.offers + 1} times" if note.offers else ""
    answer = note.answer
    parts: list[str] = []
    if not note.valid:
        parts = [f"invalid answer {shown(answer)}; the safe default was taken"]
    elif isinstance(answer, Route):
        parts = [f"priority {answer.priority:.4g}"] if answer.priority else []
        if answer.restore is not Restore.CHEAPEST:
            parts.append(f"restore: {answer.restore.value}")
        if answer.promote_after_s is not None:
            parts.append(f"to the front after {answer.promote_after_s:.3g} s")
    elif isinstance(answer, Hold):
        parts = [f"priority {answer.priority:.4g}"] if answer.priority else []
        parts += [f"lane {answer.lane}"] if answer.lane else []
    chosen = HOLD if note.instance < 0 else str(note.instance)
    return (
        _ROUTE, note.program, note.turn, note.instance, note.prompt_tokens, words.number(asked),
        words.number(chosen), words.number(", ".join(parts)), note.valid, note.may_hold,
    )  # fmt: skip


def _placement(note: PlacementNote, words: Words) -> tuple[int, ...]:
    tools = ", ".join(note.tool_kinds)
    asked = "a person reads and answers" if note.gap_kind == "user" else f"tools: {tools}"
    if note.gap_kind != "user" and not tools:
        asked = "tools that the trace does not name"
    if note.elapsed_s:
        asked += f"; asked again after {note.elapsed_s:.3g} s"
    answer = note.answer
    chosen, details = PlacementKind.KEEP.value, ""
    if not note.valid or not isinstance(answer, Place):
        details = f"invalid answer {shown(answer)}; kept instead"
    else:
        chosen = f"{answer.kind.value} {answer.tier}".rstrip()
        details = ", ".join(_place_details(answer))
    return (
        _PLACEMENT, note.program, note.turn, note.instance, note.context_tokens,
        words.number(asked), words.number(chosen), words.number(details), note.valid, 0,
    )  # fmt: skip


def _place_details(answer: Place) -> Iterable[str]:
    if answer.kind is PlacementKind.PIN:
        yield f"for {answer.ttl_s:.3g} s"
        if answer.until_admitted:
            yield "or until its turn is admitted"
    if answer.kind is PlacementKind.OFFLOAD:
        yield "its copy in HBM stays warm" if answer.stay_warm else "its copy in HBM goes first"
    if answer.rank:
        yield f"rank {answer.rank:.4g}"
    if answer.ask_again_s is not None:
        yield f"ask again after {answer.ask_again_s:.3g} s"
