"""Asking a router to forward a port: PCP, NAT-PMP, UPnP-IGD; no input or output."""
