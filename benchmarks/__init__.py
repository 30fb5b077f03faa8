"""Acceptance suites: the claims about this package's speed, each with its target and a reference implementation."""
