// The mediator's HTTP API, by cookie. Every change carries the session's CSRF token.

const BASE = "/api/v1";
let csrfToken = "";

export class Problem extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

function unreachable() {
  return new Problem(0, "no_answer",
    "The cloud does not answer. Check your connection to the Internet and try again.");
}

async function problemOf(response) {
  let told = {};
  try {
    told = await response.json();
  } catch {
    // A proxy on the way answered, not the mediator.
    told = { detail: `The cloud answered ${response.status} without saying why.` };
  }
  let detail = typeof told.detail === "string" ? told.detail : `Error ${response.status}.`;
  const wait = Number(response.headers.get("Retry-After"));
  if (wait > 0) detail += ` Try again in ${wait < 90 ? `${wait} seconds` : `${Math.ceil(wait / 60)} minutes`}.`;
  return new Problem(response.status, String(told.code ?? ""), detail);
}

export async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-DWCloud-CSRF"] = csrfToken;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(BASE + path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
    });
  } catch {
    throw unreachable();
  }
  if (!response.ok) {
    const problem = await problemOf(response);
    if (problem.status === 401 && problem.code === "signed_out") {
      window.dispatchEvent(new CustomEvent("signed-out"));
    }
    throw problem;
  }
  const text = await response.text();
  const answer = text ? JSON.parse(text) : {};
  if (typeof answer.csrf_token === "string") csrfToken = answer.csrf_token;
  return answer;
}

export const get = (path) => call("GET", path);
export const post = (path, body) => call("POST", path, body);
export const put = (path, body) => call("PUT", path, body);
export const patch = (path, body) => call("PATCH", path, body);
export const remove = (path, body) => call("DELETE", path, body);
export const segment = (text) => encodeURIComponent(text);
