"""Steps like those of a loaded engine: a crowd of unequal decodes beside one or more chunks.

Tables are measured with one chunk and decodes of one length, so these are the steps in which the
compact form and its tables could part.
"""

from __future__ import annotations

import numpy as np

from agentserve_gym.hardware.pricing.timing import BatchStep, prefill_area

DECODES = (16, 128)
CONTEXTS = (300, 3000)
CHUNKS = (16, 2048)
MOST_HISTORY = 8192
MOST_PREFILLS = 4
MOST_SKEW = 5.0
"""Longest over mean context."""


def skewed_steps(count: int, pool_tokens: int, seed: int) -> list[BatchStep]:
    """Random steps that fit a KV pool; decodes, contexts and chunks even in their logarithm."""
    random = np.random.default_rng(seed)
    return [_step(random, pool_tokens) for _ in range(count)]


def _step(random: np.random.Generator, pool_tokens: int) -> BatchStep:
    count = _even_log(random, *DECODES)
    prefills = int(random.integers(1, MOST_PREFILLS + 1))
    total = _even_log(random, *CHUNKS)
    cuts = np.sort(random.choice(np.arange(1, total), prefills - 1, replace=False))
    chunks = np.diff(np.concatenate(([0], cuts, [total])))
    most = min(MOST_HISTORY, pool_tokens // (2 * prefills))
    histories = random.integers(0, most + 1, prefills)
    room = (pool_tokens - total - int(histories.sum())) // count
    mean = _even_log(random, min(CONTEXTS[0], room), min(CONTEXTS[1], room))
    longest = int(mean * random.uniform(1.0, min(MOST_SKEW, count)))
    area = sum(map(prefill_area, chunks.tolist(), histories.tolist()))
    return BatchStep(
        count,
        count * mean,
        longest,
        prefills,
        total,
        int(histories.sum()),
        area,
        count + prefills,
    )


def _even_log(random: np.random.Generator, least: int, most: int) -> int:
    least = max(least, 1)
    return int(np.exp(random.uniform(np.log(least), np.log(max(most, least) + 1))))
