"""Tuning of trainings: which settings teach best, on workloads that no evaluation uses.

Needs the ``scale`` extra, and ``train`` for trainings other than recipes.
"""

from agentserve_gym.tuning.plans import TUNING_SEEDS, Plan, plan_recipe, plan_training
from agentserve_gym.tuning.space import Space, load_space, space_names
from agentserve_gym.tuning.study import Tuned, resume_tuning, tune

__all__ = [
    "TUNING_SEEDS",
    "Plan",
    "Space",
    "Tuned",
    "load_space",
    "plan_recipe",
    "plan_training",
    "resume_tuning",
    "space_names",
    "tune",
]
