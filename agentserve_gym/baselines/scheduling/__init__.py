"""Scheduling: the order of an instance's queue."""
