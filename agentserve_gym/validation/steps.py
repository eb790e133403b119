"""Single steps: the compact form against the tables it was fitted to, and against real prefills."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agentserve_gym.hardware import (
    BatchStep,
    find_profile,
    kv_pool_blocks,
    latency_model,
    list_compact_cases,
    read_compact_file,
)
from agentserve_gym.hardware.catalogue import DATA
from agentserve_gym.hardware.forward_passes import (
    ForwardPassError,
    calibrated_errors,
    forward_pass_errors,
)
from agentserve_gym.hardware.pricing.timing import prefill_area

_STEPS = 400
_LONGEST_CONTEXT = 16_384
_MOST_DECODES = 256
_LARGEST_CHUNK = 2048


@dataclass(frozen=True, slots=True)
class StepErrors:
    """Errors of whole steps at random places, as shares of the step's time in the tables.

    Attributes:
        case: ``<accelerator>/<model>/tp<k>``. ``kind``: of step.
        mean, p90: absolute. ``bias``: signed mean.
    """

    case: str
    kind: str
    mean: float
    p90: float
    bias: float

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "case": self.case,
            "kind": self.kind,
            "mean": self.mean,
            "p90": self.p90,
            "bias": self.bias,
        }


@dataclass(frozen=True, slots=True)
class ForwardPasses:
    """One engine's real prefills against a timing source, by prompt length.

    Attributes:
        case: ``<accelerator>/<model>/tp<k>``. ``kind``: the timing source that ``source`` gives.
        tokens, measured_s, predicted_s: one entry per prompt.
    """

    case: str
    source: str
    kind: str
    tokens: tuple[int, ...]
    measured_s: tuple[float, ...]
    predicted_s: tuple[float, ...]

    @property
    def errors(self) -> tuple[float, ...]:
        """Signed, as shares of the measured time."""
        return tuple(
            predicted / measured - 1.0
            for measured, predicted in zip(self.measured_s, self.predicted_s, strict=True)
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers."""
        return {
            "case": self.case,
            "source": self.source,
            "kind": self.kind,
            "tokens": list(self.tokens),
            "measured_s": list(self.measured_s),
            "predicted_s": list(self.predicted_s),
            "errors": list(self.errors),
        }


def compact_against_tables(profiles: Path) -> list[StepErrors]:
    """Every case with both a coefficient file and profile tables: decode and mixed steps."""
    errors: list[StepErrors] = []
    for on, of, tensor_parallel, kv_dtype in list_compact_cases():
        folder = find_profile(profiles, on, of, tensor_parallel)
        if folder is not None and kv_dtype == "bf16":
            errors += step_errors(on, of, tensor_parallel, folder)
    return errors


def shipped_errors() -> list[tuple[str, str, str]]:
    """(case, provenance, error as its fit found it) of every coefficient file."""
    listed = []
    for case in list_compact_cases():
        file = read_compact_file(DATA / "timing" / f"{case}.toml")
        listed.append((str(case), file.provenance, file.error))
    return listed


def forward_passes(source: str, software: str = "none") -> list[ForwardPasses]:
    """Real prefills (see ``hardware.forward_passes``) against a timing source, with a serving
    software's host time where it can be added."""
    named = source if software == "none" else f"{source}, {software}"
    return _by_engine(forward_pass_errors(source, software), named)


def calibrated_passes(source: str) -> list[ForwardPasses]:
    """Likewise, after one overhead and one scale per engine, fitted to every other prompt length;
    the lengths in between, which were not fitted to, are returned."""
    return _by_engine(calibrated_errors(forward_pass_errors(source)), source)


def _by_engine(rows: list[ForwardPassError], source: str) -> list[ForwardPasses]:
    cases = dict.fromkeys((row.accelerator, row.model, row.tensor_parallel) for row in rows)
    passes = []
    for case in cases:
        own = [r for r in rows if (r.accelerator, r.model, r.tensor_parallel) == case]
        passes.append(
            ForwardPasses(
                f"{case[0]}/{case[1]}/tp{case[2]}",
                source,
                own[0].kind,
                tuple(row.tokens for row in own),
                tuple(row.measured_s for row in own),
                tuple(row.predicted_s for row in own),
            )
        )
    return passes


def step_errors(on: str, of: str, tensor_parallel: int, folder: Path) -> list[StepErrors]:
    """One case's compact form against its tables. Raises ValueError where either is missing."""
    tables = latency_model(on, of, tensor_parallel, source=str(folder))
    compact = latency_model(on, of, tensor_parallel, source="compact")
    pool_tokens = kv_pool_blocks(on, of, tensor_parallel) * 16
    generator = np.random.default_rng(0)
    errors = []
    for kind, largest_chunk in (("decode", 0), ("mixed", _LARGEST_CHUNK)):
        steps = [_step(generator, pool_tokens, largest_chunk) for _ in range(_STEPS)]
        true = np.array([tables.step_s(step) for step in steps])
        shares = np.array([compact.step_s(step) for step in steps]) / true - 1.0
        errors.append(
            StepErrors(
                f"{on}/{of}/tp{tensor_parallel}",
                kind,
                float(np.abs(shares).mean()),
                float(np.percentile(np.abs(shares), 90)),
                float(shares.mean()),
            )
        )
    return errors


def _step(generator: np.random.Generator, pool_tokens: int, largest_chunk: int) -> BatchStep:
    """A random step that fits the pool: decodes of unequal contexts, and one chunk at most."""
    chunk = history = 0
    if largest_chunk:
        chunk = _log_uniform(generator, 16, largest_chunk)
        history = _log_uniform(generator, 1, _LONGEST_CONTEXT // 2)
    room = max(pool_tokens - chunk - history, 64)
    count = _log_uniform(generator, 1, min(_MOST_DECODES, room // 64))
    mean = _log_uniform(generator, 64, min(_LONGEST_CONTEXT, room // count))
    longest = min(int(mean * generator.uniform(1.0, 3.0)), _LONGEST_CONTEXT) if count > 1 else mean
    area = prefill_area(chunk, history)
    return BatchStep(
        count, count * mean, longest, int(chunk > 0), chunk, history, area, count + (chunk > 0)
    )


def _log_uniform(generator: np.random.Generator, low: int, high: int) -> int:
    return int(np.exp(generator.uniform(np.log(low), np.log(max(high, low) + 1))))
