"""How long one engine iteration takes: the protocol behind which all timing sources stand.

An engine runs iterations (steps). What a step costs depends only on the shape of its batch, so the
interface is ``step_s``, which prices any step, and two methods that price runs of steps at once,
which is what makes the simulation fast: ``decode_run`` in closed form, ``prefill_run`` one by one.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol


class BatchStep(NamedTuple):
    """The shape of one iteration's batch (reference: the notation of vLLM-style schedulers).

    Attributes:
        decode_count: sequences that decode one token.
        decode_context_tokens: sum of their context lengths (keys attended), tokens.
        decode_max_context_tokens: the longest of them, tokens.
        prefill_count: sequences that prefill a chunk.
        prefill_tokens: sum of the chunks, tokens.
        prefill_history_tokens: sum of the tokens already computed before each chunk.
        prefill_area: sum over chunks of ``n * h + n * (n + 1) / 2`` (n chunk, h history):
            query-key pairs of causal attention.
        sampled_count: sequences whose last position gets logits: all of them, since vLLM samples
            unfinished prefills too and drops the token.
    """

    decode_count: int = 0
    decode_context_tokens: int = 0
    decode_max_context_tokens: int = 0
    prefill_count: int = 0
    prefill_tokens: int = 0
    prefill_history_tokens: int = 0
    prefill_area: float = 0.0
    sampled_count: int = 0


class DecodeRun(NamedTuple):
    """A run of decode-only steps with a constant batch.

    The i-th step from now (i = 0, 1, ...) takes ``first_step_s + i * growth_s`` seconds, exactly,
    for every ``i < steps``. Each step every context grows by one token.
    """

    first_step_s: float
    growth_s: float
    steps: int


UNBOUNDED_STEPS = 1 << 60
"""``DecodeRun.steps`` of a model that is linear everywhere."""


class LatencyModel(Protocol):
    """Prices the iterations of one engine. Immutable: shared by snapshots."""

    __slots__ = ()

    def step_s(self, step: BatchStep) -> float:
        """Seconds that one iteration takes."""
        ...

    def decode_run(self, step: BatchStep) -> DecodeRun:
        """Price the run that starts with this decode-only step, as ``step_s`` would."""
        ...

    def prefill_run(self, step: BatchStep, steps: int) -> list[float]:
        """Seconds of each of ``steps`` steps in a row, as ``step_s`` would price them.

        Each step prefills as much as the first one, and every context is longer by one token, every
        history by one chunk. More than one step: of one prefilling sequence only.
        """
        seconds = [self.step_s(step)]
        for _ in range(1, steps):
            step = next_prefill_step(step)
            seconds.append(self.step_s(step))
        return seconds


def next_prefill_step(step: BatchStep) -> BatchStep:
    """The step after one in which a single sequence prefills a chunk, if it goes on alike."""
    count, context, longest, prefills, chunk, history, area, sampled = step
    return BatchStep(
        count, context + count, longest + 1, prefills,
        chunk, history + chunk, area + chunk * chunk, sampled,
    )  # fmt: skip
