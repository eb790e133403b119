"""How messages about wrong input are put."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from agentserve_gym.messages import did_you_mean, explain, shown, unknown


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Round(Strict):
    kind: Literal["round"]
    radius: float = Field(gt=0)


class Flat(Strict):
    kind: Literal["flat"]
    edges: dict[str, Annotated[int, Field(ge=0)]] = {}


class Drawing(Strict):
    title: str = ""
    shapes: list[Annotated[Round | Flat, Field(discriminator="kind")]] = []

    @model_validator(mode="after")
    def _titles_are_no_secrets(self) -> Drawing:
        if self.title == "secret":
            raise ValueError("title is 'secret'; allowed: anything else")
        return self


def refusal(content: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Drawing.model_validate(content)
    return explain(caught.value, "file", Drawing, content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"titel": "x"}, "file: unknown key 'titel'; did you mean 'title'?"),
        ({"zzz": 1}, "file: unknown key 'zzz'; allowed: shapes, title"),
        ({"shapes": [{"kind": "round", "radios": 1, "radius": 1}]},
         "file: unknown key 'shapes.0.radios'; did you mean 'radius'?"),
        ({"shapes": [{"kind": "flat", "radius": 1}]},
         "file: unknown key 'shapes.0.radius'; allowed: edges, kind"),
        ({"shapes": [{"kind": "round"}]}, "file: shapes.0.radius is missing"),
        ({"shapes": [{"kind": "flat", "edges": {"left": -1}}]},
         "file: shapes.0.edges.left is -1: Input should be greater than or equal to 0"),
        ({"shapes": [{}]}, "file: shapes.0.kind is missing"),
        ({"shapes": [{"kind": "oval"}]}, "file: shapes.0.kind is 'oval'; allowed: 'round', 'flat'"),
        ({"title": "secret"}, "file: title is 'secret'; allowed: anything else"),
        ([], "file: the content is []; allowed: a table of keys"),
    ],
)  # fmt: skip
def test_what_pydantic_refuses(content, message):
    assert refusal(content) == message


def test_many_errors_are_counted():
    message = refusal({"shapes": [{"kind": "round"}] * 9})
    assert message.count("is missing") == 3
    assert message.endswith("and 6 more")


def test_values_are_cut():
    assert shown([1]) == "[1]"
    assert len(shown("x" * 1000)) == 60


def test_names():
    assert did_you_mean("LRU", ["lru", "ttl"]) == "; did you mean 'lru'?"
    assert did_you_mean("zzz", ["lru", "ttl"]) == ""
    assert unknown("part", "lur", ["lru"]) == "unknown part 'lur'; did you mean 'lru'? allowed: lru"
    assert unknown("part", "x", [str(n) for n in range(30)]).endswith("18, 19 and 10 more")
