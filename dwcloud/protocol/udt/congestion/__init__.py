"""Congestion controllers of UDT, chosen by name."""
