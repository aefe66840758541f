// Elements made by code alone: text from anywhere goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "value" || name === "checked" || name === "disabled") {
      node[name] = value;
    } else {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return node;
}

export function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export function setText(node, text) {
  // An unchanged text is left alone, so that screen readers do not repeat it.
  if (node.textContent !== text) node.textContent = text;
}

// Brings the children of `parent` to `items`, keeping the nodes (and with them focus and
// what is being typed) of those that stay. `make(item)` returns a node with `update(item)`.
export function keyed(parent, items, keyOf, make) {
  const old = new Map();
  for (const node of [...parent.children]) if (node.dataset.key) old.set(node.dataset.key, node);
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = old.get(key);
    if (node) {
      old.delete(key);
    } else {
      node = make(item);
      node.dataset.key = key;
    }
    node.update?.(item);
    if (node === before) before = before.nextElementSibling;
    else parent.insertBefore(node, before);
  }
  for (const node of old.values()) node.remove();
}

let count = 0;
export function newId(prefix) {
  count += 1;
  return `${prefix}-${count}`;
}

// A labelled input with room for a hint; `.input` is the control.
export function field(label, attributes = {}, hint = "") {
  const id = newId("field");
  const hintId = `${id}-hint`;
  const input = el("input", { id, "aria-describedby": hint ? hintId : null, ...attributes });
  const node = el("div", { class: "field" }, el("label", { for: id }, label), input,
    hint && el("p", { class: "hint", id: hintId }, hint));
  node.input = input;
  return node;
}

export function select(label, options, value, attributes = {}) {
  const id = newId("select");
  const input = el("select", { id, ...attributes },
    options.map(([key, text]) => el("option", { value: key }, text)));
  input.value = value;
  const node = el("div", { class: "field" }, el("label", { for: id }, label), input);
  node.input = input;
  return node;
}

// A form that is busy while `submit(form)` runs, and shows why it failed.
export function form(attributes, children, submitLabel, submit, buttonClass = "primary") {
  const problem = el("p", { class: "problem", role: "alert" });
  const button = el("button", { class: buttonClass, type: "submit" }, submitLabel);
  const node = el("form", { novalidate: true, ...attributes }, children, problem,
    el("div", { class: "actions" }, button));
  node.problem = problem;
  node.button = button;
  node.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (node.busy) return;
    problem.textContent = "";
    const missing = [...node.querySelectorAll("input[required]")].find((i) => !i.value && !i.closest("[hidden]"));
    if (missing) {
      problem.textContent = `${missing.labels[0].textContent}: please fill this in.`;
      missing.focus();
      return;
    }
    node.busy = true;
    button.setAttribute("aria-disabled", "true");
    try {
      await submit(node);
    } catch (error) {
      problem.textContent = error.message;
    } finally {
      node.busy = false;
      button.removeAttribute("aria-disabled");
    }
  });
  return node;
}

const announcer = document.getElementById("announcer");
export function announce(text) {
  announcer.textContent = "";
  setTimeout(() => { announcer.textContent = text; }, 50);
}

const notices = document.getElementById("notices");
export function notice(text, kind = "info") {
  const close = el("button", { class: "quiet", type: "button", "aria-label": "Dismiss this message" }, "×");
  const node = el("div", { class: `notice ${kind}`, role: kind === "error" ? "alert" : "status" },
    el("p", {}, text), close);
  close.addEventListener("click", () => node.remove());
  notices.append(node);
  while (notices.children.length > 3) notices.firstElementChild.remove();
  if (kind !== "error") setTimeout(() => node.remove(), 8000);
}

// Asks before something that cannot be undone; fills in what the caller needs to know.
// What had the focus may be gone then: `run` returns the element that gets it.
export function ask({ title, text, action, fields = [], hidden = null, danger = true }, run) {
  const heading = newId("dialog");
  const cancel = el("button", { class: "secondary", type: "button" }, "Cancel");
  const body = form({}, [el("h2", { id: heading }, title), text.map((t) => el("p", {}, t)), hidden, fields],
    action, async () => {
      const next = await run();
      dialog.close();
      if (next && next.tabIndex < 0) next.tabIndex = -1;
      next?.focus();
    }, danger ? "danger" : "primary");
  body.querySelector(".actions").prepend(cancel);
  const dialog = el("dialog", { "aria-labelledby": heading }, body);
  cancel.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  (fields[0]?.input ?? cancel).focus();
}

// A text to be taken elsewhere, with a button that copies it.
export function copyable(label, text) {
  const node = field(label, { type: "text", value: text, readonly: true, class: "mono" });
  const button = el("button", { class: "secondary", type: "button", "aria-label": `Copy: ${label}` }, "Copy");
  button.addEventListener("click", async () => {
    node.input.select();
    try {
      await navigator.clipboard.writeText(node.input.value);
      notice("Copied.");
    } catch {
      notice("Selected: press Ctrl+C (or ⌘C) to copy.");
    }
  });
  node.classList.add("copyable");
  const row = el("div", { class: "row" });
  node.input.replaceWith(row);
  row.append(node.input, button);
  return node;
}
