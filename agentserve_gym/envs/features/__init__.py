"""The features of observations: each declared once in ``table``, with what computes it.

A ``Moment`` is what a decision shows; a ``FeatureWriter`` evaluates every feature of it and packs
the raw numbers, which ``envs.scaling`` scales. NumPy and Gymnasium are not needed here.
"""

from agentserve_gym.envs.features.feature import Feature
from agentserve_gym.envs.features.layout import ObservationLayout, observation_table
from agentserve_gym.envs.features.writer import FeatureWriter

__all__ = ["Feature", "FeatureWriter", "ObservationLayout", "observation_table"]
