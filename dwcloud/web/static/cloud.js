// What the page knows of the cloud: who is signed in, the systems, what happens on them.
// It follows the mediator's events, and says "changed" when something did.

import { get } from "./api.js";

const FIRST_RETRY = 1000;
const LAST_RETRY = 30000;
const DOUBT = 2500;
const WRITTEN = 1500;
const HIDDEN_FOR = 60000;
const SAMPLES = 90;

export class Cloud extends EventTarget {
  info = {};
  account = null;
  systems = new Map();
  traffic = new Map();
  live = "off";
  loaded = false;
  #reports = new Map();
  #lastOutcome = new Map();
  #source = null;
  #retry = FIRST_RETRY;
  #timer = null;
  #hiding = null;
  #doubt = null;
  #asking = null;

  constructor() {
    super();
    document.addEventListener("visibilitychange", () => this.#visibility());
  }

  // What is known of a system besides who may use it.
  activityOf(id) {
    const connections = [];
    let hidden = 0;
    const online = new Set((this.systems.get(id)?.servers ?? []).filter((s) => s.online).map((s) => s.id));
    for (const [server, report] of this.#reports.get(id) ?? []) {
      if (!online.has(server)) continue;
      hidden += Math.max(0, report.count - report.streams.length);
      for (const stream of report.streams) connections.push({ ...stream, id: `${server} ${stream.number}`, server });
    }
    return { connections, hidden, last: this.#lastOutcome.get(id) ?? null };
  }

  // Online, but the last one who tried did not get there.
  stateOf(system) {
    if (system.state !== "online") return "offline";
    const { connections, last } = this.activityOf(system.id);
    const failed = last && last.outcome !== "ok" && last.outcome !== "cancelled";
    const recent = failed && Date.now() / 1000 - last.at < 900;
    return recent && connections.length === 0 ? "unreachable" : "online";
  }

  sorted() {
    const name = (s) => `${s.name}\0${s.owner}\0${s.id}`;
    return [...this.systems.values()].sort((a, b) => (name(a) < name(b) ? -1 : 1));
  }

  signedIn(account) {
    this.account = account;
    this.#open();
  }

  signedOut() {
    this.#close();
    clearTimeout(this.#doubt);
    this.account = null;
    this.systems.clear();
    this.#reports.clear();
    this.#lastOutcome.clear();
    this.traffic.clear();
    this.loaded = false;
    this.#say("off");
  }

  // One's own change, shown without waiting for the event about it.
  put(system) {
    this.systems.set(system.id, system);
    this.#changed(system.id);
  }

  drop(id) {
    const known = this.systems.get(id);
    this.systems.delete(id);
    this.#reports.delete(id);
    this.#lastOutcome.delete(id);
    this.traffic.delete(id);
    if (known) this.dispatchEvent(new CustomEvent("removed", { detail: known }));
    this.#changed(id);
  }

  #changed(id = null) {
    this.dispatchEvent(new CustomEvent("changed", { detail: id }));
  }

  #say(live) {
    if (this.live === live) return;
    this.live = live;
    this.dispatchEvent(new CustomEvent("live"));
  }

  #open() {
    this.#close();
    if (this.live === "off") this.#say("connecting");
    const source = new EventSource("/api/v1/events");
    this.#source = source;
    const on = (name, take) => source.addEventListener(name, (event) => {
      if (this.#source === source) take(event.data ? JSON.parse(event.data) : {});
    });
    // From here on nothing is missed, so that what is fetched now stays right.
    on("watching", () => {
      this.#retry = FIRST_RETRY;
      clearTimeout(this.#doubt);
      this.#fetch();
    });
    on("system", (told) => {
      this.#fetchSoon();
      this.#logged(told.system, 100);
    });
    on("server", () => this.#fetchSoon());
    on("activity", (told) => this.#activity(told));
    on("outcome", (told) => {
      this.#lastOutcome.set(told.system, told);
      this.#changed(told.system);
    });
    // The mediator writes these down once a second.
    on("connection", (told) => this.#logged(told.system, WRITTEN));
    source.addEventListener("error", () => {
      if (this.#source === source) this.#lost();
    });
  }

  #logged(system, wait) {
    setTimeout(() => this.dispatchEvent(new CustomEvent("logged", { detail: system })), wait);
  }

  #close() {
    clearTimeout(this.#timer);
    clearTimeout(this.#asking);
    this.#source?.close();
    this.#source = null;
  }

  // The browser would try again by itself after some failures and not after others.
  // The mediator ends each stream after a while, which is no reason to worry anybody.
  #lost() {
    this.#close();
    clearTimeout(this.#doubt);
    this.#doubt = setTimeout(() => this.#say("connecting"), DOUBT);
    const wait = this.#retry * (0.5 + Math.random() / 2);
    this.#retry = Math.min(LAST_RETRY, this.#retry * 2);
    this.#timer = setTimeout(() => this.#reopen(), wait);
  }

  async #reopen() {
    if (!this.account) return;
    try {
      await get("/account");
    } catch (error) {
      // A session that is over has been announced already.
      if (error.status !== 401) this.#lost();
      return;
    }
    if (this.account) this.#open();
  }

  #visibility() {
    clearTimeout(this.#hiding);
    if (!this.account) return;
    if (document.hidden) {
      // Browsers allow few connections to one host; a page nobody sees needs none.
      this.#hiding = setTimeout(() => {
        this.#close();
        this.#say("connecting");
      }, HIDDEN_FOR);
    } else if (!this.#source) {
      this.#reopen();
    }
  }

  // Several events in a moment are one reason to ask.
  #fetchSoon() {
    clearTimeout(this.#asking);
    this.#asking = setTimeout(() => this.#fetch(), 100);
  }

  async #fetch() {
    const source = this.#source;
    let told;
    try {
      told = await get("/systems");
    } catch (error) {
      if (error.status !== 401 && this.#source === source) this.#lost();
      return;
    }
    if (!this.account || this.#source !== source) return;
    const gone = new Set(this.systems.keys());
    for (const system of told.systems) {
      const before = this.systems.get(system.id);
      gone.delete(system.id);
      this.systems.set(system.id, system);
      if (this.loaded) this.dispatchEvent(new CustomEvent("system", { detail: { before, system } }));
    }
    for (const id of gone) this.drop(id);
    this.loaded = true;
    this.#say("live");
    this.#changed();
  }

  // What one server carries. Counters of bytes become rates by what came since before.
  #activity({ system, server, streams, count }) {
    const at = Date.now() / 1000;
    const servers = this.#reports.get(system) ?? new Map();
    const before = servers.get(server);
    const old = new Map((before?.streams ?? []).map((s) => [s.number, s]));
    const seconds = before ? Math.max(0.2, Math.min(10, at - before.at)) : 0;
    let toClients = 0;
    let toServers = 0;
    for (const stream of before ? streams : []) {
      const known = old.get(stream.number);
      toClients += Math.max(0, stream.to_client - (known?.to_client ?? 0)) / seconds;
      toServers += Math.max(0, stream.to_server - (known?.to_server ?? 0)) / seconds;
    }
    servers.set(server, { at, streams, count, toClients, toServers });
    this.#reports.set(system, servers);
    const fresh = [...servers.values()].filter((report) => at - report.at < 6);
    const sum = (of) => fresh.reduce((total, report) => total + of(report), 0);
    const samples = this.traffic.get(system) ?? [];
    samples.push({ at, toClients: sum((r) => r.toClients), toServers: sum((r) => r.toServers) });
    this.traffic.set(system, samples.slice(-SAMPLES));
    this.#changed(system);
  }
}

export const cloud = new Cloud();
