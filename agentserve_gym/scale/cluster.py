"""Workers on a Ray cluster, through Ray Core alone."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, cast

from agentserve_gym.messages import shown
from agentserve_gym.scale.version import package_version
from agentserve_gym.scale.workers import QUEUED_PER_WORKER, Result, Task

if TYPE_CHECKING:
    from ray import ObjectRef

AUTO = "auto"
LOCAL = "local"
"""The address of a cluster that is started here and ends with its command."""
MOST_RETRIES = 5
"""Of a task whose worker or machine is lost. One that kills every worker must end some time."""
_MOST_CONNECTING_S = 10.0

Answer = tuple[str, str, object]
"""Of a worker: the version that it has, its machine's name, and what its task gave, which is
``None`` where it has another version than is asked for."""


@contextmanager
def cluster(address: str, cpus: int) -> Iterator[Cluster]:
    """A cluster's workers, as many as it has CPUs.

    Args:
        address: ``auto``, for the one that this machine belongs to; ``HOST:PORT``; or ``LOCAL``, to
            start one here.
        cpus: of a cluster that is started here.

    Raises:
        ModuleNotFoundError: if Ray is not installed.
        ValueError: if the address is no address.
        ConnectionError: if there is no cluster there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported
    import ray

    _require_reachable(address)
    starts = address == LOCAL
    try:
        with _own_signals():
            ray.init(
                address,
                num_cpus=cpus if starts else None,
                include_dashboard=False if starts else None,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
    except ConnectionError as error:
        raise ConnectionError(
            f"no connection to a Ray cluster at {address}: {error} (start one with ray start "
            "--head; one that asks for a token needs RAY_AUTH_MODE=token here)"
        ) from error
    try:
        yield Cluster()
    finally:
        ray.shutdown()


def _require_reachable(address: str) -> None:
    """Ray itself tries for minutes before it gives up."""
    if address in (AUTO, LOCAL):
        return
    host, _, port = address.rpartition(":")
    if "/" in host or not (host and port.isdecimal()):
        raise ValueError(f"--ray is {shown(address)}; allowed: {AUTO}, or HOST:PORT")
    try:
        socket.create_connection((host, int(port)), timeout=_MOST_CONNECTING_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(f"no Ray cluster answers at {address}: {error}") from error


class Cluster:
    """The cluster that this process is connected to."""

    def cpus(self) -> int:
        """Of all its machines, as it is now: clusters grow and shrink."""
        import ray

        found = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return max(int(found.get("CPU", 0)), 1)

    def run(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        done: Callable[[int, Result], None],
        failed: Callable[[int, Exception], None],
    ) -> None:
        """As `Workers.run`. A task whose worker or machine is lost runs again; it has failed when
        that has happened more than ``MOST_RETRIES`` times.

        Raises:
            ValueError: if a machine has another version of the package.
        """
        import ray

        begin = ray.remote(num_cpus=1, max_retries=MOST_RETRIES)(_on_worker()).remote
        expected, folder = package_version(), os.getcwd()
        numbered = iter(enumerate(tasks))
        running: dict[ObjectRef[Answer], int] = {}
        while True:
            # More than there are CPUs, so that a cluster that can grow sees the demand; it may have
            # shrunk, too.
            free = max(self.cpus() * QUEUED_PER_WORKER - len(running), 0)
            for number, task in islice(numbered, free):
                running[begin(expected, folder, pickle.dumps((function, task)))] = number
            if not running:
                return
            ray.wait(list(running), num_returns=1)
            finished, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
            for reference in finished:
                number = running.pop(reference)
                try:
                    version, machine, result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    failed(number, error.cause)
                except ray.exceptions.RayError as error:
                    failed(number, error)
                else:
                    if version != expected:
                        raise ValueError(
                            f"{machine} of the Ray cluster has {version}; this is {expected}: "
                            "install the same on every machine"
                        )
                    done(number, cast(Result, result))


def _on_worker() -> Callable[[str, str, bytes], Answer]:
    """What a worker calls. As a function inside another it travels whole, so that a machine whose
    package is another, or that has none, can still say so."""

    def run_task(expected: str, folder: str, packed: bytes) -> Answer:
        import os
        import pickle
        import platform
        import sys

        # Relative names of files, and modules beside them, are those of the command.
        if os.path.isdir(folder):
            os.chdir(folder)
        if "" not in sys.path:
            sys.path.append("")
        try:
            from agentserve_gym.scale.version import package_version

            version = package_version()
        except ImportError as error:
            version = f"no agentserve-gym that fits ({error})"
        if version != expected:
            return version, platform.node(), None
        function, task = pickle.loads(packed)
        return version, platform.node(), function(task)

    return run_task


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray answers SIGTERM with an exit of its own; ours, which puts things in order, stays."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
