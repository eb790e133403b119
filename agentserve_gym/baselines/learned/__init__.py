"""Learned policies: the four decisions as small scoring functions whose weights are trained.

Every part starts from the heuristic that its function contains as a special case, so training moves
away from a strong policy instead of imitating one. Nothing but arithmetic on a few numbers: no
framework is needed to use one, and loading weights executes nothing.
"""
