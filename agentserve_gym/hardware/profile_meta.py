"""What a profile says of itself: ``meta.yaml``, beside its folders ``tp<k>``.

Fields that change what the tables mean are read here, or refused where the tables would mean
something else than the loader takes them for; docs/data.md goes through all of them. What the file
does not say is as without a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from agentserve_gym.messages import validated

DEFAULT_SKEW = 0.06
"""Where a profile does not say: 0.054 to 0.065 in the published tables."""

SkewRateLabel = Literal["sr<=5%", "sr<=15%", "sr<=40%", "sr<=70%", "sr>70%"]
SKEW_RATE_LABELS: tuple[SkewRateLabel, ...] = get_args(SkewRateLabel)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Overrides(_Part):
    """``num_hidden_layers``: more than one are profiled where layers differ; here all are alike."""

    num_hidden_layers: Literal[1] = 1


class _Engine(_Part):
    """How the profiled engine ran.

    CUDA graphs pad a batch and cached prefixes shorten it, so a row would not be of the tokens that
    it names; an engine of several ranks adds all-reduces, which are priced apart.
    """

    enforce_eager: Literal[True] = True
    enable_prefix_caching: Literal[False] = False
    tensor_parallel_size: Literal[1] = 1
    hf_overrides: _Overrides = _Overrides()


class _SkewProfile(_Part):
    enabled: bool = True


class _BucketAxes(_Part):
    skew_rate_labels: tuple[SkewRateLabel, ...] = SKEW_RATE_LABELS


class SkewFitTable(_Part):
    """What is said of a folder's skew_fit.csv; ``alpha_default`` is for its empty buckets."""

    method: Literal["per_bucket_wls_5axis"] = "per_bucket_wls_5axis"
    alpha_default: Annotated[float, Field(ge=0.0, le=1.0)] = DEFAULT_SKEW
    bucket_table: str | None = None


class _SkewFit(_Part):
    enabled: bool = True
    bucket_axes: _BucketAxes = _BucketAxes()
    per_tp: dict[int, SkewFitTable] = {}


class ProfileMeta(_Part):
    """The fields of ``meta.yaml`` that change what the tables beside it mean."""

    profiler_version: Annotated[str, Field(pattern=r"^1\.")] = "1.0.0"
    architecture: Literal["llama", "mixtral", "phimoe", "qwen3", "qwen3_moe"] = "llama"
    variant: Literal["bf16"] = "bf16"
    engine_effective: _Engine = _Engine()
    skew_profile: _SkewProfile = _SkewProfile()
    skew_fit: _SkewFit = _SkewFit()

    @property
    def prices_skew(self) -> bool:
        """Whether unequal contexts were measured; else they are priced by their mean."""
        return self.skew_profile.enabled and self.skew_fit.enabled

    def skew_table(self, folder_name: str) -> SkewFitTable:
        """What is said of the skew_fit.csv in the folder ``tp<k>`` of that name."""
        tables = self.skew_fit.per_tp.items()
        return next((table for k, table in tables if folder_name == f"tp{k}"), SkewFitTable())


def read_profile_meta(folder: Path) -> ProfileMeta:
    """Read the ``meta.yaml`` beside a profile folder ``tp<k>``; the defaults where there is none.

    Raises:
        ValueError: it cannot be read, or a field has a value that the loader does not take.
    """
    path = folder.absolute().parent / "meta.yaml"
    if not path.is_file():
        return ProfileMeta()
    # PyYAML is loaded with the first such file: simulations without one start faster.
    import yaml

    try:
        content: object = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ValueError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    return validated(ProfileMeta, content, str(path))
