// Signing in and registering.

import { get, post } from "./api.js";
import { cloud } from "./cloud.js";
import { el, field, form, notice } from "./dom.js";

// Goes on to where somebody wanted to go before having to sign in.
export function wanted() {
  const next = new URLSearchParams(location.search).get("next");
  if (!next) return null;
  try {
    // As the browser understands it: "//host", "/\\host" and more would be another site.
    const url = new URL(next, location.origin);
    return url.origin === location.origin ? url.pathname + url.search + url.hash : null;
  } catch {
    return null;
  }
}

function enter(answer) {
  const next = wanted();
  if (next) {
    location.replace(next);
    return;
  }
  cloud.signedIn(answer.account);
  window.dispatchEvent(new CustomEvent("signed-in"));
}

async function signIn(name, password, totp) {
  const body = { name, password, cookie: true };
  if (totp) body.totp = totp;
  const answer = await post("/sessions", body);
  // The answer to GET /account has the token that each change needs.
  enter(answer.csrf_token ? answer : await get("/account"));
}

export function signInView() {
  const name = field("Account name", { autocomplete: "username", required: true, autocapitalize: "none",
    spellcheck: "false", maxlength: 63, name: "name" });
  const password = field("Password", { type: "password", autocomplete: "current-password", required: true,
    name: "password" });
  const code = field("Code of your second factor", { autocomplete: "one-time-code", required: true,
    spellcheck: "false", autocapitalize: "none", name: "totp" },
  "Six digits from your authenticator app, or one of your recovery codes.");
  code.hidden = true;
  const body = form({ "aria-labelledby": "view-title" }, [name, password, code], "Sign in", async () => {
    try {
      await signIn(name.input.value.trim(), password.input.value, code.hidden ? null : code.input.value.trim());
    } catch (error) {
      if (error.code !== "totp_required") {
        if (!code.hidden) code.input.value = "";
        throw error;
      }
      code.hidden = false;
      code.input.focus();
    }
  });
  const open = cloud.info.registration !== "closed";
  return {
    title: "Sign in",
    node: el("div", { class: "panel narrow" },
      el("h1", { id: "view-title", tabindex: -1 }, "Sign in"), body,
      open && el("p", { class: "other" }, "New here? ", el("a", { href: "#/register" }, "Make an account"))),
    focus: name.input,
  };
}

export function registerView(invitation = "") {
  const name = field("Account name", { autocomplete: "username", required: true, autocapitalize: "none",
    spellcheck: "false", maxlength: 63, name: "name" },
  "Letters, digits, dots and dashes. Others find you by it when they share a system with you.");
  const password = field("Password", { type: "password", autocomplete: "new-password", required: true,
    name: "password" }, "10 characters or more, and not one that others use: a few random words are good.");
  const invited = cloud.info.registration === "invited";
  const code = field("Invitation code", { value: invitation, required: invited, spellcheck: "false",
    autocapitalize: "none", name: "invitation" },
  invited ? "This cloud takes new accounts by invitation only." : "");
  code.hidden = !invited && !invitation;
  const body = form({ "aria-labelledby": "view-title" }, [name, password, code], "Make the account", async () => {
    const request = { name: name.input.value.trim(), password: password.input.value };
    if (code.input.value.trim()) request.invitation = code.input.value.trim();
    await post("/accounts", request);
    await signIn(request.name, request.password, null);
    notice("Your account is ready.");
  });
  return {
    title: "Make an account",
    node: el("div", { class: "panel narrow" },
      el("h1", { id: "view-title", tabindex: -1 }, "Make an account"),
      cloud.info.registration === "closed"
        ? el("p", {}, "This cloud takes no new accounts. Ask whoever runs it.") : body,
      el("p", { class: "other" }, "You have one? ", el("a", { href: "#/sign-in" }, "Sign in"))),
    focus: name.input,
  };
}

export function invitationView(code) {
  if (!cloud.account) {
    const view = registerView(code);
    view.node.prepend(el("p", { class: "banner" }, "Somebody shares a system with you. Make an account, or "
      + "sign in, and the invitation is yours to accept."));
    return view;
  }
  const body = form({ "aria-labelledby": "view-title" }, [
    el("p", {}, `You are signed in as ${cloud.account.name}. Accepting gives this account a role on the system.`),
  ], "Accept the invitation", async () => {
    const { system } = await post("/invitations/accept", { code });
    cloud.put(system);
    sessionStorage.removeItem("invitation");
    notice(`You have a role on ${system.name} now.`);
    location.hash = `#/systems/${system.id}`;
  });
  return {
    title: "Invitation",
    node: el("div", { class: "panel narrow" }, el("h1", { id: "view-title", tabindex: -1 }, "An invitation for you"),
      body, el("p", { class: "other" }, el("a", { href: "#/systems" }, "Not now"))),
  };
}
