"""Settings of a training run: one validated value, saved as ``settings.json`` in the run's folder.

Defaults are the recipe of docs/training.md. Unknown keys are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from agentserve_gym.baselines import parse_policy
from agentserve_gym.messages import validated
from agentserve_gym.sim.loading import load_scenario
from agentserve_gym.sim.scenario import PositiveInt, StrictModel

Algorithm = Literal["maskable-ppo", "ppo", "dqn"]
EnvId = Literal["AgentServe-v0", "AgentServeRouting-v0", "AgentServeOffload-v0"]

COMPARED = (
    "affinity+lru",
    "affinity+dram",
    "least_loaded+dram",
    "dynamo+dram",
    "lmetric+dram",
    "lmetric+write_through+shortest_prefill",
)
"""Heuristics that a run chooses its teacher from and is compared with, unless it is set otherwise:
the stock policy, and the best of a survey on the default preset (docs/training-results.md)."""

Rate = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Episodes = Annotated[int, Field(gt=0, le=10_000)]
_MOST_ROLLOUT = 1_000_000


class PpoSettings(StrictModel):
    """Of PPO and MaskablePPO.

    Attributes:
        learning_rate: Adam's, falling linearly to a tenth of it at the last step.
        rollout_steps: decisions per worker between updates.
        gamma: 1 by default: an episode ends, and its return is the objective itself. With 1 a step
            counts the same whatever simulated time it spans, so no semi-Markov correction is due.
        target_kl: an update ends early where the policy moved further than 1.5 times this.
    """

    learning_rate: Rate = 3e-4
    rollout_steps: PositiveInt = 512
    batch_size: PositiveInt = 256
    epochs: PositiveInt = 5
    gamma: Share = 1.0
    gae_lambda: Share = 0.95
    clip_range: Rate = 0.1
    entropy_weight: NonNegative = 0.0
    value_weight: NonNegative = 0.5
    max_grad_norm: Positive = 0.5
    target_kl: Positive | None = 0.01


class DqnSettings(StrictModel):
    """Of DQN.

    Attributes:
        learning_starts, target_update_interval: in decisions.
        decisions_per_update: how many of all workers per gradient step.
        exploration_fraction: of the run, in which random actions fall to ``exploration_final``.
    """

    learning_rate: Rate = 3e-4
    buffer_size: Annotated[int, Field(gt=0, le=10_000_000)] = 50_000
    learning_starts: PositiveInt = 5_000
    batch_size: PositiveInt = 128
    gamma: Share = 0.999
    decisions_per_update: PositiveInt = 4
    target_update_interval: PositiveInt = 2_000
    exploration_fraction: Share = 0.3
    exploration_final: Share = 0.02


class ImitationSettings(StrictModel):
    """How a policy starts from a heuristic.

    Attributes:
        candidates: heuristics measured where no teacher is named; the one with the highest return
            on training seeds becomes the teacher.
        measured_episodes: episodes per candidate. ``episodes``: of the teacher, to learn from.
        epochs, batch_size, learning_rate: of the regression on its decisions and returns.
    """

    candidates: list[str] = Field(default=list(COMPARED), min_length=1)
    measured_episodes: Episodes = 6
    episodes: Episodes = 32
    epochs: PositiveInt = 12
    batch_size: PositiveInt = 256
    learning_rate: Rate = 1e-3

    @field_validator("candidates")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            parse_policy(name)
        return names


class EvaluationSettings(StrictModel):
    """How a run is judged.

    Attributes:
        policies: heuristics that the trained policy is compared with.
        seeds: how many evaluation seeds.
        selection_seeds: how many selection seeds (others) decide which checkpoint is kept.
    """

    policies: list[str] = Field(default=list(COMPARED), min_length=1)
    seeds: Annotated[int, Field(ge=2, le=100)] = 30
    selection_seeds: Annotated[int, Field(ge=2, le=100)] = 16

    @field_validator("policies")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            parse_policy(name)
        return names


class TrainSettings(StrictModel):
    """A training run.

    Attributes:
        env: id of the environment. ``scenario``: preset, cell or file.
        algorithm: ``maskable-ppo``, ``ppo`` or ``dqn`` (for discrete actions).
        steps: decisions to learn from, imitation aside.
        seed: of initial weights, exploration, and the draw of training workloads.
        workers: environments that run side by side in one process. Updates follow ``workers`` x
            ``ppo.rollout_steps`` decisions, at most a million.
        reward: ``jct``, ``slowdown`` or ``slo``.
        baseline: takes the decisions that the environment does not ask, where there are such.
        imitate: a heuristic to start from, ``auto`` (the best candidate) or ``none``. DQN always
            starts from scratch.
        checkpoint_every: decisions between checkpoints.
        width: of the network.
        device: of torch; the network is too small for a GPU to help.
    """

    env: EnvId = "AgentServe-v0"
    scenario: str = "default"
    algorithm: Algorithm = "maskable-ppo"
    steps: PositiveInt = 200_000
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    workers: Annotated[int, Field(gt=0, le=1000)] = 8
    reward: Literal["jct", "slowdown", "slo"] = "jct"
    baseline: str = "affinity+lru"
    imitate: str = "auto"
    checkpoint_every: PositiveInt = 40_000
    width: Annotated[int, Field(gt=0, le=4096)] = 64
    device: str = "cpu"
    ppo: PpoSettings = PpoSettings()
    dqn: DqnSettings = DqnSettings()
    imitation: ImitationSettings = ImitationSettings()
    evaluation: EvaluationSettings = EvaluationSettings()

    @field_validator("scenario")
    @classmethod
    def _scenario_exists(cls, scenario: str) -> str:
        load_scenario(scenario)
        # A file must be found again when the run is resumed from elsewhere.
        return str(Path(scenario).resolve()) if Path(scenario).suffix else scenario

    @field_validator("baseline")
    @classmethod
    def _baseline_exists(cls, name: str) -> str:
        parse_policy(name)
        return name

    @field_validator("imitate")
    @classmethod
    def _teacher_exists(cls, name: str) -> str:
        if name not in ("auto", "none"):
            parse_policy(name)
        return name

    @model_validator(mode="after")
    def _algorithm_fits(self) -> TrainSettings:
        if self.algorithm == "dqn" and self.env == "AgentServe-v0":
            raise ValueError(
                "algorithm 'dqn' needs discrete actions, but those of AgentServe-v0 are pairs "
                "(MultiDiscrete); use maskable-ppo or ppo, or env AgentServeRouting-v0 or "
                "AgentServeOffload-v0"
            )
        if self.algorithm == "dqn" and self.imitate not in ("auto", "none"):
            raise ValueError(
                f"imitate is {self.imitate!r}, but dqn learns action values, which a teacher does "
                "not show; allowed with it: auto (the same as none), none"
            )
        rollout = self.ppo.rollout_steps * self.workers
        if rollout > _MOST_ROLLOUT:
            raise ValueError(
                f"ppo.rollout_steps is {self.ppo.rollout_steps}; allowed with {self.workers} "
                f"workers: at most {_MOST_ROLLOUT // self.workers}"
            )
        if self.ppo.batch_size > rollout:
            raise ValueError(
                f"ppo.batch_size is {self.ppo.batch_size}; it can be at most rollout_steps x "
                f"workers = {rollout}"
            )
        return self

    @property
    def run_name(self) -> str:
        """What a run is called where nobody calls it otherwise."""
        return f"{self.name_without_seed}-{self.seed}"

    @property
    def name_without_seed(self) -> str:
        """What runs are called together that differ in their seeds alone."""
        return f"{self.env}-{Path(self.scenario).stem}-{self.algorithm}"

    @property
    def env_options(self) -> dict[str, Any]:
        """Arguments of the environment besides its id."""
        options: dict[str, Any] = {"scenario": self.scenario, "reward": self.reward}
        if self.env != "AgentServe-v0":
            options["baseline"] = self.baseline
        return options


def make_settings(values: dict[str, Any], where: str = "settings") -> TrainSettings:
    """Settings from a (nested) mapping; ``where`` it was read is named in messages.

    Raises:
        ValueError: naming each unknown key (with the nearest valid one) or bad value.
    """
    return validated(TrainSettings, values, where)
