"""How long one engine iteration takes: the base class of all timing sources.

An engine runs iterations (steps). What a step costs depends only on the shape of its batch, so the
interface is ``step_s``, which prices any step, and two methods that price runs of steps at once,
which is what makes the simulation fast: ``decode_run`` in closed form, ``prefill_run`` one by one.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Final

from mypy_extensions import mypyc_attr


class BatchStep:
    """The shape of one iteration's batch (reference: the notation of vLLM-style schedulers).

    Attributes:
        decode_count: sequences that decode one token.
        decode_context_tokens: sum of their context lengths (keys attended), tokens.
        decode_max_context_tokens: the longest of them, tokens.
        prefill_count: sequences that prefill a chunk.
        prefill_tokens: sum of the chunks, tokens.
        prefill_history_tokens: sum of the tokens already computed before each chunk.
        prefill_area: sum over chunks of ``prefill_area(chunk, history)``.
        sampled_count: sequences whose last position gets logits: all of them, since vLLM samples
            unfinished prefills too and drops the token.
    """

    # A class, not a named tuple: compiled, it is made and read ten times as fast.
    __slots__ = (
        "decode_context_tokens",
        "decode_count",
        "decode_max_context_tokens",
        "prefill_area",
        "prefill_count",
        "prefill_history_tokens",
        "prefill_tokens",
        "sampled_count",
    )

    def __init__(
        self,
        decode_count: int = 0,
        decode_context_tokens: int = 0,
        decode_max_context_tokens: int = 0,
        prefill_count: int = 0,
        prefill_tokens: int = 0,
        prefill_history_tokens: int = 0,
        prefill_area: float = 0.0,
        sampled_count: int = 0,
    ) -> None:
        self.decode_count: Final = decode_count
        self.decode_context_tokens: Final = decode_context_tokens
        self.decode_max_context_tokens: Final = decode_max_context_tokens
        self.prefill_count: Final = prefill_count
        self.prefill_tokens: Final = prefill_tokens
        self.prefill_history_tokens: Final = prefill_history_tokens
        self.prefill_area: Final = prefill_area
        self.sampled_count: Final = sampled_count

    def astuple(self) -> tuple[int, int, int, int, int, int, float, int]:
        """The attributes in the order in which the constructor takes them."""
        return (
            self.decode_count, self.decode_context_tokens, self.decode_max_context_tokens,
            self.prefill_count, self.prefill_tokens, self.prefill_history_tokens,
            self.prefill_area, self.sampled_count,
        )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BatchStep) and self.astuple() == other.astuple()

    def __hash__(self) -> int:
        return hash(self.astuple())

    def __repr__(self) -> str:
        return f"BatchStep{self.astuple()}"

    def __reduce__(self) -> tuple[type[BatchStep], tuple[object, ...]]:
        return (BatchStep, self.astuple())


def joined_decode(turns: int, contexts_tokens: int, context_tokens: int) -> BatchStep:
    """The decode step of a batch once one more turn is in it.

    Args:
        turns: that decode already; ``contexts_tokens``: their contexts together.
        context_tokens: of the one that joins.
    """
    mean = contexts_tokens // turns if turns else 0
    longest = mean if mean > context_tokens else context_tokens
    return BatchStep(turns + 1, contexts_tokens + context_tokens, longest, sampled_count=turns + 1)


class DecodeRun:
    """A run of decode-only steps with a constant batch.

    The i-th step from now (i = 0, 1, ...) takes ``first_step_s + i * growth_s`` seconds, exactly,
    for every ``i < steps``. Each step every context grows by one token.
    """

    __slots__ = ("first_step_s", "growth_s", "steps")

    def __init__(self, first_step_s: float, growth_s: float, steps: int) -> None:
        self.first_step_s: Final = first_step_s
        self.growth_s: Final = growth_s
        self.steps: Final = steps

    def astuple(self) -> tuple[float, float, int]:
        """The attributes in the order in which the constructor takes them."""
        return (self.first_step_s, self.growth_s, self.steps)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DecodeRun) and self.astuple() == other.astuple()

    def __hash__(self) -> int:
        return hash(self.astuple())

    def __repr__(self) -> str:
        return f"DecodeRun{self.astuple()}"

    def __reduce__(self) -> tuple[type[DecodeRun], tuple[object, ...]]:
        return (DecodeRun, self.astuple())


UNBOUNDED_STEPS: Final = 1 << 60
"""``DecodeRun.steps`` of a model that is linear everywhere."""


@mypyc_attr(allow_interpreted_subclasses=True)
class LatencyModel:
    """Prices the iterations of one engine. Immutable: copies and snapshots share it."""

    __slots__ = ()

    @abstractmethod
    def step_s(self, step: BatchStep) -> float:
        """Seconds that one iteration takes."""

    @abstractmethod
    def decode_run(self, step: BatchStep) -> DecodeRun:
        """Price the run that starts with this decode-only step, as ``step_s`` would."""

    def prefill_run(self, step: BatchStep, steps: int) -> list[float]:
        """Seconds of each of ``steps`` steps in a row, as ``step_s`` would price them.

        Each step prefills as much as the first one, and every context is longer by one token, every
        history by one chunk. More than one step: of one prefilling sequence only.
        """
        seconds = [self.step_s(step)]
        for _ in range(1, steps):
            step = _next_prefill_step(step)
            seconds.append(self.step_s(step))
        return seconds

    def __copy__(self) -> LatencyModel:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> LatencyModel:
        return self


def prefill_area(tokens: int, history_tokens: int) -> float:
    """Query-key pairs of causal attention in a chunk of ``tokens`` after ``history_tokens``."""
    return tokens * history_tokens + tokens * (tokens + 1) / 2


def lone_chunk(tokens: int, history_tokens: int = 0) -> BatchStep:
    """The step that prefills one chunk and nothing else."""
    area = prefill_area(tokens, history_tokens)
    return BatchStep(0, 0, 0, 1, tokens, history_tokens, area, 1)


def _next_prefill_step(step: BatchStep) -> BatchStep:
    """The step after one in which a single sequence prefills a chunk, if it goes on alike."""
    count, context, longest, prefills, chunk, history, area, sampled = step.astuple()
    return BatchStep(
        count, context + count, longest + 1, prefills,
        chunk, history + chunk, area + chunk * chunk, sampled,
    )  # fmt: skip
