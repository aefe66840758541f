"""Tests of STUN."""
