"""The simulation's kernel: events, memories, links, engines, and where KV lies.

It reads alone: nothing here imports pydantic, SimPy, NumPy or Gymnasium, scenarios or policies.
"""
