// The list of systems.

import { post } from "./api.js";
import { cloud } from "./cloud.js";
import { copyable, el, field, form, keyed, notice, setText } from "./dom.js";
import { ROLES, SHORT_PATHS, STATES, ago, plural, reason } from "./words.js";

function pathsOf(activity) {
  const counts = new Map();
  for (const { path } of activity.connections) counts.set(path, (counts.get(path) ?? 0) + 1);
  return [...counts].map(([path, count]) => ({ path, count }));
}

export function summary(system, activity, state) {
  const online = system.servers.filter((s) => s.online).length;
  if (state === "unreachable") {
    return `A client could not connect ${ago(activity.last.at)}. ${reason(activity.last.outcome)}`;
  }
  if (state === "online") {
    const open = activity.connections.length + activity.hidden;
    return `${plural(online, "server")} online, ${open ? plural(open, "connection") : "nobody connected"}`;
  }
  const since = Math.max(0, ...system.servers.map((s) => s.since ?? 0));
  return system.servers.length ? `Last seen ${ago(since)}` : "No server has been online yet";
}

function card(system) {
  const name = el("a", { href: `#/systems/${system.id}` });
  const owner = el("span", { class: "muted" });
  const state = el("span", { class: "state" });
  const text = el("p", { class: "summary" });
  const chips = el("ul", { class: "chips", "aria-label": "Properties" });
  const node = el("li", { class: "card" },
    el("div", { class: "card-head" }, el("h2", {}, name), state), text, chips, owner);
  node.update = (now) => {
    const activity = cloud.activityOf(now.id);
    const current = cloud.stateOf(now);
    setText(name, now.name);
    setText(state, STATES[current]);
    state.className = `state ${current}`;
    setText(text, summary(now, activity, current));
    setText(owner, now.role === "owner" ? "Yours" : `Owned by ${now.owner}`);
    const properties = now.role === "owner" ? [] : [{ key: "role", text: ROLES[now.role] ?? now.role }];
    if (now.public) properties.push({ key: "public", text: "Public", kind: "warn" });
    if (now.web) properties.push({ key: "web", text: "Web gateway", kind: "warn" });
    for (const { path, count } of pathsOf(activity)) {
      properties.push({ key: `path-${path}`, kind: `path ${path}`,
        text: `${SHORT_PATHS[path] ?? path}${count > 1 ? ` ×${count}` : ""}` });
    }
    chips.hidden = properties.length === 0;
    keyed(chips, properties, (p) => p.key, () => {
      const chip = el("li", { class: "chip" });
      chip.update = (p) => {
        chip.className = `chip ${p.kind ?? ""}`;
        setText(chip, p.text);
      };
      return chip;
    });
  };
  return node;
}

function addPanel() {
  const address = location.port && location.port !== "443" ? `${location.hostname}:${location.port}` : location.hostname;
  return el("details", { class: "panel" },
    el("summary", {}, "Add a system"),
    el("p", {}, "A system is one server or several with one name, behind any router. Type this on the machine "
      + "that is to be reached; its keys are made there and stay there."),
    copyable("Command", `dwcloud serve web=127.0.0.1:8080 ssh=127.0.0.1:22 --mediator ${address} --name garage`),
    el("p", { class: "hint" }, "“garage” is an example, and so are a web server on port 8080 and secure shell on port "
      + "22. The first time it asks for your account and password. Then the system appears here by itself."));
}

function invitationPanel() {
  const code = field("Invitation code", { spellcheck: "false", autocapitalize: "none", required: true, name: "code" });
  const body = form({}, [code], "Accept", async () => {
    const { system } = await post("/invitations/accept", { code: code.input.value.trim() });
    cloud.put(system);
    code.input.value = "";
    notice(`You have a role on ${system.name} now.`);
  }, "secondary");
  return el("details", { class: "panel" }, el("summary", {}, "Accept an invitation"), body);
}

export function systemsView() {
  const list = el("ul", { class: "cards", "aria-label": "Your systems" });
  const status = el("p", { class: "muted" });
  const add = addPanel();
  const node = el("div", {},
    el("div", { class: "view-head" }, el("h1", { id: "view-title", tabindex: -1 }, "Systems"), status),
    list, el("div", { class: "pair" }, add, invitationPanel()));
  let empty = false;
  const update = () => {
    const systems = cloud.sorted();
    keyed(list, systems, (s) => s.id, card);
    list.hidden = systems.length === 0;
    if (cloud.loaded && !systems.length && !empty) {
      empty = true;
      add.open = true;
    }
    const online = systems.filter((s) => s.state === "online").length;
    if (!cloud.loaded) setText(status, "Loading…");
    else if (!systems.length) setText(status, "You have no systems yet. Add one, or accept an invitation to somebody else’s.");
    else setText(status, `${plural(systems.length, "system")}, ${online} online`);
  };
  cloud.addEventListener("changed", update);
  update();
  const timer = setInterval(update, 20000);
  return {
    title: "Systems",
    node,
    close() {
      clearInterval(timer);
      cloud.removeEventListener("changed", update);
    },
  };
}
