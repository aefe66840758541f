"""Tests of :mod:`dwcloud.protocol.opening`."""
