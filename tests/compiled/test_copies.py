"""Copies of what compiles: all their fields, and nothing of the original."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from functools import cache
from types import BuiltinMethodType, MethodType, ModuleType
from typing import Any

import pytest
from compiled_helpers import native_classes, parts_of

from agentserve_gym.baselines import NamedPolicy, parse_policy
from agentserve_gym.sim import Simulation, load_scenario
from agentserve_gym.sim.kernel.copying import Copyable, fields_of
from agentserve_gym.sim.kernel.stepper import _Kick

pytestmark = [pytest.mark.no_cover, pytest.mark.whole_cluster]

ABSTRACT = {"Copyable", "Event", "Host", "Segment", "Signals", "Steppable", "Stepper", "TurnSink"}
ABSTRACT |= {"PoolCopy", "StepWatcher", "Transfer", "TransferHost", "Watcher"}
"""Classes of which a simulation has only subclasses."""

COPYABLE = [cls for cls in native_classes() if issubclass(cls, Copyable)]

LATE = {"router": {"signal_delay_s": 0.5}, "horizon_s": 1e6}
STEP_END = {"router": {"load_signal": "step_end"}}
TOOLS = {
    "tools": {
        "concurrency": {"bash": 1},
        "failure_probability": 0.3,
        "durations": {"read": {"weights": [1.0], "mu": [0.5], "sigma": [1.0], "cap_s": 60.0}},
    }
}
GROUP = {
    "model": "qwen3-30b-a3b-instruct-2507",
    "nodes": [
        {
            "name": "n0",
            "instances": [
                {"accelerator": "rtx-pro-6000", "data_parallel": 2, "expert_parallel": 2}
            ],
        }
    ],
}
CXL = load_scenario("cxl-shared").model_dump()["cluster"]
ARC = CXL | {"cxl": CXL["cxl"] | {"eviction": "arc"}}
RUNS: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("cxl-shared", LATE, "affinity+kvflow"),
    ("default", TOOLS, "lmetric+continuum+gate"),
    ("cxl-shared", STEP_END, "lmetric+dram_cxl+plas"),
    ("cxl-shared", {"cluster": ARC}, "lmetric+dram_cxl+plas"),
    ("default", {"cluster": GROUP}, "affinity+lru"),
    ("default", {}, "learned"),
)


def simulations() -> Iterator[tuple[Simulation, NamedPolicy]]:
    """Simulations at each of their decisions, and who decides."""
    for preset, changes, policy in RUNS:
        data = load_scenario(preset).model_dump() | changes
        simulation = Simulation(load_scenario(data), 3, record_turns=True)
        decider = parse_policy(policy)
        decider.bind(simulation)
        decision = simulation.advance()
        while decision is not None:
            decision = simulation.advance(decider.decide(decision))
            yield simulation, decider


@cache
def examples() -> dict[type, Copyable]:
    """One object of every class that was met, as it stood then or later."""
    found: dict[type, Copyable] = {}
    for number, (simulation, decider) in enumerate(simulations()):
        events = [event for *_, event in simulation.clock._queue]
        for part in events if number % 100 else parts_of((simulation, decider)):
            if isinstance(part, Copyable):
                found.setdefault(type(part), part)
    kick = _Kick(simulation.engines[0]._stepper)  # never waits at a decision
    return found | {_Kick: kick}


def state_of(thing: Copyable) -> dict[str, object]:
    return {name: getattr(thing, name) for name in fields_of(type(thing))} | getattr(
        thing, "__dict__", {}
    )


def subclasses(cls: type[Copyable]) -> Iterator[type[Copyable]]:
    """Interpreted ones: with slots, and with a dictionary."""
    yield type("Slotted", (cls,), {"__slots__": ("extra",), "__module__": __name__})
    yield type("Open", (cls,), {"__module__": __name__})


def copies(thing: Copyable) -> Iterator[Copyable]:
    yield copy.deepcopy(thing)
    yield pickle.loads(pickle.dumps(thing))
    yield copy.copy(thing)


def test_every_class_is_met_or_abstract() -> None:
    assert {cls.__name__ for cls in COPYABLE if cls not in examples()} == ABSTRACT


@pytest.mark.parametrize("cls", COPYABLE, ids=lambda cls: cls.__name__)
def test_copies_have_every_field(cls: type[Copyable]) -> None:
    for met, thing in examples().items():
        if met is cls:
            assert state_of(thing)
            for other in copies(thing):
                assert type(other) is cls
                assert state_of(other).keys() == state_of(thing).keys()


@pytest.mark.parametrize("cls", COPYABLE, ids=lambda cls: cls.__name__)
def test_interpreted_subclasses_copy_too(
    cls: type[Copyable], monkeypatch: pytest.MonkeyPatch
) -> None:
    example = next((thing for met, thing in examples().items() if issubclass(met, cls)), None)
    assert example is not None or cls is Copyable
    for subclass in subclasses(cls):
        monkeypatch.setitem(globals(), subclass.__name__, subclass)
        thing = subclass.__new__(subclass)
        state = {name: getattr(example, name) for name in fields_of(cls)}
        thing.__setstate__(state | {"extra": [1, 2]})
        for other in copies(thing):
            assert type(other) is subclass
            assert state_of(other).keys() == state.keys() | {"extra"}
            assert other.extra == [1, 2]  # type: ignore[attr-defined]


@pytest.mark.parametrize("cls", native_classes(), ids=lambda cls: cls.__name__)
def test_no_class_has_a_metaclass(cls: type) -> None:
    """Compiled classes of ``ABCMeta`` share what it remembers, and ``isinstance`` is wrong then."""
    assert type(cls) is type


def bound_methods(thing: Any) -> list[object]:
    """Methods that are kept somewhere with what they are bound to."""
    methods = (part for part in parts_of(thing) if isinstance(part, MethodType | BuiltinMethodType))
    return [method for method in methods if not isinstance(method.__self__, type | ModuleType)]


def test_a_bound_method_is_found_wherever_it_is_kept() -> None:
    simulation = Simulation(load_scenario("toy"))
    assert bound_methods(simulation) == []
    simulation.orchestrator.live[0] = [simulation.router.offer_held_again]  # type: ignore[assignment]
    assert len(bound_methods(simulation.snapshot())) == 1


COPIES = {
    "snapshot": Simulation.snapshot,
    "deepcopy": copy.deepcopy,
    "pickle": lambda simulation: pickle.loads(pickle.dumps(simulation)),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize(("preset", "changes", "policy"), RUNS, ids=lambda value: str(value)[:20])
def test_a_copy_leads_to_nothing_of_the_original(
    how: str, preset: str, changes: dict[str, Any], policy: str
) -> None:
    data = load_scenario(preset).model_dump() | changes
    simulation = Simulation(load_scenario(data), 3, record_turns=True)
    decider = parse_policy(policy)
    decider.bind(simulation)
    decision = simulation.advance()
    for _ in range(300):
        assert decision is not None
        decision = simulation.advance(decider.decide(decision))
    originals = {id(part): part for part in parts_of(simulation) if isinstance(part, Copyable)}
    assert len(originals) > 100
    other = COPIES[how](simulation)
    assert all(id(part) not in originals for part in parts_of(other))
    assert bound_methods(other) == []
