"""Benchmarks: what the transports of this project cost, beside others."""
