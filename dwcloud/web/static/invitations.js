// Invitations to a system that nobody has accepted yet: made here, and withdrawn.

import { get, post, remove, segment } from "./api.js";
import { cloud } from "./cloud.js";
import { ask, copyable, el, keyed, newId, notice, setText } from "./dom.js";
import { ROLES, moment } from "./words.js";

// `role()` returns the role that a new invitation is for.
export function invitationsPart(id, role) {
  const path = `/systems/${segment(id)}/invitations`;
  const links = el("div");
  let shown = null;  // whose link is there, to be copied
  const make = el("button", { class: "secondary", type: "button" }, "Make an invitation link");
  make.addEventListener("click", async () => {
    try {
      const wanted = role();
      const { id: made, code, expires } = await post(path, { role: wanted });
      const link = `${location.origin}/#/invitation/${code}`;
      shown = made;
      links.replaceChildren(copyable(`Invitation for one ${ROLES[wanted].toLowerCase()}`, link),
        el("p", { class: "hint" }, `Whoever accepts it first gets the role. Good until ${moment(expires)}.`));
      links.querySelector("input").focus();
      await load();
    } catch (error) {
      notice(error.message, "error");
    }
  });
  const heading = newId("invitations");
  const list = el("ul", { class: "people", "aria-labelledby": heading });
  const open = el("div", { hidden: true }, el("h3", { id: heading }, "Open invitations"), list);
  const node = el("div", { class: "invitations" },
    el("p", { class: "hint" }, "They have no account yet? Send them a link, for the role chosen above."),
    el("div", { class: "actions" }, make), links, open);

  function row(invitation) {
    const what = `Invitation for one ${ROLES[invitation.role].toLowerCase()}`;
    const until = moment(invitation.expires);
    const made = el("span", { class: "muted" });
    const drop = el("button", { class: "secondary", type: "button",
      "aria-label": `Withdraw the invitation of ${invitation.inviter} for one ${invitation.role}, good until ${until}` }, "Withdraw");
    drop.addEventListener("click", () => ask({ title: "Withdraw this invitation?",
      text: [`Its link gives nobody a role any more. ${what}, by ${invitation.inviter}, good until ${until}.`],
      action: "Withdraw" }, async () => {
      await remove(`${path}/${segment(invitation.id)}`);
      notice("The invitation is withdrawn.");
      await load();
      return make;
    }));
    const item = el("li", { class: "person" }, el("span", { class: "who" }, el("strong", {}, what), made), drop);
    item.update = (now) => {
      setText(made, `by ${now.inviter === cloud.account.name ? "you" : now.inviter}, good until ${until}`);
      drop.hidden = now.role !== "viewer" && cloud.systems.get(id)?.role !== "owner";
    };
    return item;
  }

  // For those who may invite: others are refused the list.
  async function load() {
    const { invitations } = await get(path);
    keyed(list, invitations, (invitation) => invitation.id, row);
    open.hidden = !invitations.length;
    if (!invitations.some((invitation) => invitation.id === shown)) links.replaceChildren();
  }
  return { node, load };
}
