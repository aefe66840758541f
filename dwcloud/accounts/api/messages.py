"""Bodies of the API's requests and answers, from which its description is made.

Times are seconds since 1970; keys and signatures are base64.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from dwcloud.accounts.names import ACCOUNT_NAME, SYSTEM_NAME
from dwcloud.accounts.system_tokens import LONGEST, SHORTEST, USUAL

__all__ = [
    "AcceptInvitation",
    "AccountAnswer",
    "AccountItem",
    "AccountsAnswer",
    "BindSystem",
    "ChallengeAnswer",
    "ChangeAccount",
    "ChangePassword",
    "ChangeSystem",
    "CloudAnswer",
    "Code",
    "GatewayEntry",
    "GatewayGrantRequest",
    "GrantAnswer",
    "GrantRequest",
    "InvitationAnswer",
    "InvitationCode",
    "InvitationItem",
    "InvitationsAnswer",
    "Invite",
    "ListAccounts",
    "LogAnswer",
    "LogItem",
    "MemberItem",
    "MembersAnswer",
    "NewAccount",
    "NewAccountAnswer",
    "NewSystemAnswer",
    "NewToken",
    "NewTokenAnswer",
    "Person",
    "Problem",
    "RecoveryCodes",
    "Refresh",
    "RemoveSecondFactor",
    "ServerItem",
    "SessionAnswer",
    "SessionItem",
    "SessionsAnswer",
    "SetRole",
    "SignIn",
    "SystemAnswer",
    "SystemItem",
    "SystemsAnswer",
    "TOTPSecret",
    "TokenItem",
    "TokensAnswer",
    "VerifyPassword",
]

_AccountName = Annotated[
    str,
    msgspec.Meta(
        pattern=ACCOUNT_NAME,
        description="2 to 63 letters a to z, digits, '.', '_' and '-'; case does not "
        "matter",
    ),
]
_SystemName = Annotated[
    str,
    msgspec.Meta(
        pattern=SYSTEM_NAME,
        description="1 to 63 letters a to z, digits, '.', '_' and '-', not in the form "
        "of a GUID; case does not matter",
    ),
]
_Text = Annotated[str, msgspec.Meta(max_length=400)]
_Password = Annotated[
    str, msgspec.Meta(max_length=1000, description="10 to 200 characters, not common")
]
_Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
_RoleWord = Literal["viewer", "administrator", "owner"]
_Time = Annotated[float, msgspec.Meta(description="seconds since 1970")]


class _Body(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a request brings: a member that is not known is refused."""


class _Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What an answer brings."""


class Problem(_Answer, omit_defaults=False):
    """Why a request failed (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str


# The cloud, accounts and sessions


class CloudAnswer(_Answer):
    """What this cloud is."""

    version: str
    cloud_key: bytes
    registration: Literal["open", "invited", "closed"]
    relays: list[str]
    web_gateways: Annotated[
        list[str],
        msgspec.Meta(
            description="domains, with a port unless it is 443: browsers open a system "
            "at https://, its id, a dot and one of these"
        ),
    ] = []


class Person(_Answer, omit_defaults=False):
    """An account."""

    id: str
    name: str
    totp: bool


class NewAccount(_Body):
    """A registration."""

    name: _AccountName
    password: _Password
    invitation: _Text | None = None


class NewAccountAnswer(_Answer):
    """The account that was made."""

    account: Person


class AccountAnswer(_Answer):
    """Who is signed in; browsers send the CSRF token with each change."""

    account: Person
    csrf_token: str | None = None


class SignIn(_Body):
    """A sign-in; `cookie` asks for a browser's session, without tokens to keep."""

    name: _Text
    password: Annotated[str, msgspec.Meta(max_length=1000)]
    totp: _Text | None = None
    cookie: bool = False


class Refresh(_Body):
    """A refresh token to be replaced."""

    refresh_token: _Text


class SessionAnswer(_Answer):
    """A session: with tokens, or with a cookie and a CSRF token."""

    account: Person
    expires_in: int
    access_token: str | None = None
    refresh_token: str | None = None
    csrf_token: str | None = None


class SessionItem(_Answer, omit_defaults=False):
    """One of the sessions of an account; a token is for one system."""

    id: str
    kind: Literal["bearer", "cookie", "token"]
    created: _Time
    used: _Time
    expires: _Time
    address: str
    agent: str
    current: bool
    system: str | None
    role: _RoleWord | None
    label: str


class SessionsAnswer(_Answer):
    """All sessions of an account."""

    sessions: list[SessionItem]


class VerifyPassword(_Body):
    """The account's password, for what cannot be undone."""

    password: Annotated[str, msgspec.Meta(max_length=1000)]


class ChangePassword(_Body):
    """A new password."""

    old: Annotated[str, msgspec.Meta(max_length=1000)]
    new: _Password


class TOTPSecret(_Answer):
    """The secret of a second factor, to be confirmed."""

    secret: str
    uri: str
    qr: Annotated[
        list[str],
        msgspec.Meta(description="the QR code of the URI: rows of 0, light, and 1"),
    ]


class Code(_Body):
    """A code of the second factor."""

    code: _Text


class RecoveryCodes(_Answer):
    """Codes for when the device is lost; each is good once."""

    recovery_codes: list[str]


class RemoveSecondFactor(_Body):
    """What removes a second factor: the password and a code."""

    password: Annotated[str, msgspec.Meta(max_length=1000)]
    code: _Text


# Systems


class ServerItem(_Answer, omit_defaults=False):
    """A server, and since when it is as it is; a moment ago if that is not known."""

    id: str
    online: bool
    since: _Time


class SystemItem(_Answer, omit_defaults=False):
    """A system on which one has a role."""

    id: str
    name: str
    owner: str
    role: _RoleWord
    public: bool
    web: bool
    state: Literal["online", "offline"]
    servers: list[ServerItem]


class SystemsAnswer(_Answer):
    """All systems on which one has a role."""

    systems: list[SystemItem]


class SystemAnswer(_Answer):
    """A system."""

    system: SystemItem


class NewSystemAnswer(_Answer):
    """A system that was bound, and the key that its servers pin."""

    system: SystemItem
    cloud_key: bytes


class ChallengeAnswer(_Answer):
    """A nonce to be signed, within a minute, by a system's key."""

    nonce: bytes


class BindSystem(_Body):
    """A system's certificate and its signature, ECDSA with SHA-256 in DER, over
    `dwcloud bind 1`, a zero byte, the nonce, the account's id and the cloud's key."""

    name: _SystemName
    certificate: Annotated[bytes, msgspec.Meta(max_length=8192)]
    nonce: _Bytes32
    signature: Annotated[bytes, msgspec.Meta(max_length=256)]


class ChangeSystem(_Body):
    """What is to change about a system."""

    name: _SystemName | None = None
    public: bool | None = None
    web: bool | None = None


class MemberItem(_Answer, omit_defaults=False):
    """Somebody with a role on a system."""

    account: str
    role: _RoleWord
    since: _Time


class MembersAnswer(_Answer):
    """All with a role on a system, as far as one may know."""

    members: list[MemberItem]


class SetRole(_Body):
    """The role that somebody is to have."""

    role: _RoleWord


class Invite(_Body):
    """The role that an invitation is to offer."""

    role: Literal["viewer", "administrator"]


class InvitationAnswer(_Answer):
    """An invitation: whoever has the code can accept it, once."""

    id: str
    code: str
    expires: _Time


class InvitationItem(_Answer):
    """An invitation that nobody has accepted yet, without its code."""

    id: str
    role: _RoleWord
    inviter: str
    expires: _Time


class InvitationsAnswer(_Answer):
    """The invitations to a system that can be accepted."""

    invitations: list[InvitationItem]


class AcceptInvitation(_Body):
    """The code of an invitation."""

    code: _Text


class NewToken(_Body):
    """A token for one system: its name, what may be done with it, for how many
    seconds."""

    label: Annotated[
        str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$")
    ] = "token"
    role: Literal["viewer", "administrator"] = "viewer"
    lifetime: Annotated[int, msgspec.Meta(ge=SHORTEST, le=LONGEST)] = USUAL


class TokenItem(_Answer, omit_defaults=False):
    """One's own token for a system; `used` is null as long as nobody has used it."""

    id: str
    label: str
    role: _RoleWord
    created: _Time
    used: _Time | None
    expires: _Time
    address: str


class NewTokenAnswer(_Answer):
    """A token that was made; `access_token` is told only here."""

    token: TokenItem
    access_token: str


class TokensAnswer(_Answer):
    """All one's own tokens for a system."""

    tokens: list[TokenItem]


class GrantRequest(_Body):
    """A client's Ed25519 key, to be admitted to a system or one server of it."""

    client_key: _Bytes32
    server: Annotated[str, msgspec.Meta(max_length=36)] | None = None


class GrantAnswer(_Answer):
    """A grant, which proves to mediator and servers that its holder may connect."""

    grant: bytes
    expires: _Time


class GatewayGrantRequest(_Body):
    """A relay's Ed25519 key and the state that it gave the browser, for a host that
    stands for the system or one server of it."""

    host: Annotated[str, msgspec.Meta(max_length=260)]
    client_key: _Bytes32
    state: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{43}$")]


class GatewayEntry(_Answer):
    """Where the browser is to go, within a short time, and until when it may look."""

    location: str
    expires: _Time


class LogItem(_Answer, omit_defaults=False):
    """One entry of a log."""

    id: int
    at: _Time
    action: str
    outcome: str
    who: str
    detail: dict[str, Any]
    address: str


class LogAnswer(_Answer):
    """Entries of a log, the newest first."""

    entries: list[LogItem]


# The operator


class ListAccounts(_Body):
    """Where a list of accounts is to begin."""

    after: _Text = ""


class AccountItem(_Answer, omit_defaults=False):
    """An account as the operator sees it."""

    name: str
    disabled: bool
    totp: bool
    created: _Time
    used: _Time | None
    systems: int


class AccountsAnswer(_Answer, omit_defaults=False):
    """Accounts by name, and whether there are more."""

    accounts: list[AccountItem]
    more: bool


class ChangeAccount(_Body):
    """What is to change about an account; `totp: false` removes the second factor."""

    disabled: bool | None = None
    password: _Password | None = None
    totp: Literal[False] | None = None


class InvitationCode(_Answer):
    """The code of an invitation to register."""

    code: str
