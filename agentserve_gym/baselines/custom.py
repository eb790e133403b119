"""A user's own policy class, made to look like the built-in ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentserve_gym.baselines.scores import Scores
from agentserve_gym.sim import Answer, Decision

if TYPE_CHECKING:
    from agentserve_gym.sim import Simulation


class WholePolicy:
    """A policy that answers every decision itself, built by ``factory(**parameters)``.

    The object needs ``decide(decision)``; ``counters()``, ``bind(simulation)``, ``is_oracle`` and
    ``explain(decision)`` are used where it has them. ``reset`` builds it anew.

    Attributes:
        policy: the user's object, as it was last built.
        factory, parameters: what builds it.
    """

    def __init__(self, name: str, factory: Callable[..., Any], parameters: dict[str, Any]) -> None:
        """Build the policy.

        Raises:
            ValueError: if the factory fails, or what it builds has no ``decide``.
        """
        self._name = name
        self.factory = factory
        self.parameters = parameters
        self.reset()

    @property
    def name(self) -> str:
        given = ",".join(f"{key}={value}" for key, value in self.parameters.items())
        return f"{self._name}({given})" if given else self._name

    @property
    def is_oracle(self) -> bool:
        return bool(getattr(self.policy, "is_oracle", False))

    def decide(self, decision: Decision) -> Answer:
        """Answer one decision."""
        return self.policy.decide(decision)  # type: ignore[no-any-return]

    def explain(self, decision: Decision) -> Scores | None:
        """The user's scores, if the class has any."""
        explain = getattr(self.policy, "explain", None)
        return explain(decision) if explain is not None else None

    def counters(self) -> dict[str, int]:
        """The user's counters, if the class has any."""
        counters = getattr(self.policy, "counters", None)
        return dict(counters()) if counters is not None else {}

    def reset(self) -> None:
        """Build the policy anew."""
        try:
            self.policy = self.factory(**self.parameters)
        except Exception as error:  # whatever a user's class raises
            raise ValueError(
                f"policy {self._name!r} cannot be built: {type(error).__name__}: {error}"
            ) from error
        if not callable(getattr(self.policy, "decide", None)):
            raise ValueError(f"policy {self._name!r} has no method decide(decision)")

    def bind(self, simulation: Simulation) -> None:
        """Hand the simulation on, if the class asks for it."""
        bind = getattr(self.policy, "bind", None)
        if bind is not None:
            bind(simulation)

    def __repr__(self) -> str:
        return f"WholePolicy({self.name!r})"
