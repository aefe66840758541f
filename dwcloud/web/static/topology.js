// The picture of a system: mediator, relay, servers, clients, and who is connected how.

import { el, setText, svg } from "./dom.js";
import { PATHS, SHORT_PATHS, bytes, plural, shortId } from "./words.js";

const ROW = 84;
const SHOWN = 6;
const TOP = 56;

const GLYPHS = {
  mediator: "M-9 3a4 4 0 0 1 .8-7.9A6.5 6.5 0 0 1 4-6.3a5 5 0 0 1 4.6 9.3z",
  relay: "M-9-3H6M2-7l4.5 4L2 1M9 4H-6M-2 0l-4.5 4L-2 8",
  server: "M-8-8H8v6H-8zM-8 2H8v6H-8zM-5-5h.1M-5 5h.1",
  client: "M-9-7H9V5H-9zM-4 9H4",
};

function shorten(text, width) {
  const most = Math.max(6, Math.floor(width / 7.2));
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function node(kind, x, y, name, off, width) {
  return svg("g", { class: `node ${kind}${off ? " off" : ""}`, transform: `translate(${x} ${y})` },
    svg("title", {}, name),
    svg("circle", { r: 20 }),
    svg("path", { class: "glyph", d: GLYPHS[kind] }),
    svg("text", { y: 36 }, shorten(name, width)));
}

function pill(x, y, text, kind) {
  const width = text.length * 7 + 16;
  return svg("g", { class: `pill ${kind}`, transform: `translate(${x} ${y})` },
    svg("rect", { x: -width / 2, y: -10, width, height: 20, rx: 10 }),
    svg("text", { y: 4 }, text));
}

const between = (from, to, by) => from + (to - from) * by;

export function nameOf(connection) {
  return connection.account || connection.client || "somebody";
}

export function describe(system, activity) {
  const online = system.servers.filter((s) => s.online).length;
  const said = [`${plural(online, "server")} online`];
  for (const c of activity.connections) said.push(`${nameOf(c)} is connected: ${PATHS[c.path] ?? c.path}`);
  if (!activity.connections.length) said.push("nobody is connected");
  return `${said.join("; ")}.`;
}

// Several streams of one client over one path are one line.
function clientsOf(activity) {
  const clients = new Map();
  for (const item of activity.connections) {
    const key = `${nameOf(item)}\0${item.path}\0${item.server}`;
    const known = clients.get(key) ?? { name: nameOf(item), path: item.path, server: item.server, count: 0 };
    known.count += 1;
    clients.set(key, known);
  }
  // Those through the relay lie nearest to it, so that few lines cross.
  const order = Object.keys(PATHS);
  return [...clients.values()].sort((a, b) => order.indexOf(a.path) - order.indexOf(b.path));
}

function labelOf(client) {
  const name = SHORT_PATHS[client.path] ?? String(client.path);
  return client.count > 1 ? `${name} ×${client.count}` : name;
}

function draw(system, activity, width) {
  const servers = [...system.servers].sort((a, b) => b.online - a.online).slice(0, SHOWN);
  const clients = clientsOf(activity).slice(0, SHOWN);
  const rows = Math.max(servers.length, clients.length, 1);
  const height = TOP + 64 + rows * ROW + 84;
  const side = Math.max(52, Math.min(110, width * 0.16));
  const centre = width / 2;
  const middle = TOP + 64 + ((rows - 1) * ROW) / 2 + 20;
  const rowOf = (index, count) => middle + (index - (count - 1) / 2) * ROW;
  const relayAt = height - 60;
  const serverAt = new Map(servers.map((s, i) => [s.id, rowOf(i, servers.length)]));
  const lines = [];
  const labels = [];
  const nodes = [node("mediator", centre, TOP - 26, "mediator", false, 100),
    node("relay", centre, relayAt, "relay", !clients.some((c) => c.path === "relay"), 100)];
  for (const server of servers) {
    const y = serverAt.get(server.id);
    nodes.push(node("server", side, y, shortId(server.id), !server.online, side * 1.7));
    if (server.online) lines.push(svg("path", { class: "line control", d: `M${side} ${y}L${centre} ${TOP - 26}` }));
  }
  clients.forEach((client, index) => {
    const x = width - side;
    const y = rowOf(index, clients.length);
    const start = serverAt.get(client.server) ?? middle;
    nodes.push(node("client", x, y, client.name, false, side * 1.7));
    if (client.path === "relay") {
      lines.push(svg("path", { class: "line relay", d: `M${side} ${start}L${centre} ${relayAt}L${x} ${y}` }));
      labels.push(pill(between(x, centre, 0.5), between(y, relayAt, 0.5), labelOf(client), "relay"));
    } else {
      lines.push(svg("path", { class: `line ${client.path}`, d: `M${side} ${start}L${x} ${y}` }));
      labels.push(pill(between(side, x, 0.62), between(start, y, 0.62), labelOf(client), client.path));
    }
  });
  if (!clients.length) labels.push(svg("text", { class: "empty", x: width - side, y: middle + 4 }, "no clients"));
  if (!servers.length) labels.push(svg("text", { class: "empty", x: side, y: middle + 4 }, "no server yet"));
  return { height, parts: [...lines, ...nodes, ...labels] };
}

export function topology() {
  const picture = svg("svg", { role: "img", class: "picture" });
  const title = svg("title", { id: "topology-title" });
  picture.setAttribute("aria-labelledby", "topology-title");
  const frame = el("div", { class: "topology" }, picture);
  let shown = null;
  const redraw = () => {
    const width = Math.floor(frame.clientWidth);
    if (!shown || width < 100) return;
    const { height, parts } = draw(...shown, width);
    picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    picture.setAttribute("width", width);
    picture.setAttribute("height", height);
    picture.replaceChildren(title, ...parts);
  };
  new ResizeObserver(redraw).observe(frame);
  let last = "";
  frame.update = (system, activity) => {
    setText(title, describe(system, activity));
    shown = [system, activity];
    // Counters of bytes change all the time, the picture does not.
    const state = JSON.stringify([system.servers, clientsOf(activity).map(Object.values)]);
    if (state === last) return;
    last = state;
    redraw();
  };
  return frame;
}

export function connectionRow() {
  const name = el("strong");
  const path = el("span", { class: "chip" });
  const more = el("span", { class: "muted" });
  const node = el("li", { class: "connection" }, name, path, more);
  node.update = (connection) => {
    setText(name, nameOf(connection));
    setText(path, PATHS[connection.path] ?? String(connection.path));
    path.className = `chip path ${connection.path in PATHS ? connection.path : ""}`;
    const sent = "to_client" in connection
      ? `${bytes(connection.to_client)} to the client, ${bytes(connection.to_server)} to the server` : "";
    const from = connection.account && connection.client ? `from ${connection.client}` : "";
    setText(more, [from, sent].filter(Boolean).join(" · "));
  };
  return node;
}
