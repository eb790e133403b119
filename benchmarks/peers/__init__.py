"""Other simulators on the peer trace, side by side with ours: ``python -m benchmarks.peers``.

A peer is a `benchmarks.peers.base.Peer` in `benchmarks.peers.registry.PEERS`; nothing else has to
know about it. It runs in an environment of its own, as a script that imports nothing of ours and
prints one JSON line.
"""
