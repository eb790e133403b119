"""Specifications: what is refused, and that the message names the field."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from agentserve_gym.workloads import ArrivalSpec, GeneratedWorkload, WorkloadSpec

ARRIVALS: TypeAdapter[Any] = TypeAdapter(ArrivalSpec)
WORKLOADS: TypeAdapter[Any] = TypeAdapter(WorkloadSpec)

NAN, INF = float("nan"), float("inf")
TURN = {"new_input_tokens": 1, "output_tokens": 1}


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"kind": "poisson", "rate_per_s": 0}, "rate_per_s"),
        ({"kind": "poisson", "rate_per_s": NAN}, "rate_per_s"),
        ({"kind": "poisson", "rate_per_s": INF}, "rate_per_s"),
        ({"kind": "poisson", "rate_per_s": -1}, "rate_per_s"),
        ({"kind": "poisson"}, "rate_per_s"),
        ({"kind": "poisson", "rate_per_s": 1, "cv": 2}, "cv"),
        ({"kind": "gamma", "rate_per_s": 1, "cv": 0}, "cv"),
        ({"kind": "trace", "speedup": 0}, "speedup"),
        ({"kind": "closed_loop", "concurrency": 0}, "concurrency"),
        ({"kind": "closed_loop", "concurrency": 1.5}, "concurrency"),
        ({"kind": "diurnal", "rate_per_s": 1, "peak_to_mean": 0.9}, "peak_to_mean"),
        ({"kind": "diurnal", "rate_per_s": 1, "period_s": INF}, "period_s"),
        ({"kind": "staged", "stages": []}, "stages"),
        ({"kind": "staged", "stages": [{"duration_s": 0, "rate_per_s": 1}]}, "duration_s"),
        ({"kind": "staged", "stages": [{"duration_s": 9, "rate_per_s": 0}]}, "rate_per_s is 0"),
        ({"kind": "weibull"}, "weibull"),
    ],
)
def test_bad_arrivals_are_refused_with_the_field_named(value: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        ARRIVALS.validate_python(value)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"kind": "generated", "mix": {}, "programs": 1}, "mix"),
        ({"kind": "generated", "mix": {"coding_auto": 0}, "programs": 1}, "mix.coding_auto"),
        ({"kind": "generated", "mix": {"coding_auto": NAN}, "programs": 1}, "mix.coding_auto"),
        ({"kind": "generated", "mix": {"coding": 1}, "programs": 1}, "unknown agent class"),
        ({"kind": "generated", "mix": {"coding_auto": 1}, "programs": 0}, "programs"),
        ({"kind": "generated", "mix": {"coding_auto": 1}}, "programs"),
        (
            {"kind": "generated", "mix": {"coding_auto": 1}, "programs": 1, "gap_scale": -1},
            "gap_scale",
        ),
        (
            {"kind": "generated", "mix": {"coding_auto": 1}, "programs": 1, "tool_timeout_s": INF},
            "tool_timeout_s",
        ),
        ({"kind": "trace", "path": ""}, "path"),
        ({"kind": "trace", "path": "x", "format": "mooncaek"}, "format"),
        ({"kind": "trace", "path": "x", "max_gap_s": NAN}, "max_gap_s"),
        ({"kind": "trace", "path": "x", "shufle": True}, "shufle"),
        ({"kind": "inline", "programs": []}, "programs"),
        ({"kind": "inline", "programs": [{"turns": []}]}, "turns"),
        ({"kind": "inline", "programs": [{"turns": [TURN | {"output_tokens": 0}]}]}, "output"),
        ({"kind": "inline", "programs": [{"turns": [TURN | {"gap_s": -1}]}]}, "gap_s"),
    ],
)
def test_bad_workloads_are_refused_with_the_field_named(value: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        WORKLOADS.validate_python(value)


def test_specifications_survive_json() -> None:
    spec = GeneratedWorkload(mix={"coding_auto": 1, "web_research": 2}, programs=3)
    assert WORKLOADS.validate_json(spec.model_dump_json()) == spec


def test_specifications_are_immutable() -> None:
    spec = GeneratedWorkload(mix={"coding_auto": 1}, programs=3)
    with pytest.raises(ValidationError, match="frozen"):
        spec.programs = 4  # type: ignore[misc]
