"""Engines that write through by themselves: what lies in DRAM, and what a load brings back."""

from __future__ import annotations

from sim_helpers import scenario

from agentserve_gym.sim import KEEP, Restore, Route, RouteDecision, Simulation


class Alone:
    """One engine; what lies in DRAM is always loaded."""

    def decide(self, decision):
        return Route(0, restore=Restore.LOAD) if isinstance(decision, RouteDecision) else KEEP


def programs(count: int, turns: int = 3) -> list[dict]:
    last = {"new_input_tokens": 320, "output_tokens": 33}
    turn = {**last, "gap_s": 1.0}
    return [
        {
            "program_id": str(number),
            "arrival_s": 0.01 * number,
            "turns": [turn] * (turns - 1) + [last],
        }
        for number in range(count)
    ]


def simulate(count: int, kv_blocks: int, *, native: bool = True) -> Simulation:
    spec = scenario(
        programs(count),
        kv_blocks=kv_blocks,
        node={"dram": {"capacity_gib": 8.0}},
        engine={"native_offloading": native, "max_num_seqs": 8, "max_num_batched_tokens": 512},
    )
    simulation = Simulation(spec)
    decision = simulation.advance()
    policy = Alone()
    while decision is not None:
        decision = simulation.advance(policy.decide(decision))
    return simulation


def test_every_full_block_is_written_once_whatever_policies_place():
    simulation = simulate(2, kv_blocks=1000)
    tokens = 3 * (320 + 33) - 1
    written = 2 * (tokens // 16)
    assert simulation.residency.counters.offloaded_blocks[1] == written
    (dram,) = simulation.residency.lower_pools()
    assert dram.capacity - dram.free == written
    assert dram.held == 0
    moved = simulation.residency.topology.links["instance 0 d2h"].moved_bytes
    assert moved == written * simulation.residency.topology.block_bytes[0]
    assert simulate(2, kv_blocks=1000, native=False).residency.counters.offloaded_blocks[1] == 0


def test_nothing_waits_for_it():
    def ends(native: bool) -> list[float]:
        return list(simulate(3, kv_blocks=1000, native=native).metrics.e2e_s)

    assert ends(native=True) == ends(native=False)


def test_what_hbm_lost_comes_back():
    simulation = simulate(6, kv_blocks=90)
    assert simulation.engines[0].pool.evicted > 0
    assert simulation.residency.counters.loaded_blocks[1] > 0
    assert simulation.metrics.recomputed_tokens == 0
    alone = simulate(6, kv_blocks=90, native=False)
    assert alone.metrics.recomputed_tokens > 0


def test_what_is_written_through_holds_nothing_in_hbm():
    """A shortage preempts one turn, whose blocks then suffice: no more turns than without DRAM."""
    hosted, alone = simulate(8, kv_blocks=130), simulate(8, kv_blocks=130, native=False)
    assert 0 < hosted.engines[0].preemptions <= alone.engines[0].preemptions + 2
