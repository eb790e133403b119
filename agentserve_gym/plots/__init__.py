"""Pictures of runs, drawn with matplotlib, which the ``plot`` extra brings.

Importing this package does not import matplotlib; drawing does.
"""

from agentserve_gym.plots.figure import draw_comparison
from agentserve_gym.plots.record import RunRecord

__all__ = ["RunRecord", "draw_comparison"]
