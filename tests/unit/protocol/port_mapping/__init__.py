"""Port mapping protocols."""
