/** Server-sent events over fetch, which can send a token where EventSource cannot. Goes on where it broke off. */

import { Problem } from "./api.js";

const SILENCE_MS = 40_000; // the gateway says something every 15 s
const LONGEST_PAUSE_MS = 15_000;

/**
 * Follows `path` until `signal` aborts. `take(event, data)` gets each event; `opened()` is called at each new
 * connection, before its events; `lost(problem)` when one ends. Lines are asked for behind `last()`; null for those
 * to come.
 * Errors: Problem 401 and 403, which no further try would mend.
 */
export async function follow(gateway, path, { last, take, opened, lost, signal }) {
  for (let tries = 0; !signal.aborted; ) {
    let problem = null;
    try {
      await listen(gateway, path, {
        last: last(),
        signal,
        opened,
        take: (event, data) => {
          tries = 0;
          take(event, data);
        },
      });
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) problem = new Problem(0, "broken", "The connection to the gateway broke.");
      else if (error.status === 401 || error.status === 403) throw error;
      else problem = error;
    }
    if (signal.aborted) return;
    lost(problem);
    const pause = Math.min(LONGEST_PAUSE_MS, 300 * 2 ** tries++) * (0.75 + Math.random() / 2);
    await resting(Math.max(pause, (problem?.retryAfterS ?? 0) * 1000), signal);
  }
}

async function listen(gateway, path, { last, take, opened, signal }) {
  const own = new AbortController();
  const stop = () => own.abort();
  signal.addEventListener("abort", stop);
  let watchdog = setTimeout(stop, SILENCE_MS);
  try {
    const headers = { Accept: "text/event-stream", ...(last !== null ? { "Last-Event-ID": String(last) } : {}) };
    const response = await gateway.request("GET", path, { headers, signal: own.signal });
    opened();
    const parser = new Events(take);
    const decoder = new TextDecoder();
    const reader = response.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watchdog);
      watchdog = setTimeout(stop, SILENCE_MS);
      parser.feed(decoder.decode(value, { stream: true }));
    }
  } finally {
    clearTimeout(watchdog);
    signal.removeEventListener("abort", stop);
  }
}

/** Pieces of a stream as whole events; an id that stands alone is told as `position`. */
export class Events {
  constructor(take) {
    Object.assign(this, { take, rest: "", event: "", id: "", data: [] });
  }

  feed(text) {
    const lines = (this.rest + text).split("\n");
    this.rest = lines.pop();
    for (const line of lines) this.line(line.replace(/\r$/, ""));
  }

  line(line) {
    if (line === "") {
      if (this.data.length) this.take(this.event || "message", JSON.parse(this.data.join("\n")));
      else if (this.event) this.take(this.event, null);
      else if (this.id) this.take("position", Number(this.id));
      this.event = this.id = "";
      this.data = [];
    } else if (line.startsWith("event:")) this.event = line.slice(6).trim();
    else if (line.startsWith("id:")) this.id = line.slice(3).trim();
    else if (line.startsWith("data:")) this.data.push(line.slice(5).replace(/^ /, ""));
  }
}

/** A pause that ends early when the network comes back. */
function resting(ms, signal) {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      removeEventListener("online", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    addEventListener("online", done);
    signal.addEventListener("abort", done);
  });
}
