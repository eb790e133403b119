"""Worker processes that end with the process that started them, whatever ends it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait


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


def _end_with_parent(tether: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_the_end, args=(tether,), daemon=True).start()


def _wait_for_the_end(tether: Connection) -> None:
    wait([tether])
    os._exit(1)
