"""How timing coefficients come about: measured on a GPU, imported from kernel tables, and fitted.

Nothing here is needed to run a simulation: `agentserve_gym.hardware` reads what this room makes.
"""
