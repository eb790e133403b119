"""Policies that simulate what their answers lead to, and give the one that turns out best."""
