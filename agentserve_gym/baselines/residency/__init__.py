"""Residency: where KV waits during a tool gap. One module per kind of rule."""
