/** The list of sessions: those that need a person first. Asked for again while somebody looks. */

import { make } from "./words.js";

const PAUSE_MS = 5_000;
const NEEDS = { approval: "waits for a decision", failed: "its last turn failed" };

export class Sessions {
  /** `href(key)` is a session's address on this page; `failed(problem)` hears what goes wrong, `found()` that the open one exists. */
  constructor(list, gateway, { href, failed, found }) {
    Object.assign(this, { list, gateway, href, failed, found, rows: [], key: "", running: false, shown: "" });
    this.timer = setInterval(() => document.hidden || this.refresh(), PAUSE_MS);
    this.onShow = () => document.hidden || this.refresh();
    document.addEventListener("visibilitychange", this.onShow);
  }

  end() {
    clearInterval(this.timer);
    document.removeEventListener("visibilitychange", this.onShow);
  }

  async refresh() {
    try {
      const { sessions, next } = await this.gateway.get("/v1/sessions?limit=200");
      this.rows = sessions;
      this.more = next !== null;
      if (sessions.some((row) => row.key === this.key)) this.found();
      this.failed(null);
    } catch (problem) {
      this.failed(problem);
    }
    this.draw();
  }

  /** Which one is open, and whether a turn runs in it. */
  mark(key, running) {
    if (key === this.key && running === this.running) return;
    Object.assign(this, { key, running });
    this.draw();
  }

  draw() {
    const known = this.rows.some((row) => row.key === this.key);
    const rows = [...(known || !this.key ? [] : [{ key: this.key, running: true }]), ...this.rows];
    rows.sort((one, other) => Number(Boolean(other.needs)) - Number(Boolean(one.needs)));
    const shown = JSON.stringify([this.more, rows, this.key, this.running]);
    if (shown === this.shown) return;
    this.shown = shown;
    const focused = document.activeElement?.dataset?.key;
    const more = this.more ? make("li", { className: "by" }, "There are more: open them by name.") : "";
    this.list.replaceChildren(...rows.map((row) => this.#row(row)), more);
    if (focused !== undefined) [...this.list.querySelectorAll("a")].find((one) => one.dataset.key === focused)?.focus();
  }

  #row(row) {
    const open = row.key === this.key;
    const busy = open && this.running;
    const state = row.needs || (busy ? "busy" : row.running === false ? "closed" : "live");
    const words = NEEDS[row.needs] ?? (busy ? "a turn runs" : row.running === false ? "closed" : "");
    const link = make(
      "a",
      { href: this.href(row.key), className: state, "aria-current": open ? "page" : null },
      make("span", { className: "dot", "aria-hidden": true }),
      make("span", { className: "key" }, row.key),
      words ? make("span", { className: "needs" }, words) : null,
    );
    link.dataset.key = row.key;
    return make("li", {}, link);
  }
}
