"""Clusters that serve several models: who may serve whom, and whose KV lies where."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sim_helpers import Chooser, drive, on_instances, program, scenario, simulate
from sim_strategies import scenarios

from agentserve_gym.hardware import model
from agentserve_gym.sim import (
    Decision,
    Route,
    RouteDecision,
    Scenario,
    Simulation,
    load_scenario,
    offload,
)
from agentserve_gym.sim.instances import list_instances
from agentserve_gym.sim.kernel.pools import BlockPool
from agentserve_gym.workloads import Program, Turn, write_programs

LARGE, SMALL = "llama-3.1-70b", "llama-3.1-8b"
GIB = 1024**3


def instance(of: str | None = None, **more: Any) -> dict[str, Any]:
    return {"accelerator": "h100-sxm", "kv_blocks": 1000, "model": of, **more}


def mixed(
    programs: list[dict[str, Any]],
    *instances: dict[str, Any],
    node: dict[str, Any] | None = None,
    **cluster: Any,
) -> Scenario:
    """One node whose instances serve LARGE (0, the default) and SMALL (1), or what is given."""
    served = list(instances) or [instance(tensor_parallel=4), instance(SMALL)]
    parts = {"instances": served, **(node or {})}
    return scenario(programs, model=LARGE, node=parts, cluster=cluster)


def pools_of(simulation: Simulation, tier: str) -> list[BlockPool | None]:
    topology = simulation.residency.topology
    return topology.tiers[topology.number_of(tier) - 1].pool_of


def offered(simulation: Simulation) -> dict[str, list[int]]:
    """The instances offered to each program, every turn the same, on the first of them."""
    seen: dict[str, list[int]] = {}

    def first(decision: RouteDecision) -> int:
        serving = [view.index for view in decision.instances]
        assert seen.setdefault(decision.program.program_id, serving) == serving
        return serving[0]

    drive(simulation, on_instances(first))
    return seen


# --- routing --------------------------------------------------------------------------------------


def test_a_program_is_offered_the_instances_of_its_model() -> None:
    programs = [
        program((100, 5, 1.0), (50, 5), program_id="plain"),
        program((100, 5, 1.0), (50, 5), program_id="small", model=SMALL),
        program((100, 5), program_id="large", model=LARGE),
    ]
    served = [instance(SMALL, count=2), instance(tensor_parallel=4), instance(SMALL)]
    seen = offered(simulate(mixed(programs, *served)))
    assert seen == {"plain": [2], "small": [0, 1, 3], "large": [2]}


def test_a_sub_agent_inherits_its_parents_model_unless_it_names_one() -> None:
    turns = [{"new_input_tokens": 30, "output_tokens": 3}]
    heir = {"program_id": "heir", "turns": turns}
    own = {"program_id": "own", "turns": turns, "model": LARGE}
    parent = program((100, 5), (50, 5), program_id="parent", model=SMALL)
    parent["turns"][0]["children"] = [heir, own]
    assert offered(simulate(mixed([parent]))) == {"parent": [1], "heir": [1], "own": [0]}


def test_a_route_to_another_model_falls_back_to_the_least_loaded_that_serves_it() -> None:
    simulation = Simulation(
        mixed(
            [program((100, 5, 1.0), (50, 5), model=SMALL) for _ in range(2)],
            instance(tensor_parallel=4),
            instance(SMALL, count=2),
        )
    )
    homes: list[int] = []

    def wrong(decision: Decision) -> Any:
        if isinstance(decision, RouteDecision):
            assert not decision.cluster.serves(0, decision.program)
            homes.append(decision.program.home)
            return Route(0)
        return offload("dram")  # there is none, so that this is invalid too

    drive(simulation, wrong)
    report = simulation.report()
    assert report["invalid_answers"] == 4 + 2
    assert homes[:2] == [-1, -1]
    assert sorted(homes[2:]) == [1, 2], "first the idlest that serves it, later its home"
    assert report["busy_s"][0] == 0.0


def test_models_do_not_disturb_each_other_where_they_share_nothing() -> None:
    """Programs of one model take as long as in a cluster of their own, to the last bit."""
    own = [program((900, 40, 0.3), (300, 30), arrival_s=0.1 * i, model=SMALL) for i in range(4)]
    other = [program((700, 60, 0.2), (200, 20), arrival_s=0.13 * i) for i in range(5)]
    for i, one in enumerate([*own, *other]):
        one["program_id"] = f"p{i}"

    def times(
        programs: list[dict[str, Any]], *instances: dict[str, Any], of: str
    ) -> dict[str, Any]:
        config = scenario(programs, model=of, node={"instances": list(instances)})
        simulation = drive(
            simulate(config), on_instances(lambda decision: decision.instances[0].index)
        )
        return {
            record.program_id: (record.ready_s, record.first_token_s, record.end_s)
            for record in simulation.metrics.records or ()
        }

    large, small = instance(tensor_parallel=4, model=LARGE), instance(SMALL)
    together = times([*own, *other], large, small, of=LARGE)
    assert together == times(own, small, of=SMALL) | times(other, large, of=LARGE)


def test_the_ideal_time_is_that_of_the_instances_that_serve_the_model() -> None:
    child = {"turns": [{"new_input_tokens": 500, "output_tokens": 200}], "model": SMALL}
    parent = program((800, 30), (50, 20), model=LARGE)
    parent["turns"][0]["children"] = [child]
    simulation = Simulation(mixed([parent, program((800, 30), model=SMALL)]))
    plans = [simulation.workload.program(number) for number in range(2)]
    (started,) = plans[0].turns[0].children

    def alone_s(of: str, plan: Program) -> float:
        spec = instance(of, tensor_parallel=4 if of == LARGE else 1)
        config = scenario([program((1, 1))], model=of, node={"instances": [spec]})
        return Simulation(config).ideal.jct_s(plan)

    def without_children(plan: Program) -> Program:
        first, last = plan.turns
        return Program("x", "x", (first._replace(children=()), last), model=plan.model)

    ideal = simulation.ideal
    assert ideal.jct_s(plans[1]) == alone_s(SMALL, plans[1])
    assert ideal.jct_s(plans[1]) < alone_s(LARGE, Program("x", "x", plans[1].turns))
    assert ideal.jct_s(plans[0]) == pytest.approx(
        alone_s(LARGE, without_children(plans[0])) + alone_s(SMALL, started)
    )


# --- KV -------------------------------------------------------------------------------------------


def test_a_memory_is_divided_by_the_gpus_that_serve_each_model() -> None:
    simulation = Simulation(
        mixed(
            [program((10, 1))],
            instance(tensor_parallel=4),
            instance(SMALL, tensor_parallel=2, count=2),
            instance(SMALL, tensor_parallel=8),
            node={"dram": {"capacity_gib": 32.0}},
        )
    )
    large, *small = pools_of(simulation, "dram")
    assert large is not None
    assert small[0] is small[1] is small[2]
    assert small[0] is not None
    assert large.capacity == 32 * GIB * 4 / 16 // (16 * model(LARGE).kv_bytes_per_token)
    assert small[0].capacity == 32 * GIB * 12 / 16 // (16 * model(SMALL).kv_bytes_per_token)
    assert (large.name, small[0].name) == (f"n0 dram {LARGE}", f"n0 dram {SMALL}")
    links = simulation.residency.topology.links
    assert sum(name.startswith("n0 dram") for name in links) == 2, "both use one link each way"


def test_a_shared_tier_is_divided_over_all_nodes_and_others_by_node() -> None:
    tier = {"capacity_gib": 24.0, "read_gbps": 9.0, "write_gbps": 9.0}
    cluster = {
        "model": LARGE,
        "nodes": [
            {"name": "a", "instances": [instance(tensor_parallel=4)]},
            {"name": "b", "instances": [instance(tensor_parallel=2), instance(SMALL, count=2)]},
        ],
        "cxl": {"nodes": ["b"], "capacity_gib": 24.0, "bandwidth_gbps": 9.0},
        "tiers": [
            {"name": "ssd", **tier},
            {"name": "far", "shared": True, **tier},
        ],
    }
    config = scenario([program((10, 1))]).model_dump() | {"cluster": cluster}
    simulation = Simulation(load_scenario(config))

    def shares(tier: str) -> list[float]:
        sizes = simulation.residency.topology.block_bytes
        return [
            round(pool.capacity * size / GIB, 1) if pool is not None else 0.0
            for pool, size in zip(pools_of(simulation, tier), sizes, strict=True)
        ]

    assert shares("cxl") == [0.0, 12.0, 12.0, 12.0]
    assert shares("ssd") == [24.0, 12.0, 12.0, 12.0]
    assert shares("far") == [18.0, 18.0, 6.0, 6.0]
    far = pools_of(simulation, "far")
    assert far[0] is far[1]
    assert far[2] is far[3]


def test_a_share_of_less_than_a_block_is_refused() -> None:
    config = mixed([program((10, 1))], node={"dram": {"capacity_gib": 0.005}})
    with pytest.raises(ValueError, match=rf"n0.dram.*0\.005, of which {LARGE} has 80%: less than"):
        Simulation(config)


def test_blocks_of_each_model_have_their_own_bytes() -> None:
    """Both offload and load the same tokens; what moves differs as the models' KV does."""
    moved: dict[str, float] = {}
    for of in (LARGE, SMALL):
        config = mixed(
            [program((1600, 16, 60.0), (16, 1), model=of)],
            node={"dram": {"capacity_gib": 32.0}},
        )
        report = drive(
            simulate(config),
            on_instances(lambda one: one.instances[0].index, lambda _: offload("dram")),
        ).report()
        blocks = report["residency"]["offloaded_blocks"]["dram"]
        moved[of] = report["residency"]["offloaded_bytes"]
        assert blocks == 100
        assert report["moved_bytes"]["n0 dram write"] == moved[of]
        assert moved[of] == 100 * 16 * model(of).kv_bytes_per_token
    assert moved[LARGE] == 2.5 * moved[SMALL]


def test_kv_does_not_move_between_models() -> None:
    served = [instance(tensor_parallel=4, count=2), instance(SMALL, count=2)]
    simulation = Simulation(mixed([program((10, 1))], *served, network={"bandwidth_gbps": 10.0}))
    topology, view = simulation.residency.topology, simulation.cluster
    for source in range(4):
        for target in range(4):
            same = (source < 2) == (target < 2)
            assert topology.can_migrate(source, target) == same
            assert (view.load_s(target, "hbm", 100, source) < float("inf")) == same


def test_kv_of_a_shared_prefix_is_not_shared_between_models() -> None:
    prefix = [("system", 320)]
    programs = [
        program((100, 5, 9.0), (10, 5), prefix=prefix, arrival_s=0.0, program_id="a"),
        program((100, 5, 9.0), (10, 5), prefix=prefix, arrival_s=5.0, program_id="b", model=SMALL),
        program((100, 5), prefix=prefix, arrival_s=6.0, program_id="c", model=SMALL),
        program((100, 5), prefix=prefix, arrival_s=7.0, program_id="d", model=LARGE),
    ]
    simulation = simulate(mixed(programs, node={"dram": {"capacity_gib": 32.0}}))
    cached: dict[str, list[int]] = {}

    def look(decision: RouteDecision) -> int:
        if decision.turn.number == 0:
            views = decision.cluster.instances
            cached[decision.program.program_id] = [
                *(view.cached_tokens(decision.turn) for view in views),
                *(decision.cluster.tier_tokens(decision.turn, at, "dram") for at in (0, 1)),
            ]
        return decision.instances[0].index

    drive(simulation, on_instances(look, lambda _: offload("dram", stay_warm=True)))
    assert cached["a"] == [0, 0, 0, 0]
    assert cached["b"] == [0, 0, 0, 0], "the same text of another model is of no use"
    assert cached["c"] == [0, 320, 0, 320]
    assert cached["d"] == [320, 0, 320, 0]


@settings(max_examples=40, deadline=None)
@given(
    config=scenarios().filter(lambda config: len(config.cluster.models) > 1),
    seed=st.integers(0, 10_000),
)
def test_every_pool_holds_kv_of_one_model(config: Scenario, seed: int) -> None:
    default = config.cluster.model
    served = [one.model for one in list_instances(config.cluster)]
    models: dict[int, str] = {}

    def check(simulation: Simulation) -> None:
        models.update((i, one.model) for i, one in simulation.orchestrator.live.items())
        pools = [(engine.pool, served[engine.index]) for engine in simulation.engines]
        for tier in simulation.residency.topology.tiers:
            pools += [
                (pool, of)
                for pool, of in zip(tier.pool_of, served, strict=True)
                if pool is not None
            ]
        for pool, of in pools:
            for key in pool.entries:
                owner = (key.rpartition("/")[0] or default) if isinstance(key, str) else models[key]
                assert owner == of, (pool.name, key)

    simulation = simulate(config, seed=seed)
    drive(simulation, Chooser(seed, len(simulation.engines), invalid=0.1, hold=0.1), check)


def test_one_model_with_kv_of_two_precisions_shares_programs_but_no_kv() -> None:
    served = [instance(), instance(kv_dtype="fp8")]
    config = scenario(
        [program((1600, 16, 1.0), (16, 5), (16, 5))],
        model=SMALL,
        node={"instances": served, "dram": {"capacity_gib": 32.0}},
    )
    simulation = simulate(config)
    topology = simulation.residency.topology
    assert topology.block_bytes[0] == 2 * topology.block_bytes[1]
    assert not topology.can_migrate(0, 1)
    names = [pool.name for pool in topology.tiers[0].pools]
    assert names == [f"n0 dram {SMALL} bf16", f"n0 dram {SMALL} fp8"]
    hits: list[int] = []

    def other(decision: RouteDecision) -> int:
        assert [view.index for view in decision.instances] == [0, 1]
        where = decision.turn.number % 2
        hits.append(decision.instances[where].cached_tokens(decision.turn))
        assert not [
            copy for copy in decision.cluster.restorables(decision.turn, where) if not copy.tier
        ]
        return where

    drive(simulation, on_instances(other))
    assert hits == [0, 0, 1600], "each instance has what it computed itself"


# --- workloads ------------------------------------------------------------------------------------


def generated(**more: Any) -> dict[str, Any]:
    config = mixed(
        [program((10, 1))],
        instance(tensor_parallel=4, kv_blocks=3000),
        instance(SMALL, kv_blocks=6000),
    ).model_dump()
    workload = {
        "kind": "generated",
        "mix": {"coding_auto": 1.0, "function_calling": 1.0},
        "programs": 40,
        "user_gaps": "simulated",
        **more,
    }
    return {**config, "workload": workload, "arrivals": {"kind": "poisson", "rate_per_s": 5.0}}


def test_generated_programs_are_cut_to_the_pool_of_their_model() -> None:
    models = {"coding_auto": SMALL, "function_calling": LARGE}
    simulation = Simulation(load_scenario(generated(models=models)))
    plans = [simulation.workload.program(i) for i in range(40)]
    assert all(plan.model == models[plan.agent_class] for plan in plans)
    peak = max(plan.peak_context_tokens for plan in plans if plan.model == SMALL)
    assert 3000 * 16 < peak <= 6000 * 16, "more than the large model's pool would hold"
    # The same class on the large model's instance:
    models["coding_auto"] = LARGE
    simulation = Simulation(load_scenario(generated(models=models)))
    plans = [simulation.workload.program(i) for i in range(40)]
    assert max(plan.peak_context_tokens for plan in plans) <= 3000 * 16


def test_sub_agents_may_run_on_a_model_of_their_own() -> None:
    config = generated(mix={"coding_auto": 1.0}, sub_agent_models={"coding_auto": SMALL})
    workload = Simulation(load_scenario(config)).workload
    plans = [workload.program(i) for i in range(40)]
    children = [child for plan in plans for turn in plan.turns for child in turn.children]
    assert {plan.model for plan in plans} == {None}
    assert {child.model for child in children} == {SMALL}


@pytest.mark.parametrize("field", ["models", "sub_agent_models"])
def test_a_class_whose_model_nobody_serves_is_refused(field: str) -> None:
    config = generated(**{field: {"coding_auto": "qwen3-32b"}})
    match = rf"workload\.{field}\.coding_auto is 'qwen3-32b'.*allowed: {LARGE}, {SMALL}"
    with pytest.raises(ValueError, match=match):
        load_scenario(config)
    with pytest.raises(ValueError, match=rf"{field}: 'web_research' is not in the mix; allowed:"):
        load_scenario(generated(**{field: {"web_research": SMALL}}))


def test_a_program_whose_model_nobody_serves_is_refused() -> None:
    child = {"turns": [{"new_input_tokens": 3, "output_tokens": 1}], "model": "qwen3-32b"}
    parent = program((100, 5), (50, 5), program_id="root", agent_class="coder")
    parent["turns"][0]["children"] = [child]
    with pytest.raises(
        ValueError,
        match=rf"'root/0-0' \(class 'inline'\): model is 'qwen3-32b'.*allowed: {LARGE}, {SMALL}",
    ):
        Simulation(mixed([parent]))


def test_a_program_must_fit_the_pools_of_its_own_model() -> None:
    served = [instance(tensor_parallel=4, kv_blocks=100), instance(SMALL, kv_blocks=500)]
    Simulation(mixed([program((4000, 5), model=SMALL)], *served))
    with pytest.raises(ValueError, match="needs 4005 tokens of KV, but instance 0 hbm holds 1584"):
        Simulation(mixed([program((4000, 5))], *served))


def test_a_default_model_that_nobody_serves_is_refused() -> None:
    match = rf"model is '{LARGE}', which no instance serves; allowed: one of {SMALL}, for"
    with pytest.raises(ValueError, match=match):
        mixed([program((10, 1))], instance(SMALL))


def test_programs_of_a_trace_name_their_model_or_get_that_of_their_class(tmp_path: Any) -> None:
    turns = (Turn(100, 100, 5, 0),)
    child = Program("c", "helper", turns)
    gap = Turn(100, 100, 5, 0, 1.0, "tool", (), (child,))
    programs = [
        Program("a", "helper", turns),
        Program("b", "helper", turns, model=LARGE),
        Program("d", "coder", (gap, Turn(110, 5, 5, 105))),
    ]
    path = tmp_path / "programs.jsonl"
    write_programs(programs, path)
    workload = {"kind": "trace", "path": str(path), "models": {"helper": SMALL}}
    poisson = {"kind": "poisson", "rate_per_s": 1.0}
    config = mixed([program((10, 1))]).model_dump() | {"workload": workload, "arrivals": poisson}
    seen = offered(simulate(load_scenario(config)))
    assert seen == {"a": [1], "b": [0], "c": [1], "d": [0]}
    workload["models"] = {"helpr": SMALL}
    with pytest.raises(ValueError, match=r"models names class 'helpr'; the file has coder, helper"):
        Simulation(load_scenario(config))
    workload["models"] = {"helper": "qwen3-32b"}
    with pytest.raises(ValueError, match=r"workload\.models\.helper is 'qwen3-32b'"):
        load_scenario(config)


def test_counted_bytes_are_those_that_links_move() -> None:
    """Windows and states of a context move with its blocks, and count."""
    for of in (SMALL, "gpt-oss-120b", "qwen3.5-35b-a3b"):
        config = scenario(
            [program((1600, 16, 60.0), (16, 1))],
            model=of,
            accelerator="h200",
            kv_blocks=6000,
            node={"dram": {"capacity_gib": 32.0}},
        )
        report = drive(
            simulate(config), on_instances(lambda _: 0, lambda _: offload("dram"))
        ).report()
        assert report["residency"]["offloaded_bytes"] == report["moved_bytes"]["n0 dram write"] > 0
