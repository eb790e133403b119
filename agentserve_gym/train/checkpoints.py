"""Checkpoints: everything that a run needs to go on as if it had not stopped.

A checkpoint is a folder ``checkpoints/step_<n>`` that appears by a rename, so a killed run leaves
whole checkpoints only. It holds SB3's model file (weights and optimizers) and ``progress.pickle``:
step counts, the workers in mid-episode, the last observations, the state of every random generator,
and for DQN the replay buffer. Progress is a pickle, so resume only runs that you trust.
"""

from __future__ import annotations

import os
import pickle
import random
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer

from agentserve_gym.train.vec_env import AgentServeVecEnv

FOLDER = "checkpoints"
_REPLAY_ARRAYS = (
    "observations", "next_observations", "actions", "rewards", "dones", "timeouts",
)  # fmt: skip
_PREFIX = "step_"
_KEPT = 2
_MODEL, _PROGRESS = "model.zip", "progress.pickle"
# What SB3 changes while it learns and does not store with weights and optimizers.
_COUNTERS = (
    "num_timesteps", "_n_updates", "_episode_num", "_last_obs", "_last_episode_starts",
    "ep_info_buffer", "ep_success_buffer", "_n_calls", "exploration_rate",
    "_current_progress_remaining",
)  # fmt: skip


def save_checkpoint(run: Path, learner: BaseAlgorithm, extra: dict[str, Any]) -> Path:
    """Write a checkpoint and drop all but the last two.

    Args:
        run: the run's folder.
        learner: between two rollouts.
        extra: values of the caller, returned by ``load_checkpoint``.
    """
    workers = learner.get_env()
    assert isinstance(workers, AgentServeVecEnv)
    progress = {
        "spaces": (learner.observation_space, learner.action_space),
        "counters": {name: getattr(learner, name) for name in _COUNTERS if hasattr(learner, name)},
        "workers": workers.progress(),
        "random": (random.getstate(), np.random.get_state(), torch.get_rng_state()),  # noqa: NPY002
        "replay": _replay_state(getattr(learner, "replay_buffer", None)),
        "extra": extra,
    }
    final = run / FOLDER / f"{_PREFIX}{learner.num_timesteps:09d}"
    partial = final.with_name(f".{final.name}.{os.getpid()}.part")
    for left in final.parent.glob(f".{_PREFIX}*.part"):  # of a killed process
        shutil.rmtree(left)
    partial.mkdir(parents=True)
    try:
        learner.save(partial / _MODEL)
        with (partial / _PROGRESS).open("wb") as file:
            pickle.dump(progress, file, protocol=pickle.HIGHEST_PROTOCOL)
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    for old in list_checkpoints(run)[:-_KEPT]:
        shutil.rmtree(old)
    return final


def list_checkpoints(run: Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    return sorted((run / FOLDER).glob(f"{_PREFIX}*"))


def load_checkpoint(run: Path, learner: BaseAlgorithm) -> dict[str, Any]:
    """Bring a fresh learner, built from the run's settings, to the run's last checkpoint, or the
    one before where the last is damaged; a warning says so. The damaged one is kept under another
    name.

    Returns:
        The caller's values.

    Raises:
        ValueError: if the run has no checkpoint, none that can be read, or one made with other
            observations or actions than those of this version.
    """
    found = list_checkpoints(run)
    if not found:
        raise ValueError(f"{run} holds no checkpoint to resume from")
    damaged: dict[Path, str] = {}
    for checkpoint in reversed(found):
        try:
            extra = _restore(checkpoint, learner)
        except _OtherSpacesError:
            raise
        except Exception as error:  # whatever reading damaged files may raise
            damaged[checkpoint] = shorten(f"{type(error).__name__}: {error}", 100)
            continue
        if damaged:
            warnings.warn(
                f"cannot read {_listed(damaged)}; going on from {checkpoint}", stacklevel=2
            )
            _put_aside(damaged)
        return extra
    raise ValueError(
        f"no checkpoint can be read: {_listed(damaged)}; without {run / FOLDER} the run would "
        "resume from its start"
    )


class _OtherSpacesError(ValueError):
    """A checkpoint is whole, but of an environment that is no longer the same."""


def _worded(spaces: tuple[Any, Any] | None) -> str:
    if spaces is None:
        return "observations and actions of an earlier version"
    return f"{spaces[0].shape[0]} features and actions {spaces[1]}"


def _listed(damaged: dict[Path, str]) -> str:
    return ", ".join(f"{checkpoint} ({reason})" for checkpoint, reason in damaged.items())


def _put_aside(damaged: Iterable[Path]) -> None:
    """Rename checkpoints, so that the last two kept are whole ones."""
    for checkpoint in damaged:
        aside = checkpoint.with_name(f"damaged_{checkpoint.name}")
        shutil.rmtree(aside, ignore_errors=True)
        checkpoint.rename(aside)


def _restore(checkpoint: Path, learner: BaseAlgorithm) -> dict[str, Any]:
    """Bring a learner to a checkpoint. Another one may be restored after an error."""
    with (checkpoint / _PROGRESS).open("rb") as file:
        progress = pickle.load(file)
    spaces = progress.get("spaces")
    if spaces != (learner.observation_space, learner.action_space):
        raise _OtherSpacesError(
            f"{checkpoint} was made with {_worded(spaces)}, but the run's environment has "
            f"{_worded((learner.observation_space, learner.action_space))} now; train it anew"
        )
    learner.set_parameters(str(checkpoint / _MODEL), device=learner.device)
    for name, value in progress["counters"].items():
        setattr(learner, name, value)
    _restore_replay(getattr(learner, "replay_buffer", None), progress["replay"])
    workers = learner.get_env()
    assert isinstance(workers, AgentServeVecEnv)
    workers.resume(progress["workers"])
    python, legacy, tensors = progress["random"]
    random.setstate(python)
    np.random.set_state(legacy)  # noqa: NPY002
    torch.set_rng_state(tensors)
    extra: dict[str, Any] = progress["extra"]
    return extra


def _replay_state(buffer: ReplayBuffer | None) -> dict[str, Any] | None:
    """The filled part of a replay buffer; most of it may be empty."""
    if buffer is None:
        return None
    filled = buffer.size()
    arrays = {name: getattr(buffer, name)[:filled] for name in _REPLAY_ARRAYS}
    return {"arrays": arrays, "pos": buffer.pos, "full": buffer.full}


def _restore_replay(buffer: ReplayBuffer | None, state: dict[str, Any] | None) -> None:
    if buffer is None or state is None:
        return
    for name, values in state["arrays"].items():
        getattr(buffer, name)[: len(values)] = values
    buffer.pos, buffer.full = state["pos"], state["full"]
