"""Copies between the host's memory and a device: whole, both ways at once, and block by block."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

from .stopwatch import Stopwatch, Work

if TYPE_CHECKING:
    import torch

_US = 1e6
_MIB = 1 << 20
_BACKGROUND_MIB = 256

BLOCK_COLUMNS = ("direction", "block_kib", "blocks", "time_us", "gb_per_s")


class HostCopies:
    """Times copies between pinned memory of the host and a device."""

    def __init__(self, device: torch.device, watch: Stopwatch) -> None:
        import torch

        self._torch = torch
        self._device = device
        self._watch = watch
        self._background: tuple[Work, float] | None = None

    def block_rows(self, sizes_kib: Sequence[int], total_mib: int) -> list[str]:
        """Rows of blocks.csv: blocks that lie scattered on both sides, each one copy."""
        rows = []
        for size in sizes_kib:
            count = total_mib * 1024 // size
            for to_device in (True, False):
                seconds = self._blocks_s(size * 1024, count, to_device=to_device)
                rate = size * 1024 * count / 1e9 / seconds
                direction = "to_device" if to_device else "from_device"
                rows.append(f"{direction},{size},{count},{seconds * _US:.3f},{rate:.4g}")
        return rows

    def link_entry(self, sizes_mib: Sequence[int]) -> str:
        """A catalogue entry of the link to the host, from copies of several sizes."""
        smallest, largest = min(sizes_mib), max(sizes_mib)
        volume_gb = largest * _MIB / 1e9
        to_device = volume_gb / self._copy_s(largest, to_device=True)
        from_device = volume_gb / self._copy_s(largest, to_device=False)
        both = 2 * volume_gb / self._both_ways_s(largest)
        small_s = self._copy_s(smallest, to_device=True)
        latency_s = max(small_s - smallest * _MIB / 1e9 / to_device, 0.0)
        how = f"measured: copies of {smallest} to {largest} MiB, pinned"
        return (
            'name = "measured"\n'
            f'title = "Host link of {self._device}"\n'
            f"to_device_gb_per_s = {to_device:.4g}\n"
            f"from_device_gb_per_s = {from_device:.4g}\n"
            f"bidirectional_gb_per_s = {both:.4g}\n"
            f"latency_s = {latency_s:.3g}\n\n"
            "[sources]\n"
            f'to_device_gb_per_s = "{how}"\n'
            f'from_device_gb_per_s = "{how}"\n'
            f'bidirectional_gb_per_s = "{how}; both ways at once"\n'
            f'latency_s = "{how}; the smallest less its data"\n'
        )

    def start(self, at_least_s: float) -> None:
        """Begin copies both ways that take so long, and go on. (A CPU would wait for them.)"""
        if self._device.type != "cuda":
            return
        if self._background is None:
            copy = self._copy_both_ways(_BACKGROUND_MIB)
            self._background = copy, self._watch.wall_us(copy) / _US
        copy, seconds = self._background
        for _ in range(ceil(at_least_s / seconds)):
            copy()

    def _copy_s(self, mib: int, *, to_device: bool) -> float:
        target, source = self._two_sides(mib * _MIB, to_device=to_device)
        return self._watch.wall_us(lambda: target.copy_(source, non_blocking=True)) / _US

    def _both_ways_s(self, mib: int) -> float:
        """As long as it takes until both of two copies, one each way, are done."""
        return self._watch.wall_us(self._copy_both_ways(mib)) / _US

    def _copy_both_ways(self, mib: int) -> Work:
        """A copy each way, at once where the device can."""
        there, here = self._two_sides(mib * _MIB, to_device=True)
        host, device = self._two_sides(mib * _MIB, to_device=False)
        if self._device.type != "cuda":
            return lambda: (there.copy_(here), host.copy_(device))
        cuda = self._torch.cuda
        way_in, way_out = cuda.Stream(self._device), cuda.Stream(self._device)

        def run() -> None:
            with cuda.stream(way_in):
                there.copy_(here, non_blocking=True)
            with cuda.stream(way_out):
                host.copy_(device, non_blocking=True)

        return run

    def _blocks_s(self, size: int, count: int, *, to_device: bool) -> float:
        """Copies of ``count`` blocks: every other one of a buffer, in reverse on the other side."""
        target, source = self._two_sides(2 * size * count, to_device=to_device)
        places, blocks = (side.view(2 * count, size)[::2].unbind() for side in (target, source))
        pairs = list(zip(places, reversed(blocks), strict=True))

        def run() -> None:
            for place, block in pairs:
                place.copy_(block, non_blocking=True)

        return self._watch.wall_us(run) / _US

    def _two_sides(self, size: int, *, to_device: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Target and source of a copy between the host and the device, bytes."""
        torch = self._torch
        pinned = self._device.type == "cuda"
        host = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned)
        device = torch.zeros(size, dtype=torch.uint8, device=self._device)
        return (device, host) if to_device else (host, device)
