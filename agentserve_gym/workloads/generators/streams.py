"""Separate streams of random numbers for the parts of a workload."""

from __future__ import annotations

import numpy as np

STREAM_MIX, STREAM_STRUCTURE, STREAM_TOKENS, STREAM_TOOLS, STREAM_CHILDREN = range(1, 6)
STREAM_ARRIVALS, STREAM_SHUFFLE = 6, 7

_WORD = 1 << 32


def stream_rng(seed: int, stream: int, index: int) -> np.random.Generator:
    """The generator of one stream of one program: PCG64 seeded with all three numbers.

    The same as for a list of them; NumPy takes half as long where it need not split integers into
    words itself.
    """
    if seed < _WORD and index < _WORD:
        words = np.array((seed, stream, index), np.uint32)
        return np.random.Generator(np.random.PCG64(words))
    return np.random.Generator(np.random.PCG64([seed, stream, index]))
