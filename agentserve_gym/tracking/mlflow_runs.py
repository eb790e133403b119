"""Runs of MLflow, where its environment variables say."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from agentserve_gym.tracking.run import Described

EXPERIMENT = "agentserve"
_MOST_VALUE_CHARACTERS = 6000
_RETRIES = "3"
_NOT_IN_NAMES = re.compile(r"[^\w\-. /]")


def check() -> None:
    """Reach the store and make the experiment there, once for trainings that run side by side.

    Raises:
        ValueError: if the store cannot be used.
    """
    with _reaching():
        _experiment_id()


class MlflowRun:
    """The process's present run."""

    def __init__(self, run_id: str) -> None:
        self._id = run_id

    @property
    def id(self) -> str:
        """By which the service finds it again."""
        return self._id

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Add a point to each curve."""
        import mlflow

        named = {valid_name(key): value for key, value in metrics.items()}
        mlflow.log_metrics(named, step=step, run_id=self._id)

    def summarize(self, values: Mapping[str, float | str]) -> None:
        """Note what came out in the end: numbers are metrics, and words are tags."""
        import mlflow

        words = {key: value for key, value in values.items() if isinstance(value, str)}
        numbers = {key: value for key, value in values.items() if not isinstance(value, str)}
        self.log(numbers, step=0)
        mlflow.set_tags({valid_name(key): value for key, value in words.items()})

    def end(self, *, failed: bool) -> None:
        """Close the run."""
        import mlflow

        mlflow.end_run("FAILED" if failed else "FINISHED")


def open_run(described: Described, known: str | None) -> MlflowRun:
    """Begin a run, or go on with a known one, which keeps its parameters.

    Raises:
        ValueError: if MLflow does not open it.
    """
    import mlflow

    # MLflow would write addresses between what commands print for other programs.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    with _reaching():
        if known is not None:
            return MlflowRun(mlflow.start_run(run_id=known).info.run_id)
        tags = {"folder": str(described.folder.resolve())}
        if described.group is not None:
            tags["group"] = described.group
        run = mlflow.start_run(experiment_id=_experiment_id(), run_name=described.name, tags=tags)
        opened = MlflowRun(run.info.run_id)
        try:
            mlflow.log_params(dict(parameters(described.config)))
        except BaseException:
            opened.end(failed=True)
            raise
    return opened


def _experiment_id() -> str:
    """Of the experiment that the variables name, or of ours; it is made if it is not there."""
    import mlflow

    client = mlflow.MlflowClient()
    name, number = (os.environ.get(f"MLFLOW_EXPERIMENT_{key}") for key in ("NAME", "ID"))
    if number and not name:
        return str(client.get_experiment(number).experiment_id)
    found = client.get_experiment_by_name(name or EXPERIMENT)
    return str(found.experiment_id if found else client.create_experiment(name or EXPERIMENT))


@contextmanager
def _reaching() -> Iterator[None]:
    """What a user set is left as it is; by itself MLflow tries for four minutes in silence."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _RETRIES)
    import mlflow

    try:
        yield
    except Exception as error:  # of MLflow, of its database, or of the network
        where = mlflow.get_tracking_uri()
        raise ValueError(f"cannot log to mlflow at {where}: {error}") from error


def parameters(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings by their path, as texts that are not too long for MLflow."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from parameters(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value)
            yield valid_name(prefix + key), text[:_MOST_VALUE_CHARACTERS]


def valid_name(key: str) -> str:
    """A name that MLflow takes: policies have signs in theirs that it does not."""
    return _NOT_IN_NAMES.sub("_", key)
