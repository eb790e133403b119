"""Recording runs: everything that happens, seen from outside.

What observes is the clock, which every event goes through. A simulation that is not recorded has a
plain one, so recording costs it nothing.
"""

from agentserve_gym.sim.recording.history import RunHistory, Stage
from agentserve_gym.sim.recording.simulation import RecordedSimulation

__all__ = ["RecordedSimulation", "RunHistory", "Stage"]
