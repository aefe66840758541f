"""Mediation: how client and server are introduced to each other."""
