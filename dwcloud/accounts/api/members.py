"""Who has which role on a system, and invitations."""

from __future__ import annotations

from dwcloud.accounts.api.endpoints import Call, Endpoint, Outcome
from dwcloud.accounts.api.messages import (
    AcceptInvitation,
    InvitationAnswer,
    InvitationItem,
    InvitationsAnswer,
    Invite,
    MemberItem,
    MembersAnswer,
    SetRole,
    SystemAnswer,
)
from dwcloud.accounts.api.systems import show, system_of
from dwcloud.accounts.members import (
    Member,
    accept_invitation,
    invitation_id,
    invite,
    list_invitations,
    list_members,
    remove_member,
    set_member,
    withdraw_invitation,
)
from dwcloud.accounts.roles import Role

__all__ = ["ENDPOINTS"]


def _item(member: Member) -> MemberItem:
    return MemberItem(
        account=member.name,
        role=member.role.label,  # type: ignore[arg-type]
        since=member.since / 1000,
    )


async def show_members(call: Call) -> Outcome:
    """Who has a role on a system; a viewer sees the owner and itself."""
    members = await call.services.store.run(list_members, call.actor, system_of(call))
    return MembersAnswer(members=[_item(member) for member in members])


async def put_member(call: Call) -> Outcome:
    """Give somebody a role; that of the owner is given away by it."""
    body = call.body
    assert isinstance(body, SetRole)
    member = await call.services.store.run(
        set_member,
        call.actor,
        system_of(call),
        call.path["name"].lower(),
        Role[body.role.upper()],
    )
    return _item(member)


async def delete_member(call: Call) -> Outcome:
    """Take somebody's role away, or leave."""
    await call.services.store.run(
        remove_member, call.actor, system_of(call), call.path["name"].lower()
    )
    return None


async def new_invitation(call: Call) -> Outcome:
    """Make an invitation, good for a week, for whoever has its code."""
    body = call.body
    assert isinstance(body, Invite)
    code, expires = await call.services.store.run(
        invite, call.actor, system_of(call), Role[body.role.upper()]
    )
    return InvitationAnswer(id=invitation_id(code), code=code, expires=expires / 1000)


async def show_invitations(call: Call) -> Outcome:
    """Invitations that can be accepted, for administrators; not their codes."""
    found = await call.services.store.run(list_invitations, call.actor, system_of(call))
    return InvitationsAnswer(
        invitations=[
            InvitationItem(
                id=each.id,
                role=each.role.label,  # type: ignore[arg-type]
                inviter=each.inviter,
                expires=each.expires / 1000,
            )
            for each in found
        ]
    )


async def end_invitation(call: Call) -> Outcome:
    """Withdraw an invitation; who may give its role may."""
    await call.services.store.run(
        withdraw_invitation, call.actor, system_of(call), call.path["invitation"]
    )
    return None


async def accept(call: Call) -> Outcome:
    """Take the role that an invitation offers."""
    body = call.body
    assert isinstance(body, AcceptInvitation)
    system = await call.services.store.run(accept_invitation, call.actor, body.code)
    [item] = await show(call, [system])
    return SystemAnswer(system=item)


ENDPOINTS = (
    Endpoint(
        method="GET",
        path="/systems/{id}/members",
        run=show_members,
        tokens=True,
        answer=MembersAnswer,
        refusals=(404,),
    ),
    Endpoint(
        method="PUT",
        path="/systems/{id}/members/{name}",
        run=put_member,
        body=SetRole,
        answer=MemberItem,
        refusals=(404, 409),
    ),
    Endpoint(
        method="DELETE",
        path="/systems/{id}/members/{name}",
        run=delete_member,
        status=204,
        refusals=(404, 409),
    ),
    Endpoint(
        method="POST",
        path="/systems/{id}/invitations",
        run=new_invitation,
        body=Invite,
        answer=InvitationAnswer,
        status=201,
        refusals=(404, 409),
    ),
    Endpoint(
        method="GET",
        path="/systems/{id}/invitations",
        run=show_invitations,
        answer=InvitationsAnswer,
        refusals=(404,),
    ),
    Endpoint(
        method="DELETE",
        path="/systems/{id}/invitations/{invitation}",
        run=end_invitation,
        status=204,
        refusals=(404,),
    ),
    Endpoint(
        method="POST",
        path="/invitations/accept",
        run=accept,
        body=AcceptInvitation,
        answer=SystemAnswer,
        refusals=(404,),
    ),
)
