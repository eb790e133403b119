"""The leaderboard: policies scored in the same way, in files that anybody can check.

An *edition* freezes what is scored: cells, seeds, metrics, the reference, a time to decide in. A
*submission* is a policy's runs of it, in one file with its totals and a checksum.
"""
