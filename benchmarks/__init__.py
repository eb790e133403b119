"""Measurements of speed: ``python -m benchmarks.speed`` and ``python -m benchmarks.peers``.

They use the package from outside; the package does not know them. Each row of the page
docs/performance.md is a function in `benchmarks.rows`, listed in `benchmarks.catalogue`.
"""
