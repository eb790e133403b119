"""Step for step against real serving code: vLLM's own scheduler and KV-cache manager on a CPU.

Both sides get the same programs, the same limits and the same clock: our engine runs first, and
vLLM's k-th step lasts as long as ours did. What each step schedules is compared; `make conformance`
does it. Nothing is shared with vLLM's side but a file of plain numbers each way.
"""
