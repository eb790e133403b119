"""Run by the Python that has SGLang: ``run_sglang.py CASES RESULTS``, JSON lines each way.

Asks SGLang's radix caches and its queue policies what ours are asked. What is compared needs no
GPU, but its modules import packages that do: those are stood in for by modules of empty classes.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import os
import sys
import types
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import torch._inductor.compile_fx  # before the stand-ins: torch looks for triton
from transformers.utils import import_utils

import_utils.is_torchvision_available()  # before the stand-ins, for the same reason

_STAND_INS = {
    "IPython", "compressed_tensors", "gguf", "partial_json_parser", "sentencepiece", "sgl_kernel",
    "torchvision", "triton",
}  # fmt: skip
os.environ["SGLANG_ENABLE_WAITING_PREFIX_REFRESH"] = "0"


class _Anything(type):
    """A class that has every attribute; called with one function, it decorates it."""

    def __getattr__(cls, name: str) -> _Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})

    def __call__(cls, *given: Any, **_: Any) -> Any:
        return given[0] if len(given) == 1 and callable(given[0]) else cls


class _StandIn(types.ModuleType):
    __path__ = []  # noqa: RUF012  (a package)

    def __getattr__(self, name: str) -> _Anything:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Anything(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        if name.partition(".")[0] not in _STAND_INS:
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""


sys.meta_path.append(_Finder())

from sglang.srt.managers.schedule_batch import Req
from sglang.srt.managers.schedule_policy import SchedulePolicy
from sglang.srt.mem_cache.base_prefix_cache import EvictParams, InsertParams, MatchPrefixParams
from sglang.srt.mem_cache.cache_init_params import CacheInitParams
from sglang.srt.mem_cache.radix_cache import RadixCache, RadixKey
from sglang.srt.mem_cache.unified_cache.components import ComponentType
from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache
from sglang.srt.sampling.sampling_params import SamplingParams

_POLICIES = ("fcfs", "lpm", "shortest-prefill-first")


class _Allocator:
    """Owns no memory; who asks keeps the books."""

    device = "cpu"

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size

    def free_segment(self, value: Any, start_pos: int = 0) -> None:
        """What is evicted shows in the cache's size."""

    def free(self, value: Any) -> None:
        """As ``free_segment``."""


def _cache(kind: str, page_tokens: int) -> Any:
    params = CacheInitParams(
        disable=False,
        req_to_token_pool=None,
        token_to_kv_pool_allocator=_Allocator(page_tokens),
        page_size=page_tokens,
        tree_components=(ComponentType.FULL,),
        tree_core_backend="rust" if kind.endswith("rust") else "python",
    )
    return RadixCache(params) if kind == "RadixCache" else UnifiedRadixCache(params)


class _Running:
    """A turn that runs: its lock on the tree, its tokens there, and all its pages."""

    def __init__(self, lock: Any, in_tree: int, pages: int) -> None:
        self.lock = lock
        self.in_tree = in_tree
        self.pages = pages


class _Asked:
    """A cache and the queue before it, asked one thing after the other."""

    def __init__(self, case: dict[str, Any], kind: str) -> None:
        self._page = case["page_tokens"]
        self._capacity = case["capacity_pages"] * self._page
        self._turns = case["turns"]
        self._cache = _cache(kind, self._page)
        self._running: dict[int, _Running] = {}
        self._waiting: list[int] = []
        self._policies = {
            name: SchedulePolicy(name, self._cache, False, False, False) for name in _POLICIES
        }

    def ask(self, what: str, name: int) -> Any:
        do: dict[str, Callable[[int], Any]] = {
            "arrive": self._arrive, "begin": self._begin, "end": self._end, "order": self._order,
        }  # fmt: skip
        return do[what](name)

    def _arrive(self, name: int) -> None:
        self._waiting.append(name)

    def _begin(self, name: int) -> list[int]:
        self._waiting.remove(name)
        tokens = _tokens(self._turns[name]["runs"])
        found = self._cache.match_prefix(MatchPrefixParams(key=RadixKey(tokens[:-1])))
        hit = found.device_prefix_len
        lock = self._cache.lock(found.last_device_node)
        running = self._running[name] = _Running(lock, hit, hit // self._page)
        evicted = self._grow(running, len(tokens))
        self._insert(running, tokens)
        return [hit // self._page, evicted]

    def _end(self, name: int) -> list[int]:
        turn = self._turns[name]
        tokens = _tokens([*turn["runs"], turn["output"]])[:-1]
        running = self._running[name]
        evicted = self._grow(running, len(tokens))
        self._insert(running, tokens)
        self._cache.unlock(self._running.pop(name).lock)
        return [-1, evicted]

    def _grow(self, running: _Running, tokens: int) -> int:
        """Have pages for so many tokens; returns how many pages had to be evicted for it."""
        need = -(-tokens // self._page) - running.pages
        private = sum(each.pages * self._page - each.in_tree for each in self._running.values())
        held = self._cache.evictable_size() + self._cache.protected_size() + private
        missing = need * self._page - (self._capacity - held)
        running.pages += need
        if missing <= 0:
            return 0
        evicted = self._cache.evict(EvictParams(num_tokens=missing)).num_tokens_evicted
        return int(evicted // self._page)

    def _insert(self, running: _Running, tokens: array[int]) -> None:
        whole = tokens[: len(tokens) // self._page * self._page]
        values = torch.arange(len(whole))
        self._cache.insert(
            InsertParams(key=RadixKey(whole), value=values, prev_prefix_len=running.in_tree)
        )
        found = self._cache.match_prefix(MatchPrefixParams(key=RadixKey(whole)))
        if found.device_prefix_len != len(whole):
            raise RuntimeError("what was inserted is not found")
        self._cache.unlock(running.lock)
        running.lock = self._cache.lock(found.last_device_node)
        running.in_tree = len(whole)

    def _order(self, _: int) -> dict[str, list[int]]:
        orders = {}
        for policy in _POLICIES:
            queue = [self._request(name) for name in self._waiting]
            self._policies[policy].calc_priority(queue)
            orders[policy] = [int(request.rid) for request in queue]
        return orders

    def _request(self, name: int) -> Req:
        turn = self._turns[name]
        limits = SamplingParams(max_new_tokens=turn["output"][1])
        request = Req(str(name), "", _tokens(turn["runs"]), limits)
        request.time_stats.wait_queue_entry_time = float(name)
        return request


def _tokens(runs: Sequence[Sequence[int]]) -> array[int]:
    tokens = array("q")
    for first, count in runs:
        tokens.extend(range(first, first + count))
    return tokens


def main() -> None:
    with open(sys.argv[1]) as cases, open(sys.argv[2], "w") as results:
        for line in cases:
            case = json.loads(line)
            asked = _Asked(case, case["cache"])
            answers = [asked.ask(what, name) for what, name in case["moves"]]
            found = [answer for answer in answers if answer is not None]
            results.write(json.dumps(found) + "\n")
            results.flush()


if __name__ == "__main__":
    main()
