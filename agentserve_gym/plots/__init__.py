"""Pictures of runs, drawn with matplotlib, which the ``plot`` extra brings.

Importing this package does not import matplotlib; drawing does.
"""

from agentserve_gym.plots.curves import Curve, CurvePanel, draw_curves
from agentserve_gym.plots.differences import Difference, Differences, draw_differences
from agentserve_gym.plots.figure import draw_comparison
from agentserve_gym.plots.record import RunRecord
from agentserve_gym.plots.style import require_matplotlib

__all__ = [
    "Curve",
    "CurvePanel",
    "Difference",
    "Differences",
    "RunRecord",
    "draw_comparison",
    "draw_curves",
    "draw_differences",
    "require_matplotlib",
]
