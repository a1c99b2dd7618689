/** One open session: its lines, what happens live, its status, what waits for a person. Ends with `close`. */

import { Approvals } from "./approvals.js";
import { blockNode, linkRun } from "./blocks.js";
import { addOutput, callNode, showOutput } from "./calls.js";
import { Pending } from "./composer.js";
import { isRunning, stateOf } from "./details.js";
import { Live } from "./live.js";
import { follow } from "./stream.js";
import { Transcript } from "./transcript.js";
import { Window } from "./window.js";
import { make, span } from "./words.js";

const PAGE_LINES = 200;
const REFRESH_MS = 150; // news within so long are asked for together
const LOOK_MS = { busy: 3_000, idle: 15_000 }; // how old a status may be while somebody looks
const NEWS = new Set(["turn_started", "tool_started", "tool_finished", "approval", "turn_ended"]);

export class Conversation {
  /**
   * `parts`: scroller, lines, live, approvals, pending, empty. `page` hears status(), tick(), place(), say(), problem()
   * and restored().
   */
  constructor(gateway, key, parts, page) {
    Object.assign(this, { gateway, key, parts, page, status: null, asked: 0, ended: "", position: null, early: [], asking: new Set(), stop: new AbortController() });
    for (const name of ["lines", "live", "approvals", "pending"]) parts[name].replaceChildren();
    this.transcript = new Transcript();
    this.context = {
      name: gateway.name,
      asking: this.asking,
      call: (id) => this.transcript.call(id),
      temporal: () => this.status?.temporal_url,
      toggled: () => this.window.measure(),
      download: (call) => this.#download(call),
    };
    this.window = new Window(parts.scroller, parts.lines, this.transcript.items, {
      render: (item) => blockNode(item, this.context),
      older: () => this.#older(),
      changed: () => this.#place(),
    });
    const keep = (change) => this.window.keep(change);
    const stands = (turn, step) => this.transcript.steps.has(`${turn}/${step}`);
    this.live = new Live(parts.live, { keep, stands });
    this.pending = new Pending(parts.pending, keep);
    this.approvals = new Approvals(parts.approvals, {
      keep,
      decide: (call, decision) => this.#decide(call, decision),
      changed: (ids) => this.#askingChanged(ids),
    });
    this.clock = setInterval(() => this.#tick(), 1_000);
  }

  close() {
    this.closed = true;
    this.stop.abort();
    clearInterval(this.clock);
    this.window.end();
  }

  /** Follows what comes until closed; where the stream begins, the lines before are fetched. */
  open() {
    const path = this.gateway.of(this.key, "/events");
    follow(this.gateway, path, {
      last: () => (this.loaded ? this.transcript.last : this.position),
      signal: this.stop.signal,
      opened: () => {
        this.live.reset();
        this.page.problem("events", null);
      },
      lost: (problem) => problem && this.page.problem("events", problem),
      take: (event, data) => this.closed || this.#take(event, data),
    }).catch((problem) => this.page.problem("events", problem));
  }

  /** The session is known to exist, though it may have said nothing yet. */
  exists() {
    if (!this.status) this.#soon();
  }

  /** Says something. A slash command is answered beside the turns, so its answer is waited for and shown here alone. */
  async send(text, attachments, id) {
    const aside = text.trimStart().startsWith("/") && !attachments.length;
    const pending = this.pending.add(id, text, attachments);
    try {
      this.window.newest();
      const path = this.gateway.of(this.key, aside ? "/messages?wait=30" : "/messages");
      const answer = await this.gateway.post(path, { text, attachments }, { "Idempotency-Key": id });
      pending.state.textContent = "waiting to be taken in";
      if (aside && answer.text && !answer.n) this.#aside(pending, text, answer.text);
    } catch (problem) {
      this.window.keep(() => this.pending.remove(pending));
      throw problem;
    }
  }

  async upload(file) {
    const path = this.gateway.of(this.key, `/attachments?name=${encodeURIComponent(file.name)}`);
    const headers = { "Content-Type": file.type || "application/octet-stream" };
    return (await (await this.gateway.request("POST", path, { body: file, headers })).json()).attachment;
  }

  get running() {
    return isRunning(this.status);
  }

  async cancel() {
    const { turn } = await this.gateway.post(this.gateway.of(this.key, "/cancel"), {});
    return Boolean(turn);
  }

  newest() {
    this.window.newest();
  }

  /** The newest lines up to where the stream began; what came meanwhile is told behind them. */
  async #load(position) {
    for (let pause = 500; position && !this.closed; pause = Math.min(8_000, pause * 2)) {
      try {
        const path = this.gateway.of(this.key, `/messages?limit=${PAGE_LINES}&before=${position + 1}`);
        const { lines, more } = await this.gateway.get(path, { signal: this.stop.signal });
        this.window.prepended(this.transcript.prepend(lines, more));
        this.page.problem("history", null);
        break;
      } catch (problem) {
        if (this.closed) return;
        this.page.problem("history", problem);
        if (problem.status >= 400 && problem.status < 500) break;
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
    if (this.closed) return;
    this.transcript.last = position;
    this.loaded = true;
    this.window.newest();
    for (const [event, data] of this.early) this.#told(event, data);
    this.early = [];
    this.parts.empty.hidden = this.transcript.items.length > 0;
    if (position) this.#soon();
  }

  /** Fetches a page from before the first line. Returns whether there may be more; null when it did not come. */
  async #older() {
    if (!this.transcript.more || !this.transcript.first) return false;
    try {
      const path = this.gateway.of(this.key, `/messages?limit=${PAGE_LINES}&before=${this.transcript.first}`);
      const { lines, more } = await this.gateway.get(path, { signal: this.stop.signal });
      if (this.closed) return false;
      const count = this.transcript.prepend(lines, more);
      for (const line of lines) if (line.role === "tool") this.#callChanged(line.call);
      this.window.prepended(count);
      return this.transcript.more;
    } catch {
      return null;
    }
  }

  #take(event, data) {
    if (event === "position" && this.position === null) {
      this.position = data;
      this.#load(data);
    } else if (this.loaded) this.#told(event, data);
    else this.early.push([event, data]);
  }

  #told(event, data) {
    if (event === "line") this.#line(data);
    else if (event === "live") this.#live(data);
    else if (event === "status") this.#status(data);
  }

  #line(line) {
    if (line.seq <= this.transcript.last) {
      this.page.restored(); // an older copy of the transcript was put in its place
      return;
    }
    const { count, call } = this.transcript.append(line);
    if (line.event === "ended") this.ended = line.turn;
    else if (line.role !== "event") this.#begun(line.turn);
    if (line.role !== "tool") this.#soon();
    if (call) this.#callChanged(call);
    this.parts.empty.hidden = true;
    this.window.keep(() => {
      this.live.lineCame(line);
      if (line.role === "user") this.pending.lineCame(line);
      if (count) this.window.appended(count);
    });
    if (line.role === "assistant" && line.content && !line.tool_calls?.length) {
      this.page.say(`The agent answered: ${line.content.slice(0, 400)}`);
    }
    if (line.event === "ended" && line.outcome !== "answered") this.page.say(`The turn was ${line.outcome}.`);
  }

  #live(event) {
    this.live.take(event);
    if (event.turn && event.kind !== "turn_ended") this.#begun(event.turn);
    if (event.kind === "tool_output" && event.call) {
      const call = this.transcript.call(event.call);
      addOutput(call, event.text ?? "");
      this.window.keep(() => showOutput(call, this.context));
    }
    if (NEWS.has(event.kind)) this.#soon();
  }

  /** The end of a turn stands in the transcript before the session itself hears of it. */
  #status(status) {
    const over = status.turn && status.turn === this.ended;
    this.asked = over ? 0 : Date.now(); // soon again: it will know better
    this.#show(over ? { ...status, state: "idle", turn: "" } : status);
    if (stateOf(this.status) === "waiting approval" || this.asking.size) this.#refreshApprovals();
  }

  /** Something of a turn was heard: it runs, whatever an older status says. */
  #begun(turn) {
    if (turn === this.turn || turn === this.ended) return;
    this.turn = turn;
    if (!this.running) this.#show({ ...this.status, state: "running", turn, since_s: Math.floor(Date.now() / 1000) });
    this.#soon();
  }

  #show(status) {
    const url = this.status?.temporal_url ? "" : status.temporal_url;
    this.status = status;
    this.window.keep(() => this.page.status(status));
    if (url) for (const run of this.parts.lines.querySelectorAll("a.run")) linkRun(run, url);
    this.#tick();
  }

  #soon() {
    this.soon ??= setTimeout(() => {
      this.soon = null;
      if (!this.closed) this.#refresh();
    }, REFRESH_MS);
  }

  /** Asks for the status, once at a time: news that come meanwhile are asked for once more. */
  async #refresh() {
    if (this.refreshing) {
      this.again = true;
      return;
    }
    this.refreshing = true;
    try {
      do {
        this.again = false;
        this.#status(await this.gateway.get(this.gateway.of(this.key), { signal: this.stop.signal }));
        this.page.problem("status", null);
      } while (this.again);
    } catch (problem) {
      if (!this.closed && problem.code !== "no_such_session") this.page.problem("status", problem);
    } finally {
      this.refreshing = false;
    }
  }

  async #refreshApprovals() {
    try {
      const { approvals } = await this.gateway.get(this.gateway.of(this.key, "/approvals"), { signal: this.stop.signal });
      if (this.closed) return;
      this.page.problem("approvals", null);
      for (const call of this.approvals.show(approvals)) this.page.say(`The agent asks to run ${call.tool}. Decide in the card.`);
    } catch (problem) {
      if (!this.closed && problem.code !== "no_such_session") this.page.problem("approvals", problem);
    }
  }

  async #decide(call, decision) {
    const path = this.gateway.of(this.key, `/approvals/${encodeURIComponent(call.call)}`);
    await (await this.gateway.request("POST", path, {
      body: JSON.stringify({ digest: call.digest, ...decision }),
      headers: { "Content-Type": "application/json" },
    })).text();
  }

  #askingChanged(ids) {
    const touched = new Set([...ids, ...this.asking]);
    this.asking.clear();
    for (const id of ids) this.asking.add(id);
    for (const id of touched) this.#callChanged(id);
  }

  #callChanged(id) {
    const old = document.getElementById(`call-${id}`);
    if (!old) return;
    const focused = old.querySelector("summary") === document.activeElement;
    const node = callNode(this.transcript.call(id), this.context);
    this.window.keep(() => old.replaceWith(node));
    if (focused) node.querySelector("summary").focus();
  }

  #aside(pending, text, answer) {
    const said = make("p", { className: "head" }, make("b", {}, text.trim()), make("span", {}, "answered beside the talk"));
    const node = make("section", { className: "aside", "aria-label": `Answer to ${text.trim()}` }, said, make("pre", {}, answer));
    this.window.keep(() => {
      this.pending.remove(pending);
      this.parts.pending.append(node);
    });
    this.page.say(answer.slice(0, 400));
  }

  async #download(call) {
    try {
      const path = this.gateway.of(this.key, `/artifacts/${encodeURIComponent(call.id)}`);
      const url = URL.createObjectURL(await (await this.gateway.request("GET", path)).blob());
      make("a", { href: url, download: `${call.id}.txt` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10_000);
      this.page.problem("download", null);
    } catch (problem) {
      this.page.problem("download", problem);
    }
  }

  #place() {
    const hidden = !this.window.complete;
    for (const name of ["live", "pending"]) this.parts[name].hidden = hidden;
    this.page.place(this.window.stuck);
  }

  /** Running times, once a second; and the status, when it is old. */
  #tick() {
    const old = Date.now() - this.asked > (this.running ? LOOK_MS.busy : LOOK_MS.idle);
    if (this.status && old && !document.hidden) this.#soon();
    for (const node of this.parts.lines.querySelectorAll("[data-since]")) {
      node.textContent = span(Math.max(0, Math.floor((Date.now() - Number(node.dataset.since)) / 1000)));
    }
    this.page.tick(this.status);
  }
}
