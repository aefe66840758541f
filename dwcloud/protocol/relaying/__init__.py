"""Relaying: joining two connections that both came to the relay.

Server side: :class:`~.listening_pool.ListeningPool` keeps idle connections at a relay.
Relay side: :class:`~.pairing.Pairing` joins them with clients. Between them the
:mod:`~.lines` on an idle connection, the :mod:`~.paths` of the HTTP resources, and the
:mod:`~.proof` by which a server shows that it may listen under its name.
"""
