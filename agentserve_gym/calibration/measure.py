"""Measure a profile on your own GPU: layer times and link rates, in the format the fitter reads.

PyTorch's kernels stand in for the serving engine's (`rank`), timed as an engine runs them
(`stopwatch`): launches hidden in CUDA graphs, weights and KV not in the cache. torch is imported
when a measurement starts, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agentserve_gym.files import write_file
from agentserve_gym.hardware.decoder import Model
from agentserve_gym.hardware.profile_tables import ATTENTION_COLUMNS

from .attention import Attention, fastest_attention
from .copies import BLOCK_COLUMNS, HostCopies
from .products import require_products
from .rank import Rank
from .stopwatch import Stopwatch, Work, open_device
from .whole_steps import BESIDE_COLUMNS, STEP_COLUMNS, StepPoint, WholeSteps

if TYPE_CHECKING:
    import torch

Report = Callable[[str, int, int], None]
"""What is going on, how much of it is done, and how much there is."""

_FILES = (
    *("dense.csv", "per_sequence.csv", "attention.csv", "moe.csv", "steps.csv"),
    *("beside_copies.csv", "blocks.csv", "link.toml", "about.toml"),
)


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
        steps: whole steps.
        repeats: timings of each point, of which the median counts.
    """

    tokens: tuple[int, ...] = (
        *(1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512, 640, 768, 1024),
        *(1280, 1536, 2048, 3072, 4096, 6144, 8192),
    )
    sequences: tuple[int, ...] = (1, 8, 32, 64, 128, 256, 512)
    chunks: tuple[int, ...] = (16, 128, 512, 2048, 8192)
    histories: tuple[int, ...] = (0, 1024, 4096, 16384, 65536)
    counts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    contexts: tuple[int, ...] = (16, 256, 1024, 4096, 16384, 65536)
    copy_mib: tuple[int, ...] = (1, 16, 256)
    block_kib: tuple[int, ...] = (8, 32, 128, 512, 2048)
    blocks_mib: int = 64
    steps: tuple[StepPoint, ...] = (
        *(StepPoint(0, 0, count, 1024) for count in (1, 8, 64, 256)),
        *(StepPoint(0, 0, count, 8192) for count in (1, 8, 32)),
        *(StepPoint(chunk, 0, 0, 0) for chunk in (128, 512, 2048, 8192)),
        *(StepPoint(chunk, 16384, 0, 0) for chunk in (128, 512, 2048, 8192)),
        *(StepPoint(chunk, 8192, 32, 4096) for chunk in (128, 512, 2048)),
    )
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
    report: Report = lambda *_: None,
) -> Path:
    """Time one rank's layers and the copies to and from the host; write a profile folder.

    The folder gets ``dense.csv``, ``per_sequence.csv``, ``attention.csv``, ``moe.csv`` where the
    model has experts; ``steps.csv``, whole steps to check sums of the others against;
    ``beside_copies.csv``, what copies to and from the host add to decode steps; ``blocks.csv``,
    copies of KV blocks by their size; ``link.toml``, a catalogue entry of the host link; and
    ``about.toml``, what was measured with what. Name it ``<accelerator>/<model>/tp<k>``, or
    ``tp<k>-kv-fp8``, and the fitter knows what it is of.

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
    place = open_device(device)
    for dtype in {llm.attention_format, llm.weight_dtype}:
        require_products(dtype, place, of_experts=False)
    if llm.experts is not None:
        require_products(llm.expert_format, place, of_experts=True)
    bench = _Bench(place, llm, tensor_parallel, grid)
    files = {}
    for number, (name, make) in enumerate(bench.tables.items()):
        report(f"measuring {name}", number, len(bench.tables))
        files[name] = make()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_file(folder / name, text)
    except OSError as error:
        raise ValueError(f"cannot write the profile folder {folder}: {error}") from error
    return folder


class _Bench:
    """Times the parts of one rank of a model on one device.

    Attributes:
        tables: what makes each file's text, by the file's name.
    """

    def __init__(
        self, device: torch.device, llm: Model, tensor_parallel: int, grid: MeasureGrid
    ) -> None:
        self._device = device
        self._llm = llm
        self._tensor_parallel = tensor_parallel
        self._grid = grid
        self._watch = Stopwatch(device, grid.repeats)
        self._rank = Rank(device, llm, tensor_parallel)
        copies = HostCopies(device, self._watch)
        self.tables: dict[str, Callable[[], str]] = {
            "about.toml": self._about,
            "link.toml": lambda: copies.link_entry(grid.copy_mib),
            "blocks.csv": lambda: _csv(
                BLOCK_COLUMNS, copies.block_rows(grid.block_kib, grid.blocks_mib)
            ),
            "per_sequence.csv": lambda: _csv(("layer", "sequences", "time_us"), self._head()),
            "dense.csv": lambda: _csv(("layer", "tokens", "time_us"), self._dense()),
            "attention.csv": lambda: _csv(ATTENTION_COLUMNS, self._attention()),
        }
        if llm.experts is not None:
            columns = ("tokens", "activated_experts", "time_us")
            self.tables["moe.csv"] = lambda: _csv(columns, self._experts())
        if grid.steps:
            whole = WholeSteps(self._rank, self._watch, copies, grid.steps)
            self.tables["steps.csv"] = lambda: _csv(STEP_COLUMNS, whole.step_rows())
            self.tables["beside_copies.csv"] = lambda: _csv(BESIDE_COLUMNS, whole.beside_rows())

    def _about(self) -> str:
        import torch

        name = "CPU"
        if self._device.type == "cuda":
            name = torch.cuda.get_device_name(self._device)
        return (
            f'device = "{name}"\n'
            f'model = "{self._llm.name}"\n'
            f"tensor_parallel = {self._tensor_parallel}\n"
            f'kv_dtype = "{self._llm.kv_dtype}"\n'
            f'torch = "{torch.__version__}"\n'
            f'cuda = "{torch.version.cuda or ""}"\n'
        )

    def _dense(self) -> list[str]:
        """Linear layers, norms and activations by tokens."""
        rank, watch = self._rank, self._watch
        rows = []
        for layer, (_, into, _) in rank.linear.items():
            copies = watch.copies(rank.linear_bytes(layer))
            weights = [rank.linear_layer(layer) for _ in range(copies)]
            for tokens in self._grid.tokens:
                batch = rank.tensor(tokens, into)
                rows.append(f"{layer},{tokens},{self._us(_each(weights, batch))}")
        norm, embedding = rank.norm(), rank.embedding()
        for tokens in self._grid.tokens:
            batch = rank.tensor(tokens, self._llm.hidden)
            heads = rank.tensor(tokens, rank.query_width + rank.key_width)
            works: dict[str, Work] = {
                "layernorm": _bind(norm, batch, batch),
                "final_layernorm": _bind(norm, batch, batch),
                "rotary_emb": _bind(rank.rotated, heads),
                "embedding": _bind(embedding, rank.token_numbers(tokens)),
            }
            if self._llm.experts is None:
                works["act_fn"] = _bind(rank.activated, rank.tensor(tokens, 2 * rank.inner))
            rows += [f"{layer},{tokens},{self._us([work])}" for layer, work in works.items()]
        return rows

    def _head(self) -> list[str]:
        """Output projection and greedy sampler."""
        project = self._rank.head()
        rows = []
        for count in self._grid.sequences:
            batch = self._rank.tensor(count, self._llm.hidden)
            logits = self._rank.tensor(count, self._llm.vocab)
            rows.append(f"lm_head,{count},{self._us([_bind(project, batch)])}")
            rows.append(f"sampler,{count},{self._us([_bind(self._rank.sampled, logits)])}")
        return rows

    def _attention(self) -> list[str]:
        """Decodes alone, chunks alone, and one after the other."""
        grid = self._grid
        points = [(count, context) for count in grid.counts for context in grid.contexts]
        decode = {
            (count, context): self._attend_us(count, 1, context)
            for count, context in points
            if self._fits(count * context)
        }
        rows = [f"0,0,{n},{c},{t:.3f}" for (n, c), t in decode.items()]
        for chunk in grid.chunks:
            for history in grid.histories:
                alone = self._attend_us(1, chunk, history + chunk)
                rows.append(f"{chunk},{history},0,0,{alone:.3f}")
                rows += [
                    f"{chunk},{history},{n},{c},{alone + t:.3f}" for (n, c), t in decode.items()
                ]
        return rows

    def _fits(self, kv_tokens: int) -> bool:
        """Whether one layer's KV takes less than a third of the device's memory."""
        import torch

        if self._device.type != "cuda":
            return True
        total = torch.cuda.get_device_properties(self._device).total_memory
        return kv_tokens * self._llm.layer_kv_bytes(self._tensor_parallel) < total / 3

    def _attend_us(self, count: int, queries: int, keys: int) -> float:
        """Attention of ``count`` sequences: the last ``queries`` of ``keys`` tokens each."""
        rank = self._rank
        size = count * keys * self._llm.layer_kv_bytes(self._tensor_parallel)
        query = rank.query(count, queries)
        kept = [rank.keys_values(count, keys) for _ in range(self._watch.copies(size))]

        def time_us(kernel: Attention) -> float:
            works = [
                lambda kv=kv: kernel(query, rank.widened(kv[0]), rank.widened(kv[1])) for kv in kept
            ]
            return self._watch.device_us(works)

        return fastest_attention(queries, keys, self._device, time_us)[0]

    def _experts(self) -> list[str]:
        """Experts by tokens and by how many of them the tokens go to."""
        rank, llm, rows = self._rank, self._llm, []
        activated, chosen = llm.experts_per_token or 1, llm.experts_per_token or 1
        while activated <= (llm.experts or 1):
            copies = self._watch.copies(activated * rank.expert_bytes())
            layers = [rank.experts(activated) for _ in range(copies)]
            for tokens in self._grid.tokens:
                if activated <= tokens * chosen:
                    batch = rank.tensor(tokens, llm.hidden)
                    rows.append(f"{tokens},{activated},{self._us(_each(layers, batch))}")
            activated *= 2
        return rows

    def _us(self, turns: Sequence[Work]) -> str:
        return f"{self._watch.device_us(turns):.3f}"


def _bind(function: Callable[..., object], *arguments: object) -> Work:
    return lambda: function(*arguments)


def _each(layers: Sequence[Callable[..., object]], batch: torch.Tensor) -> list[Work]:
    return [_bind(layer, batch) for layer in layers]


def _csv(columns: Sequence[str], rows: Sequence[str]) -> str:
    return "\n".join([",".join(columns), *rows]) + "\n"
