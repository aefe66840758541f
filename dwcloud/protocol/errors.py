"""Errors of the protocol core: who broke the rules, we or the far end."""


class ProtocolError(Exception):
    """A rule of a protocol was broken."""


class LocalProtocolError(ProtocolError):
    """The calling program used a protocol object against its rules."""


class RemoteProtocolError(ProtocolError):
    """The far end sent something that its protocol does not allow.

    :ivar code: the code to answer with on the wire, in the terms of the protocol
        concerned (a STUN error code, an HTTP status), or None where it has none.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code
