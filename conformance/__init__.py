"""Against real serving code on a CPU: vLLM's scheduler, KV-cache manager and CPU offloading,
SGLang's radix caches and queue policies, and the routers of NVIDIA Dynamo, SGLang and vLLM.

The two sides share nothing but a file of plain numbers each way; the other side is a process with
an environment of its own. What it answered in some small cases is kept, so that tests can compare
without it. `make conformance` does it all.
"""
