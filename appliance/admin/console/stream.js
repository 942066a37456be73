// A subscriber of the protocol (docs/PROTOCOL.md): keeps a set of subscriptions alive across reconnects.

const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 10_000;
const SUBJECTS_PER_REQUEST = 100;

export class Stream {
  /**
   * @param {() => string|null} url where to connect; asked before each attempt, null: not known yet
   * @param {{data: (frame: object, text: string) => void, control: (message: object) => void, state: (state: string, detail: string) => void}} on
   */
  constructor(url, on) {
    this.url = url;
    this.on = on;
    this.wanted = new Map(); // subject or pattern → mode
    this.retryMs = RETRY_MS_MIN;
    this.nextId = 1;
    this.connect();
  }

  /** Replaces the subscriptions `current` by those in `subjects`; sends only the difference. */
  want(current, subjects, mode) {
    const next = new Set(subjects);
    const gone = [...current].filter((subject) => !next.has(subject));
    const added = [...next].filter((subject) => !current.has(subject));
    gone.forEach((subject) => this.wanted.delete(subject));
    added.forEach((subject) => this.wanted.set(subject, mode));
    if (this.socket?.readyState === WebSocket.OPEN) {
      this.request("unsubscribe", gone);
      this.request("subscribe", added, { mode });
    }
    return next;
  }

  connect() {
    const url = this.url();
    if (url === null) {
      setTimeout(() => this.connect(), RETRY_MS_MIN);
      return;
    }
    this.on.state("wait", "connecting");
    let socket;
    try {
      socket = new WebSocket(url, "fanblade.v1.json");
    } catch (error) {
      // Such as ws: on a page that came by https:.
      this.on.state("lost", error.message);
      setTimeout(() => this.connect(), RETRY_MS_MAX);
      return;
    }
    this.socket = socket;
    socket.onopen = () => {
      this.retryMs = RETRY_MS_MIN;
      this.on.state("live", "subscribed");
      const byMode = Map.groupBy ? Map.groupBy(this.wanted.keys(), (subject) => this.wanted.get(subject)) : new Map([["conflate", [...this.wanted.keys()]]]);
      byMode.forEach((subjects, mode) => this.request("subscribe", subjects, { mode }));
    };
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.s !== undefined) this.on.data(message, event.data);
      else this.on.control(message);
    };
    socket.onclose = (event) => {
      const reason = event.reason || (event.code === 1006 ? "no answer" : `closed, ${event.code}`);
      this.on.state("lost", reason);
      // Spread over the interval, so that the clients of a restarted blade do not all return at once.
      const wait = Math.max(this.retryMs * (0.5 + Math.random() / 2), this.reconnectInMs ?? 0);
      this.reconnectInMs = undefined;
      this.retryMs = Math.min(this.retryMs * 2, RETRY_MS_MAX);
      setTimeout(() => this.connect(), wait);
    };
  }

  request(op, subjects, fields = {}) {
    for (let at = 0; at < subjects.length; at += SUBJECTS_PER_REQUEST) {
      const part = subjects.slice(at, at + SUBJECTS_PER_REQUEST);
      this.socket.send(JSON.stringify({ op, id: this.nextId++, subjects: part, ...fields }));
    }
  }
}
