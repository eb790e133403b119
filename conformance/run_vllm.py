"""Run by the Python that has vLLM: ``run_vllm.py CASES RESULTS``, a file of JSON lines each way.

Drives vLLM's scheduler and KV-cache manager without a model. A step lasts as long as our engine's
step of the same number did, which the case tells; what is scheduled is vLLM's decision alone.
"""

from __future__ import annotations

import heapq
import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"

import torch
from vllm.config import CacheConfig, DeviceConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.async_scheduler import AsyncScheduler
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    KVCacheConfig,
    KVCacheGroupSpec,
    SlidingWindowSpec,
)
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

_BLOCK_TOKENS = 16
_MODEL = Path(__file__).parent / "vllm_model"
_LONGEST_TOKENS = 1_000_000
_OWN_TOKENS = 10**7
"""Token ids that a program has to itself: equal ids at equal places are equal prefixes."""


class _Planned(NamedTuple):
    """A step that was scheduled: by turn, tokens computed before and tokens of this step."""

    output: SchedulerOutput
    shares: dict[str, tuple[int, int]]
    preemptions: int


class _Program:
    """A program's tokens so far; ids of its own from ``first_id`` on."""

    def __init__(self, plan: dict[str, Any], number: int, prefix_ids: dict[str, int]) -> None:
        self.turns: list[dict[str, Any]] = plan["turns"]
        self.tokens: list[int] = []
        self._next_id = (number + 1) * _OWN_TOKENS
        for level in plan["prefix"]:
            place = prefix_ids.setdefault(level["key"], len(prefix_ids))
            first_id = -(place + 1) * _OWN_TOKENS + 10**12
            self.tokens += range(first_id, first_id + level["tokens"])

    def begin(self, turn: int) -> None:
        """Make the tokens the prompt of a turn."""
        kept = self.turns[turn].get("reset_to_tokens", len(self.tokens))
        self.tokens = self.tokens[:kept] + self.fresh(self.turns[turn]["new_input_tokens"])

    def fresh(self, count: int) -> list[int]:
        """Tokens that nobody else has."""
        self._next_id += count
        return list(range(self._next_id - count, self._next_id))


class _Driver:
    """An event loop around a scheduler, as vLLM's engine core has one."""

    def __init__(self, case: dict[str, Any]) -> None:
        self._ahead: bool = case["async_scheduling"]
        self._times: list[list[float]] = case["times"]
        self._priorities: list[int] = case["priorities"]
        self._scheduler = _scheduler(case)
        self._hasher = get_request_block_hasher(_BLOCK_TOKENS, sha256)
        prefix_ids: dict[str, int] = {}
        self._programs = [
            _Program(plan, number, prefix_ids) for number, plan in enumerate(case["programs"])
        ]
        self._ready = [
            (plan["arrival_s"], number, 0) for number, plan in enumerate(case["programs"])
        ]
        heapq.heapify(self._ready)
        self._live: dict[str, Request] = {}
        self._preemptions = 0
        self.steps: list[list[Any]] = []
        self.turns: dict[str, list[float]] = {}

    def run(self) -> None:
        """Run all programs. With asynchronous scheduling a step is planned when the one before it
        starts; where there is none, or it was planned empty, at once."""
        now = 0.0
        planned: _Planned | None = None
        scheduler = self._scheduler
        while self._ready or planned or scheduler.has_unfinished_requests():
            if planned is None:
                if not scheduler.has_unfinished_requests():
                    now = max(now, self._ready[0][0])
                planned = self._plan(now)
                if planned is None:
                    now = max(now, self._ready[0][0])
                    continue
            end_s = self._begin(planned, now)
            following = self._plan(now) if self._ahead else None
            now = end_s
            self._end(planned, now)
            planned = following

    def _plan(self, now: float) -> _Planned | None:
        while self._ready and self._ready[0][0] <= now:
            self._add(*heapq.heappop(self._ready))
        if not self._scheduler.has_unfinished_requests():
            return None
        output = self._scheduler.schedule()
        self._preemptions += len(output.preempted_req_ids or ())
        if not output.num_scheduled_tokens:
            self._scheduler.update_from_output(output, _sampled({}))
            return None
        had = {new.req_id: new.num_computed_tokens for new in output.scheduled_new_reqs}
        cached = output.scheduled_cached_reqs
        had |= zip(cached.req_ids, cached.num_computed_tokens, strict=True)
        shares = {name: (had[name], tokens) for name, tokens in output.num_scheduled_tokens.items()}
        preemptions, self._preemptions = self._preemptions, 0
        return _Planned(output, shares, preemptions)

    def _add(self, arrival_s: float, number: int, turn: int) -> None:
        program = self._programs[number]
        program.begin(turn)
        name = f"{number}/{turn}"
        request = Request(
            request_id=name,
            prompt_token_ids=list(program.tokens),
            sampling_params=SamplingParams(
                max_tokens=program.turns[turn]["output_tokens"], ignore_eos=True
            ),
            pooling_params=None,
            arrival_time=arrival_s,
            block_hasher=self._hasher,
            priority=self._priorities[number] if self._priorities else 0,
        )
        self._live[name] = request
        self.turns[name] = [-1.0, -1.0]
        self._scheduler.add_request(request)

    def _begin(self, planned: _Planned, now: float) -> float:
        """Write the step down as it starts; returns when it ends."""
        free = self._scheduler.kv_cache_manager.block_pool.get_num_free_blocks()
        shares = [[*map(int, name.split("/")), *share] for name, share in planned.shares.items()]
        number = len(self.steps)
        self.steps.append([sorted(shares), free, planned.preemptions])
        if number < len(self._times):
            return self._times[number][1]
        last_start_s, last_end_s = self._times[-1]
        return now + last_end_s - last_start_s

    def _end(self, planned: _Planned, now: float) -> None:
        sampled: dict[str, list[int]] = {}
        for name, (had, tokens) in planned.shares.items():
            request = self._live[name]
            complete = had + tokens >= request.num_tokens
            number = int(name.partition("/")[0])
            sampled[name] = self._programs[number].fresh(1) if complete else []
            if complete and request.num_output_tokens == 0:
                self.turns[name][0] = now
        self._scheduler.update_from_output(planned.output, _sampled(sampled))
        for name in planned.shares:
            if self._live[name].is_finished():
                self._finish(name, now)

    def _finish(self, name: str, now: float) -> None:
        self.turns[name][1] = now
        number, turn = map(int, name.split("/"))
        program = self._programs[number]
        program.tokens = list(self._live.pop(name).all_token_ids)
        if turn + 1 < len(program.turns):
            heapq.heappush(self._ready, (now + program.turns[turn]["gap_s"], number, turn + 1))


def _scheduler(case: dict[str, Any]) -> Scheduler:
    ahead = case["async_scheduling"]
    config = VllmConfig(
        model_config=ModelConfig(
            model=str(_MODEL), skip_tokenizer_init=True, dtype="bfloat16", seed=0,
            max_model_len=_LONGEST_TOKENS,
        ),
        cache_config=CacheConfig(block_size=_BLOCK_TOKENS, enable_prefix_caching=True),
        scheduler_config=SchedulerConfig(
            max_num_seqs=case["max_num_seqs"],
            max_num_batched_tokens=case["max_num_batched_tokens"],
            max_model_len=_LONGEST_TOKENS,
            enable_chunked_prefill=True,
            is_encoder_decoder=False,
            async_scheduling=ahead,
            policy="priority" if case["priorities"] else "fcfs",
        ),
        device_config=DeviceConfig(device="cpu"),
    )  # fmt: skip
    blocks = case["kv_blocks"] + 1  # vLLM keeps one null block for itself
    config.cache_config.num_gpu_blocks = blocks
    sizes = {"block_size": _BLOCK_TOKENS, "num_kv_heads": 2, "head_size": 64}
    layer = FullAttentionSpec(**sizes, dtype=torch.bfloat16)
    groups = [KVCacheGroupSpec(["layer"], layer)]
    number, window = case.get("windows", (0, 0))
    for place in range(number):
        windowed = SlidingWindowSpec(**sizes, dtype=torch.bfloat16, sliding_window=window)
        groups.append(KVCacheGroupSpec([f"windowed {place}"], windowed))
    return (AsyncScheduler if ahead else Scheduler)(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(blocks, [], groups),
        structured_output_manager=StructuredOutputManager(config),
        block_size=_BLOCK_TOKENS,
        log_stats=False,
    )


def _sampled(tokens: dict[str, list[int]]) -> ModelRunnerOutput:
    return ModelRunnerOutput(
        req_ids=list(tokens),
        req_id_to_index={name: place for place, name in enumerate(tokens)},
        sampled_token_ids=list(tokens.values()),
        logprobs=None,
        prompt_logprobs_dict={},
        pooler_output=[],
    )


def main() -> None:
    init_none_hash(sha256)
    with open(sys.argv[1]) as cases, open(sys.argv[2], "w") as results:
        for line in cases:
            driver = _Driver(json.loads(line))
            driver.run()
            results.write(json.dumps({"steps": driver.steps, "turns": driver.turns}) + "\n")
            results.flush()


if __name__ == "__main__":
    main()
