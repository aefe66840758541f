"""Tests of what makes tables and charts of measurements."""
