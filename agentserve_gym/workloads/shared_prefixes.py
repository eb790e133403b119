"""Shared-prefix load as benchmarks of routers send it: groups of prompts, stages of constant rate.

It is inference-perf's load: ``groups`` random prefixes, each followed by ``prompts_per_group``
random questions; the prompts are shuffled once, and every stage sends them in that order, again and
again, from the first on. A stage's arrivals are those of a Poisson process, scaled so that the last
comes at the stage's end. (github.com/kubernetes-sigs/inference-perf, shared-prefix data generator
and constant load timer.)
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentserve_gym.messages import shown


@dataclass(frozen=True, slots=True)
class LoadStage:
    """Requests at a rate for some time: ``rate_per_s`` x ``seconds`` of them, rounded down.

    Raises:
        ValueError: a number is not positive, or there is no request in the stage.
    """

    rate_per_s: float
    seconds: float

    def __post_init__(self) -> None:
        for name in ("rate_per_s", "seconds"):
            value = getattr(self, name)
            if not (isfinite(value) and value > 0.0):
                raise ValueError(f"a stage's {name} is {shown(value)}; allowed: a number above 0")
        if not self.requests:
            raise ValueError(
                f"a stage of {self.seconds:g} s at {self.rate_per_s:g} requests per second has no "
                "request"
            )

    @property
    def requests(self) -> int:
        """How many there are."""
        return int(self.rate_per_s * self.seconds + 1e-9)


@dataclass(frozen=True, slots=True)
class SharedPrefixLoad:
    """Prompts that share prefixes by group.

    Attributes:
        groups, prompts_per_group: how many prefixes, and prompts with each.
        prefix_tokens, question_tokens: lengths of a prompt's two parts.
        output_tokens: of every answer.

    Raises:
        ValueError: a number is not a whole number of at least 1.
    """

    groups: int
    prompts_per_group: int
    prefix_tokens: int
    question_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"{field.name} is {shown(value)}; allowed: an integer of at least 1"
                )

    def requests(
        self, stage: LoadStage, name: str, start_s: float, seed: int
    ) -> list[dict[str, Any]]:
        """One stage's requests, as an inline workload has its programs.

        Args:
            name: begins their ids: ``name-0``, ``name-1``, and so on.
            start_s: when the stage begins.
            seed: of the prompts' order, the same for every stage, and, with ``name``, of arrivals.
        """
        prompts = np.random.default_rng([seed, 0]).permutation(self.groups * self.prompts_per_group)
        arrivals = start_s + _arrivals(stage, np.random.default_rng([seed, 1, *name.encode()]))
        return [
            {
                "program_id": f"{name}-{number}",
                "agent_class": "shared_prefix",
                "arrival_s": float(arrival_s),
                **self._prompt(int(prompts[number % len(prompts)])),
            }
            for number, arrival_s in enumerate(arrivals)
        ]

    def _prompt(self, number: int) -> dict[str, Any]:
        """All but its last token is cached, in whole blocks, once the prompt was served."""
        prefix = [
            {"key": f"group {number // self.prompts_per_group}", "tokens": self.prefix_tokens}
        ]
        if self.question_tokens > 1:
            prefix.append({"key": f"prompt {number}", "tokens": self.question_tokens - 1})
        return {
            "prefix": prefix,
            "turns": [{"new_input_tokens": 1, "output_tokens": self.output_tokens}],
        }


def _arrivals(stage: LoadStage, random: np.random.Generator) -> NDArray[np.float64]:
    """Seconds from the stage's start, the last one at its end."""
    times: NDArray[np.float64] = np.cumsum(random.exponential(1.0, stage.requests))
    return times * float(stage.seconds / times[-1])
