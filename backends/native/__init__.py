"""Innkeeper's own containers: made of namespaces, cgroups, an overlay and a pivot_root, step by step."""
