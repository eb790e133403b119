"""The native vector environments: N simulations in one process, one batched observation array."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from agentserve_gym.envs.arguments import one_of, reset_options, seed_list
from agentserve_gym.envs.base import AgentServeBase
from agentserve_gym.envs.batch import EnvBatch, Progress, make_batch
from agentserve_gym.envs.env import AgentServeEnv, AgentServeOffloadEnv, AgentServeRoutingEnv
from agentserve_gym.envs.specification import jsonable

Arrays = tuple[
    NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]
]


class AgentServeVectorEnv(VectorEnv[NDArray[np.float32], NDArray[np.int64], NDArray[Any]]):
    """AgentServe-v0, N times in one process.

    .. code-block:: python

        envs = gym.make_vec("agentserve_gym:AgentServe-v0", num_envs=8, scenario="default")
        observations, infos = envs.reset(seed=0)
        observations, rewards, terminations, truncations, infos = envs.step(actions)

    Equal seeds and actions give the same numbers, bit by bit, as ``gym.vector.SyncVectorEnv`` over
    ``gym.make``, in less time: observations are scaled together, and no dictionary is made per
    environment and step.

    Observations
        float32, ``(N, size)``, a new array each step; a row is that of the single environment.
    Actions
        Integers, ``(N, 2)`` for AgentServe-v0 and ``(N,)`` for the other two.
    Episode end
        ``autoreset_mode`` as in Gymnasium, default ``NextStep``: the step after the last one of an
        episode ignores its action and returns the first observation of the next episode.
        ``SameStep``: the last step returns that observation already, and the last one of the old
        episode in ``infos["final_obs"]``, its information in ``infos["final_info"]``.
        ``Disabled``: whoever steps resets, with ``reset(options={"reset_mask": mask})``.
    Infos
        Those of the single environment in Gymnasium's batched form: ``action_mask`` int8
        ``(N, k)``, ``elapsed_s``, ``seed``, ``steps``, ``invalid_actions`` and ``asked_again``
        ``(N,)``, ``metrics`` float64 ``(N, M)`` in the order of ``metric_names()``, a row infinite
        until its episode is over; each with a boolean array ``_<name>`` of who has it: everyone,
        except after ``reset_mask``.
    Seeds
        ``reset(seed=s)`` runs workload ``s + i`` in environment ``i``, ``reset(seed=[...])`` those
        in the list. Later episodes draw theirs as the single environment does.
    """

    single: ClassVar[type[AgentServeBase]] = AgentServeEnv
    _spec: EnvSpec | None = None
    metadata: dict[str, Any]
    batch: EnvBatch

    def __init__(
        self,
        num_envs: int = 1,
        *,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        **options: Any,
    ) -> None:
        """Make the environments; simulations are built by ``reset``.

        Args:
            num_envs: how many, at most 10,000, and x ``max_instances`` at most 100,000.
            max_episode_steps: truncate episodes after so many steps, as ``gym.make`` does.
            autoreset_mode: ``NextStep``, ``SameStep`` or ``Disabled``.
            options: of the single environment: ``scenario``, ``reward``, ``max_instances``,
                ``render_mode``, ``baseline``.

        Raises:
            ValueError: for a bad value of any of these.
        """
        self.autoreset_mode = _mode(autoreset_mode)
        self.batch = batch = make_batch(self.single, num_envs, max_episode_steps, **options)
        first = batch.envs[0]
        self.num_envs = num_envs
        self.metadata = {**first.metadata, "autoreset_mode": self.autoreset_mode}
        self.render_mode = first.render_mode
        self.single_observation_space = first.observation_space
        self.single_action_space = first.action_space
        self.observation_space = batch_space(first.observation_space, num_envs)
        self.action_space = batch_space(first.action_space, num_envs)
        self._ended: NDArray[np.bool_] = np.zeros(num_envs, np.bool_)
        self._everyone = np.ones(num_envs, np.bool_)

    # --- Gymnasium -------------------------------------------------------------------------------

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode in every environment, or in those of a mask.

        Args:
            seed: of the first environment, each next one getting one more; or a list; or ``None``.
            options: as for the single environment; besides ``{"reset_mask": mask}``, boolean
                ``(N,)``: who begins anew.

        Raises:
            ValueError: for a bad seed, a list of another length than N, a bad mask or option,
                before anything changes.
        """
        seeds = seed_list(seed, self.num_envs)
        options = reset_options(options)
        mask = self._reset_mask(options.pop("reset_mask", None))
        infos: dict[str, Any] = {}
        for number in np.flatnonzero(mask).tolist():
            info = self.batch.begin(number, seeds[number], options)
            infos = self._add_info(infos, info, number)
        self._ended[mask] = False
        return self.batch.observe(), infos

    def step(self, actions: Any) -> Arrays:
        """Answer every environment's decision.

        Raises:
            RuntimeError: before ``reset``, or where an episode is over and nothing resets it.
            ValueError: unless there is an action of the action space for each environment, before
                anything runs. One that the mask excludes falls back to a safe one and is counted.
        """
        chosen = self.batch.read_actions(actions)
        ended = self._ended
        if self.autoreset_mode is AutoresetMode.DISABLED and ended.any():
            raise RuntimeError(
                f"the episodes of {np.flatnonzero(ended).tolist()} are over; call reset() with "
                'options={"reset_mask": ...}'
            )
        self._ended = np.zeros(self.num_envs, np.bool_)
        again = ended.tolist()
        special: dict[str, Any] = {}
        progress = [
            self._restart(number) if again[number] else self._proceed(number, action, special)
            for number, action in enumerate(chosen)
        ]
        rewards, elapsed_s, terminations, truncations = zip(*progress, strict=True)
        infos = {**special, **self._infos(np.array(elapsed_s))}
        return (
            self.batch.observe(),
            np.array(rewards, np.float64),
            np.array(terminations, np.bool_),
            np.array(truncations, np.bool_),
            infos,
        )

    @property
    def spec(self) -> EnvSpec | None:
        """See the single environment."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = jsonable(spec)

    def action_masks(self) -> NDArray[np.bool_]:
        """Masks of possible actions, ``(N, k)``; see the single environment."""
        return self.batch.masks().astype(np.bool_)

    def render(self) -> tuple[Any, ...]:
        """Each environment's picture or text."""
        return tuple(env.render() for env in self.batch.envs)

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Each environment's generator of workload seeds."""
        return self.get_attr("np_random")

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each."""
        return self.get_attr("np_random_seed")

    # --- as SyncVectorEnv ------------------------------------------------------------------------

    @property
    def envs(self) -> list[AgentServeBase]:
        """The environments; read them only."""
        return self.batch.envs

    def call(self, name: str, *arguments: Any, **keywords: Any) -> tuple[Any, ...]:
        """Call a method of each environment (or read an attribute)."""
        found = [getattr(env, name) for env in self.batch.envs]
        return tuple(value(*arguments, **keywords) if callable(value) else value for value in found)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """An attribute of each environment."""
        return tuple(getattr(env, name) for env in self.batch.envs)

    def close_extras(self, **_: Any) -> None:
        """Close the environments."""
        for env in self.batch.envs:
            env.close()

    # --- details ---------------------------------------------------------------------------------

    def _proceed(self, number: int, action: Any, special: dict[str, Any]) -> Progress:
        """A step of one environment; what a reset in the same step hides goes into ``special``."""
        progress = self.batch.proceed(number, action)
        reward, elapsed_s, terminated, truncated = progress
        if not (terminated or truncated):
            return progress
        if self.autoreset_mode is not AutoresetMode.SAME_STEP:
            self._ended[number] = True
            return progress
        final = {
            "final_obs": self.batch.observe_one(number),
            "final_info": self.batch.info(number, elapsed_s),
        }
        self._add_info(special, final, number)
        _, elapsed_s, _, _ = self._restart(number)
        return reward, elapsed_s, terminated, truncated

    def _restart(self, number: int) -> Progress:
        """Begin the next episode of one environment."""
        info = self.batch.begin(number, None, None)
        return 0.0, info["elapsed_s"], False, False

    def _infos(self, elapsed_s: NDArray[np.float64]) -> dict[str, Any]:
        """The information that every environment gives at every step."""
        infos = {
            "action_mask": self.batch.masks(),
            "elapsed_s": elapsed_s,
            **self.batch.infos(),
        }
        return infos | {f"_{name}": self._everyone.copy() for name in infos}

    def _reset_mask(self, mask: Any) -> NDArray[np.bool_]:
        if mask is None:
            return self._everyone
        chosen: NDArray[np.bool_] = np.asarray(mask)
        if chosen.shape != (self.num_envs,) or chosen.dtype != np.bool_ or not chosen.any():
            raise ValueError(
                f"reset_mask is {mask!r}; a boolean array of shape ({self.num_envs},) with at "
                "least one true entry is needed"
            )
        return chosen


def _mode(value: str | AutoresetMode) -> AutoresetMode:
    if isinstance(value, AutoresetMode):
        return value
    one_of("autoreset_mode", value, [mode.value for mode in AutoresetMode])
    return AutoresetMode(value)


class AgentServeRoutingVectorEnv(AgentServeVectorEnv):
    """AgentServeRouting-v0, N times in one process; see ``AgentServeVectorEnv``."""

    single = AgentServeRoutingEnv


class AgentServeOffloadVectorEnv(AgentServeVectorEnv):
    """AgentServeOffload-v0, N times in one process; see ``AgentServeVectorEnv``."""

    single = AgentServeOffloadEnv
