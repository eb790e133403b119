"""Which tracks a run has: the router's decisions, instances, tiers, links and programs."""

from __future__ import annotations

from collections.abc import Iterable

from agentserve_gym.messages import shown
from agentserve_gym.sim import Hold, Place, PlacementKind, Route
from agentserve_gym.sim.recording.history import (
    NOBODY,
    BatchSlice,
    PlacementNote,
    PoolHistory,
    RouteNote,
    RunHistory,
    TransferNote,
)
from agentserve_gym.timeline.tracks import Timeline, Values, plain

_GIB = 1024**3


def lay_out(history: RunHistory, title: str) -> Timeline:
    """The timeline of a run.

    Args:
        history: of a run that is over.
        title: what run it is, in a line.
    """
    return _Layout(history, title).timeline


class _Layout:
    """A timeline, and what its parts call programs."""

    def __init__(self, history: RunHistory, title: str) -> None:
        self.timeline = Timeline(title)
        self._history = history
        self._names = {program.index: program.program_id for program in history.programs}
        self._add_decisions()
        self._add_instances()
        self._add_tiers()
        self._add_links()
        self._add_programs()

    def _turn(self, program: int, turn: int) -> dict[str, object]:
        """Whose turn something is about."""
        if program == NOBODY:
            return {}
        return {"program": self._names[program], "turn": turn}

    # --- decisions ---------------------------------------------------------------------------

    def _add_decisions(self) -> None:
        timeline, title = self.timeline, self.timeline.title
        group = timeline.track("decisions", description=title)
        routes = timeline.track("routes", group, description="where does the turn run?")
        for route in self._history.routes:
            name = _route_name(route)
            timeline.instant(routes, name, "decision", route.time_s, self._route_values(route))
        placements = timeline.track("placements", group, description="where does the KV wait?")
        for place in self._history.placements:
            name = _placement_name(place)
            values = self._placement_values(place)
            timeline.instant(placements, name, "decision", place.time_s, values)

    def _route_values(self, note: RouteNote) -> Values:
        values = self._turn(note.program, note.turn) | {
            "prompt_tokens": note.prompt_tokens,
            "offers": note.offers,
            "may_hold": note.may_hold,
            "instance": note.instance if note.instance != NOBODY else None,
        }
        answer = note.answer
        if not note.valid:
            values["invalid_answer"] = shown(answer)
        elif isinstance(answer, Route):
            values |= {
                "priority": answer.priority,
                "restore": answer.restore.value,
                "promote_after_s": answer.promote_after_s,
            }
        elif isinstance(answer, Hold):
            values |= {"priority": answer.priority, "lane": answer.lane}
        return plain(values)

    def _placement_values(self, note: PlacementNote) -> Values:
        values = self._turn(note.program, note.turn) | {
            "instance": note.instance,
            "context_tokens": note.context_tokens,
            "gap_kind": note.gap_kind,
            "tools": ", ".join(note.tool_kinds) or None,
            "elapsed_s": note.elapsed_s,
        }
        answer = note.answer
        if not note.valid:
            values["invalid_answer"] = shown(answer)
        elif isinstance(answer, Place):
            values |= {"rank": answer.rank, "ask_again_s": answer.ask_again_s}
            if answer.kind is PlacementKind.PIN:
                values |= {"ttl_s": answer.ttl_s, "until_admitted": answer.until_admitted}
            elif answer.kind is PlacementKind.OFFLOAD:
                values |= {"tier": answer.tier, "stay_warm": answer.stay_warm}
        return plain(values)

    # --- instances and tiers -----------------------------------------------------------------

    def _add_instances(self) -> None:
        timeline, history = self.timeline, self._history
        group = timeline.track("instances")
        hbm = {pool.instance: pool for pool in history.pools if pool.instance != NOBODY}
        steps: list[int] = []
        for index, instance in enumerate(history.instances):
            gpus = f"{instance.tensor_parallel} x {instance.accelerator}"
            about = f"{instance.model} on {gpus}, node {instance.node}"
            steps.append(timeline.track(f"instance {index} steps", group, description=about))
            self._add_hbm(group, f"instance {index} HBM", hbm[index])
        for batch in history.batches:
            values = self._batch_values(batch)
            timeline.slice(
                steps[batch.instance], _batch_name(batch), "steps", batch.start_s, batch.end_s,
                values,
            )  # fmt: skip
        for preemption in history.preemptions:
            turn = plain(self._turn(preemption.program, preemption.turn))
            track = steps[preemption.instance]
            timeline.instant(track, "preemption", "preemption", preemption.time_s, turn)

    def _batch_values(self, batch: BatchSlice) -> Values:
        chunks = [f"{self._names[chunk.program]}: {chunk.tokens}" for chunk in batch.chunks]
        return plain(
            {
                "steps": batch.steps,
                "decoding_turns": batch.decoding,
                "prefilling_turns": len(chunks),
                "prefill_tokens": batch.steps * sum(chunk.tokens for chunk in batch.chunks),
                "tokens_of_a_step": ", ".join(chunks) or None,
            }
        )

    def _add_hbm(self, group: int, name: str, pool: PoolHistory) -> None:
        used, held, pinned = pool.used_blocks, pool.held_blocks, pool.pinned_blocks
        in_use = [all_held - pins for all_held, pins in zip(held, pinned, strict=True)]
        cached = [all_used - all_held for all_used, all_held in zip(used, held, strict=True)]
        self._add_counter(group, f"{name} in use", pool, in_use)
        self._add_counter(group, f"{name} pinned", pool, pinned)
        self._add_counter(group, f"{name} cached", pool, cached)

    def _add_tiers(self) -> None:
        pools = [pool for pool in self._history.pools if pool.instance == NOBODY]
        if not pools:
            return
        group = self.timeline.track("tiers")
        for pool in pools:
            self._add_counter(group, f"{pool.name} used", pool, pool.used_blocks)

    def _add_counter(self, group: int, name: str, pool: PoolHistory, blocks: Iterable[int]) -> None:
        size = pool.block_bytes
        about = f"of {pool.capacity_blocks * size / _GIB:.1f} GiB"
        track = self.timeline.track(name, group, description=about, unit="bytes")
        self.timeline.counter(track, pool.time_s, [count * size for count in blocks])

    # --- links and programs ------------------------------------------------------------------

    def _add_links(self) -> None:
        timeline = self.timeline
        group = timeline.track("links")
        tracks = {name: timeline.track(name, group) for name in self._history.links}
        for number, transfer in enumerate(self._history.transfers):
            values = self._transfer_values(transfer, number)
            for passage in transfer.passages:
                timeline.slice(
                    tracks[passage.link], transfer.kind, "transfer", passage.start_s,
                    passage.end_s, values,
                )  # fmt: skip

    def _transfer_values(self, transfer: TransferNote, number: int) -> Values:
        return plain(
            self._turn(transfer.program, transfer.turn)
            | {
                "transfer": number,
                "bytes": round(transfer.size_bytes),
                "from": transfer.source or None,
                "to": transfer.destination or None,
                "queued_s": transfer.queued_s,
                "arrives_s": transfer.arrives_s,
            }
        )

    def _add_programs(self) -> None:
        timeline = self.timeline
        group = timeline.track("programs")
        tracks: dict[int, int] = {}
        for program in self._history.programs:
            above = tracks.get(program.parent, group)
            about = f"{program.agent_class}, {program.model}"
            tracks[program.index] = timeline.track(program.program_id, above, description=about)
        for found in self._history.stages:
            instance = found.instance if found.instance != NOBODY else None
            values = plain({"turn": found.turn, "instance": instance})
            timeline.slice(
                tracks[found.program], found.stage.value, "program", found.start_s, found.end_s,
                values,
            )  # fmt: skip


def _route_name(note: RouteNote) -> str:
    name = "hold" if note.instance == NOBODY else f"route to {note.instance}"
    return name if note.valid else f"invalid: {name}"


def _placement_name(note: PlacementNote) -> str:
    answer = note.answer
    if not note.valid or not isinstance(answer, Place):
        return "invalid: keep"
    return f"{answer.kind.value} {answer.tier}".rstrip()


def _batch_name(batch: BatchSlice) -> str:
    parts = ["prefill"] if batch.chunks else []
    parts += ["decode"] if batch.decoding else []
    return " + ".join(parts) or "waits for its group"
