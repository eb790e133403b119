"""Fitted generators: one parameter file per agent class, one recipe for all of them."""

from agentserve_gym.workloads.generators.agent import draw_program, draw_programs
from agentserve_gym.workloads.generators.catalogue import AGENT_CLASSES
from agentserve_gym.workloads.generators.draws import DrawSettings
from agentserve_gym.workloads.generators.parameters import ClassParameters, load_parameters

__all__ = [
    "AGENT_CLASSES",
    "ClassParameters",
    "DrawSettings",
    "draw_program",
    "draw_programs",
    "load_parameters",
]
