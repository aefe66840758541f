"""Tests of :mod:`dwcloud.peer`."""
