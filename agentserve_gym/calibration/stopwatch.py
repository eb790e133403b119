"""How long work takes on a device, as an engine would run it: launches hidden, weights not cached.

On a GPU work is captured as a CUDA graph and timed by events, so that the host's launches do not
count, as in an engine's decode steps. What is timed takes turns over several copies of its weights
or KV, together larger than the level-2 cache: in a model, other layers' weights pass through the
cache between two uses of one.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Work = Callable[[], object]

_US = 1e6
_LEAST_TIMED_US = 2000.0
_MOST_LAUNCHES = 64
_REPLAYS = 3
_CACHES_PASSED = 2
_MARGIN = 2.0


def open_device(name: str) -> torch.device:
    """A torch device by name.

    Raises:
        ValueError: torch is missing, the name is none, or there is no such device.
    """
    try:
        import torch
    except ImportError as error:
        raise ValueError("measuring needs PyTorch; install the train extra") from error
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"unknown device {name!r}; use cuda or cpu") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("measuring needs a GPU with CUDA, and PyTorch sees none here")
    return device


class Stopwatch:
    """Times work on one device; the median of ``repeats`` timings counts."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        import torch

        self._torch = torch
        self._device = device
        self._repeats = repeats
        self._on_gpu = device.type == "cuda"
        cache = 0
        if self._on_gpu:
            cache = torch.cuda.get_device_properties(device).L2_cache_size
        self._bytes_between_uses = _CACHES_PASSED * cache

    def copies(self, size_bytes: float) -> int:
        """How many copies of data have to take turns for none to be found in the cache."""
        wanted = -(-self._bytes_between_uses // max(int(size_bytes), 1))
        return min(max(wanted, 1), _MOST_LAUNCHES)

    def device_us(
        self, turns: Sequence[Work], beside: Callable[[float], None] | None = None
    ) -> float:
        """Median time on the device of one of ``turns``, which are done one after the other.

        Args:
            beside: begins something else that goes on for at least so many seconds.
        """
        with self._torch.inference_mode():
            if not self._on_gpu:
                return self._host_us(turns)
            return self._graph_us(turns, beside)

    def wall_us(self, work: Work) -> float:
        """Median time of work by the clock, from its first call on the host to its end."""
        with self._torch.inference_mode():
            return self._host_us([work])

    def _host_us(self, turns: Sequence[Work]) -> float:
        for work in turns:
            work()
        return statistics.median(self._pass_us(turns) for _ in range(self._repeats)) / len(turns)

    def _pass_us(self, turns: Sequence[Work]) -> float:
        self._wait()
        start = time.perf_counter()
        for work in turns:
            work()
        self._wait()
        return max((time.perf_counter() - start) * _US, 1e-3)

    def _graph_us(self, turns: Sequence[Work], beside: Callable[[float], None] | None) -> float:
        cuda = self._torch.cuda
        for work in turns:  # kernels are chosen and memory is found before the capture
            work()
        estimate_us = self._pass_us(turns)  # launches counted: more than it will be
        wanted = min(_LEAST_TIMED_US / estimate_us, _MOST_LAUNCHES / len(turns))
        passes = max(int(wanted), 1)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            for work in (*turns,) * passes:
                work()
        graph.replay()
        timings: list[float] = []
        for _ in range(self._repeats):
            start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
            self._wait()
            if beside is not None:
                beside(_MARGIN * _REPLAYS * passes * estimate_us / _US)
            start.record()
            for _ in range(_REPLAYS):
                graph.replay()
            end.record()
            self._wait()
            timings.append(float(start.elapsed_time(end)) * 1e3)
        return statistics.median(timings) / (_REPLAYS * passes * len(turns))

    def _wait(self) -> None:
        if self._on_gpu:
            self._torch.cuda.synchronize(self._device)
