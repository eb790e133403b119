"""What an engine's steps cost: latency models over plain tables.

The room reads alone: it imports nothing of pydantic, NumPy, SimPy or Gymnasium. Files are read, and
tables checked and filled, in the modules beside it.
"""
