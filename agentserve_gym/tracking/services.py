"""The services that a training can be logged to, and what is asked of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.util import find_spec

from agentserve_gym.extras import how_to_install
from agentserve_gym.messages import unknown
from agentserve_gym.tracking import mlflow_runs, wandb_runs
from agentserve_gym.tracking.run import Described, TrackedRun


@dataclass(frozen=True, slots=True)
class Service:
    """How a service is reached.

    Attributes:
        package: without which it is not.
        check: raises ``ValueError`` if nothing can be logged there.
        open: begins a run, or goes on with the one of the given id; raises ``ValueError`` if the
            service refuses.
    """

    package: str
    check: Callable[[], None]
    open: Callable[[Described, str | None], TrackedRun]


SERVICES = {
    "wandb": Service("wandb", wandb_runs.check, wandb_runs.open_run),
    "mlflow": Service("mlflow", mlflow_runs.check, mlflow_runs.open_run),
}
"""By the name that ``--log`` takes."""


def check_services(names: Iterable[str]) -> tuple[str, ...]:
    """Find out before a long training whether it can be logged; each service once.

    Raises:
        ValueError: for an unknown service, or one where nothing can be logged.
        ModuleNotFoundError: naming the extra to install.
    """
    services = tuple(dict.fromkeys(names))
    for name in services:
        if name not in SERVICES:
            raise ValueError(unknown("service in log", name, SERVICES))
        require_package(SERVICES[name].package)
    for name in services:
        SERVICES[name].check()
    return services


def require_package(name: str) -> None:
    """Refuse to go on without a service's package.

    Raises:
        ModuleNotFoundError: naming the extra to install.
    """
    spec = find_spec(name)
    # A folder of that name, such as W&B writes, looks like a package without a file.
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(how_to_install(name), name=name)
