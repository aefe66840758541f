// Who has which role on a system, and how others get one.

import { get, put, remove, segment } from "./api.js";
import { cloud } from "./cloud.js";
import { ask, el, field, form, keyed, newId, notice, select, setText } from "./dom.js";
import { invitationsPart } from "./invitations.js";
import { ROLES, ROLE_RANK } from "./words.js";

const EXPLAINED = "A viewer sees the system and connects to it. An administrator also shares it with viewers, renames it "
  + "and reads its log. The owner does everything.";

function offered() {
  return [["viewer", ROLES.viewer], ["administrator", ROLES.administrator]];
}

export function peopleSection(id) {
  const heading = newId("section");
  const list = el("ul", { class: "people", "aria-label": "People with a role" });
  const problem = el("p", { class: "problem", role: "alert" });
  const path = `/systems/${segment(id)}`;
  const mine = () => cloud.systems.get(id)?.role ?? "viewer";
  const administers = () => ROLE_RANK[mine()] >= ROLE_RANK.administrator;

  const name = field("Account name", { required: true, autocapitalize: "none", spellcheck: "false", autocomplete: "off",
    maxlength: 63, name: "member" });
  const role = select("Role", offered(), "viewer", { name: "role" });
  const share = form({ "aria-label": "Share this system" }, [el("div", { class: "pair-fields" }, name, role)], "Share",
    async () => {
      const whom = name.input.value.trim();
      await put(`${path}/members/${segment(whom)}`, { role: role.input.value });
      name.input.value = "";
      notice(`Shared with ${whom}.`);
      await load();
    });
  const invitations = invitationsPart(id, () => role.input.value);
  const sharing = el("div", { class: "sharing" }, el("h3", {}, "Share it"), share,
    invitations.node);
  const node = el("section", { class: "panel", "aria-labelledby": heading }, el("h2", { id: heading }, "People"),
    el("p", { class: "muted" }, EXPLAINED), problem, list, sharing);

  function row(member) {
    const who = el("strong");
    const fixed = el("span", { class: "muted" });
    const choice = el("select", { "aria-label": `Role of ${member.account}` },
      offered().map(([key, text]) => el("option", { value: key }, text)));
    const drop = el("button", { class: "secondary", type: "button", "aria-label": `Remove ${member.account}` }, "Remove");
    const item = el("li", { class: "person" }, el("span", { class: "who" }, who, fixed), choice, drop);
    choice.addEventListener("change", async () => {
      try {
        await put(`${path}/members/${segment(member.account)}`, { role: choice.value });
        notice(`${member.account} is ${ROLES[choice.value].toLowerCase()} now.`);
      } catch (error) {
        notice(error.message, "error");
      }
      await load();
    });
    drop.addEventListener("click", () => ask({ title: `Remove ${member.account}?`,
      text: [`${member.account} will not see this system any more. Connections that are open are cut within a minute.`],
      action: "Remove" }, async () => {
      await remove(`${path}/members/${segment(member.account)}`);
      notice(`${member.account} was removed.`);
      await load();
      return sharing.hidden ? node.querySelector("h2") : name.input;
    }));
    item.update = (now) => {
      const me = now.account === cloud.account.name;
      const may = !me && now.role !== "owner" && (mine() === "owner"
        || (mine() === "administrator" && now.role === "viewer"));
      setText(who, now.account);
      setText(fixed, [me ? "you" : "", may && mine() === "owner" ? "" : ROLES[now.role] ?? now.role].filter(Boolean).join(", "));
      choice.hidden = !(may && mine() === "owner");
      choice.value = now.role;
      drop.hidden = !may;
    };
    return item;
  }

  async function load() {
    try {
      const { members } = await get(`${path}/members`);
      keyed(list, members, (m) => m.account, row);
      if (administers()) await invitations.load();
      problem.textContent = "";
    } catch (error) {
      if (cloud.systems.has(id) && error.status !== 401) problem.textContent = error.message;
    }
    sharing.hidden = !administers();
    role.input.querySelector("[value=administrator]").disabled = mine() !== "owner";
  }
  return { node, load };
}
