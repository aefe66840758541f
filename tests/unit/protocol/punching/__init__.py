"""Tests of the search for a way through two NATs."""
