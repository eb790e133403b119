"""What a serving software's host side costs, from closed-loop runs of it: two constants.

Kernel times come from tables. Each request of a run says how long its tokens took on average, and
during how many of its steps others prefilled. What these steps take beyond their kernels is the
time to launch them; what every step takes beyond its kernels is the rest of the host's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agentserve_gym.calibration.flashinfer_kernels import UnequalDecodes, unequal_decodes
from agentserve_gym.hardware import model
from agentserve_gym.validation.conversation_cells import MeasuredCell
from agentserve_gym.validation.replay import Column

_EVERY_S = 4.0
_WARM_UP_S = 30.0
_LEAST_TOKENS = 150
"""Shorter answers say little about the time per token."""
_BLOCK_TOKENS = 16
_HALVINGS = 30

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class HostTime:
    """The constants of one cell, seconds: in every step, and to launch the linear kernels of one
    layer in steps with prefill."""

    clients: int
    step_s: float
    layer_launch_s: float


def measure_host_time(cells: Sequence[MeasuredCell], progress: Progress) -> list[HostTime]:
    """The host time of each cell. The engines must run FlashInfer's attention, and CUDA graphs in
    pure decode steps only.

    Raises:
        ValueError: a GPU or model has no kernel tables.
    """
    found = []
    for number, cell in enumerate(cells):
        progress(f"host time: {cell.name},", number, len(cells))
        engine = cell.settings.engine
        sampler = unequal_decodes(
            engine.accelerator, engine.model, engine.tensor_parallel, engine.kv_dtype
        )
        found.append(_Requests(cell, sampler).host_time())
    return found


class _Requests:
    """The requests of one cell, as far as they tell the time of steps."""

    def __init__(self, cell: MeasuredCell, sampler: UnequalDecodes) -> None:
        columns, engine = cell.requests, cell.settings.engine
        self._clients = cell.settings.clients
        self._sampler = sampler
        llm = model(engine.model, engine.kv_dtype)
        self._layers = llm.layers
        start, each = llm.template_start_tokens or 0, llm.template_turn_tokens or 0
        template = start + each * columns["turn"]
        self._prompt = columns["prompt_tokens"] + template
        self._output = columns["output_tokens"]
        self._first_s = cell.start_s + cell.ttft_s
        self._end_s = cell.start_s + cell.e2e_s
        self._history = self._known_tokens(columns["conversation"], cell.start_s)
        self._order = np.argsort(self._first_s)
        firsts = self._first_s[self._order]
        self._from = np.searchsorted(firsts, self._first_s, side="right")
        self._to = np.searchsorted(firsts, self._end_s, side="right")
        self._kept = (self._output > _LEAST_TOKENS) & (self._first_s > _WARM_UP_S)

    def host_time(self) -> HostTime:
        """Bisect for the launch time with which steps with prefill leave nothing unexplained."""
        sampler, clients = self._sampler, self._clients
        alone_s = sampler.dense_s(clients)
        new = np.maximum(self._prompt - self._history, 1.0)
        tokens = [int(n) + clients for n in new]
        linear_s = np.array([sampler.dense_s(count) for count in tokens])
        attention_s = np.array(
            [
                sampler.prefill_attention_s(int(n), int(h))
                for n, h in zip(new, self._history, strict=True)
            ]
        )
        steps = (self._output - 1)[self._kept]
        tpot_s = (self._end_s - self._first_s)[self._kept] / steps
        left_s = tpot_s - self._decode_attention_s() - alone_s - sampler.head_s(clients)
        inputs = np.stack([np.ones(len(steps)), self._sum(np.ones(len(new))) / steps], axis=1)

        def unexplained(launch_s: float) -> tuple[float, float]:
            """Per step, and per step with prefill."""
            extra_s = np.maximum(linear_s, launch_s) - alone_s + attention_s
            every_s, prefill_s = np.linalg.lstsq(inputs, left_s - self._sum(extra_s) / steps)[0]
            return float(every_s), float(prefill_s)

        low_s, high_s = alone_s, 20 * alone_s
        for _ in range(_HALVINGS):
            middle_s = (low_s + high_s) / 2
            if unexplained(middle_s)[1] > 0:
                low_s = middle_s
            else:
                high_s = middle_s
        return HostTime(clients, unexplained(low_s)[0], low_s / self._layers)

    def _known_tokens(self, conversation: Column, start_s: Column) -> Column:
        """Leading tokens of each prompt that are in the cache: whole blocks of the turn before."""
        known = np.zeros(len(start_s))
        chains: dict[float, float] = {}
        for index in np.argsort(start_s):
            key = float(conversation[index])
            known[index] = chains.get(key, 0.0) // _BLOCK_TOKENS * _BLOCK_TOKENS
            chains[key] = self._prompt[index] + self._output[index] - 1
        return known

    def _sum(self, of_each: Column) -> Column:
        """Sum over the requests whose prefill ended while a kept request decoded."""
        running = np.concatenate([[0.0], np.cumsum(of_each[self._order])])
        summed: Column = running[self._to] - running[self._from]
        return summed[self._kept]

    def _decode_attention_s(self) -> Column:
        """Mean decode attention of a step while each kept request decoded, from the contexts that
        ran beside it."""
        times_s = np.arange(_EVERY_S, self._end_s.max() - _EVERY_S, _EVERY_S)
        length_s = self._end_s - self._first_s
        seconds = []
        for now_s in times_s:
            active = (self._first_s < now_s) & (self._end_s > now_s)
            done = (now_s - self._first_s[active]) / length_s[active]
            contexts = np.round(self._prompt[active] + done * self._output[active])
            seconds.append(self._sampler.batch_attention_s(contexts) if len(contexts) else 0.0)
        middles = (np.array(seconds[1:]) + seconds[:-1]) / 2
        running = np.concatenate([[0.0], np.cumsum(middles * _EVERY_S)])
        spent: Column = np.interp(self._end_s, times_s, running)
        spent -= np.interp(self._first_s, times_s, running)
        return (spent / length_s)[self._kept]
