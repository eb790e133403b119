"""What a replay must reach, and the published runs that the targets are of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from agentserve_gym.validation.replay import ReplaySettings

PREEMPTIONS_WITHIN = 0.10
"""Allowed distance from the reference's count of preemptions."""


@dataclass(frozen=True, slots=True)
class PublishedRun:
    """A published vLLM run and the largest errors that are allowed on it (0.02 is 2 %).

    Data-parallel runs spread the experts over their engines.

    Attributes:
        accelerator, model, tensor_parallel, data_parallel: what tells it from the others.
        ttft, tpot, e2e: of the mean. ``per_request_e2e``: mean over requests.
        max_num_seqs, workload: to replay it where only the workload is here.
        kv_blocks: the KV pool that the engine reported, where known.
        preemptions: of the reference, where its KV pool is saturated.
    """

    accelerator: str
    model: str
    tensor_parallel: int
    data_parallel: int
    ttft: float
    tpot: float
    e2e: float
    per_request_e2e: float
    max_num_seqs: int
    workload: str
    kv_blocks: int | None = None
    preemptions: int | None = None

    def is_of(self, settings: ReplaySettings) -> bool:
        """Whether these settings are this run's."""
        own = (self.accelerator, self.model, self.tensor_parallel, self.data_parallel)
        return own == (
            settings.accelerator,
            settings.model,
            settings.tensor_parallel,
            settings.data_parallel,
        )

    def settings(self, folder: Path) -> ReplaySettings:
        """The replay of this run with its workload from a folder."""
        return ReplaySettings(
            folder / self.workload,
            self.accelerator,
            self.model,
            self.tensor_parallel,
            self.data_parallel,
            self.tensor_parallel * self.data_parallel if self.data_parallel > 1 else 1,
            max_num_seqs=self.max_num_seqs,
            kv_blocks=self.kv_blocks,
        )


_LLAMA = "sharegpt-300-llama-tokenizer.jsonl.gz"
_QWEN = "sharegpt-300-qwen3-tokenizer.jsonl.gz"

# fmt: off
PUBLISHED_RUNS = (
    PublishedRun("rtx-pro-6000", "llama-3.1-8b", 1, 1, 0.04, 0.015, 0.02, 0.025, 128, _LLAMA),
    PublishedRun("rtx-pro-6000", "qwen3-30b-a3b-instruct-2507", 1, 2, 0.10, 0.02, 0.02, 0.03, 128,
                 _QWEN),
    PublishedRun("rtx-4090", "llama-3.1-8b", 1, 1, 0.025, 0.02, 0.02, 0.03, 256, _LLAMA,
                 kv_blocks=2588, preemptions=194),
    PublishedRun("rtx-pro-6000", "qwen3-32b", 2, 1, 0.025, 0.02, 0.02, 0.03, 128, _QWEN),
)
# fmt: on
"""vLLM 0.19 runs of 300 ShareGPT requests at 10 per second (LLMServingSim 2.0, MIT, commit
5daddb21). Of the last two the measurements were withheld while this simulator was built."""


def published_run(settings: ReplaySettings) -> PublishedRun | None:
    """The published run that these settings repeat, if any."""
    return next((run for run in PUBLISHED_RUNS if run.is_of(settings)), None)
