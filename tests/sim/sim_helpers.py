"""Shared by the tests of the simulation: small scenarios, stub latencies, policies and audits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest.mock import patch

from agentserve_gym.hardware import BatchStep, DecodeRun
from agentserve_gym.hardware.pricing.timing import UNBOUNDED_STEPS, LatencyModel
from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Hold,
    Phase,
    Place,
    PlacementDecision,
    PlacementKind,
    Restore,
    Route,
    RouteDecision,
    Scenario,
    Simulation,
    construction,
    load_scenario,
    offload,
)
from agentserve_gym.sim.kernel.arc import ArcPool
from agentserve_gym.sim.kernel.engine import Engine
from agentserve_gym.sim.kernel.events import Clock
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.sim.kernel.programs import ProgramState
from agentserve_gym.sim.kernel.randomness import mix, uniform


class LinearLatency(LatencyModel):
    """A stub: every step takes ``base_s`` plus a fixed time per decode, chunk and context token."""

    def __init__(
        self,
        base_s: float = 1.0,
        per_prefill_token_s: float = 0.0,
        per_decode_s: float = 0.0,
        per_context_token_s: float = 0.0,
    ) -> None:
        self.base_s = base_s
        self.per_prefill_token_s = per_prefill_token_s
        self.per_decode_s = per_decode_s
        self.per_context_token_s = per_context_token_s

    def step_s(self, step: BatchStep) -> float:
        if not (step.decode_count or step.prefill_tokens):
            return 0.0
        return (
            self.base_s
            + self.per_prefill_token_s * step.prefill_tokens
            + self.per_decode_s * step.decode_count
            + self.per_context_token_s * step.decode_context_tokens
        )

    def decode_run(self, step: BatchStep) -> DecodeRun:
        growth = self.per_context_token_s * step.decode_count
        return DecodeRun(self.step_s(step), growth, UNBOUNDED_STEPS)


def scenario(
    programs: Sequence[dict[str, Any]],
    *,
    instances: int = 1,
    kv_blocks: int = 1000,
    arrivals: dict[str, Any] | None = None,
    model: str = "llama-3.1-8b",
    accelerator: str = "rtx-4090",
    node: dict[str, Any] | None = None,
    cluster: dict[str, Any] | None = None,
    **parts: Any,
) -> Scenario:
    """A one-node scenario with the given programs; arrivals come from the programs by default."""
    spec = {"accelerator": accelerator, "count": instances, "kv_blocks": kv_blocks}
    return load_scenario(
        {
            "name": "test",
            "cluster": {
                "model": model,
                "nodes": [{"name": "n0", "instances": [spec], **(node or {})}],
                **(cluster or {}),
            },
            "workload": {"kind": "inline", "programs": list(programs)},
            "arrivals": arrivals or {"kind": "trace"},
            **parts,
        }
    )


def program(
    *turns: tuple[int, int] | tuple[int, int, float],
    arrival_s: float = 0.0,
    prefix: Sequence[tuple[str, int]] = (),
    **more: Any,
) -> dict[str, Any]:
    """An inline program from (new input tokens, output tokens[, gap])."""
    return {
        "arrival_s": arrival_s,
        "prefix": [{"key": key, "tokens": tokens} for key, tokens in prefix],
        "turns": [
            {
                "new_input_tokens": turn[0],
                "output_tokens": turn[1],
                **({"gap_s": turn[2]} if len(turn) > 2 else {}),
            }
            for turn in turns
        ],
        **more,
    }


class WatchedClock(Clock):
    """A clock that does more at every event, if asked: ``around(step)`` lets it happen by calling
    ``step``."""

    def __init__(self) -> None:
        super().__init__()
        self.around: Callable[[Callable[[], None]], None] | None = None

    def step(self) -> None:
        if self.around is None:
            super().step()
        else:
            self.around(super().step)


def watch(simulation: Simulation, around: Callable[[Callable[[], None]], None]) -> None:
    """Do more at every event of a simulation that `simulate` has built."""
    assert isinstance(simulation.clock, WatchedClock)
    simulation.clock.around = around


def simulate(
    scenario: Scenario,
    latency: object | None = None,
    *,
    seed: int = 0,
    fused: bool = True,
) -> Simulation:
    """A simulation that keeps turn records, with every engine's latency replaced if asked."""

    def build() -> Simulation:
        return Simulation(scenario, seed, fused=fused, record_turns=True, clock=WatchedClock())

    if latency is None:
        return build()
    with patch.object(construction, "latency_model", lambda *_, **__: latency):
        return build()


Decide = Callable[[Decision], Answer]


def drive(
    simulation: Simulation,
    decide: Decide | None = None,
    check: Callable[[Simulation], None] | None = None,
) -> Simulation:
    """Answer every decision; ``check`` runs after every event and every answer."""
    decide = decide or home_or_first
    if check is not None:
        _check_every_event(simulation, check)
    decision = simulation.advance()
    while decision is not None:
        decision = simulation.advance(decide(decision))
        if check is not None:
            check(simulation)
    return simulation


def _check_every_event(simulation: Simulation, check: Callable[[Simulation], None]) -> None:
    clock = simulation.clock

    def checked(step: Callable[[], None]) -> None:
        before_s = clock.time_s
        step()
        assert clock.time_s >= before_s
        check(simulation)

    watch(simulation, checked)


def home_or_first(decision: Decision) -> Answer:
    """Session affinity on instance 0, and LRU."""
    if isinstance(decision, RouteDecision):
        return Route(max(decision.program.home, 0))
    return KEEP


def on_instances(
    where: Callable[[RouteDecision], int],
    place: Callable[[PlacementDecision], Place] | None = None,
    restore: Restore = Restore.CHEAPEST,
) -> Decide:
    """A policy from a routing rule and, if given, a placement rule."""

    def decide(decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision):
            return Route(where(decision), restore=restore)
        return place(decision) if place is not None else KEEP

    return decide


class Chooser:
    """A random policy whose answer depends only on who asks and how often, not on timing."""

    def __init__(
        self,
        seed: int,
        instances: int,
        *,
        invalid: float = 0.0,
        hold: float = 0.0,
        kinds: Sequence[PlacementKind] = tuple(PlacementKind),
        ranks: bool = True,
    ) -> None:
        self.seed = seed
        self.instances = instances
        self.invalid = invalid
        self.hold = hold
        self.kinds = list(kinds)
        self.ranks = ranks

    def __call__(self, decision: Decision) -> Answer:
        who, asked = decision.program, decision.program.turns_done
        if isinstance(decision, RouteDecision):
            draws = self._draws(who, asked, 0, min(decision.offers, 3))
            return self._route(draws, decision)
        return self._place(
            self._draws(who, asked, 1, int(decision.elapsed_s > 0)), decision.cluster.tiers
        )

    def _draws(self, who: ProgramState, *parts: int) -> Callable[[int], float]:
        identity = mix(self.seed, who.stream, *parts)
        return lambda number: uniform(identity, number)

    def _route(self, draw: Callable[[int], float], decision: RouteDecision) -> Answer:
        serving = [view.index for view in decision.instances]
        others = [view.index for view in decision.cluster.instances if view.index not in serving]
        if draw(0) < self.invalid:
            wrong: list[Any] = [
                Route(-1),
                Route(self.instances),
                Route(10**9),
                KEEP,
                "x",
                7,
                Hold(),
                *map(Route, others),
            ]
            return wrong[int(draw(1) * len(wrong))]  # type: ignore[no-any-return]
        if draw(2) < self.hold:
            return Hold(float(int(draw(6) * 2)), int(draw(7) * 2))
        priority = float(int(draw(3) * 3))
        restore = list(Restore)[int(draw(5) * 3)]
        promote = draw(8) if draw(9) < 0.2 else None
        return Route(serving[int(draw(4) * len(serving))], priority, restore, promote)

    def _place(self, draw: Callable[[int], float], tiers: Sequence[str]) -> Answer:
        if draw(0) < self.invalid:
            nan = float("nan")
            wrong: list[Any] = [
                Place(PlacementKind.PIN, 0.0), Place(PlacementKind.PIN, nan),
                Place(PlacementKind.KEEP, ask_again_s=-1.0), offload("cxl"), Hold(),
                Route(0), None.__class__, offload("dram"), Place(PlacementKind.PIN, -3.0),
            ]  # fmt: skip
            return wrong[int(draw(1) * len(wrong))]  # type: ignore[no-any-return]
        kind = self.kinds[int(draw(2) * len(self.kinds))]
        again = 0.05 + draw(3) if draw(4) < 0.2 else None
        rank = round(4 * draw(7) - 2) if self.ranks and draw(8) < 0.3 else 0.0
        tier = tiers[int(draw(10) * len(tiers))] if tiers else ""
        return Place(kind, 0.01 + 3 * draw(5) ** 2, draw(6) < 0.5, again, rank, draw(9) < 0.3, tier)


# --- audits ----------------------------------------------------------------------------------


def entry_blocks(pool: BlockPool) -> int:
    return sum(entry.blocks for entry in pool.entries.values())


def turns_in(engine: Engine) -> Iterator[Any]:
    """Every turn that owns blocks on an engine, once."""
    seen: dict[int, Any] = {}
    for turn in (
        *engine.running.values(), *engine.queue.loading.values(), *engine._finishing,
        *engine.queue.turns,
    ):  # fmt: skip
        seen[turn.sequence] = turn
    yield from seen.values()


def private_blocks(engine: Engine) -> int:
    """Blocks that only one turn owns, counting those that decoding added."""
    size, footprint = engine.limits.block_size_tokens, engine.limits.footprint
    besides = footprint.windows + footprint.states
    total = 0
    batch = engine.batch
    for turn in turns_in(engine):
        if turn.sequence in batch.turns:
            computed = turn.target_tokens + batch.allocated_step - turn.decode_start
            total += -(-computed // size) + besides - turn.hit_blocks
        else:
            total += turn.private_blocks
    return total


def in_flight(simulation: Simulation, pool: BlockPool) -> int:
    """Blocks that transfers on their way have taken in a pool."""
    events = [event for *_, event in simulation.clock._queue]
    return sum(getattr(e, "taken", 0) for e in events if getattr(e, "destination", None) is pool)


def audit(simulation: Simulation) -> None:
    """Recompute every pool's accounts from entries, turns and transfers."""
    for engine in simulation.engines:
        _audit_pool(engine.pool, private_blocks(engine) + in_flight(simulation, engine.pool))
        assert engine.queue.uncached_tokens == sum(
            turn.uncached_tokens for turn in engine.queue.turns
        )
        assert len(engine.running) == len(engine.prefilling) + len(engine.batch)
        assert len(engine.running) <= engine.limits.max_num_seqs
    for pool in simulation.residency.lower_pools():
        audit_tier(pool, in_flight(simulation, pool))


def _audit_pool(pool: BlockPool, private: int) -> None:
    name = pool.name
    assert pool.free >= 0, (name, pool.free)
    assert pool.cached >= 0, (name, pool.cached)
    assert private >= 0, (name, private)
    assert pool.held >= 0, (name, pool.held)
    assert pool.free + pool.cached + pool.held == pool.capacity
    unheld = [entry for entry in pool.entries.values() if entry.holds == 0]
    assert all(entry.holds >= 0 and entry.blocks >= 0 for entry in pool.entries.values())
    assert pool.cached == sum(entry.blocks + entry.stale for entry in pool.lru.values()), name
    assert all(pool.lru[entry.slot] is entry for entry in unheld), name
    left = [entry for entry in pool.lru.values() if pool.entries.get(entry.key) is not entry]
    assert all(entry.blocks == 0 and entry.stale > 0 for entry in left), name
    assert not any(entry.stale for entry in pool.entries.values() if entry.holds), name
    held = entry_blocks(pool) - sum(entry.blocks for entry in unheld)
    assert pool.held == held + private, (name, pool.held, held, private)
    assert set(pool.pins) <= set(pool.entries), name


def audit_tier(pool: BlockPool, private: int) -> None:
    """Recompute the accounts of a tier's pool, in LRU order or not."""
    assert min(pool.free, pool.cached, pool.held) >= 0, pool.name
    assert all(entry.holds >= 0 and entry.blocks >= 0 for entry in pool.entries.values())
    if isinstance(pool, ArcPool):
        assert pool.accounts_agree()
        return
    entries = pool.entries.values()
    assert all(pool.lru[entry.slot] is entry for entry in entries), pool.name
    stale = sum(entry.stale for entry in pool.lru.values())
    assert pool.cached == stale + sum(e.blocks for e in entries if e.holds == 0), pool.name
    assert pool.held == private + sum(e.blocks for e in entries if e.holds), pool.name


def jct_parts(simulation: Simulation) -> float:
    """The sum of all phases over finished root programs."""
    return sum(simulation.metrics.phase_s[phase] for phase in Phase)
