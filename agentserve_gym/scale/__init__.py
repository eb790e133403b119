"""Where tasks run: in this process, in processes beside it, or on a Ray cluster.

All three are `Workers`, and what a task is does not depend on which of them runs it.
"""

from agentserve_gym.scale.processes import processes
from agentserve_gym.scale.workers import InThisProcess, Workers, in_order

__all__ = ["InThisProcess", "Workers", "in_order", "processes"]
