// Asks whether this browser is to see a system through a relay, and sends it there.

import { get, post, segment } from "./api.js";
import { el, form } from "./dom.js";

const GUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}";
const HOST = new RegExp(`^(?:${GUID}\\.)?(${GUID})\\.([a-z0-9.-]+)(?::\\d+)?$`);
const main = document.getElementById("main");
const asked = new URLSearchParams(location.search);
const host = (asked.get("host") ?? "").toLowerCase();

function say(title, ...content) {
  main.replaceChildren(el("div", { class: "panel narrow" },
    el("h1", { id: "view-title", tabindex: -1 }, title), content));
  document.getElementById("view-title").focus();
}

const back = () => el("p", { class: "other" }, el("a", { href: "/" }, "Go to the portal"));

function toSignIn() {
  const here = location.pathname + location.search;
  location.replace(`/?next=${encodeURIComponent(here)}`);
}

// The relay's key comes in base64 for URLs without padding, the API takes the ordinary kind.
function clientKey() {
  const text = (asked.get("key") ?? "").replace(/-/g, "+").replace(/_/g, "/");
  return text.padEnd(Math.ceil(text.length / 4) * 4, "=");
}

const memory = `gateway ${host}`;
function remembered(account) {
  try {
    return localStorage.getItem(memory) === account.id;
  } catch {
    return false;
  }
}

function remember(account, wanted) {
  try {
    if (wanted) localStorage.setItem(memory, account.id);
    else localStorage.removeItem(memory);
  } catch {
    // A browser that keeps nothing asks again next time.
  }
}

async function enter(id) {
  const body = { host, client_key: clientKey(), state: asked.get("state") ?? "" };
  const answer = await post(`/systems/${segment(id)}/gateway-grants`, body);
  // What the mediator says leads to the host that is shown here, and nowhere else.
  const target = new URL(answer.location);
  if (target.protocol !== "https:" || target.host !== host.replace(/:443$/, "")) {
    throw new Error("The cloud wants to send you elsewhere than to that host.");
  }
  location.replace(target.href);
}

function offer(account, system, relay) {
  const keep = el("input", { type: "checkbox", id: "keep", name: "keep" });
  const body = form({ "aria-labelledby": "view-title" }, [
    el("p", {}, `You are signed in as ${account.name}. `, el("strong", {}, system.name),
      system.owner === account.name ? " is yours." : ` belongs to ${system.owner}.`),
    el("div", { class: "banner" },
      el("p", {}, el("strong", {}, `The relay ${relay} can read this traffic.`)),
      el("p", {}, "A browser cannot do the encryption that goes from end to end between a client and a server. "
        + "So whoever runs the relay can read, and change, the pages, pictures and everything you type there. "
        + "Between your browser and the relay, and between the relay and the server, nobody else can.")),
    el("p", {}, "For a connection that nobody on the way can read use the program ",
      el("code", {}, "dwcloud"), " instead."),
    el("p", { class: "check" }, keep, " ", el("label", { for: "keep" },
      "Do not ask again for this system in this browser")),
  ], "Open it", async () => {
    remember(account, keep.checked);
    await enter(system.id);
  });
  say(`Open ${system.name} in this browser?`, body, el("p", { class: "other" }, el("a", { href: "/" }, "Not now")));
}

async function begin() {
  const match = HOST.exec(host);
  if (!match || !asked.get("key") || !asked.get("state")) {
    say("This address is not whole", el("p", {}, "Open the page of your system again, and you are led here."), back());
    return;
  }
  const { account } = await get("/account");
  let system;
  try {
    ({ system } = await get(`/systems/${segment(match[1])}`));
  } catch (error) {
    if (error.status !== 404) throw error;
    say("You have no access to this system", el("p", {}, `You are signed in as ${account.name}. If somebody `
      + "shares the system with you, open its page again."), back());
    return;
  }
  if (!system.web) {
    say(`${system.name} is not open to browsers`, el("p", {}, system.role === "owner"
      ? "You can switch that on: it is the web gateway, in the settings of the system."
      : `Its owner, ${system.owner}, can switch that on.`),
    el("p", { class: "other" }, el("a", { href: `/#/systems/${system.id}` }, `Go to ${system.name}`)));
    return;
  }
  if (remembered(account)) {
    try {
      await enter(system.id);
      return;
    } catch {
      // The button below tells why, if it fails again.
    }
  }
  offer(account, system, match[2]);
}

begin().catch((error) => {
  if (error.status === 401) {
    toSignIn();
    return;
  }
  const again = el("button", { class: "primary", type: "button" }, "Try again");
  again.addEventListener("click", () => location.reload());
  say("The cloud does not answer", el("p", { role: "alert" }, error.message), again);
});
