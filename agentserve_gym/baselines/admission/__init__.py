"""Admission: whether a turn is sent on or held at the router."""
