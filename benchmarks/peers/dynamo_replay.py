"""NVIDIA Dynamo's offline replay (PyPI ``ai-dynamo-runtime``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_WHAT = (
    "NVIDIA Dynamo's offline replay in Rust, vLLM-like scheduler, KV router, its default "
    "polynomial timing of one GPU whatever the model; no tiers below HBM in this run, no "
    "policies from outside, "
)


class DynamoReplay:
    """The Rust engine behind ``python -m dynamo.replay``, called through its Python binding.

    Called as its documentation says: a Mooncake trace with ``session_id`` and ``delay``, offline,
    KV router, blocks and limits of ours. At its default level its log has a line per request, which
    takes up to half of its time; so it is measured without and with.
    """

    requirement = "ai-dynamo-runtime==1.6.1"
    script = Path(__file__).with_name("run_dynamo_replay.py")

    def __init__(self, name: str, log: str, environment: Mapping[str, str]) -> None:
        """A variant: its ``name``, what ``log`` it writes, and environment variables for that."""
        self.name = name
        self.what = f"{_WHAT}{log}."
        self.environment = environment


QUIET = DynamoReplay("ai-dynamo-runtime", "log off", {"DYN_LOG": "error"})
AS_INSTALLED = DynamoReplay("ai-dynamo-runtime, logging", "log as it is by default", {})
