// The plot of a system's traffic in the last two minutes.

import { el, setText, svg } from "./dom.js";
import { bytes } from "./words.js";

const SPAN = 120;
const HEIGHT = 170;
const LEFT = 66;
const BOTTOM = 24;
const TOP = 12;

function ceiling(value) {
  let step = 1000;
  while (step < value) {
    for (const factor of [2, 2.5, 2]) {
      if (step >= value) break;
      step *= factor;
    }
  }
  return step;
}

function path(samples, now, width, top, of, closed) {
  const x = (at) => LEFT + (width - LEFT - 6) * (1 - (now - at) / SPAN);
  const y = (value) => HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * Math.min(1, value / top);
  const shown = samples.filter((s) => now - s.at <= SPAN);
  if (!shown.length) return "";
  // A report tells of the time before it; silence is no traffic.
  let d = "";
  let before = null;
  const put = (at, value) => {
    d += `${d ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
  };
  for (const sample of shown) {
    if (before !== null && sample.at - before.at > 6) {
      put(before.at + 2, 0);
      put(sample.at - 2, 0);
    }
    put(sample.at, of(sample));
    before = sample;
  }
  if (now - before.at > 6) {
    put(before.at + 2, 0);
    put(now, 0);
  } else {
    put(now, of(before));
  }
  if (closed) d += `L${x(now).toFixed(1)} ${y(0)}L${x(shown[0].at).toFixed(1)} ${y(0)}Z`;
  return d;
}

export function trafficPlot() {
  const title = svg("title", { id: "traffic-title" });
  const picture = svg("svg", { role: "img", class: "picture", "aria-labelledby": "traffic-title" });
  const frame = el("div", { class: "plot" }, picture);
  const down = el("dd");
  const up = el("dd");
  const figures = el("dl", { class: "figures" },
    el("div", {}, el("dt", {}, el("span", { class: "key to-clients", "aria-hidden": "true" }), "To clients"), down),
    el("div", {}, el("dt", {}, el("span", { class: "key to-servers", "aria-hidden": "true" }), "To servers"), up));
  const node = el("div", { class: "traffic" }, figures, frame);
  let samples = [];
  const redraw = () => {
    const width = Math.floor(frame.clientWidth);
    if (width < 100) return;
    const now = Date.now() / 1000;
    const recent = samples.filter((s) => now - s.at <= SPAN);
    const top = ceiling(Math.max(1, ...recent.flatMap((s) => [s.toClients, s.toServers])));
    const last = samples.at(-1);
    const fresh = last && now - last.at < 6 ? last : { toClients: 0, toServers: 0 };
    setText(down, bytes(fresh.toClients, true));
    setText(up, bytes(fresh.toServers, true));
    setText(title, `Traffic in the last two minutes; the scale goes up to ${bytes(top, true)}.`);
    picture.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    picture.setAttribute("width", width);
    picture.setAttribute("height", HEIGHT);
    const grid = [0, 0.5, 1].flatMap((part) => {
      const y = HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * part;
      return [svg("line", { class: "grid", x1: LEFT, x2: width - 6, y1: y, y2: y }),
        svg("text", { class: "scale", x: LEFT - 8, y: y + 4 }, bytes(top * part, true))];
    });
    const times = [[LEFT, "2 min ago", "start"], [width - 6, "now", "end"]].map(([x, text, anchor]) =>
      svg("text", { class: "time", x, y: HEIGHT - 6, "text-anchor": anchor }, text));
    picture.replaceChildren(title, ...grid, ...times,
      svg("path", { class: "area to-clients", d: path(samples, now, width, top, (s) => s.toClients, true) }),
      svg("path", { class: "curve to-clients", d: path(samples, now, width, top, (s) => s.toClients, false) }),
      svg("path", { class: "curve to-servers", d: path(samples, now, width, top, (s) => s.toServers, false) }));
  };
  new ResizeObserver(redraw).observe(frame);
  const timer = setInterval(() => (node.isConnected ? redraw() : node.started && clearInterval(timer)), 1000);
  node.update = (more) => {
    node.started = true;
    samples = more;
    redraw();
  };
  return node;
}
