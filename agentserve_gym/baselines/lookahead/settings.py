"""The parameters of the policies that look ahead."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from agentserve_gym.baselines.lookahead.options import LEVERS
from agentserve_gym.baselines.parts import check_parameter, choice, number


@dataclass(frozen=True)
class Settings:
    """What both have in common.

    Attributes:
        lever: which answers may change; ``all`` of them, or one of ``LEVERS``.
        share: of the decisions, drawn at random, at which alternatives are tried.
        alternatives: most of them at one decision.
    """

    name: ClassVar[str] = ""
    rule: ClassVar[str] = ""
    source: ClassVar[str] = ""

    lever: str = choice(*LEVERS)
    share: float = number(0.25, low=0.0, high=1.0)
    alternatives: int = number(3, low=1, high=64)

    def __post_init__(self) -> None:
        for parameter in fields(self):
            check_parameter(self.name, parameter, getattr(self, parameter.name))

    def given(self) -> list[str]:
        """Parameters that differ from their defaults, as ``parse_policy`` reads them."""
        return [
            f"{parameter.name}={_text(getattr(self, parameter.name))}"
            for parameter in fields(self)
            if getattr(self, parameter.name) != parameter.default
        ]


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class LookaheadSettings(Settings):
    """Of the look-ahead that samples futures.

    Attributes:
        samples: futures at a decision. ``horizon_s``: how far each is simulated.
        caution: how many standard errors over samples an alternative must be better.
        pressure: share of an instance's HBM that must be neither free nor cached, or turns must
            wait, for a decision to matter.
        seed: of the draws.
    """

    name: ClassVar[str] = "lookahead"
    rule: ClassVar[str] = "simulate alternatives to the base's answer in sampled futures"
    source: ClassVar[str] = "rollout (Bertsekas 1997) with sampled futures"

    samples: int = number(4, low=2, high=1000)
    horizon_s: float = number(60.0, low=1e-3)
    caution: float = number(3.0)
    pressure: float = number(0.5, low=0.0, high=1.0)
    seed: int = number(0, low=0)


@dataclass(frozen=True)
class ClairvoyantSettings(Settings):
    """Of the look-ahead that knows the future.

    Attributes:
        horizon_s: how far alternatives are simulated; 0: to the end of the run.
        placebo: instead of trying other answers, let the same answer come with one more output
            token, two more and so on: as many changes of luck as there would be other answers.
        seed: of which decisions are tried.
    """

    name: ClassVar[str] = "clairvoyant"
    rule: ClassVar[str] = "simulate alternatives to the base's answer in the true future"
    source: ClassVar[str] = "oracle: one-step improvement"

    horizon_s: float = number(0.0)
    placebo: bool = False
    seed: int = number(0, low=0)
