"""``--jobs`` and ``--ray``: where a command's tasks run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from agentserve_gym.cli.output import note
from agentserve_gym.report.markdown import plural
from agentserve_gym.scale import Workers, processes
from agentserve_gym.scale.cluster import LOCAL, cluster

RAY = "--ray"
Opening = AbstractContextManager[Workers]
"""Workers that a command opens when all it was given has been checked."""

RayOption = Annotated[
    str | None,
    typer.Option(
        RAY,
        metavar="[ADDRESS]",
        help="Run tasks on this Ray cluster: auto (the one of this machine) or HOST:PORT. Without "
        "an address one is started here, with --jobs CPUs.",
    ),
]


class WithRay(TyperCommand):
    """A command whose ``--ray`` may stand without an address."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        given = []
        for number, argument in enumerate(args):
            given.append(argument)
            following = args[number + 1 : number + 2]
            if argument == RAY and (not following or following[0].startswith("-")):
                given.append(LOCAL)
        return super().parse_args(ctx, given)


def worker_arguments(jobs: int, ray: str | None) -> list[str]:
    """As they are written in a command."""
    written = [] if ray is None else [RAY] if ray == LOCAL else [RAY, ray]
    return ["--jobs", str(jobs), *written]


@contextmanager
def open_workers(jobs: int, ray: str | None) -> Iterator[Workers]:
    """Processes of this machine, or a Ray cluster where there is an address."""
    if ray is None:
        with processes(jobs) as workers:
            yield workers
        return
    with cluster(ray, jobs) as workers:
        note(f"Ray: {plural(workers.cpus(), 'CPU')}")
        yield workers
