"""What policies see of instances: live, or as it was ``signal_delay_s`` ago."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from sim_helpers import Chooser, LinearLatency, drive, program, scenario, simulate, watch

from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    Load,
    Route,
    RouteDecision,
    Simulation,
)
from agentserve_gym.sim.signals import read_load

SECOND = LinearLatency(1.0)
PLAIN = {"async_scheduling": False}


def delayed(delay_s: float, fused: bool = True, instances: int = 2) -> Simulation:
    programs = [
        program((160, 20, 7.3), (20, 9, 3.1), (30, 5), program_id=f"p{i}", arrival_s=2.13 * i)
        for i in range(6)
    ]
    return simulate(
        scenario(
            programs,
            instances=instances,
            kv_blocks=40,
            engine=PLAIN,
            router={"signal_delay_s": delay_s},
        ),
        SECOND,
        fused=fused,
    )


def test_live_signals_show_the_engine_as_it_is() -> None:
    simulation = delayed(0.0)

    def check(simulation: Simulation) -> None:
        for view, engine in zip(simulation.cluster.instances, simulation.engines, strict=True):
            load = view.load()
            assert load == read_load(engine)
            assert load.turns == view.sent_turns
            assert load.queued_turns == len(engine.queue.turns)
            assert load.running_turns == len(engine.running)
            used = sum(entry.blocks for entry in engine.pool.entries.values())
            assert load.free_blocks + load.cached_blocks <= engine.pool.capacity
            assert used <= engine.pool.capacity - load.free_blocks

    drive(simulation, Chooser(1, 2), check)


def test_decoding_contexts_grow_inside_a_fused_run() -> None:
    simulation = simulate(
        scenario([program((100, 50)), program((10, 1), arrival_s=20.5)], instances=2, engine=PLAIN),
        SECOND,
    )
    simulation.advance()
    decision = simulation.advance(Route(0))
    assert simulation.now_s == 20.5
    assert isinstance(decision, RouteDecision)
    # Prefill ends at 1; nineteen decode steps have ended by 20 and the twentieth runs: it attends
    # 100 + 20 tokens, whose eighth block is in use.
    load = decision.cluster.instances[0].load()
    assert load.context_tokens == 120
    assert load.free_blocks == 1000 - 8


class Recorder:
    """Keeps what every instance looked like between events, to compare late signals with."""

    def __init__(self, simulation: Simulation) -> None:
        self.times: list[float] = []
        self.loads: list[list[Load]] = []

        def recorded(step: Callable[[], None]) -> None:
            self.times.append(simulation.now_s)
            self.loads.append([read_load(engine) for engine in simulation.engines])
            step()

        watch(simulation, recorded)

    def at(self, time_s: float) -> list[Load]:
        return self.loads[max(bisect_right(self.times, time_s) - 1, 0)]


def test_late_signals_never_show_the_present_early() -> None:
    """Nothing is seen before the delay is over, and the router's own counters are never late."""
    simulation = delayed(1000.0)

    def decide(decision: Decision) -> Answer:
        for view in decision.cluster.instances:
            load = view.load()
            assert load.turns == 0
            assert load.free_blocks == 40
            assert view.signals.cached_blocks(decision.program, 100) == 0
        return Route(0) if isinstance(decision, RouteDecision) else KEEP

    drive(simulation, decide)
    sent = simulation.cluster.instances[0]
    assert sent.sent_turns == 0
    assert simulation.report()["turns"] == 18


def test_late_signals_show_what_was() -> None:
    delay_s = 0.0537
    simulation = delayed(delay_s)
    recorder = Recorder(simulation)
    chooser = Chooser(3, 2)

    def decide(decision: Decision) -> Answer:
        if decision.time_s > delay_s:
            then = recorder.at(decision.time_s - delay_s)
            for view, load in zip(decision.cluster.instances, then, strict=True):
                seen = view.load()
                assert seen.queued_turns == load.queued_turns
                assert seen.running_turns == load.running_turns
                assert seen.queued_tokens == load.queued_tokens
        return chooser(decision)

    drive(simulation, decide)


def test_a_late_view_of_a_cache_follows_it() -> None:
    """160 tokens are computed at 1 s and cached when the turn ends, at 2 s."""
    simulation = simulate(
        scenario(
            [
                program((160, 2, 9.0), (10, 1), program_id="a"),
                program((10, 1), program_id="early", arrival_s=4.9),
                program((10, 1), program_id="late", arrival_s=5.1),
            ],
            engine=PLAIN,
            router={"signal_delay_s": 3.0},
        ),
        SECOND,
    )
    seen: dict[str, int] = {}

    def decide(decision: Decision) -> Answer:
        a = decision.cluster.programs.get(0)
        if isinstance(decision, RouteDecision) and a is not None:
            signals = decision.cluster.instances[0].signals
            seen[decision.program.program_id] = signals.cached_blocks(a, 100)
        return Route(0) if isinstance(decision, RouteDecision) else KEEP

    drive(simulation, decide)
    assert (seen["early"], seen["late"]) == (0, 10)


def evicted_seen(fused: bool) -> int:
    """a leaves 10 blocks at 1 s; b's decoding eats into them, block by block, from 2 s to 200 s."""
    simulation = simulate(
        scenario(
            [
                program((160, 1, 300.0), (10, 1), program_id="a"),
                program((16, 190), program_id="b", arrival_s=1.5),
                program((10, 1), program_id="probe", arrival_s=150.3),
            ],
            kv_blocks=16,
            engine=PLAIN,
            router={"signal_delay_s": 30.0},
        ),
        SECOND,
        fused=fused,
    )
    seen: list[int] = []

    def decide(decision: Decision) -> Answer:
        if isinstance(decision, RouteDecision) and decision.program.program_id == "probe":
            a = decision.cluster.programs[0]
            seen.append(decision.cluster.instances[0].signals.cached_blocks(a, 100))
        return Route(0) if isinstance(decision, RouteDecision) else KEEP

    drive(simulation, decide)
    return seen[0]


def test_a_late_view_of_a_cache_knows_of_evictions_step_by_step() -> None:
    # At 120.3 b has computed 134 tokens and runs the next step: 9 blocks, 6 of which were free.
    assert evicted_seen(fused=False) == 7


def test_a_late_view_is_the_same_with_fused_steps() -> None:
    assert evicted_seen(fused=True) == evicted_seen(fused=False)


def test_estimates_know_of_hbm_no_more_than_the_signals_do() -> None:
    simulation = delayed(50.0)
    seen = []

    def check(simulation: Simulation) -> None:
        decision = simulation.pending
        if not isinstance(decision, RouteDecision) or decision.program.home < 0:
            return
        cluster, turn, home = decision.cluster, decision.turn, decision.program.home
        live = simulation.residency.hbm_blocks(turn, home)
        if live == 0 or cluster.instances[home].cached_tokens(turn):
            return
        everything = simulation.engines[home].prefill_s(turn.prompt_tokens, 0)
        assert cluster.first_token_s(turn, home, None) == everything
        assert cluster.restorables(turn, 1 - home) == []
        seen.append(live)

    drive(simulation, Chooser(1, 2), check)
    assert seen
