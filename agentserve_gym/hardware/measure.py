"""Measure a profile on your own GPU: layer times and link rates, in the format the fitter reads.

PyTorch's own kernels stand in for the serving engine's (matrix products, fused attention), so the
numbers are those of a plain implementation; vLLM's attention kernels may differ. Weights and KV are
kept in the model's precisions (see `measure_formats`); KV in fp8 is widened before attention, which
engines do on the way. torch is imported when a measurement starts, not before.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentserve_gym.files import write_file

from .decoder import Model
from .measure_formats import Product, product, require_products
from .precision import WeightDtype
from .profile_tables import ATTENTION_COLUMNS

if TYPE_CHECKING:
    import torch

_US = 1e6
_MIB = 1 << 20
_FILES = ("dense.csv", "per_sequence.csv", "attention.csv", "moe.csv", "blocks.csv", "link.toml")
_BLOCK_COLUMNS = ("direction", "block_kib", "blocks", "time_us", "gb_per_s")


@dataclass(frozen=True, slots=True)
class MeasureGrid:
    """What to time. The default takes some minutes on a data-centre GPU.

    Attributes:
        tokens, sequences: batch sizes of the linear layers and of the head.
        chunks, histories: of prefill attention, tokens.
        counts, contexts: of decode attention.
        copy_mib: sizes of the copies between host and device.
        block_kib, blocks_mib: sizes of scattered KV blocks, each copied by itself, and of all
            blocks of a copy together.
        repeats: timed runs of each point, of which the median counts.
    """

    tokens: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
    sequences: tuple[int, ...] = (1, 8, 32, 128, 256)
    chunks: tuple[int, ...] = (16, 128, 512, 2048)
    histories: tuple[int, ...] = (0, 1024, 4096, 16384)
    counts: tuple[int, ...] = (1, 4, 16, 64, 256)
    contexts: tuple[int, ...] = (16, 256, 1024, 4096, 16384)
    copy_mib: tuple[int, ...] = (1, 16, 256)
    block_kib: tuple[int, ...] = (8, 32, 128, 512, 2048)
    blocks_mib: int = 64
    repeats: int = 5

    def __post_init__(self) -> None:
        axes = ("tokens", "sequences", "chunks", "counts", "contexts", "copy_mib", "block_kib")
        for name in axes:
            values = getattr(self, name)
            if not values or min(values) < 1:
                raise ValueError(f"{name} = {values} must hold numbers of at least 1")
        if self.blocks_mib * 1024 < max(self.block_kib):
            raise ValueError(f"blocks_mib = {self.blocks_mib} is less than one block of block_kib")
        if not self.histories or min(self.histories) < 0:
            raise ValueError(f"histories = {self.histories} must hold numbers of at least 0")
        if self.repeats < 1:
            raise ValueError(f"repeats = {self.repeats} must be at least 1")


def measure_profile(
    device: str,
    out_dir: str | Path,
    grid: MeasureGrid,
    llm: Model,
    tensor_parallel: int = 1,
) -> Path:
    """Time one rank's layers and the copies to and from the host; write a profile folder.

    The folder gets ``dense.csv``, ``per_sequence.csv``, ``attention.csv``, ``moe.csv`` where the
    model has experts, ``blocks.csv``, copies of KV blocks by their size, and ``link.toml``, a
    catalogue entry of the host link. Name it ``<accelerator>/<model>/tp<k>``, or ``tp<k>-kv-fp8``,
    and the fitter knows what it is of.

    Args:
        device: a torch device, ``cuda`` or, to try it out, ``cpu``.

    Raises:
        ValueError: torch is missing, the device is not there or lacks the model's precisions, the
            model has layers that are not measured, or the folder cannot be written or holds a
            profile.
    """
    llm.check_tensor_parallel(tensor_parallel)
    llm.require_plain_layers("profile tables")
    folder = Path(out_dir)
    for name in _FILES:
        if (folder / name).exists():
            raise ValueError(f"{folder} holds {name} already; name another folder")
    place = _device(device)
    for dtype in {llm.attention_format, llm.weight_dtype, llm.expert_format}:
        require_products(dtype, place)
    bench = _Bench(place, llm, tensor_parallel, grid.repeats)
    tables = {
        "dense.csv": (("layer", "tokens", "time_us"), bench.dense(grid.tokens)),
        "per_sequence.csv": (("layer", "sequences", "time_us"), bench.head(grid.sequences)),
        "attention.csv": (ATTENTION_COLUMNS, bench.attention(grid)),
        "blocks.csv": (_BLOCK_COLUMNS, bench.block_copies(grid.block_kib, grid.blocks_mib)),
    }
    if llm.experts is not None:
        columns = ("tokens", "activated_experts", "time_us")
        tables["moe.csv"] = (columns, bench.experts(grid.tokens))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (header, rows) in tables.items():
            write_file(folder / name, "\n".join([",".join(header), *rows]) + "\n")
        write_file(folder / "link.toml", bench.link_entry(grid.copy_mib))
    except OSError as error:
        raise ValueError(f"cannot write the profile folder {folder}: {error}") from error
    return folder


def _device(name: str) -> torch.device:
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


class _Bench:
    """Times the parts of one rank of a model on one device."""

    def __init__(
        self, device: torch.device, llm: Model, tensor_parallel: int, repeats: int
    ) -> None:
        import torch

        self._torch = torch
        self._device = device
        self._llm = llm
        self._tensor_parallel = tensor_parallel
        self._repeats = repeats
        self._dtype = torch.bfloat16

    def dense(self, sizes: Sequence[int]) -> list[str]:
        """Rows of dense.csv: the linear layers, norms and activations by tokens."""
        functional, llm = self._torch.nn.functional, self._llm
        around: WeightDtype = llm.attention_format
        ranks, hidden = self._tensor_parallel, llm.hidden
        query = llm.heads * llm.head_dim // ranks
        key = max(llm.kv_heads // ranks, 1) * llm.head_dim
        inner = llm.intermediate // ranks
        weights = {
            "qkv_proj": (query + 2 * key, hidden, around),
            "o_proj": (hidden, query, around),
        }
        if llm.experts is None:
            weights |= {
                "gate_up_proj": (2 * inner, hidden, llm.weight_dtype),
                "down_proj": (hidden, inner, llm.weight_dtype),
            }
        rows = []
        for layer, (out, into, dtype) in weights.items():
            multiply = product(dtype, self._tensor(out, into))
            for tokens in sizes:
                run = _bind(multiply, self._tensor(tokens, into))
                rows.append(f"{layer},{tokens},{self._time_us(run):.3f}")
        scale, table = self._tensor(hidden), self._tensor(llm.vocab // ranks, hidden)
        for tokens in sizes:
            batch, gate = self._tensor(tokens, hidden), self._tensor(tokens, inner)
            heads = self._tensor(tokens, query + key)
            ids = self._torch.zeros(tokens, dtype=self._torch.long, device=self._device)
            runs = {
                "layernorm": _bind(functional.rms_norm, batch, (hidden,), scale),
                "final_layernorm": _bind(functional.rms_norm, batch, (hidden,), scale),
                "rotary_emb": _bind(self._torch.mul, heads, heads),
                "embedding": _bind(functional.embedding, ids, table),
            }
            if llm.experts is None:
                runs["act_fn"] = _bind(self._silu_and_multiply, gate, gate)
            rows += [f"{name},{tokens},{self._time_us(run):.3f}" for name, run in runs.items()]
        return rows

    def head(self, sizes: Sequence[int]) -> list[str]:
        """Rows of per_sequence.csv: output projection and greedy sampler."""
        llm = self._llm
        weight = self._tensor(llm.vocab // self._tensor_parallel, llm.hidden)
        rows = []
        for count in sizes:
            batch, logits = self._tensor(count, llm.hidden), self._tensor(count, llm.vocab)
            project = _bind(self._torch.nn.functional.linear, batch, weight)
            sample = _bind(self._torch.argmax, logits, -1)
            rows.append(f"lm_head,{count},{self._time_us(project):.3f}")
            rows.append(f"sampler,{count},{self._time_us(sample):.3f}")
        return rows

    def attention(self, grid: MeasureGrid) -> list[str]:
        """Rows of attention.csv: decodes alone, chunks alone, and one after the other."""
        decode = {
            (count, context): self._time_us(self._attend(count, 1, context))
            for count in grid.counts
            for context in grid.contexts
        }
        rows = [f"0,0,{n},{c},{t:.3f}" for (n, c), t in decode.items()]
        for chunk in grid.chunks:
            for history in grid.histories:
                alone = self._time_us(self._attend(1, chunk, history + chunk))
                rows.append(f"{chunk},{history},0,0,{alone:.3f}")
                rows += [
                    f"{chunk},{history},{n},{c},{alone + t:.3f}" for (n, c), t in decode.items()
                ]
        return rows

    def experts(self, sizes: Sequence[int]) -> list[str]:
        """Rows of moe.csv: activated experts one by one, each with its share of the tokens."""
        llm = self._llm
        count, chosen = llm.experts or 1, llm.experts_per_token or 1
        up, down = (
            [product(llm.expert_format, self._tensor(out, into)) for _ in range(count)]
            for out, into in ((2 * llm.intermediate, llm.hidden), (llm.hidden, llm.intermediate))
        )
        rows = []
        for tokens in sizes:
            activated = chosen
            while activated <= min(count, tokens * chosen):
                share = max(tokens * chosen // activated, 1)
                batch = self._tensor(share, llm.hidden)
                run = _bind(self._run_experts, batch, up[:activated], down[:activated])
                rows.append(f"{tokens},{activated},{self._time_us(run):.3f}")
                activated *= 2
        return rows

    def block_copies(self, sizes_kib: Sequence[int], total_mib: int) -> list[str]:
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
        to_device = [self._copy_s(size, to_device=True) for size in sizes_mib]
        from_device = [self._copy_s(size, to_device=False) for size in sizes_mib]
        largest = max(range(len(sizes_mib)), key=lambda index: sizes_mib[index])
        smallest = min(range(len(sizes_mib)), key=lambda index: sizes_mib[index])
        volume = sizes_mib[largest] * _MIB / 1e9
        rates = volume / to_device[largest], volume / from_device[largest]
        data_s = sizes_mib[smallest] * _MIB / 1e9 / rates[0]
        latency = max(to_device[smallest] - data_s, 0.0)
        how = f"measured: copies of {sizes_mib[smallest]} to {sizes_mib[largest]} MiB, pinned"
        return (
            'name = "measured"\n'
            f'title = "Host link of {self._device}"\n'
            f"to_device_gb_per_s = {rates[0]:.4g}\n"
            f"from_device_gb_per_s = {rates[1]:.4g}\n"
            f"latency_s = {latency:.3g}\n\n"
            "[sources]\n"
            f'to_device_gb_per_s = "{how}"\n'
            f'from_device_gb_per_s = "{how}"\n'
            f'latency_s = "{how}; the smallest less its data"\n'
        )

    def _attend(self, count: int, queries: int, keys: int) -> Callable[[], object]:
        """Attention of ``count`` sequences: the last ``queries`` of ``keys`` tokens each."""
        torch, llm = self._torch, self._llm
        heads = llm.heads // self._tensor_parallel
        kv_heads = max(llm.kv_heads // self._tensor_parallel, 1)
        query = self._tensor(count, heads, queries, llm.head_dim)
        kept = self._tensor(count, kv_heads, keys, llm.head_dim)
        if llm.kv_dtype == "fp8":
            kept = kept.to(torch.float8_e4m3fn)
        mask = None
        if 1 < queries < keys:
            rows = torch.arange(queries, device=self._device)[:, None] + keys - queries
            mask = torch.arange(keys, device=self._device)[None, :] <= rows

        def run() -> object:
            key = kept.to(self._dtype)  # nothing to do where KV is bf16
            return torch.nn.functional.scaled_dot_product_attention(
                query,
                key,
                key,
                attn_mask=mask,
                is_causal=mask is None and queries > 1,
                enable_gqa=heads != kv_heads,
            )

        return run

    def _silu_and_multiply(self, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        return self._torch.nn.functional.silu(gate) * up

    def _run_experts(
        self, batch: torch.Tensor, up: Sequence[Product], down: Sequence[Product]
    ) -> None:
        for first, second in zip(up, down, strict=True):
            gate, value = first(batch).chunk(2, dim=-1)
            second(self._silu_and_multiply(gate, value))

    def _tensor(self, *shape: int) -> torch.Tensor:
        return self._torch.full(shape, 0.01, dtype=self._dtype, device=self._device)

    def _copy_s(self, mib: int, *, to_device: bool) -> float:
        target, source = self._two_sides(mib * _MIB, to_device=to_device)
        return self._time_us(_bind(target.copy_, source)) / _US

    def _blocks_s(self, size: int, count: int, *, to_device: bool) -> float:
        """Copies of ``count`` blocks: every other one of a buffer, in reverse on the other side."""
        target, source = self._two_sides(2 * size * count, to_device=to_device)
        places, blocks = (side.view(2 * count, size)[::2].unbind() for side in (target, source))
        pairs = list(zip(places, reversed(blocks), strict=True))

        def run() -> None:
            for place, block in pairs:
                place.copy_(block, non_blocking=True)

        return self._time_us(run) / _US

    def _two_sides(self, size: int, *, to_device: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Target and source of a copy between the host and the device, bytes."""
        torch = self._torch
        pinned = self._device.type == "cuda"
        host = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned)
        device = torch.zeros(size, dtype=torch.uint8, device=self._device)
        return (device, host) if to_device else (host, device)

    def _time_us(self, run: Callable[[], object]) -> float:
        """Median time of one run, microseconds, after a warm-up."""
        with self._torch.inference_mode():
            run()
            return statistics.median(self._once_us(run) for _ in range(self._repeats))

    def _once_us(self, run: Callable[[], object]) -> float:
        self._wait()
        start = time.perf_counter()
        run()
        self._wait()
        return max((time.perf_counter() - start) * _US, 1e-3)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            self._torch.cuda.synchronize(self._device)


def _bind(function: Callable[..., object], *arguments: object) -> Callable[[], object]:
    return lambda: function(*arguments)
