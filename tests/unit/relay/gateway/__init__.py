"""Browsers that come through a relay."""
