"""A trained policy that answers decisions, usable wherever a heuristic is.

It builds observations, masks and answers with the same objects as the environments, so it drives a
``Simulation`` directly and meets the same programs as the heuristics it is compared with.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import torch
from stable_baselines3.common.save_util import load_from_zip_file

from agentserve_gym.baselines import parse_policy
from agentserve_gym.envs import ObservationBuilder, ObservationLayout
from agentserve_gym.envs.actions import Mask, PlaceActions, RouteActions
from agentserve_gym.messages import validated
from agentserve_gym.sim import KEEP, Answer, ClusterView, Decision, RouteDecision, Simulation
from agentserve_gym.sim.scenario import StrictModel
from agentserve_gym.train.network import NetworkShape, Scorer

CARD_NAME = "agentserve.json"
MODEL_NAME = "model.zip"


class ModelCard(StrictModel):
    """What a saved network needs to be used: stored inside ``model.zip`` next to the weights.

    Attributes:
        env, algorithm, scenario, reward, steps, seed: how it was trained.
        pin_until_return_s, pin_ttls_s: what its pin actions mean. ``tiers``: the lower tiers that
            it knows.
        baseline: takes the decisions that it does not.
        width: of the network.
    """

    env: str
    algorithm: str
    scenario: str
    reward: Literal["jct", "slowdown", "slo"]
    steps: int
    seed: int
    pin_until_return_s: float
    pin_ttls_s: list[float]
    tiers: list[str]
    baseline: str
    width: int

    def shape(self) -> NetworkShape:
        """The network's shape."""
        return NetworkShape.of(
            ObservationLayout(1, self.pin_ttls_s, self.tiers),
            routes=self.env != "AgentServeOffload-v0",
            placements=0 if self.env == "AgentServeRouting-v0" else self.place_actions().size,
            width=self.width,
        )

    def place_actions(self) -> PlaceActions:
        """What its placements mean."""
        return PlaceActions(self.pin_until_return_s, self.pin_ttls_s, self.tiers)


class LearnedPolicy:
    """The most probable (or most valuable) possible action at every decision.

    The cluster may have any number of instances. It may lack tiers that the policy knows; others it
    does not use. Decisions of a kind that the policy was not trained for go to the baseline that
    took them in training.
    """

    def __init__(self, scorer: Scorer, card: ModelCard, name: str = "learned") -> None:
        self.scorer = scorer.eval()
        self.card = card
        self._name = name
        self.baseline = parse_policy(card.baseline)
        self._placements = card.place_actions()
        self._cluster: ClusterView | None = None
        self._counts = {"routes": 0, "placements": 0, "delegated": 0}

    @property
    def name(self) -> str:
        """How results name it."""
        return self._name

    @property
    def env_id(self) -> str:
        """Whose observations it takes."""
        return self.card.env

    @property
    def is_oracle(self) -> bool:
        """Whether its baseline is one: it sees no more than that."""
        return self.baseline.is_oracle

    def decide(self, decision: Decision) -> Answer:
        """Answer one decision."""
        routing = isinstance(decision, RouteDecision)
        shape = self.scorer.shape
        if not (shape.routes if routing else shape.placements):
            self._counts["delegated"] += 1
            return self.baseline.decide(decision)
        if not isinstance(decision, RouteDecision) and not self._placements.is_question(decision):
            return KEEP
        if decision.cluster is not self._cluster:
            self._attach(decision.cluster)
        observation = torch.from_numpy(self._builder.write(decision)).unsqueeze(0)
        with torch.no_grad():
            scores = self.scorer.logits(observation)[0].numpy()
        if isinstance(decision, RouteDecision):
            self._counts["routes"] += 1
            self._routes.write_mask(self._route_mask, decision)
            best = _best(scores[: self._routes.size], self._route_mask)
            return self._routes.answer(best)
        self._counts["placements"] += 1
        self._placements.write_mask(self._place_mask, decision)
        best = _best(scores[len(scores) - self._placements.size :], self._place_mask)
        return self._placements.answer(best, decision)

    def counters(self) -> dict[str, int]:
        """Decisions by kind, and those left to the baseline."""
        return {f"learned.{kind}": count for kind, count in self._counts.items()}

    def reset(self) -> None:
        """Forget the run so far."""
        self.baseline.reset()
        self._cluster = None
        self._counts = dict.fromkeys(self._counts, 0)

    def bind(self, simulation: Simulation) -> None:
        """Hand the simulation to the baseline, which may be an oracle; the network sees none."""
        self.baseline.bind(simulation)

    def _attach(self, cluster: ClusterView) -> None:
        """Fit observation and actions to a cluster."""
        number = len(cluster.instances)
        self._cluster = cluster
        self._builder = ObservationBuilder(number, self.card.pin_ttls_s, self.card.tiers)
        self._builder.attach(cluster)
        self._routes = RouteActions(number)
        self._route_mask: Mask = np.zeros(self._routes.size, np.int8)
        self._place_mask: Mask = np.zeros(self._placements.size, np.int8)


def load_policy(path: str | Path, baseline: str | None = None) -> LearnedPolicy:
    """A trained policy from a run's folder or a ``model.zip``; no code from the file is executed.

    Also a policy by name: ``--policy "agentserve_gym.train:load_policy(path=runs/first)"``.

    Args:
        path: of the folder or the file.
        baseline: takes the decisions that the policy was not trained for; ``None`` for the one
            that the file names. Needed where that is ``module:Class``: a file must not choose
            what code runs.

    Raises:
        ValueError: if there is no model, it is not one of this package, or its baseline is needed.
    """
    file = find_model(path)
    card = _read_card(file)
    if baseline is not None:
        card = card.model_copy(update={"baseline": baseline})
    elif ":" in card.baseline:
        raise ValueError(
            f"{file} names the baseline {card.baseline!r}, code that is not of this package; if "
            "you trust it, name it yourself: load_policy(..., baseline=...) or --baseline"
        )
    _, parameters, _ = load_from_zip_file(file, load_data=False, device="cpu")
    state: Any = parameters["policy"]
    prefix = "q_net.q_net." if card.algorithm == "dqn" else "mlp_extractor.actor."
    weights = {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }
    scorer = Scorer(card.shape())
    try:
        scorer.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"{file} does not fit this version's network: {error}") from error
    folder = file.parent.name if file.name == MODEL_NAME else file.stem
    return LearnedPolicy(scorer, card, f"learned({folder})" if folder else "learned")


def find_model(path: str | Path) -> Path:
    """The model file that a run's folder or a file name means.

    Raises:
        ValueError: if there is none.
    """
    path = Path(path)
    if path.is_dir():
        file = path / MODEL_NAME
        if not file.is_file():
            raise ValueError(f"{path} holds no {MODEL_NAME}; is it the folder of a finished run?")
        return file
    if not path.is_file():
        raise ValueError(f"no run folder or model file at {path}")
    return path


def add_card(file: IO[bytes], card: ModelCard) -> None:
    """Put the card into a model file that SB3 has written."""
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(CARD_NAME, card.model_dump_json(indent=2))


def _read_card(file: Path) -> ModelCard:
    try:
        with zipfile.ZipFile(file) as archive:
            content: Any = json.loads(archive.read(CARD_NAME))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{file} is not a model file: {error}") from error
    except KeyError as error:
        raise ValueError(
            f"{file} holds no {CARD_NAME}, so agentserve train did not make it; name the algorithm "
            "of another Stable-Baselines3 model with --algorithm (load_sb3)"
        ) from error
    except ValueError as error:
        raise ValueError(f"{file}: {CARD_NAME} is not valid JSON: {error}") from error
    names = content if isinstance(content, dict) else ()
    if "pin_ttls_s" in names and "pin_until_return_s" not in names:
        raise ValueError(
            f"{file} was trained with the actions of an earlier version, which had no queue "
            "classes, copies, prefetch or pins until return; train it anew"
        )
    return validated(ModelCard, content, f"{file}, {CARD_NAME}")


def _best(scores: np.ndarray[Any, Any], mask: Mask) -> int:
    return int(np.where(mask, scores, -np.inf).argmax())
