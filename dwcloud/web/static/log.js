// A log, the newest first, with more of it on demand.

import { el } from "./dom.js";
import { SHORT_PATHS, ago, logged, moment } from "./words.js";

const PAGE = 30;

function item(entry) {
  const { title, text, kind } = logged(entry);
  const detail = entry.detail ?? {};
  const facts = [];
  if (detail.client && detail.client !== entry.who) facts.push(`program ${detail.client}`);
  if (entry.address) facts.push(`from ${entry.address}`);
  if (detail.session) facts.push(`session ${detail.session}`);
  return el("li", { class: `entry ${kind}` },
    el("p", { class: "entry-title" }, title, detail.path in SHORT_PATHS
      ? el("span", { class: `chip path ${detail.path}` }, SHORT_PATHS[detail.path]) : null),
    text && el("p", {}, text),
    el("p", { class: "muted small" }, el("time", { datetime: new Date(entry.at * 1000).toISOString(),
      title: moment(entry.at) }, ago(entry.at)), facts.length ? ` · ${facts.join(" · ")}` : ""));
}

export function logList(fetchPage) {
  const list = el("ol", { class: "log", "aria-label": "Log, the newest first" });
  const none = el("p", { class: "muted", hidden: true }, "Nothing has happened yet.");
  const problem = el("p", { class: "problem", role: "alert" });
  const more = el("button", { class: "secondary", type: "button", hidden: true }, "Show more");
  const node = el("div", {}, problem, list, none, el("div", { class: "actions" }, more));
  const shown = new Set();
  let last = null;
  let loading = null;

  async function page(before) {
    const { entries } = await fetchPage(before);
    const fresh = entries.filter((entry) => !shown.has(entry.id));
    const rows = fresh.map(item);
    if (before) {
      list.append(...rows);
      rows[0]?.setAttribute("tabindex", "-1");
      rows[0]?.focus();
    } else if (fresh.length < entries.length || !shown.size) {
      list.prepend(...rows);
    } else {
      // More has happened than fits on a page: begin anew.
      list.replaceChildren(...rows);
      shown.clear();
      last = null;
    }
    for (const { id } of fresh) shown.add(id);
    if (entries.length) last = Math.min(last ?? Infinity, entries.at(-1).id);
    if (before || more.hidden) more.hidden = entries.length < PAGE;
    none.hidden = list.children.length > 0;
  }

  async function load(before = null) {
    problem.textContent = "";
    try {
      await page(before);
    } catch (error) {
      if (error.status !== 401 && error.status !== 404) problem.textContent = error.message;
    }
  }
  more.addEventListener("click", () => load(last));
  return {
    node,
    // Many events in a moment are one reason to look.
    load() {
      clearTimeout(loading);
      loading = setTimeout(() => load(), 150);
    },
  };
}
