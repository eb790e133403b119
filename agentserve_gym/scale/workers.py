"""What runs tasks, whatever is behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

QUEUED_PER_WORKER = 4
"""So few wait at a worker that an interrupted run has little to abandon."""


class Workers(Protocol):
    """Runs tasks, several at a time."""

    def run(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        done: Callable[[int, Result], None],
        failed: Callable[[int, Exception], None],
    ) -> None:
        """Call a function for each task, and say what came of it as soon as it is known.

        Args:
            function: of a module, so that another process finds it by its name; what it returns
                follows from the task alone.
            tasks: begun in this order, and ended in any.
            done: called in this thread with a task's number and what it gave.
            failed: the same with what the function raised. What ``done`` and ``failed`` raise ends
                the run.
        """


class InThisProcess:
    """Tasks run here, one after the other."""

    def run(
        self,
        function: Callable[[Task], Result],
        tasks: Sequence[Task],
        done: Callable[[int, Result], None],
        failed: Callable[[int, Exception], None],
    ) -> None:
        """As `Workers.run`."""
        for number, task in enumerate(tasks):
            try:
                result = function(task)
            except Exception as error:
                failed(number, error)
            else:
                done(number, result)


def in_order(
    workers: Workers,
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    ended: Callable[[int], None],
) -> list[Result]:
    """What tasks gave, in their order; ``ended`` is told how many have ended so far.

    Raises:
        Exception: what the first task that failed raised.
    """
    results: dict[int, Result] = {}

    def done(number: int, result: Result) -> None:
        results[number] = result
        ended(len(results))

    def failed(_number: int, error: Exception) -> None:
        raise error

    workers.run(function, tasks, done, failed)
    return [results[number] for number in range(len(tasks))]
