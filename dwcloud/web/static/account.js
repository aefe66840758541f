// One's own account: password, second factor, sessions, the end of it.

import { get, post, put, remove, segment } from "./api.js";
import { cloud } from "./cloud.js";
import { ask, copyable, el, field, form, keyed, newId, notice, setText, svg } from "./dom.js";
import { logList } from "./log.js";
import { ROLES, ago, moment, program } from "./words.js";

function section(title, ...children) {
  const id = newId("section");
  return el("section", { class: "panel", "aria-labelledby": id }, el("h2", { id, tabindex: -1 }, title), children);
}

// Password keepers want to know whose password it is.
function username() {
  return el("input", { type: "text", autocomplete: "username", value: cloud.account.name, hidden: true, readonly: true });
}

function passwordSection(changed) {
  const old = field("Present password", { type: "password", autocomplete: "current-password", required: true, name: "old" });
  const fresh = field("New password", { type: "password", autocomplete: "new-password", required: true, name: "new" },
    "10 characters or more, and not one that others use.");
  const body = form({}, [username(), old, fresh], "Change the password", async () => {
    await put("/account/password", { old: old.input.value, new: fresh.input.value });
    old.input.value = "";
    fresh.input.value = "";
    notice("The password is changed. All your other sessions are signed out.");
    changed();
  });
  return section("Password", body);
}

function qrPicture(rows) {
  const size = rows.length + 8;
  let d = "";
  rows.forEach((row, y) => [...row].forEach((dark, x) => {
    if (dark === "1") d += `M${x + 4} ${y + 4}h1v1h-1z`;
  }));
  return svg("svg", { class: "qr", viewBox: `0 0 ${size} ${size}`, role: "img", "aria-label": "QR code of the key below" },
    svg("rect", { width: size, height: size, class: "light" }), svg("path", { d, class: "dark" }));
}

function recoveryCodes(codes) {
  return el("div", { class: "banner" },
    el("h3", { tabindex: -1 }, "Keep these recovery codes"),
    el("p", {}, "Each is good for one sign-in without your device. They are shown this once; print them or keep them in "
      + "a password manager."),
    el("ul", { class: "codes" }, codes.map((code) => el("li", { class: "mono" }, code))));
}

function factorSection(changed) {
  const text = el("p");
  const body = el("div", { class: "stack" });
  const node = section("Second factor", text, body);

  function off() {
    setText(text, "Off. With a second factor, a stolen password alone opens nothing: signing in also needs a code from an "
      + "app on your phone.");
    const begin = el("button", { class: "primary", type: "button" }, "Set it up");
    begin.addEventListener("click", async () => {
      try {
        confirm(await post("/account/totp"));
      } catch (error) {
        notice(error.message, "error");
      }
    });
    body.replaceChildren(el("div", { class: "actions" }, begin));
  }

  function confirm({ secret, uri, qr }) {
    const code = field("Code that the app shows", { required: true, autocomplete: "one-time-code", inputmode: "numeric",
      name: "code" });
    const grouped = secret.replace(/(.{4})(?=.)/g, "$1 ");
    body.replaceChildren(
      el("p", {}, "Scan this with an authenticator app, or ", el("a", { href: uri }, "open the app on this device"),
        ". Then type the code that it shows."),
      qrPicture(qr),
      copyable("Or type this key into the app", grouped),
      form({}, [code], "Switch it on", async () => {
        const { recovery_codes: codes } = await post("/account/totp/confirm", { code: code.input.value.replace(/\s/g, "") });
        cloud.account = { ...cloud.account, totp: true };
        on();
        const shown = recoveryCodes(codes);
        body.prepend(shown);
        shown.querySelector("h3").focus();
        changed();
      }));
    code.input.focus();
  }

  function on() {
    setText(text, "On. Signing in needs a code besides the password.");
    const drop = el("button", { class: "secondary", type: "button" }, "Remove it…");
    drop.addEventListener("click", () => {
      const password = field("Password", { type: "password", autocomplete: "current-password", required: true, name: "password" });
      const code = field("Code, or a recovery code", { required: true, autocomplete: "one-time-code", name: "code" });
      ask({ title: "Remove the second factor?", text: ["The password alone will then be enough to sign in."],
        action: "Remove it", fields: [password, code], hidden: username() }, async () => {
        await remove("/account/totp", { password: password.input.value, code: code.input.value.trim() });
        cloud.account = { ...cloud.account, totp: false };
        off();
        changed();
        return node.querySelector("h2");
      });
    });
    body.replaceChildren(el("div", { class: "actions" }, drop));
  }
  if (cloud.account.totp) on();
  else off();
  return node;
}

function sessionsSection() {
  const list = el("ul", { class: "people", "aria-label": "Sessions" });
  const problem = el("p", { class: "problem", role: "alert" });
  const node = section("Where you are signed in", problem, list);

  function row(session) {
    const name = el("strong");
    const more = el("span", { class: "muted small" });
    const end = el("button", { class: "secondary", type: "button" },
      session.kind === "token" ? "Revoke" : "Sign out");
    end.addEventListener("click", async () => {
      try {
        await remove(`/sessions/${segment(session.id)}`);
        node.querySelector("h2").focus();
      } catch (error) {
        notice(error.message, "error");
      }
      await node.load();
    });
    const item = el("li", { class: "person" }, el("span", { class: "who" }, name, more), end);
    item.update = (now) => {
      if (now.kind === "token") {
        const of = cloud.systems.get(now.system)?.name ?? now.system;
        setText(name, `Token “${now.label}”`);
        setText(more, `${ROLES[now.role]} of ${of}, and nothing else · made at ${now.address} · good until `
          + moment(now.expires));
        end.setAttribute("aria-label", `Revoke token ${now.label} for ${of}`);
        return;
      }
      const kind = now.kind === "cookie" ? "Browser" : "Command";
      setText(name, now.current ? `${kind} (this one)` : kind);
      setText(more, `${program(now.agent)} · ${now.address} · used ${ago(now.used)}, since ${moment(now.created)}`);
      end.setAttribute("aria-label", `Sign out: ${kind} at ${now.address}, used ${ago(now.used)}`);
      end.hidden = now.current;
    };
    return item;
  }

  node.load = async () => {
    try {
      const { sessions } = await get("/sessions");
      keyed(list, sessions, (s) => s.id, row);
    } catch (error) {
      if (error.status !== 401) problem.textContent = error.message;
    }
  };
  return node;
}

function endSection() {
  const end = el("button", { class: "danger", type: "button" }, "Delete this account…");
  end.addEventListener("click", () => {
    const password = field("Password", { type: "password", autocomplete: "current-password", required: true, name: "password" });
    ask({ title: "Delete your account?", text: ["You lose your role on all systems that are shared with you. Systems of "
      + "your own must be given away or unbound before."], action: "Delete it", fields: [password], hidden: username() },
    async () => {
      await remove("/account", { password: password.input.value });
      window.dispatchEvent(new CustomEvent("signed-out", { detail: "Your account is deleted." }));
    });
  });
  return section("Delete the account", el("p", { class: "muted" }, "This cannot be undone."), el("div", { class: "actions" }, end));
}

export function accountView() {
  const sessions = sessionsSection();
  const log = logList((before) => get(`/account/log?limit=30${before ? `&before=${before}` : ""}`));
  const changed = () => {
    sessions.load();
    log.load();
  };
  const node = el("div", {},
    el("div", { class: "view-head" }, el("h1", { id: "view-title", tabindex: -1 }, "Account"),
      el("p", { class: "muted" }, `Signed in as ${cloud.account.name}`)),
    el("div", { class: "columns" },
      el("div", {}, passwordSection(changed), factorSection(changed), endSection()),
      el("div", {}, sessions, section("What you did", log.node))));
  changed();
  return { title: "Account", node };
}
