// Plain words for what programs say in codes.

export const ROLES = { viewer: "Viewer", administrator: "Administrator", owner: "Owner" };
export const ROLE_RANK = { viewer: 1, administrator: 2, owner: 3 };
export const STATES = { online: "Online", offline: "Offline", unreachable: "Unreachable" };

export const PATHS = {
  lan: "Same network",
  tcp: "Direct TCP",
  udp: "Direct UDP",
  relay: "Through a relay",
};
export const SHORT_PATHS = { lan: "LAN", tcp: "TCP", udp: "UDP", relay: "Relay" };

const REASONS = {
  "no mediator answer": "The client could not reach the mediator, neither over UDP nor over TCP.",
  "peer unknown": "The client asked for a server that this cloud does not know.",
  "peer offline": "No server of this system was in touch with the cloud at that moment. Is it switched on, and does “dwcloud serve” run there?",
  "server did not answer": "The server seemed to be online, but did not answer in time, and there was no other way to it.",
  "no suitable method": "Client and server have no way in common: direct ways are blocked, and no relay could be used.",
  "udt failed": "UDP packets did not get through the routers on both sides, and no other way was left. “dwcloud check” on both machines tells which router is in the way.",
  "tcp failed": "No TCP address of the server could be reached from the client, and no other way was left.",
  "identity mismatch": "Something answered that could not prove to be this server. Nothing was sent to it.",
  "relay refused": "The relay did not join client and server, and no direct way worked.",
  "timed out": "No way was found within the time limit.",
  cancelled: "The client gave up by its own choice before a way was found.",
  "access denied": "The server did not admit the client: its role was taken away, or its sign-in has expired.",
  unreported: "The client was told where the server is, and then said nothing more about it.",
};

export function reason(code) {
  return REASONS[code] ?? `The client reports: ${code}.`;
}

export function bytes(amount, perSecond = false) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  let value = amount;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit > 0 && value < 10 ? 1 : 0;
  return `${value.toFixed(digits)} ${units[unit]}${perSecond ? "/s" : ""}`;
}

export function plural(count, one, many = `${one}s`) {
  return `${count} ${count === 1 ? one : many}`;
}

export function moment(seconds) {
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

export function ago(seconds) {
  const passed = Math.max(0, Date.now() / 1000 - seconds);
  if (passed < 10) return "just now";
  if (passed < 90) return `${Math.round(passed)} seconds ago`;
  if (passed < 5400) return `${Math.round(passed / 60)} minutes ago`;
  if (passed < 129600) return `${Math.round(passed / 3600)} hours ago`;
  return `${Math.round(passed / 86400)} days ago`;
}

export const shortId = (id) => String(id).slice(0, 8);

function onOff(value) {
  return value ? "on" : "off";
}

function changes(detail) {
  const said = [];
  if ("name" in detail) said.push(`renamed the system to “${detail.name}”`);
  if ("public" in detail) said.push(`switched public access ${onOff(detail.public)}`);
  if ("web" in detail) said.push(`switched the web gateway ${onOff(detail.web)}`);
  return said.join(" and ");
}

const role = (word) => (ROLES[word] ?? String(word)).toLowerCase();

const ACTIONS = {
  "system.bound": (d) => `bound the system as “${d.name}”`,
  "system.changed": (d) => changes(d),
  "system.unbound": () => "unbound the system",
  "member.added": (d) => `shared the system with ${d.name} as ${role(d.role)}`,
  "member.changed": (d) => `made ${d.name} ${role(d.role)}`,
  "member.removed": (d, who) => (d.name === who ? "left the system" : `removed ${d.name}`),
  "invitation.made": (d) => `made an invitation for one ${role(d.role)}`,
  "invitation.withdrawn": (d) => `withdrew an invitation for one ${role(d.role)}`,
  "invitation.accepted": (d) => `accepted an invitation as ${role(d.role)}`,
  "account.registered": () => "registered the account",
  "account.closed": () => "closed the account",
  "account.disabled": () => "disabled the account",
  "account.enabled": () => "enabled the account again",
  "password.changed": () => "changed the password",
  "session.opened": (d) => (d.kind === "cookie" ? "signed in with a browser" : "signed in with a command"),
  "session.refused": (d) => (d.reason === "totp_required"
    ? "was asked for a code of the second factor" : "was refused: wrong password or code"),
  "session.closed": () => "ended a session",
  "session.revoked": (d) => `had a session ended: ${d.reason}`,
  "token.made": (d) => `made the token “${d.label}” with the role ${role(d.role)}`,
  "token.revoked": (d) => `revoked the token “${d.label}”`,
  "totp.enabled": () => "switched the second factor on",
  "browser.entered": (d) => `looked at it by browser through the relay at ${d.host}`,
  "totp.removed": () => "removed the second factor",
};

// One entry of a log: {title, text, kind}, kind being good, bad or plain.
export function logged(entry) {
  const detail = entry.detail ?? {};
  const who = entry.who || "Somebody";
  if (entry.action === "connection") {
    const name = entry.who || detail.client || "A guest";
    if (entry.outcome === "ok") {
      const took = typeof detail.seconds === "number" ? ` in ${detail.seconds.toFixed(2)} s` : "";
      return { kind: "good", title: `${name} connected`, text: `${PATHS[detail.path] ?? "Connected"}${took}.` };
    }
    return { kind: entry.outcome === "cancelled" ? "plain" : "bad", title: `${name} could not connect`,
      text: reason(entry.outcome) };
  }
  const say = ACTIONS[entry.action];
  const refused = entry.outcome !== "ok";
  return { kind: refused ? "bad" : "plain", title: `${who} ${say ? say(detail, who) : entry.action}`,
    text: detail.token ? `By the token “${detail.token}”.` : "" };
}

// What a browser calls itself, in two words; anything else as it is.
export function program(agent) {
  const browser = [["Edg/", "Edge"], ["OPR/", "Opera"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"], ["Safari/", "Safari"]]
    .find(([mark]) => agent.includes(mark));
  if (!browser || !agent.startsWith("Mozilla/")) return agent || "unknown program";
  const system = [["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"], ["Windows", "Windows"], ["Mac OS", "macOS"],
    ["CrOS", "ChromeOS"], ["Linux", "Linux"]].find(([mark]) => agent.includes(mark));
  return system ? `${browser[1]} on ${system[1]}` : browser[1];
}
