"""Real programs in network namespaces, behind the kernel's own NATs.

Needs root, iproute2 and nftables; no packet leaves the namespaces.
"""
