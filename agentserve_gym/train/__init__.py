"""Training with Stable-Baselines3, imitation of heuristics, and evaluation on held-out seeds.

Needs the ``train`` extra. ``load_policy("runs/first")`` gives a trained policy that answers
decisions like any heuristic.
"""

from agentserve_gym.report.statistics import PairedDifference, paired_difference
from agentserve_gym.train.evaluation import Evaluation, Scores, evaluate, score
from agentserve_gym.train.foreign import EnvironmentPolicy, load_function, load_sb3
from agentserve_gym.train.learned import LearnedPolicy, ModelCard, load_policy
from agentserve_gym.train.runs import resume, train
from agentserve_gym.train.seeds import EVALUATION_SEEDS, SELECTION_SEEDS, evaluation_seeds
from agentserve_gym.train.settings import TrainSettings, make_settings
from agentserve_gym.train.vec_env import AgentServeVecEnv

__all__ = [
    "EVALUATION_SEEDS",
    "SELECTION_SEEDS",
    "AgentServeVecEnv",
    "EnvironmentPolicy",
    "Evaluation",
    "LearnedPolicy",
    "ModelCard",
    "PairedDifference",
    "Scores",
    "TrainSettings",
    "evaluate",
    "evaluation_seeds",
    "load_function",
    "load_policy",
    "load_sb3",
    "make_settings",
    "paired_difference",
    "resume",
    "score",
    "train",
]
