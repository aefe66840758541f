"""Accounts, systems, roles, and who may connect to what."""
