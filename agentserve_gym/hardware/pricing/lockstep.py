"""Data-parallel engines with expert parallelism: they step together.

Every expert layer exchanges tokens between the engines of the group, so a step ends for all when it
ends for the slowest. Steps that run as CUDA graphs are padded to the largest batch of the group;
larger ones are not, and the expert layers then see the tokens that there are (vLLM pull request
26375 and its successors; the largest graph holds min(2 x max_num_seqs, 512) tokens).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from mypy_extensions import mypyc_attr

from agentserve_gym.hardware.pricing.timing import BatchStep, DecodeRun, LatencyModel


@mypyc_attr(allow_interpreted_subclasses=True)
class SharedExpertLatency(LatencyModel):
    """A latency model that can tell the part of a step that a data-parallel group shares."""

    __slots__ = ()

    @abstractmethod
    def expert_s(self, tokens: int) -> float:
        """Seconds of the expert layers when every engine brings ``tokens`` tokens."""


def largest_graph_tokens(max_num_seqs: int) -> int:
    """Tokens of the largest step that vLLM runs as a CUDA graph by default."""
    return min(2 * max_num_seqs, 512)


def shared_tokens(sizes: Sequence[int], graph_tokens: int) -> int:
    """Tokens per engine that the expert layers see, from the tokens that each engine brings."""
    largest = max(sizes)
    return largest if largest <= graph_tokens else -(-sum(sizes) // len(sizes))


def lockstep_step_s(
    model: SharedExpertLatency, steps: Sequence[BatchStep], graph_tokens: int
) -> float:
    """Seconds of one step of the group; ``steps`` has one batch per engine, empty ones included."""
    sizes = [step.decode_count + step.prefill_tokens for step in steps]
    own = [
        model.step_s(step) - model.expert_s(size) for step, size in zip(steps, sizes, strict=True)
    ]
    return max(own) + model.expert_s(shared_tokens(sizes, graph_tokens))


def lockstep_decode_run(
    model: SharedExpertLatency, steps: Sequence[BatchStep], graph_tokens: int
) -> DecodeRun:
    """Price a run of decode-only steps of the whole group.

    It is linear while the same engine stays the slowest and none crosses a grid line.
    """
    sizes = [step.decode_count for step in steps]
    busy = [step for step in steps if step.decode_count]
    if not busy:
        return DecodeRun(0.0, 0.0, 1)
    runs = [model.decode_run(step) for step in busy]
    own = [
        (run.first_step_s - model.expert_s(step.decode_count), run.growth_s)
        for run, step in zip(runs, busy, strict=True)
    ]
    slowest_s, slowest_growth_s = max(own)
    length = min([run.steps for run in runs])
    for first_s, growth_s in own:
        if growth_s > slowest_growth_s:
            lead_s = slowest_s - first_s
            length = min(length, int(lead_s / (growth_s - slowest_growth_s)) + 1)
    first_s = slowest_s + model.expert_s(shared_tokens(sizes, graph_tokens))
    return DecodeRun(first_s, slowest_growth_s, max(length, 1))
