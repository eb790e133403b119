"""NVIDIA Dynamo's offline replay (PyPI ``ai-dynamo-runtime``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class DynamoReplay:
    """The Rust engine behind ``python -m dynamo.replay``, called through its Python binding.

    Called as its documentation says: a Mooncake trace with ``session_id`` and ``delay``, offline,
    KV router, blocks and limits of ours. Its log is off: at its default level it writes a line per
    request, which takes up to half of its time.
    """

    name = "ai-dynamo-runtime"
    requirement = "ai-dynamo-runtime==1.6.1"
    what = (
        "NVIDIA Dynamo's offline replay in Rust, vLLM-like scheduler, KV router, its default "
        "polynomial timing of one GPU whatever the model; no tiers below HBM in this run, no "
        "policies from outside, log off."
    )
    script = Path(__file__).with_name("run_dynamo_replay.py")
    environment: Mapping[str, str] = {"DYN_LOG": "error"}
