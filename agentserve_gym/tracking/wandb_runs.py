"""Runs of Weights & Biases. Whatever its environment variables say goes before what is set here."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agentserve_gym.tracking.run import Described

if TYPE_CHECKING:
    import wandb

PROJECT = "agentserve"


def check() -> None:
    """See whether W&B understands its variables and files; an account is not needed.

    Raises:
        ValueError: if it does not.
    """
    with _asking():
        _configured_online()


class WandbRun:
    """The process's present run, which W&B's callback for SB3 looks for."""

    def __init__(self, run: wandb.Run) -> None:
        self._run = run

    @property
    def id(self) -> str:
        """By which the service finds it again."""
        return str(self._run.id)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each curve. What a resumed run has logged before it was stopped, and
        computes once more, is there already: W&B's steps never go back."""
        if step >= self._run.step:
            self._run.log(dict(metrics), step=step)

    def summarize(self, values: Mapping[str, float | str]) -> None:
        """Note what came out in the end."""
        self._run.summary.update(dict(values))

    def end(self, *, failed: bool) -> None:
        """Close the run."""
        self._run.finish(exit_code=int(failed))


def open_run(described: Described, known: str | None) -> WandbRun:
    """Begin a run, or go on with a known one.

    Raises:
        ValueError: if W&B does not open it.
    """
    import wandb

    said = {
        "WANDB_PROJECT": ("project", PROJECT),
        "WANDB_NAME": ("name", described.name),
        "WANDB_RUN_GROUP": ("group", described.group),
        "WANDB_DIR": ("dir", str(described.folder)),
    }
    ours: dict[str, Any] = {
        key: value for variable, (key, value) in said.items() if not os.environ.get(variable)
    }
    with _asking():
        online = _configured_online()
        if online and not wandb.login(prompt=False):  # nobody may be there to answer a prompt
            ours["mode"] = "offline"
        elif online and known is not None:
            ours["resume"] = "allow"
        config = dict(described.config)
        return WandbRun(wandb.init(id=known, config=config, allow_val_change=True, **ours))


def _configured_online() -> bool:
    import wandb

    return bool(wandb.setup().settings.mode == "online")


@contextmanager
def _asking() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of W&B, of its settings, or of the network
        raise ValueError(f"cannot log to wandb: {error}") from error
