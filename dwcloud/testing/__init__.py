"""A simulated world of hosts, links and NATs behind Twisted's interfaces."""
