"""Routing: on which instance a turn runs. One module per kind of rule."""
