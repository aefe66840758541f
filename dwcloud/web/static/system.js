// One system: what happens on it, who may use it, and its settings.

import { get, patch, put, remove, segment } from "./api.js";
import { cloud } from "./cloud.js";
import { ask, copyable, el, field, form, keyed, newId, notice, setText } from "./dom.js";
import { logList } from "./log.js";
import { peopleSection } from "./people.js";
import { summary } from "./systems.js";
import { connectionRow, topology } from "./topology.js";
import { trafficPlot } from "./traffic.js";
import { ROLES, ROLE_RANK, STATES, plural } from "./words.js";

function section(title, ...children) {
  const id = newId("section");
  return el("section", { class: "panel", "aria-labelledby": id }, el("h2", { id }, title), children);
}

function liveSections() {
  const picture = topology();
  const plot = trafficPlot();
  const list = el("ul", { class: "connections", "aria-label": "Current connections" });
  const more = el("p", { class: "muted", hidden: true });
  const none = el("p", { class: "muted" }, "Nobody is connected now.");
  const legend = el("ul", { class: "legend", "aria-label": "Lines in the picture" },
    [["lan", "Same network"], ["tcp", "Direct TCP"], ["udp", "Direct UDP"], ["relay", "Relay"], ["control", "In touch"]]
      .map(([kind, text]) => el("li", {}, el("span", { class: `key ${kind}`, "aria-hidden": "true" }), text)));
  const node = [
    section("Now", picture, legend, el("h3", {}, "Connections"), list, more, none),
    section("Traffic", plot, el("p", { class: "hint" }, "As the servers report it. The contents are encrypted from "
      + "end to end: the cloud sees how much, never what.")),
  ];
  const update = (system) => {
    const activity = cloud.activityOf(system.id);
    picture.update(system, activity);
    plot.update(cloud.traffic.get(system.id) ?? []);
    keyed(list, activity.connections, (c) => c.id, connectionRow);
    none.hidden = activity.connections.length > 0;
    more.hidden = !activity.hidden;
    setText(more, `and ${plural(activity.hidden, "connection")} more`);
    list.hidden = !none.hidden;
  };
  return { node, update };
}

function toggle(label, explanation, warning) {
  const id = newId("switch");
  const input = el("input", { type: "checkbox", role: "switch", id, "aria-describedby": `${id}-text` });
  const text = el("p", { class: "hint", id: `${id}-text` });
  const node = el("div", { class: "switch" },
    el("div", { class: "switch-row" }, el("label", { for: id }, label), input), text);
  node.input = input;
  node.update = (on) => {
    input.checked = on;
    setText(text, on ? warning : explanation);
    text.classList.toggle("warning", on);
  };
  return node;
}

function accessSection(id) {
  const open = toggle("Public",
    "Off: only people with a role on this system can connect. Switched on, everybody who knows its identifier can "
      + "connect, without an account. What runs on the servers must then ask for a password of its own.",
    "On: everybody who knows the identifier of this system can connect, without an account and without being "
      + "listed here. Make sure that what runs on the servers asks for a password of its own.");
  const web = toggle("Web gateway",
    "Off: connections are encrypted from end to end, and nobody between can read them. Switched on, people with a role "
      + "can open the system’s web pages in an ordinary browser; then the relay decrypts those pages on the way, "
      + "and whoever runs the relay can read and change them.",
    "On: browsers can open this system’s web pages through the relay. The relay decrypts them on the way, so "
      + "whoever runs the relay can read and change them. All other connections stay encrypted from end to end.");
  const note = el("p", { class: "muted" }, "Only the owner can change these.");
  const link = el("p", { hidden: true }, (cloud.info.web_gateways ?? []).map((domain) =>
    el("a", { href: `https://${id}.${domain}/`, rel: "noreferrer" }, "Open its web pages in this browser")));
  for (const [node, name] of [[open, "public"], [web, "web"]]) {
    node.input.addEventListener("change", async () => {
      const wanted = node.input.checked;
      try {
        const { system } = await patch(`/systems/${segment(id)}`, { [name]: wanted });
        cloud.put(system);
      } catch (error) {
        node.update(!wanted);
        notice(error.message, "error");
      }
    });
  }
  const node = section("Access", note, open, web, link);
  node.update = (system) => {
    const owner = system.role === "owner";
    note.hidden = owner;
    link.hidden = !system.web || !link.children.length || system.state !== "online";
    for (const [one, on] of [[open, system.public], [web, system.web]]) {
      one.update(on);
      one.input.disabled = !owner;
    }
  };
  return node;
}

function connectSection(id) {
  const commands = el("div", { class: "stack" });
  const guid = copyable("Identifier", id);
  const node = section("Connect to it", el("p", { class: "muted" }, "On a machine where you are signed in with "
    + "“dwcloud account login”:"), commands, guid);
  let shown = "";
  node.update = (system) => {
    const name = system.role === "owner" ? system.name : `${system.owner}/${system.name}`;
    if (name === shown) return;
    shown = name;
    commands.replaceChildren(
      copyable("Its web server, on your port 8080", `dwcloud forward ${name} 8080:web`),
      copyable("Secure shell", `ssh -o ProxyCommand='dwcloud connect ${name} ssh' user@${system.name}`));
  };
  return node;
}

function settingsSection(id) {
  const name = field("Name", { required: true, maxlength: 63, autocapitalize: "none", spellcheck: "false", name: "name" });
  const rename = form({}, [name], "Rename", async () => {
    const { system } = await patch(`/systems/${segment(id)}`, { name: name.input.value.trim() });
    cloud.put(system);
    notice(`It is called ${system.name} now.`);
  }, "secondary");
  const leave = el("button", { class: "danger", type: "button" });
  const give = el("button", { class: "secondary", type: "button" }, "Give it to somebody else…");
  const node = section("Settings", rename, el("div", { class: "actions" }, give, leave));
  give.addEventListener("click", () => transfer(cloud.systems.get(id)));
  leave.addEventListener("click", () => {
    const system = cloud.systems.get(id);
    if (system.role === "owner") unbind(system);
    else ask({ title: `Leave ${system.name}?`, text: ["You will not see it any more and cannot connect to it. Its "
      + "owner can share it with you again."], action: "Leave it" },
    async () => {
      await remove(`/systems/${segment(id)}/members/${segment(cloud.account.name)}`);
      cloud.drop(id);
    });
  });
  node.update = (system) => {
    give.hidden = system.role !== "owner";
    rename.hidden = ROLE_RANK[system.role] < ROLE_RANK.administrator;
    if (document.activeElement !== name.input) name.input.value = system.name;
    setText(leave, system.role === "owner" ? "Unbind this system…" : "Leave this system…");
  };
  return node;
}

function transfer(system) {
  const whom = field("Account name of the new owner", { required: true, autocapitalize: "none", spellcheck: "false",
    autocomplete: "off", maxlength: 63, name: "owner" });
  ask({ title: `Give ${system.name} to somebody else?`, text: ["That account owns it from then on: it alone can open it "
    + "to the public, unbind it, or give it back. You stay as an administrator."], action: "Give it away", fields: [whom] },
  async () => {
    const name = whom.input.value.trim();
    await put(`/systems/${segment(system.id)}/members/${segment(name)}`, { role: "owner" });
    const { system: after } = await get(`/systems/${segment(system.id)}`);
    cloud.put(after);
    notice(`${system.name} belongs to ${name} now.`);
  });
}

function unbind(system) {
  const typed = field(`Type “${system.name}” to confirm`, { required: true, autocapitalize: "none", spellcheck: "false",
    autocomplete: "off", name: "confirmation" });
  ask({ title: `Unbind ${system.name}?`, text: ["Everybody loses their role on it, connections that are open are cut, "
    + "and its servers may not register here any more until it is bound again."], action: "Unbind it", fields: [typed] },
  async () => {
    if (typed.input.value.trim().toLowerCase() !== system.name.toLowerCase()) {
      throw new Error("That is not its name.");
    }
    await remove(`/systems/${segment(system.id)}`);
    cloud.drop(system.id);
  });
}

export function systemView(id) {
  const title = el("h1", { id: "view-title", tabindex: -1 });
  const state = el("span", { class: "state", role: "status" });
  const text = el("p", { class: "muted" });
  const live = liveSections();
  const access = accessSection(id);
  const people = peopleSection(id);
  const connect = connectSection(id);
  const settings = settingsSection(id);
  const log = logList((before) => get(`/systems/${segment(id)}/log?limit=30${before ? `&before=${before}` : ""}`));
  const logSection = section("Log", el("p", { class: "muted" }, "Connections, and changes by people."), log.node);
  const node = el("div", {},
    el("p", { class: "crumbs" }, el("a", { href: "#/systems" }, "← All systems")),
    el("div", { class: "view-head" }, el("div", { class: "title-row" }, title, state), text),
    el("div", { class: "columns" },
      el("div", {}, live.node, logSection), el("div", {}, people.node, access, connect, settings)));
  const missing = el("div", { class: "panel narrow", hidden: true }, el("h2", {}, "You have no such system"),
    el("p", {}, "It does not exist, or it is not shared with you any more."),
    el("p", {}, el("a", { href: "#/systems" }, "All systems")));
  const whole = el("div", {}, node, missing);
  let role = null;
  const update = (event) => {
    const changed = event?.detail;
    if (changed && changed !== id) return;
    const system = cloud.systems.get(id);
    node.hidden = !system;
    missing.hidden = Boolean(system) || !cloud.loaded;
    if (!system) return;
    setText(title, system.name);
    document.title = `${system.name} – dwcloud`;
    const current = cloud.stateOf(system);
    setText(state, STATES[current]);
    state.className = `state ${current}`;
    const whose = system.role === "owner" ? "Yours" : `Owned by ${system.owner}; you are ${ROLES[system.role]?.toLowerCase()}`;
    setText(text, `${whose}. ${summary(system, cloud.activityOf(id), current)}`);
    live.update(system);
    for (const part of [access, connect, settings]) part.update(system);
    logSection.hidden = ROLE_RANK[system.role] < ROLE_RANK.administrator;
    if (role !== system.role) {
      role = system.role;
      people.load();
      if (!logSection.hidden) log.load();
    }
  };
  const renewed = (event) => {
    if (event.detail !== id || !cloud.systems.has(id)) return;
    people.load();
    if (!logSection.hidden) log.load();
  };
  cloud.addEventListener("changed", update);
  cloud.addEventListener("logged", renewed);
  const timer = setInterval(update, 20000);
  update();
  return {
    title: cloud.systems.get(id)?.name ?? "System",
    node: whole,
    close() {
      clearInterval(timer);
      cloud.removeEventListener("changed", update);
      cloud.removeEventListener("logged", renewed);
    },
  };
}

