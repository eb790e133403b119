"""Oracles: parts that know what no live system could. Never ranked."""
