// The live page. For a market it subscribes to trades and states of all symbols by pattern, but to quotes only of the
// symbols shown, so that the page costs the same whether the blade carries fifty symbols or thousands. For any other
// feed it subscribes to everything, and shows it as it is.

import { Stream } from "/console/stream.js";
import { Values } from "/console/values.js";

const ROWS_MAX = 30;
const TRADES_MAX = 40;
const TRADES_PER_PAINT = 6;
const RANK_MS = 3_000;
const STATUS_MS = 1_000;
const SPARK_POINTS = 60;
/** The factor by which a symbol's activity falls in a second of silence. */
const DECAY = 0.93;

const $ = (id) => document.getElementById(id);
const dash = "–";
const still = matchMedia("(prefers-reduced-motion: reduce)");

// ---------------------------------------------------------------- numbers

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

/** Prices are integers in 1/10000. */
function price(px) {
  return px % 100 === 0 ? (px / 10_000).toFixed(2) : (px / 10_000).toFixed(4);
}

function rate(value) {
  if (value === null) return dash;
  return value >= 100_000 ? compact.format(value) : whole.format(value);
}

function duration(ns) {
  if (!ns) return dash;
  if (ns < 1_000) return `${ns} ns`;
  if (ns < 1_000_000) return `${(ns / 1_000).toPrecision(3)} µs`;
  if (ns < 1_000_000_000) return `${(ns / 1_000_000).toPrecision(3)} ms`;
  return `${(ns / 1_000_000_000).toPrecision(3)} s`;
}

function uptime(ms) {
  const s = Math.floor(ms / 1_000);
  const pad = (n) => String(n).padStart(2, "0");
  const clock = `${pad(Math.floor(s / 3600) % 24)}:${pad(Math.floor(s / 60) % 60)}:${pad(s % 60)}`;
  return s >= 86_400 ? `${Math.floor(s / 86_400)} d ${clock}` : clock;
}

const newYork = new Intl.DateTimeFormat("en-GB", {
  timeZone: "America/New_York", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
});
/** `t` is a decimal string of nanoseconds, beyond what a number holds. */
const exchangeTime = (t) => newYork.format(Number(t.slice(0, -6)));

// ---------------------------------------------------------------- the market as seen

const symbols = new Map();
const fresh = []; // trades not yet painted, newest last
const dirty = new Set();
let newestTime = null;
let tradesSeen = 0;

function symbol(prefix, name) {
  const key = `${prefix}/${name}`;
  let entry = symbols.get(key);
  if (!entry) {
    entry = { key, name, bid: null, ask: null, last: null, first: null, direction: "", volume: 0, activity: 0, state: "T", incomplete: false };
    symbols.set(key, entry);
  }
  return entry;
}

const values = new Values();
let view = null; // "market" or "values", once the blade has said which

const isLevel = (side) => side === null || (Array.isArray(side) && Number.isFinite(side[0]) && Number.isFinite(side[1]));
/** The shape of each market channel; frames of any other shape are kept out of the market's tables. */
const SHAPES = {
  bbo: (d) => isLevel(d.bid) && isLevel(d.ask),
  trade: (d) => Number.isFinite(d.px) && Number.isFinite(d.sz),
  status: (d) => typeof d.state === "string",
};

function onData(frame, text) {
  newestTime = frame.t;
  if (view === "market") onMarket(frame);
  else values.take(frame, text);
}

function onMarket({ s, t, d }) {
  const [, venue, name, channel] = s.split("/");
  if (d === null || typeof d !== "object" || !SHAPES[channel]?.(d)) return;
  const entry = symbol(`/${venue}`, name);
  if (channel === "bbo") {
    entry.bid = d.bid;
    entry.ask = d.ask;
    entry.incomplete = d.incomplete === true;
  } else if (channel === "trade") {
    if (d.kind === "broken") return;
    tradesSeen += 1;
    if (entry.last !== null && d.px !== entry.last) entry.direction = d.px > entry.last ? "up" : "down";
    // The first one may be old, since it is the snapshot.
    if (entry.last !== null) entry.activity += 1;
    entry.first ??= d.px;
    entry.last = d.px;
    entry.volume += d.sz;
    fresh.push({ name, t, d, direction: entry.direction });
    if (fresh.length > TRADES_MAX) fresh.shift();
  } else {
    entry.state = d.state;
  }
  dirty.add(entry);
}

function onControl(message) {
  if (message.op === "notice" && message.kind === "epoch") {
    symbols.clear();
    $("epoch").textContent = message.epoch;
    rank();
  } else if (message.op === "notice" && (message.kind === "stale" || message.kind === "live") && message.source !== undefined) {
    // Update the display now, before the next figures come.
    condition.feed = message.kind;
    judge();
  } else if (message.op === "notice" && message.kind === "restart") {
    stream.reconnectInMs = message.reconnect_in_ms;
  } else if (message.op === "error") {
    console.warn("refused:", message);
  }
}

// ---------------------------------------------------------------- the condition

/** What is known of the stream, of the feed and of the blade. */
const condition = { stream: "wait", detail: "", feed: null, ailment: "", stopping: false, answers: true };
const FEED_STATES = {
  live: ["live", "live", ""],
  waiting: ["wait", "waiting", "The feed waits for its first subscribers."],
  catching_up: ["wait", "catching up", "The feed takes what it missed; until then the blade is not ready."],
  stale: ["stale", "stale", "What is shown may not be the present: upstream is silent, or lost, or messages are missing."],
  finished: ["wait", "finished", "The feed has ended; the last values are shown."],
  failed: ["lost", "failed", "The feed has broken off; the last values are shown. The log says why."],
};

/** Sums the condition up in one word: green only if values come and are current. */
function judge() {
  const [feedState, feedWord, feedText] = FEED_STATES[condition.feed] ?? ["wait", condition.feed ?? dash, ""];
  $("feed-state").dataset.state = feedState;
  put($("feed-state"), feedWord);
  put($("feed-words"), feedText);
  let [state, word] = [feedState, feedWord];
  if (condition.stream === "lost") [state, word] = ["lost", `lost: ${condition.detail}`];
  else if (condition.stream === "wait" || condition.feed === null) [state, word] = ["wait", "connecting"];
  else if (condition.ailment) [state, word] = ["lost", "not healthy"];
  else if (condition.stopping) [state, word] = ["wait", "stopping"];
  $("state").dataset.state = state;
  put($("state"), word);
  const words = [];
  if (condition.refused) words.push(condition.refused);
  else if (condition.stream === "lost" && condition.answers) words.push(unreached());
  if (condition.ailment) words.push(`Not healthy: ${condition.ailment}.`);
  if (feedState === "stale" || feedState === "lost") words.push(`Feed ${feedWord}. ${feedText}`);
  put($("alert"), words.join(" "));
  $("alert").hidden = words.length === 0;
}

/** Explains why no values come although the admin port answers. */
function unreached() {
  const mixed = location.protocol === "https:" && endpoint?.startsWith("ws:");
  const why = mixed ? "A page that came by https: may only connect to wss:." : "";
  const advice = 'If the data port has another address for browsers, name it: stream_url = "wss://HOST/v1/stream" in [admin].';
  return `No values: ${endpoint} cannot be reached from this browser. ${why} ${advice}`;
}

let endpoint = null;
const stream = new Stream(() => endpoint, {
  data: onData,
  control: onControl,
  state(state, detail) {
    // While it tries to reconnect, the loss stays on display.
    if (state === "wait" && condition.stream === "lost") return;
    Object.assign(condition, { stream: state, detail });
    judge();
  },
});

/** What to subscribe to follows from what the feed is. */
function choose(shape) {
  if (view !== null) return;
  view = shape === "market" ? "market" : "values";
  document.querySelector("main").dataset.view = view;
  put($("clock-title"), view === "market" ? "Exchange time" : "Newest value (UTC)");
  stream.want(new Set(), view === "market" ? ["/*/*/trade", "/*/*/status"] : ["/**"], "conflate");
}

// ---------------------------------------------------------------- which symbols are shown

let quotes = new Set();
const rows = new Map(); // symbol key → row
const body = $("symbols").tBodies[0];

function rank() {
  if (view !== "market") return values.rank();
  const filter = $("filter").value.trim().toUpperCase();
  const matching = [...symbols.values()].filter((entry) => (filter ? entry.name.includes(filter) : entry.activity > 0 || entry.last !== null));
  const byName = (a, b) => (a.name < b.name ? -1 : 1);
  // Symbols that begin with the filter come first, then the most active. A shown symbol must be clearly overtaken to
  // leave.
  const weight = (entry) => entry.activity * (rows.has(entry.key) ? 1.25 : 1) + (filter && entry.name.startsWith(filter) ? 1e9 : 0);
  matching.sort((a, b) => weight(b) - weight(a) || byName(a, b));
  const shown = matching.slice(0, ROWS_MAX);
  quotes = stream.want(quotes, shown.map((entry) => `${entry.key}/bbo`), "conflate");

  const keep = new Set(shown.map((entry) => entry.key));
  for (const [key, row] of rows) {
    if (!keep.has(key)) {
      row.tr.remove();
      rows.delete(key);
    }
  }
  shown.forEach((entry, position) => {
    let row = rows.get(entry.key);
    if (!row) {
      row = makeRow(entry);
      rows.set(entry.key, row);
      dirty.add(entry);
    }
    if (body.children[position] !== row.tr) body.insertBefore(row.tr, body.children[position] ?? null);
  });
  $("symbols-empty").hidden = shown.length > 0;
  $("symbols-empty").textContent = filter ? `No symbol matches ${filter}.` : "Waiting for the first trades …";
  $("symbols-count").textContent = filter ? `${whole.format(matching.length)} of ${whole.format(symbols.size)} match` : `${shown.length} most active of ${whole.format(symbols.size)}`;
}

function makeRow(entry) {
  const tr = document.createElement("tr");
  const th = document.createElement("th");
  th.scope = "row";
  th.textContent = entry.name;
  const halt = document.createElement("span");
  halt.className = "halt";
  th.append(halt);
  tr.append(th);
  const cells = {};
  for (const name of ["bidSize", "bid", "ask", "askSize", "spread", "last", "change", "volume"]) {
    const td = document.createElement("td");
    td.className = `n ${name}`;
    if (name.endsWith("Size")) td.classList.add("size");
    cells[name] = td;
    tr.append(td);
  }
  return { tr, halt, cells, seen: {} };
}

const HALTED = { H: "halted", P: "paused", Q: "quotes only" };

function paintRow(entry, row) {
  const { cells, seen } = row;
  put(cells.bidSize, entry.bid ? whole.format(entry.bid[1]) : "");
  put(cells.bid, entry.bid ? price(entry.bid[0]) : dash, flash(seen, "bid", entry.bid?.[0]));
  put(cells.ask, entry.ask ? price(entry.ask[0]) : dash, flash(seen, "ask", entry.ask?.[0]));
  put(cells.askSize, entry.ask ? whole.format(entry.ask[1]) : "");
  put(cells.spread, entry.bid && entry.ask ? price(entry.ask[0] - entry.bid[0]) : "");
  put(cells.last, entry.last === null ? dash : price(entry.last), flash(seen, "last", entry.last));
  cells.last.classList.toggle("up", entry.direction === "up");
  cells.last.classList.toggle("down", entry.direction === "down");
  const change = entry.first ? ((entry.last - entry.first) / entry.first) * 100 : null;
  put(cells.change, change === null ? "" : `${change > 0 ? "+" : ""}${change.toFixed(2)} %`);
  cells.change.classList.toggle("up", change > 0);
  cells.change.classList.toggle("down", change < 0);
  put(cells.volume, entry.volume ? whole.format(entry.volume) : "");
  const tag = HALTED[entry.state] ?? (entry.incomplete ? "incomplete" : "");
  put(row.halt, tag);
  row.halt.hidden = tag === "";
}

/** "up" or "down" if the value has moved since it was last painted. */
function flash(seen, name, value) {
  const before = seen[name];
  seen[name] = value;
  if (before === undefined || before === null || value === undefined || value === null || before === value) return null;
  return value > before ? "up" : "down";
}

function put(cell, text, direction = null) {
  if (cell.textContent !== text) cell.textContent = text;
  if (direction && !still.matches) {
    const color = getComputedStyle(document.documentElement).getPropertyValue(`--${direction}-flash`);
    cell.animate([{ backgroundColor: color }, { backgroundColor: "transparent" }], { duration: 500, easing: "ease-out" });
  }
}

// ---------------------------------------------------------------- painting

const tape = $("trades").tBodies[0];
let paused = false;

function paint() {
  for (const entry of dirty) {
    const row = rows.get(entry.key);
    if (row) paintRow(entry, row);
  }
  dirty.clear();
  if (!paused && fresh.length) {
    for (const trade of fresh.splice(-TRADES_PER_PAINT)) tape.prepend(tapeRow(trade));
    fresh.length = 0;
    while (tape.rows.length > TRADES_MAX) tape.lastElementChild.remove();
  }
  values.paint();
  if (newestTime !== null) put($("clock"), (view === "market" ? exchangeTime(newestTime) : new Date(Number(newestTime.slice(0, -6))).toISOString().slice(11)).slice(0, 8));
  requestAnimationFrame(paint);
}

function tapeRow({ name, t, d, direction }) {
  const tr = document.createElement("tr");
  const cell = (text, className) => {
    const td = document.createElement("td");
    td.textContent = text;
    td.className = className;
    tr.append(td);
  };
  cell(exchangeTime(t), "time");
  cell(name, "name");
  cell(price(d.px), `n last ${direction}`);
  cell(whole.format(d.sz), "n");
  cell(d.kind === "execution" ? { B: "at bid", S: "at ask" }[d.side] ?? d.kind : d.kind, "kind");
  return tr;
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Resume" : "Pause";
});
$("filter").addEventListener("input", rank);
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// ---------------------------------------------------------------- figures

let before = null;
const history = new Map();

function perSecond(now, read) {
  if (!before) return null;
  const seconds = (now.uptime_ms - before.uptime_ms) / 1_000;
  const difference = read(now) - read(before);
  return seconds > 0 && difference >= 0 ? difference / seconds : null;
}

function tile(id, value, text = rate(value)) {
  put($(id), text);
  const points = history.get(id) ?? [];
  history.set(id, points);
  if (value !== null) points.push(value);
  if (points.length > SPARK_POINTS) points.shift();
  spark($(`${id}-spark`), points);
}

function spark(svg, points) {
  if (points.length < 2) return;
  const top = Math.max(...points, 1);
  const step = 100 / (SPARK_POINTS - 1);
  const left = 100 - (points.length - 1) * step;
  const line = points.map((value, at) => `${(left + at * step).toFixed(2)},${(27 - (value / top) * 24).toFixed(2)}`).join(" ");
  if (!svg.firstChild) {
    svg.setAttribute("viewBox", "0 0 100 28");
    svg.setAttribute("preserveAspectRatio", "none");
    svg.append(...["polygon", "polyline"].map((name) => document.createElementNS("http://www.w3.org/2000/svg", name)));
  }
  svg.firstChild.setAttribute("points", `${left.toFixed(2)},28 ${line} 100,28`);
  svg.lastChild.setAttribute("points", line);
}

function table(id, records) {
  const tbody = $(id).tBodies[0];
  while (tbody.rows.length > records.length) tbody.lastElementChild.remove();
  records.forEach((texts, at) => {
    let tr = tbody.rows[at];
    if (!tr) {
      tr = document.createElement("tr");
      texts.forEach((_, column) => {
        const cell = document.createElement(column ? "td" : "th");
        if (column) cell.className = "n";
        else cell.scope = "row";
        tr.append(cell);
      });
      tbody.append(tr);
    }
    texts.forEach((text, column) => put(tr.children[column], text));
  });
}

function show(status) {
  const { data, feed, latency_ns: latency, totals, ebpf } = status;
  put($("feed"), `${feed.source}, ${feed.state.replaceAll("_", " ")}`);
  Object.assign(condition, { feed: feed.state, ailment: status.ailment, stopping: status.stopping, answers: true });
  put($("epoch"), status.epoch || dash);
  put($("port"), `${data.address} (${data.engine})`);
  put($("uptime"), uptime(status.uptime_ms));

  tile("messages", perSecond(status, (s) => s.feed.messages));
  tile("published", perSecond(status, (s) => s.ring.published));
  tile("delivered", perSecond(status, (s) => s.totals.frames_delivered));
  const bits = perSecond(status, (s) => s.totals.bytes_delivered * 8);
  const giga = bits >= 1e9;
  tile("bits", bits, bits === null ? dash : (bits / (giga ? 1e9 : 1e6)).toFixed(bits >= 1e8 && !giga ? 0 : 1));
  put($("bits-unit"), giga ? "Gbit/s" : "Mbit/s");
  tile("sessions", totals.sessions, whole.format(totals.sessions));
  put($("behind"), totals.sessions_behind ? `${whole.format(totals.sessions_behind)} behind` : "none behind");

  put($("publish-p50"), duration(latency.feed_to_publish.p50));
  put($("publish-p99"), duration(latency.feed_to_publish.p99));
  put($("send-p50"), duration(latency.publish_to_send.p50));
  put($("send-p99"), duration(latency.publish_to_send.p99));

  table("workers", status.workers.map((worker, at) => {
    const frames = perSecond(status, (s) => s.workers[at].frames_delivered);
    const sends = perSecond(status, (s) => s.workers[at].sends);
    return [
      String(worker.index), worker.cpu === null ? "any" : String(worker.cpu), whole.format(worker.sessions), whole.format(worker.sessions_behind),
      rate(frames), rate(sends), frames && sends ? (frames / sends).toFixed(1) : dash, duration(worker.latency_ns.p50), duration(worker.latency_ns.p99),
    ];
  }));
  put($("engine"), `${status.workers.length} × ${data.engine}`);

  $("ebpf").dataset.state = ebpf.active ? "live" : "wait";
  put($("ebpf"), ebpf.active ? `active, ${ebpf.mode}` : "not active");
  put($("ebpf-reason"), ebpf.active ? "" : `Not active: ${ebpf.reason}. The blade serves all the same.`);
  const packets = (status, name) => status.ebpf.verdicts.find((verdict) => verdict.name === name)?.packets ?? 0;
  table("verdicts", ebpf.verdicts.filter((verdict) => verdict.packets > 0).map(({ name, packets: count }) => [
    name.replaceAll("_", " "), whole.format(count), rate(perSecond(status, (s) => packets(s, name))),
  ]));

  troubles(feed);
  const host = isLocal(data.host) || location.protocol === "https:" ? location.hostname : data.host;
  const url = data.stream_url || `${location.protocol === "https:" ? "wss" : "ws"}://${host}:${data.port}/v1/stream`;
  const admitted = data.allowed_origins.length === 0 || data.allowed_origins.includes(location.origin);
  const origins = [...data.allowed_origins, location.origin].map((origin) => JSON.stringify(origin)).join(", ");
  const advice = `Add it in the configuration: allowed_origins = [${origins}] in [data].`;
  condition.refused = admitted ? "" : `No values: the data port admits no page of ${location.origin}. ${advice}`;
  endpoint = admitted ? url : null;
  if (!admitted) Object.assign(condition, { stream: "lost", detail: "not admitted" });
  choose(feed.shape);
  judge();
  put($("hint"), `fanblade subscribe ${url} '${view === "market" ? `/${feed.venue}/*/trade` : "/**"}'`);
}

const isLocal = (host) => ["127.0.0.1", "[::1]", "0.0.0.0", "[::]"].includes(host);

const troubled = new Map(); // kind → count, and when it rose last

function troubles(feed) {
  const now = Date.now();
  const happened = Object.entries(feed.troubles).filter(([, count]) => count > 0);
  if (feed.gap_messages) happened.push(["messages missing", feed.gap_messages]);
  if (feed.subject_gaps) happened.push(["gaps of subjects", feed.subject_gaps]);
  if (feed.malformed) happened.push(["malformed messages", feed.malformed]);
  for (const [kind, count] of happened) {
    const known = troubled.get(kind);
    if (known?.count !== count) troubled.set(kind, { count, at: known || before ? now : null });
  }
  const last = (kind) => troubled.get(kind).at;
  happened.sort(([a], [b]) => (last(b) ?? 0) - (last(a) ?? 0) || (a < b ? -1 : 1));
  table("troubles", happened.map(([kind, count]) => [
    kind.replaceAll("_", " "), whole.format(count), last(kind) === null ? "before" : `${uptime(now - last(kind))} ago`,
  ]));
  $("troubles-empty").hidden = happened.length > 0;
}

async function figures() {
  try {
    const response = await fetch("/v1/status", { cache: "no-store", signal: AbortSignal.timeout(5_000) });
    const status = await response.json();
    show(status);
    put($("trades-rate"), before ? `${rate(tradesSeen / ((status.uptime_ms - before.uptime_ms) / 1_000))} a second` : "");
    tradesSeen = 0;
    before = status;
  } catch (error) {
    put($("uptime"), "no answer");
    before = null;
    condition.answers = false;
    judge();
  }
  for (const entry of symbols.values()) entry.activity *= DECAY;
  values.decay();
  setTimeout(figures, STATUS_MS);
}

let ranked = 0;
function rankSoon() {
  rank();
  // Quickly at first, while the picture forms.
  ranked += 1;
  setTimeout(rankSoon, ranked < 4 ? 700 : RANK_MS);
}

figures();
rankSoon();
requestAnimationFrame(paint);
