// The portal: which view is shown, and what is always there.

import { call, get, remove } from "./api.js";
import { accountView } from "./account.js";
import { cloud } from "./cloud.js";
import { announce, el, notice, setText } from "./dom.js";
import { invitationView, registerView, signInView, wanted } from "./sign_in.js";
import { systemView } from "./system.js";
import { systemsView } from "./systems.js";

const main = document.getElementById("main");
const navigation = document.getElementById("navigation");
const signOutButton = document.getElementById("sign-out");
const live = document.getElementById("live");
let view = null;

function choose(path) {
  const [first, second] = path;
  if (first === "invitation" && second) {
    sessionStorage.setItem("invitation", second);
    return invitationView(second);
  }
  if (!cloud.account) return first === "register" ? registerView() : signInView();
  if (first === "systems" && second) return systemView(second);
  if (first === "account") return accountView();
  return systemsView();
}

function parts() {
  return location.hash.replace(/^#\/?/, "").split("/").map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
}

let first = true;
function show() {
  const path = parts();
  document.querySelector("dialog[open]")?.close();
  view?.close?.();
  view = choose(path);
  main.replaceChildren(view.node);
  document.title = `${view.title} – dwcloud`;
  for (const link of navigation.querySelectorAll("a")) {
    if (link.dataset.view === (path[0] || "systems")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  window.scrollTo(0, 0);
  if (view.focus) view.focus.focus();
  else if (!first) document.getElementById("view-title")?.focus();
  first = false;
}

function frame() {
  const inside = Boolean(cloud.account);
  navigation.hidden = !inside;
  signOutButton.hidden = !inside;
  live.hidden = !inside;
}

const LIVE = { live: "Live", connecting: "Reconnecting…", off: "" };
cloud.addEventListener("live", () => {
  live.className = `live ${cloud.live}`;
  setText(live, LIVE[cloud.live]);
});

cloud.addEventListener("system", (event) => {
  const { before, system } = event.detail;
  if (!before) announce(`${system.name} was added`);
  else if (before.state !== system.state) announce(`${system.name} is ${system.state} now`);
});

cloud.addEventListener("removed", (event) => {
  notice(`You have no role on ${event.detail.name} any more.`);
  if (parts()[1] === event.detail.id) location.hash = "#/systems";
});

window.addEventListener("hashchange", show);

window.addEventListener("signed-in", () => {
  frame();
  const invitation = sessionStorage.getItem("invitation");
  let target = location.hash;
  if (invitation) target = `#/invitation/${encodeURIComponent(invitation)}`;
  else if (["", "sign-in", "register"].includes(parts()[0])) target = "#/systems";
  if (location.hash === target) show();
  else location.hash = target;
});

window.addEventListener("signed-out", (event) => {
  if (!cloud.account) return;
  cloud.signedOut();
  frame();
  notice(typeof event.detail === "string" ? event.detail : "You are signed out.");
  if (location.hash === "#/sign-in") show();
  else location.hash = "#/sign-in";
});

signOutButton.addEventListener("click", async () => {
  try {
    await remove("/sessions/current");
    window.dispatchEvent(new CustomEvent("signed-out"));
  } catch (error) {
    notice(error.message, "error");
  }
});

// The link would change the part of the address that names the view.
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

async function begin() {
  try {
    cloud.info = await get("/cloud");
    setText(document.getElementById("about"), `dwcloud ${cloud.info.version}`);
    const answer = await call("GET", "/account").catch((error) => {
      if (error.status !== 401) throw error;
      return null;
    });
    if (answer && wanted()) {
      location.replace(wanted());
      return;
    }
    if (answer) cloud.signedIn(answer.account);
    frame();
    show();
  } catch (error) {
    const again = el("button", { class: "primary", type: "button" }, "Try again");
    again.addEventListener("click", () => location.reload());
    main.replaceChildren(el("div", { class: "panel narrow" }, el("h1", {}, "The cloud does not answer"),
      el("p", { role: "alert" }, error.message), again));
  }
}

begin();
