"""The peers: the one place where another is added."""

from __future__ import annotations

from benchmarks.peers.base import Peer
from benchmarks.peers.dynamo_replay import AS_INSTALLED, QUIET

PEERS: tuple[Peer, ...] = (QUIET, AS_INSTALLED)
