"""Binding a system to the account that is signed in."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization

from dwcloud.errors import APIRefused, ConfigurationError
from dwcloud.net.identity import ServerIdentity, SystemIdentity
from dwcloud.peer.api_values import System
from dwcloud.peer.cloud_membership import CloudMembership
from dwcloud.peer.cloud_session import CloudSession

__all__ = ["bind_system", "cloud_key_of"]

_CONTEXT = b"dwcloud bind 1\0"


async def bind_system(session: CloudSession, directory: Path, name: str) -> System:
    """Bind the system whose key is in ``directory``, and pin the cloud's key there.

    A system that the account has a role on already keeps its name; then only the file
    is written, for which the server's own key is enough.

    :param name: what the system is to be called.
    :raises ConfigurationError: if the system's key is not there.
    :raises APIRefused: if the cloud does not bind it.
    """
    api = session.api
    identity = ServerIdentity.load(directory)
    cloud_key = await cloud_key_of(session)
    systems = await session.call(api.systems)
    bound = next((s for s in systems if s.id == identity.name.system), None)
    if bound is None:
        owner = _owner_of(directory)
        nonce = await session.call(api.challenge)
        account = session.credentials.account_id
        signature = owner.sign(_CONTEXT + nonce + account.bytes + cloud_key)
        certificate = owner.certificate.public_bytes(serialization.Encoding.DER)
        before = CloudMembership.load(directory)
        # A server that runs reads it as soon as the mediator knows of the binding. If
        # this process ends in between, it lets nobody in rather than everybody.
        CloudMembership(api.name, cloud_key, name).save(directory)
        try:
            bound = await session.call(
                lambda token: api.bind(token, name, certificate, nonce, signature)
            )
        except APIRefused as e:
            # After a refusal it is certain that nothing was bound, not after an answer
            # that was lost or cannot be read.
            if e.status >= 400 and before is None:
                CloudMembership.remove(directory)
            elif e.status >= 400 and before is not None:
                before.save(directory)
            raise APIRefused(
                f"binding system {identity.name.system} failed: {e}",
                e.status,
                e.code,
                e.retry_after,
            ) from e
    CloudMembership(api.name, cloud_key, bound.name).save(directory)
    return bound


def _owner_of(directory: Path) -> SystemIdentity:
    try:
        return SystemIdentity.load(directory)
    except ConfigurationError as e:
        raise ConfigurationError(
            f"only the holder of the system's key can bind it: {e}. Bind it where "
            "that key is, by 'dwcloud system bind --identity DIR'"
        ) from e


async def cloud_key_of(session: CloudSession) -> bytes:
    """The key under which the cloud of a session signs grants."""
    known = session.api.trust.known
    if known is not None and known.cloud_key is not None:
        return known.cloud_key
    return (await session.api.describe()).cloud_key
