"""Measurements, not tests: `nox -s bench` runs them and writes ``docs/benchmarks.md``."""
