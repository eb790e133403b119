"""The simulation: orchestrator, tools, router, engines, KV residency, links and metrics.

It knows nothing of Gymnasium and of policies' names: whoever answers its decisions drives it.
"""

from agentserve_gym.sim.decisions import Decision, PlacementDecision, RouteDecision
from agentserve_gym.sim.driving import Policy, answers, run
from agentserve_gym.sim.kernel.answers import (
    KEEP,
    Answer,
    Hold,
    Place,
    PlacementKind,
    Restore,
    Route,
    offload,
)
from agentserve_gym.sim.kernel.programs import Phase, ProgramState, ProgramStatus, TurnState
from agentserve_gym.sim.loading import cell_names, load_scenario, preset_names
from agentserve_gym.sim.scenario import Scenario
from agentserve_gym.sim.signals import Load
from agentserve_gym.sim.simulation import Simulation
from agentserve_gym.sim.views import ClusterView, InstanceView

__all__ = [
    "KEEP",
    "Answer",
    "ClusterView",
    "Decision",
    "Hold",
    "InstanceView",
    "Load",
    "Phase",
    "Place",
    "PlacementDecision",
    "PlacementKind",
    "Policy",
    "ProgramState",
    "ProgramStatus",
    "Restore",
    "Route",
    "RouteDecision",
    "Scenario",
    "Simulation",
    "TurnState",
    "answers",
    "cell_names",
    "load_scenario",
    "offload",
    "preset_names",
    "run",
]
