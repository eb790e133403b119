"""What the environments share. They only orchestrate: observation, actions, reward and pictures are
objects of their own, and the simulation knows nothing of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from agentserve_gym.baselines.policy import NamedPolicy
from agentserve_gym.envs.actions import Mask, PlaceActions, RouteActions
from agentserve_gym.envs.arguments import one_of, reset_options, whole_number
from agentserve_gym.envs.episode import Episode, Snapshot
from agentserve_gym.envs.metrics import EpisodeMetrics
from agentserve_gym.envs.observation import ObservationBuilder
from agentserve_gym.envs.rendering import Scene, describe, draw
from agentserve_gym.envs.rewards import Reward, make_reward
from agentserve_gym.envs.specification import jsonable
from agentserve_gym.sim import (
    KEEP,
    Answer,
    Decision,
    PlacementDecision,
    RouteDecision,
    Scenario,
    Simulation,
    load_scenario,
)
from agentserve_gym.sim.scenario import MOST_INSTANCES

Observation = NDArray[np.float32]
ScenarioLike = str | Path | Scenario | dict[str, Any]

FIRST_DRAWN_SEED = 2**20
"""Workload seeds that ``reset()`` draws are at least this, so smaller ones are never trained on
unless they are passed to ``reset(seed=...)``."""

_LAST_DRAWN_SEED = 2**31


class AgentServeBase(gym.Env[Observation, Any], ABC):
    """A simulation as an environment: subclasses choose which decisions are asked."""

    _spec: EnvSpec | None = None
    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": ["ansi", "rgb_array"],
        "render_fps": 8,
    }

    def __init__(
        self,
        scenario: ScenarioLike = "default",
        *,
        reward: str | Reward = "jct",
        max_instances: int | None = None,
        tiers: Sequence[str] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Prepare observation and actions; the simulation itself is built by ``reset``.

        Args:
            scenario: name of a preset or of a cell of the benchmark, ``.toml`` or ``.json`` file,
                mapping or ``Scenario``.
            reward: ``jct``, ``slowdown``, ``slo``, or an object with the ``Reward`` protocol.
            max_instances: rows of the observation and routes of the action, at most 10,000;
                default: as many instances as the scenario has. More are padding, so that one
                policy fits clusters of different size.
            tiers: names of the lower tiers that observation and actions have room for, nearest
                first; default: those of the scenario. More are zero and never possible, so that one
                policy fits clusters with different tiers.
            render_mode: ``ansi``, ``rgb_array`` or ``None``.

        Raises:
            ValueError: for a bad value of any of these, naming it and what is allowed.
        """
        self.scenario = load_scenario(scenario)
        self.num_instances = self.scenario.cluster.num_instances
        self.max_instances = _rows(max_instances, self.num_instances)
        self.tiers = _tiers(tiers, self.scenario.cluster.tier_names)
        one_of("render_mode", render_mode, [None, *self.metadata["render_modes"]])
        self.render_mode = render_mode
        self.routes = RouteActions(self.max_instances)
        pins = self.scenario.pin_until_return_s, self.scenario.pin_ttls_s
        self.placements = PlaceActions(*pins, self.tiers)
        self._reward = make_reward(reward)
        self._builder = ObservationBuilder(self.max_instances, self.scenario.pin_ttls_s, self.tiers)
        self.observation_layout = self._builder.layout.slices()
        self.instance_features = tuple(feature.name for feature in self._builder.layout.row)
        self.observation_space = spaces.Box(0.0, 1.0, (self._builder.layout.size,), np.float32)
        self.action_space = self._make_action_space()
        self._episode: Episode | None = None
        self._masks: dict[Hashable, Mask] = {}
        self._mask = self._mask_of(None)
        self._unknown_metrics = EpisodeMetrics.unknown()

    # --- what a subclass chooses -----------------------------------------------------------------

    @abstractmethod
    def _make_action_space(self) -> spaces.Space[Any]:
        """The action space, from ``routes`` and ``placements``."""

    @abstractmethod
    def _mask_size(self) -> int:
        """Entries of the action mask."""

    @abstractmethod
    def _takes(self, decision: Decision) -> bool:
        """Whether decisions of this kind are the agent's, rather than a baseline's."""

    @abstractmethod
    def _read(self, action: Any) -> Any:
        """An action as plain integers; ``ValueError`` unless it is in the action space."""

    @abstractmethod
    def _answer(self, decision: Decision, action: Any) -> Answer:
        """What an action, as ``_read`` gives it, answers."""

    @abstractmethod
    def _write_mask(self, mask: Mask, decision: Decision | None) -> None:
        """Write the mask of possible actions; without a decision, that of no decision. It depends
        on the kind of decision, ``may_hold``, the program's model, ``instance`` and
        ``PlaceActions.can_prefetch`` alone."""

    @abstractmethod
    def _encode(self, route: int, placement: int) -> Any:
        """The action of these components, of which only the asked one counts."""

    def _make_baseline(self) -> NamedPolicy | None:
        """A fresh policy for decisions that are not asked."""
        return None

    # --- Gymnasium -------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode and run to its first decision.

        Args:
            seed: workload seed of this episode, and seed of those drawn for later ones. Without
                it, a new workload seed (at least 2^20) is drawn from ``np_random``.
            options: ``{"workload_seed": n}`` runs workload ``n`` and leaves ``np_random`` alone.

        Raises:
            ValueError: for unknown options or a bad seed; nothing has changed then.
        """
        info = self.begin(seed, options)
        return self._builder.write(self.simulation.pending), info

    def step(self, action: Any) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Answer the pending decision and run to the next one.

        Raises:
            RuntimeError: before ``reset`` or after the end of the episode.
            ValueError: for an action outside the action space, before anything runs. One inside
                that the mask excludes falls back to a safe one and is counted.
        """
        reward, elapsed_s, decision = self.proceed(self._read(action))
        observation = self._builder.write(decision)
        info = self.info(elapsed_s)
        if decision is not None:
            return observation, reward, False, False, info
        truncated = self.simulation.truncated
        return observation, reward, not truncated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """The mask of possible actions, boolean; never all zero. For a joint action space both
        components' masks one after the other, and the one not asked has one possible entry."""
        return self._mask.astype(np.bool_)

    def render(self) -> str | NDArray[np.uint8] | None:
        """Text (``ansi``) or a picture, uint8 of shape (height, width, 3) (``rgb_array``)."""
        if self.render_mode is None:
            gym.logger.warn(
                "render() without a render_mode; pass one to gym.make, for example "
                'gym.make("agentserve_gym:AgentServe-v0", render_mode="rgb_array")'
            )
            return None
        scene = Scene.of(self.simulation, self.pending)
        return describe(scene) if self.render_mode == "ansi" else draw(scene)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy or an unpickled environment goes on with its own episode."""
        self.__dict__.update(state)
        if self._episode is not None:
            self._builder.attach(self._episode.simulation.cluster)

    @property
    def spec(self) -> EnvSpec | None:
        """What ``gym.make`` made the environment from; ``to_json`` takes it, unless ``reward`` is
        an object."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = jsonable(spec)

    # --- beyond Gymnasium ------------------------------------------------------------------------

    @property
    def simulation(self) -> Simulation:
        """The running simulation. Policies must not read it: it holds the future."""
        if self._episode is None:
            raise RuntimeError("the episode has not begun; call reset()")
        return self._episode.simulation

    @property
    def pending(self) -> Decision | None:
        """The decision that the next action answers; show it to a heuristic and ``encode`` its
        answer to imitate it."""
        return self.simulation.pending

    def snapshot(self) -> Snapshot:
        """Save the episode and the random state."""
        if self._episode is None:
            raise RuntimeError("the episode has not begun; call reset()")
        return Snapshot(self._episode.copy(), dict(self.np_random.bit_generator.state))

    def restore(self, snapshot: Snapshot) -> Observation:
        """Return to a saved point, any number of times; returns the observation there."""
        episode = self._episode = snapshot.episode.copy()
        self._reward = episode.reward
        self.np_random.bit_generator.state = snapshot.random_state
        simulation = episode.simulation
        self._builder.attach(simulation.cluster)
        self._mask = self._mask_of(simulation.pending)
        return self._builder.write(simulation.pending)

    def encode(self, answer: Answer) -> Any:
        """The action that stands for a policy's answer to the pending decision: for every answer
        the closest one. It is to be called once a decision, since priorities are read by those
        before them; ``PriorityReader``, ``RouteActions.action`` and ``PlaceActions.action`` have
        the whole of it, and docs/environments.md what is lost. The part of a joint action that is
        not asked is hold or keep."""
        decision = self.pending
        route, placement = self.routes.hold, 0
        if isinstance(decision, RouteDecision):
            assert self._episode is not None
            route = self.routes.action(answer, self._episode.priorities)
        elif decision is not None:
            placement = self.placements.action(answer, decision)
        return self._encode(route, placement)

    # --- for a policy that learned here and answers a simulation of its own ----------------------

    def asks(self, decision: Decision) -> bool:
        """Whether the agent is asked this decision, rather than a baseline or nobody."""
        return self._takes(decision) and (
            isinstance(decision, RouteDecision) or self.placements.is_question(decision)
        )

    def unasked_answer(self, decision: Decision, baseline: NamedPolicy | None) -> Answer:
        """What is answered where the agent is not asked: by the baseline, or keep where a placement
        came up again and nothing can be prefetched."""
        if self._takes(decision):
            return KEEP
        assert baseline is not None
        return baseline.decide(decision)

    def mask_at(self, decision: Decision) -> Mask:
        """The mask of possible actions at a decision, int8; shared and read-only."""
        return self._mask_of(decision)

    def answer(self, decision: Decision, action: Any) -> Answer:
        """What an action answers to a decision; ``ValueError`` for one outside the space."""
        return self._answer(decision, self._read(action))

    # --- the parts of reset and step, for a batch of environments ------------------------------

    def begin(self, seed: int | None, options: dict[str, Any] | None) -> dict[str, Any]:
        """``reset`` without an observation; returns its information."""
        chosen = self._chosen_seed(seed, options)
        super().reset(seed=None if seed is None else int(seed))
        workload_seed = self._drawn_seed() if chosen is None else chosen
        simulation = Simulation(self.scenario, workload_seed)
        baseline = self._make_baseline()
        if baseline is not None:
            baseline.bind(simulation)
        self._reward.begin(simulation)
        self._builder.attach(simulation.cluster)
        episode = self._episode = Episode(simulation, baseline, self._reward)
        decision = self._to_asked(episode, simulation.advance())
        self._mask = self._mask_of(decision)
        return self.info(0.0)

    def proceed(self, action: Any) -> tuple[float, float, Decision | None]:
        """``step`` without an observation, for an action as plain integers of the action space.

        Returns:
            The reward, simulated seconds since the last decision, and the next decision: none
            where the episode is over.
        """
        episode = self._episode
        if episode is None or episode.over:
            state = "has not begun" if episode is None else "is over"
            raise RuntimeError(f"the episode {state}; call reset()")
        simulation = episode.simulation
        decision = simulation.pending
        if decision is not None:
            decision = simulation.advance(self._answer(decision, action))
            decision = self._to_asked(episode, decision)
        self._mask = self._mask_of(decision)
        episode.steps += 1
        reward = episode.reward.collect(simulation)
        now_s = simulation.now_s
        elapsed_s = now_s - episode.decided_at_s
        episode.decided_at_s = now_s
        episode.over = decision is None
        return reward, elapsed_s, decision

    def info(self, elapsed_s: float) -> dict[str, Any]:
        """The information now: the same keys, types and shapes at every step and reset."""
        episode = self._episode
        assert episode is not None
        simulation = episode.simulation
        return {
            "action_mask": self._mask.copy(),
            "elapsed_s": elapsed_s,
            "seed": simulation.seed,
            "steps": episode.steps,
            "invalid_actions": simulation.metrics.invalid_answers,
            "asked_again": episode.asked_again,
            "metrics": self.metrics,
        }

    @property
    def metrics(self) -> EpisodeMetrics:
        """The figures of an episode that is over, otherwise ``EpisodeMetrics.unknown()``."""
        if self.is_over:
            return EpisodeMetrics.of(self.simulation)
        return self._unknown_metrics.copy()

    @property
    def asked_again(self) -> int:
        """Placements of the episode that were asked once more within their gap."""
        return self._episode.asked_again if self._episode is not None else 0

    @property
    def is_over(self) -> bool:
        """Whether the last step ended the episode."""
        return self._episode is not None and self._episode.over

    @property
    def mask(self) -> Mask:
        """The mask of possible actions now, int8; shared and read-only."""
        return self._mask

    @property
    def builder(self) -> ObservationBuilder:
        """Observes the simulation that runs."""
        return self._builder

    # --- details ---------------------------------------------------------------------------------

    @staticmethod
    def _chosen_seed(seed: int | None, options: dict[str, Any] | None) -> int | None:
        """The workload seed that the caller chose, if any."""
        given = reset_options(options)
        unknown = [name for name in given if name != "workload_seed"]
        if unknown:
            raise ValueError(f"unknown option {unknown[0]!r}; known: 'workload_seed'")
        if seed is not None:
            seed = whole_number("seed", seed, 0, "None")
        chosen = given.get("workload_seed")
        return seed if chosen is None else whole_number("workload_seed", chosen, 0, "None")

    def _drawn_seed(self) -> int:
        return int(self.np_random.integers(FIRST_DRAWN_SEED, _LAST_DRAWN_SEED))

    def _to_asked(self, episode: Episode, decision: Decision | None) -> Decision | None:
        """Answer for the agent until a decision comes that it is asked."""
        simulation, baseline = episode.simulation, episode.baseline
        while decision is not None and not self.asks(decision):
            decision = simulation.advance(self.unasked_answer(decision, baseline))
        if isinstance(decision, PlacementDecision) and decision.elapsed_s > 0.0:
            episode.asked_again += 1
        return decision

    def _mask_of(self, decision: Decision | None) -> Mask:
        """The mask at a decision. There are few different ones, so each is made once."""
        key: Hashable = None
        if isinstance(decision, RouteDecision):
            key = (decision.program.model, decision.may_hold)
        elif decision is not None:
            key = (decision.instance, self.placements.can_prefetch(decision))
        mask = self._masks.get(key)
        if mask is None:
            mask = self._masks[key] = np.zeros(self._mask_size(), np.int8)
            self._write_mask(mask, decision)
            mask.flags.writeable = False
        return mask


def _rows(max_instances: int | None, number: int) -> int:
    if max_instances is None:
        return number
    rows = whole_number("max_instances", max_instances, 1, "None")
    if rows < number:
        raise ValueError(
            f"max_instances is {rows}; the scenario has {number} instances, so at least "
            f"{number} are needed"
        )
    if rows > MOST_INSTANCES:
        raise ValueError(f"max_instances is {rows}; allowed: at most {MOST_INSTANCES}")
    return rows


def _tiers(tiers: Sequence[str] | None, own: tuple[str, ...]) -> tuple[str, ...]:
    if tiers is None:
        return own
    names = tuple(tiers) if isinstance(tiers, (list, tuple)) else ()
    are_names = all(isinstance(name, str) for name in names)
    if not are_names or len(set(names)) != len(names) or not set(own) <= set(names):
        raise ValueError(
            f"tiers is {tiers!r}; allowed: a list of different names with at least those of the "
            f"scenario, {list(own)}"
        )
    return names
