"""Real forward passes against predicted ones: prompts of 32 to 16,384 tokens on real GPUs.

Of the catalogue only one number is from these rows: the launches of the software ``vllm-0.19``,
from two prompts of the smallest model. So the errors say how far the roofline and the kernel sums
are to be trusted on whole forward passes, host overhead included.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, ConfigDict

from agentserve_gym.tables import read_table

from .catalogue import DATA
from .pricing.timing import lone_chunk
from .sources import latency_model, latency_provenance


class MeasuredCase(BaseModel):
    """One engine's row of the measured table."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    accelerator: str
    model: str
    tensor_parallel: int
    milliseconds: tuple[float, ...]


class MeasuredForwardPasses(BaseModel):
    """The measured table: prompt lengths, and one row of times per engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    tokens: tuple[int, ...]
    cases: tuple[MeasuredCase, ...]


@dataclass(frozen=True, slots=True)
class ForwardPassError:
    """One measured forward pass and its prediction, seconds."""

    accelerator: str
    model: str
    tensor_parallel: int
    tokens: int
    kind: str
    measured_s: float
    predicted_s: float

    @property
    def error_percent(self) -> float:
        return 100 * (self.predicted_s / self.measured_s - 1)


def measured_forward_passes() -> MeasuredForwardPasses:
    """The measured table of the catalogue."""
    return MeasuredForwardPasses.model_validate(read_table(DATA / "measured/forward_passes.toml"))


def forward_pass_errors(source: str = "auto", software: str = "none") -> list[ForwardPassError]:
    """Every measured forward pass against the timing source, with the host time of a serving
    software where it has coefficients (see ``latency_model``)."""
    table = measured_forward_passes()
    errors = []
    for case in table.cases:
        what = (case.accelerator, case.model, case.tensor_parallel)
        kind = latency_provenance(*what, source=source).kind
        served_by = software if kind == "compact" else "none"
        latency = latency_model(*what, source=source, software=served_by)
        for tokens, milliseconds in zip(table.tokens, case.milliseconds, strict=True):
            predicted = latency.step_s(lone_chunk(tokens))
            errors.append(ForwardPassError(*what, tokens, kind, milliseconds / 1e3, predicted))
    return errors


def calibrated_errors(errors: list[ForwardPassError]) -> list[ForwardPassError]:
    """Errors that remain after an overhead and a scale per engine, on rows not used for them.

    Both are fitted to every other row of an engine; the rows between are returned.
    """
    cases = dict.fromkeys((row.accelerator, row.model, row.tensor_parallel) for row in errors)
    tested = []
    for case in cases:
        rows = [r for r in errors if (r.accelerator, r.model, r.tensor_parallel) == case]
        used, left = rows[::2], rows[1::2]
        measured = np.array([row.measured_s for row in used])
        inputs = np.array([[1.0, row.predicted_s] for row in used]) / measured[:, None]
        overhead, scale = np.linalg.lstsq(inputs, np.ones(len(used)))[0]
        tested += [replace(r, predicted_s=float(overhead + scale * r.predicted_s)) for r in left]
    return tested
