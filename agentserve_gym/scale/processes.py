"""Worker processes that end with the process that started them, whatever ends it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import connection

from agentserve_gym.scale.workers import (
    QUEUED_PER_WORKER,
    InThisProcess,
    Result,
    Task,
    Workers,
)


@contextmanager
def processes(number: int) -> Iterator[Workers]:
    """Workers on this machine: ``number`` processes, or this one alone if that is 1.

    Raises:
        ValueError: if ``number`` is below 1.
    """
    if number < 1:
        raise ValueError(f"jobs is {number}; allowed: at least 1")
    if number == 1:
        yield InThisProcess()
        return
    with worker_pool(number) as pool:
        yield _Processes(pool, number)


class _Processes:
    def __init__(self, pool: ProcessPoolExecutor, number: int) -> None:
        self._pool = pool
        self._number = number

    def run(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        done: Callable[[int, Result], None],
        failed: Callable[[int, Exception], None],
    ) -> None:
        """As `Workers.run`.

        Raises:
            ChildProcessError: if a process was killed.
        """
        try:
            self._drain(function, tasks, done, failed)
        except BrokenProcessPool as error:
            raise ChildProcessError(
                f"one of {self._number} worker processes was killed, perhaps for lack of memory; "
                "what is done is kept"
            ) from error

    def _drain(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        done: Callable[[int, Result], None],
        failed: Callable[[int, Exception], None],
    ) -> None:
        numbered = iter(enumerate(tasks))
        running: dict[Future[Result], int] = {}
        while True:
            free = self._number * QUEUED_PER_WORKER - len(running)
            with without_interrupts():  # submitting may start a process
                for number, task in islice(numbered, free):
                    running[self._pool.submit(function, task)] = number
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                number = running.pop(future)
                error = future.exception()
                if isinstance(error, BrokenProcessPool):
                    raise error
                if isinstance(error, Exception):
                    failed(number, error)
                else:
                    done(number, future.result())


@contextmanager
def worker_pool(number: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``number`` processes; an error within the block ends them at once.

    Each waits on one end of a pipe whose other end this process alone holds. It closes by itself
    when this process dies, even by SIGKILL, on every system.
    """
    context = multiprocessing.get_context("spawn")
    tether, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        number, mp_context=context, initializer=_end_with_parent, initargs=(tether,)
    )
    try:
        yield pool
    except BaseException:
        held.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        held.close()
        tether.close()


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Processes started within never see Ctrl-C, which is their parent's to answer; it waits."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with_parent(tether: connection.Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_the_end, args=(tether,), daemon=True).start()


def _wait_for_the_end(tether: connection.Connection) -> None:
    connection.wait([tether])
    os._exit(1)
