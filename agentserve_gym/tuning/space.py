"""What a tuning tries, as a file."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from agentserve_gym.messages import shown, unknown, validated
from agentserve_gym.sim.scenario import StrictModel
from agentserve_gym.tables import read_table

Value = bool | int | float | str
_NEAR = 1e-9


class Range(StrictModel):
    """Numbers from ``low`` to ``high``, both included: whole ones if both are.

    Attributes:
        log: drawn evenly on a logarithmic scale.
        step: between the numbers that are tried; none: any.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: Annotated[int | float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _can_be_drawn_from(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low} and high {self.high}; allowed: low below high")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low}; allowed with log: above 0")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other; give one of them")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether whole numbers are tried."""
        return all(isinstance(bound, int) for bound in (self.low, self.high))

    def ends(self) -> list[Value]:
        """The values that are most likely to be refused."""
        return [self.low, self.high]

    def holds(self, value: Value | None) -> bool:
        """Whether a value may be tried."""
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < _NEAR


class Choices(StrictModel):
    """Values that are tried as they are."""

    choices: Annotated[list[Value], Field(min_length=2)]

    def ends(self) -> list[Value]:
        """All of them: any may be refused."""
        return self.choices

    def holds(self, value: Value | None) -> bool:
        """Whether a value is among them."""
        return value in self.choices


class Space(StrictModel):
    """A search.

    Attributes:
        description: for listings.
        trials: trainings in all.
        round: of which so many are proposed together, from what the rounds before have shown.
        seeds: tuning workloads that each is judged on.
        seed: of what is proposed.
        parameters: by the name of a setting, such as ``ppo.gamma``, what is tried.
    """

    description: str = ""
    trials: PositiveInt = 32
    round: PositiveInt = 4
    seeds: Annotated[int, Field(ge=1, le=100)] = 16
    seed: NonNegativeInt = 0
    parameters: Annotated[dict[str, Range | Choices], Field(min_length=1)]


def space_names() -> list[str]:
    """Spaces that come with the package."""
    folder = resources.files(__package__) / "spaces"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir())


def load_space(name: str) -> Space:
    """A space of the package, or of a .toml or .json file.

    Raises:
        ValueError: for an unknown name, or naming each unknown key or bad value.
    """
    if Path(name).suffix in (".toml", ".json"):
        values: dict[str, Any] = read_table(Path(name))
    elif name in space_names():
        inside = resources.files(__package__) / "spaces" / f"{name}.toml"
        values = tomllib.loads(inside.read_text(encoding="utf-8"))
    else:
        raise ValueError(f"{unknown('space', name, space_names())}; or a .toml or .json file")
    return validated(Space, values, f"space {shown(name)}")
