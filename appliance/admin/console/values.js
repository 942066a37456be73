// Shows any feed as a table: subjects with their newest values, whatever those look like. All values from a feed are
// put on the page as text.

const ROWS_MAX = 100;
const SUBJECTS_MAX = 20_000;
const FIELDS_MAX = 12;
const TEXT_MAX = 300;
const TITLE_MAX = 2_000;
/** The factor by which a subject's activity falls in a second. */
const DECAY = 0.93;

const $ = (id) => document.getElementById(id);
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const utc = new Intl.DateTimeFormat("en-GB", {
  timeZone: "UTC", hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
});

/** A number as it was sent, so that 1e-7 or twenty digits are shown unchanged. */
class Raw {
  constructor(text) {
    this.text = text;
  }
}

/** The value in a data frame; numbers keep their text. */
function valueOf(text) {
  // Nothing before it is nested, and quotation marks within strings are escaped, so this is the field.
  const at = text.indexOf(',"d":');
  const raw = text.slice(at + 5, -1);
  try {
    return JSON.parse(raw, (_, value, context) => (typeof value === "number" && context?.source !== undefined ? new Raw(context.source) : value));
  } catch {
    return raw;
  }
}

function plain(value) {
  if (typeof value === "string") return value;
  return nested(value);
}

function nested(value) {
  if (value instanceof Raw) return value.text;
  if (Array.isArray(value)) return `[${value.map(nested).join(", ")}]`;
  if (value && typeof value === "object") return `{${Object.entries(value).map(([key, inner]) => `${key}: ${nested(inner)}`).join(", ")}}`;
  return typeof value === "string" ? JSON.stringify(value) : String(value);
}

function cut(text, max) {
  return text.length > max ? `${text.slice(0, max)} …` : text;
}

export class Values {
  constructor() {
    this.subjects = new Map();
    this.left = new Set();
    this.shown = [];
    this.rows = new Map();
    this.dirty = new Set();
    this.body = $("values").tBodies[0];
    $("values-filter").addEventListener("input", () => this.rank());
  }

  /** Takes a data frame, parsed and as text. */
  take({ s, t }, text) {
    let entry = this.subjects.get(s);
    if (!entry) {
      if (this.subjects.size >= SUBJECTS_MAX) {
        if (this.left.size < SUBJECTS_MAX) this.left.add(s);
        return;
      }
      entry = { subject: s, text: "", t: "0", count: 0, activity: 0, incomplete: false };
      this.subjects.set(s, entry);
    }
    entry.text = text;
    entry.t = t;
    entry.count += 1;
    entry.activity += 1;
    this.dirty.add(entry);
  }

  /** Chooses the rows: all matching subjects, or the most active of them, in the order of their names. */
  rank() {
    const filter = $("values-filter").value.trim().toLowerCase();
    const matching = [...this.subjects.values()].filter((entry) => entry.subject.toLowerCase().includes(filter));
    const weight = (entry) => entry.activity * (this.rows.has(entry.subject) ? 1.25 : 1);
    if (matching.length > ROWS_MAX) matching.sort((a, b) => weight(b) - weight(a));
    const shown = matching.slice(0, ROWS_MAX).sort((a, b) => (a.subject < b.subject ? -1 : 1));
    const keep = new Set(shown.map((entry) => entry.subject));
    for (const [subject, row] of this.rows) {
      if (!keep.has(subject)) {
        row.tr.remove();
        this.rows.delete(subject);
      }
    }
    shown.forEach((entry, position) => {
      let row = this.rows.get(entry.subject);
      if (!row) {
        row = makeRow(entry.subject);
        this.rows.set(entry.subject, row);
        this.dirty.add(entry);
      }
      if (this.body.children[position] !== row.tr) this.body.insertBefore(row.tr, this.body.children[position] ?? null);
    });
    $("values-empty").hidden = shown.length > 0;
    $("values-empty").textContent = filter ? `No subject contains ${cut(filter, 60)}.` : "Waiting for the first values …";
    const total = this.subjects.size;
    const more = this.left.size ? `, and ${whole.format(this.left.size)} more are not shown` : "";
    $("values-count").textContent = (shown.length < total ? `${shown.length} of ${whole.format(total)}` : `${whole.format(total)}`) + more;
  }

  decay() {
    for (const entry of this.subjects.values()) entry.activity *= DECAY;
  }

  paint() {
    for (const entry of this.dirty) {
      const row = this.rows.get(entry.subject);
      if (row) paintRow(entry, row);
    }
    this.dirty.clear();
  }
}

function makeRow(subject) {
  const tr = document.createElement("tr");
  const th = document.createElement("th");
  th.scope = "row";
  th.textContent = subject;
  const tag = document.createElement("span");
  tag.className = "halt";
  tag.hidden = true;
  th.append(tag);
  const [value, time, count] = ["value", "n time", "n"].map((className) => {
    const td = document.createElement("td");
    td.className = className;
    return td;
  });
  tr.append(th, value, time, count);
  return { tr, tag, value, time, count };
}

function paintRow(entry, row) {
  const value = valueOf(entry.text);
  const isObject = value !== null && typeof value === "object" && !Array.isArray(value) && !(value instanceof Raw);
  row.value.replaceChildren();
  if (isObject) {
    const fields = Object.entries(value);
    for (const [key, inner] of fields.slice(0, FIELDS_MAX)) {
      const field = document.createElement("span");
      const name = document.createElement("i");
      name.textContent = cut(key, 60);
      field.append(name, ` ${cut(plain(inner), TEXT_MAX)}`);
      row.value.append(field);
    }
    if (fields.length > FIELDS_MAX) row.value.append(` and ${fields.length - FIELDS_MAX} more`);
  } else {
    row.value.append(cut(plain(value), TEXT_MAX));
  }
  row.value.title = cut(plain(value), TITLE_MAX);
  // A venue's book that may be wrong is marked incomplete, or is null.
  const isIncomplete = isObject ? value.incomplete === true : value === null && entry.subject.endsWith("/book");
  row.tag.textContent = isIncomplete ? "incomplete" : "";
  row.tag.hidden = !isIncomplete;
  row.time.textContent = utc.format(Number(entry.t.slice(0, -6)));
  row.count.textContent = whole.format(entry.count);
}
