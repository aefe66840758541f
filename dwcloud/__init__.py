"""Reach a machine behind a NAT from anywhere, through a cloud of your own."""
