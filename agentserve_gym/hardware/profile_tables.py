"""Profile tables: measured layer times of one (GPU, model, tensor parallelism), read from a folder.

The files are those of LLMServingSim's profiler, plain or gzipped, microseconds, one layer:

- ``dense.csv`` (layer, tokens, time_us) and ``per_sequence.csv`` (layer, sequences, time_us);
- ``attention.csv`` (prefill_chunk, kv_prefill, n_decode, kv_decode, time_us), kv_decode being the
  mean context of the decodes;
- ``moe.csv`` (tokens, activated_experts, time_us), where the model has experts; of a file that also
  has measurements of fewer experts per rank (column ep), those of all experts (ep 1) are taken;
- ``skew_fit.csv`` (pc, n_label, skew_rate_label, ..., alpha, n_samples), optional: how much of the
  step from mean to longest context a batch of unequal contexts costs. It was measured with a few
  long contexts among short ones; the skew rate is the share of long ones.

``meta.yaml`` beside the folder says what was measured: see `profile_meta`.
"""

from __future__ import annotations

import csv
import gzip
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .profile_meta import DEFAULT_SKEW, SKEW_RATE_LABELS, ProfileMeta, read_profile_meta

Array = npt.NDArray[np.float64]

ONCE_PER_STEP = ("embedding", "final_layernorm")
TWICE_PER_LAYER = ("layernorm",)
SKEW_RATES = (0.03, 0.1, 0.25, 0.5, 0.85)
"""Typical skew rate of each of SKEW_RATE_LABELS: shares of long contexts that were measured."""

ATTENTION_COLUMNS = ("prefill_chunk", "kv_prefill", "n_decode", "kv_decode", "time_us")


@dataclass(frozen=True, slots=True)
class SkewSample:
    """One bucket of skew_fit.csv.

    ``most_decodes`` is the upper edge of its batch sizes, ``rate`` an index of SKEW_RATES.
    """

    chunk: int
    most_decodes: int
    rate: int
    alpha: float
    samples: float


@dataclass(frozen=True, slots=True)
class ProfileTables:
    """Measured times, microseconds, of one layer (of the whole step for embedding and head).

    Attributes:
        dense: layer name to (tokens, times), tokens increasing.
        per_sequence: likewise, by sequences.
        attention: rows of ATTENTION_COLUMNS.
        experts: rows of (tokens, activated experts, time); empty without experts.
        skew: buckets of skew_fit.csv; empty without it, and where skew was not measured.
        default_skew: alpha where they have no samples; 0 where skew was not measured.
    """

    dense: dict[str, tuple[Array, Array]]
    per_sequence: dict[str, tuple[Array, Array]]
    attention: Array
    experts: Array
    skew: tuple[SkewSample, ...] = ()
    default_skew: float = DEFAULT_SKEW

    def dense_step_us(self, layers: int) -> tuple[Array, Array]:
        """(tokens, microseconds) of everything that depends on the batch's tokens alone."""
        grids = [tokens for tokens, _ in self.dense.values()]
        tokens = np.unique(np.concatenate(grids))
        total = np.zeros_like(tokens)
        for name, (xs, ys) in self.dense.items():
            times = 1 if name in ONCE_PER_STEP else layers * (1 + (name in TWICE_PER_LAYER))
            total += times * np.interp(tokens, xs, ys)
        return tokens, total

    def head_step_us(self) -> tuple[Array, Array]:
        """(sequences, microseconds) of the head and the sampler."""
        grids = [sequences for sequences, _ in self.per_sequence.values()]
        sequences = np.unique(np.concatenate(grids))
        parts = [np.interp(sequences, xs, ys) for xs, ys in self.per_sequence.values()]
        return sequences, np.sum(parts, axis=0)

    def skew_by_decodes(self, counts: list[int]) -> list[float]:
        """Mean alpha of decode-only steps for each batch size of the grid.

        Batches of mostly long contexts are left out: their mean is near the longest, and alpha has
        no weight.
        """
        low = [s for s in self.skew if s.chunk == 0 and s.rate < len(SKEW_RATES) - 1]
        return [self._mean_alpha([s for s in low if s.most_decodes == max(2, n)]) for n in counts]

    def skew_by_rate(self, counts: list[int]) -> list[list[float]]:
        """Mean alpha of steps with prefill: a row per batch size, a value per SKEW_RATES.

        Batch size and skew rate tell the buckets apart; the chunk hardly does.
        """
        mixed = [s for s in self.skew if s.chunk and s.samples]
        edges = sorted({s.most_decodes for s in mixed})
        rows = []
        for count in counts:
            edge = next((e for e in edges if e >= count), None)
            alike = [s for s in mixed if s.most_decodes == edge]
            known = sorted({s.rate for s in alike})
            means = [self._mean_alpha([s for s in alike if s.rate == rate]) for rate in known]
            if not known:
                known, means = [0], [self.default_skew]
            at = [SKEW_RATES[rate] for rate in known]
            rows.append(np.interp(SKEW_RATES, at, means).tolist())
        return rows

    def _mean_alpha(self, samples: list[SkewSample]) -> float:
        """Mean weighted by samples, in [0, 1]; the default where a bucket is empty.

        Where mean and longest context cost the same, alpha is noise of any size: it is bounded, but
        not at zero, so that noise averages out.
        """
        weight = sum(sample.samples for sample in samples)
        if not weight:
            return self.default_skew
        mean = sum(min(max(s.alpha, -1.0), 1.0) * s.samples for s in samples) / weight
        return min(max(mean, 0.0), 1.0)


def load_profile(folder: str | Path) -> ProfileTables:
    """Read a profile folder (``<gpu>/<model>/tp<k>``).

    ``moe.csv`` is looked for in the sibling ``tp1`` too: experts are measured whole, once.

    Raises:
        ValueError: a file is missing, lacks a column, is empty, or has a bad line (its number is
            named), or ``meta.yaml`` says that the tables mean something else.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ValueError(f"no profile folder {place}")
    meta = read_profile_meta(place)
    moe = _find(place, "moe") or _find(place.parent / "tp1", "moe")
    skew, default_skew = _skew(place, meta)
    return ProfileTables(
        dense=_by_name(require_table(place, "dense"), "layer", "tokens"),
        per_sequence=_by_name(require_table(place, "per_sequence"), "layer", "sequences"),
        attention=read_numbers(require_table(place, "attention"), ATTENTION_COLUMNS),
        experts=_experts(moe) if moe else np.empty((0, 3)),
        skew=skew,
        default_skew=default_skew,
    )


def find_profile(
    profiles: str | Path, accelerator: str, model: str, tensor_parallel: int
) -> Path | None:
    """The folder of a case in a folder of profiles, if it is there.

    That is ``<accelerator>/<model>/tp<k>`` by catalogue names, or, as LLMServingSim's
    ``profiler/perf`` has it, ``<GPU>/<organisation>/<model>/bf16/tp<k>``.
    """
    root = Path(profiles)
    own = root / accelerator / model / f"tp{tensor_parallel}"
    if own.is_dir():
        return own
    for folder in sorted(root.glob(f"*/*/*/bf16/tp{tensor_parallel}")):
        gpu, _, name = folder.relative_to(root).parts[:3]
        if (plain_name(gpu), name.lower()) == (plain_name(accelerator), model):
            return folder
    return None


def plain_name(name: str) -> str:
    """A name without case and dashes: the catalogue's rtx-4090 is RTX4090 elsewhere."""
    return name.replace("-", "").lower()


def _find(folder: Path, stem: str) -> Path | None:
    for name in (f"{stem}.csv", f"{stem}.csv.gz"):
        if (folder / name).is_file():
            return folder / name
    return None


def require_table(folder: Path, stem: str) -> Path:
    """The file of a table, plain or gzipped. Raises ValueError where there is none."""
    path = _find(folder, stem)
    if path is None:
        raise ValueError(f"profile folder {folder} has no {stem}.csv or {stem}.csv.gz")
    return path


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a table that has these columns, plain or gzipped.

    Raises:
        ValueError: it cannot be read, lacks a column, or is empty.
    """
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    missing = [name for name in columns if name not in (reader.fieldnames or ())]
    if missing:
        raise ValueError(f"{path} lacks the columns {missing}; it has {reader.fieldnames}")
    if not rows:
        raise ValueError(f"{path} has no rows")
    return rows


def _number(path: Path, line: int, row: dict[str, str], column: str) -> float:
    try:
        value = float(row[column])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value) or (value < 0 and column != "alpha"):
        raise ValueError(f"{path} line {line}: {column} = {row[column]!r} is not a number >= 0")
    return value


def read_numbers(path: Path, columns: tuple[str, ...]) -> Array:
    """Some columns of a table, as numbers. Raises ValueError naming the line that is wrong."""
    rows = read_rows(path, columns)
    return np.array(
        [[_number(path, line, row, c) for c in columns] for line, row in enumerate(rows, start=2)]
    )


def _experts(path: Path) -> Array:
    columns = ("tokens", "activated_experts", "time_us")
    if "ep" not in read_rows(path, columns)[0]:
        return read_numbers(path, columns)
    rows = read_numbers(path, ("ep", *columns))
    whole: Array = rows[rows[:, 0] == 1, 1:]
    if not len(whole):
        raise ValueError(f"{path} has no rows with ep 1")
    return whole


def _by_name(path: Path, key: str, size: str) -> dict[str, tuple[Array, Array]]:
    points: dict[str, dict[float, float]] = defaultdict(dict)
    for line, row in enumerate(read_rows(path, (key, size, "time_us")), start=2):
        points[row[key]][_number(path, line, row, size)] = _number(path, line, row, "time_us")
    return {
        name: (np.array(sorted(curve)), np.array([curve[x] for x in sorted(curve)]))
        for name, curve in points.items()
    }


def _skew(folder: Path, meta: ProfileMeta) -> tuple[tuple[SkewSample, ...], float]:
    """Buckets of skew_fit.csv, and alpha where they have no samples."""
    if not meta.prices_skew:
        return (), 0.0
    path, name = _find(folder, "skew_fit"), folder.absolute().name
    said, expected = meta.skew_table(name), f"{name}/skew_fit.csv"
    if said.bucket_table is not None and (path is None or said.bucket_table != expected):
        raise ValueError(
            f"meta.yaml of {folder} has the bucket_table {said.bucket_table!r}; allowed: "
            f"{expected}, and that it is there"
        )
    return _skew_samples(path) if path else (), said.alpha_default


def _skew_samples(path: Path) -> tuple[SkewSample, ...]:
    """Buckets of skew_fit.csv with a known label."""
    rates: dict[str, int] = {label: rate for rate, label in enumerate(SKEW_RATE_LABELS)}
    samples = []
    columns = ("pc", "n_label", "skew_rate_label", "alpha", "n_samples")
    for line, row in enumerate(read_rows(path, columns), start=2):
        edge = row["n_label"].removeprefix("n<=")
        rate = rates.get(row["skew_rate_label"])
        if not edge.isdigit() or rate is None:
            continue
        chunk, alpha, weight = (_number(path, line, row, c) for c in ("pc", "alpha", "n_samples"))
        samples.append(SkewSample(int(chunk), int(edge), rate, alpha, weight))
    return tuple(samples)
