/** The answer that is being written, until its line stands in the transcript. Ephemeral: the transcript is the truth. */

import { blocksOf, nodeOf } from "./markdown.js";
import { make } from "./words.js";

export class Live {
  /** `keep(change)` changes the document without moving what is read; `stands(turn, step)`: its line has come. */
  constructor(root, { keep, stands }) {
    Object.assign(this, { root, keep, stands, frame: 0 });
    this.reset();
  }

  /** Forgets all: a new connection says again what the turn has shown so far. */
  reset() {
    Object.assign(this, { turn: "", step: 0, text: "", retry: "", shown: [] });
    this.#soon();
  }

  take(event) {
    const { kind, turn, step = 0 } = event;
    if (kind === "turn_ended") {
      if (turn === this.turn) this.reset();
      return;
    }
    if (!["turn_started", "step", "delta", "retry"].includes(kind)) return;
    if (turn !== this.turn || (step && step !== this.step)) Object.assign(this, { turn, step, text: "", retry: "" });
    if (kind === "delta" && !this.stands(turn, step)) this.text += event.text ?? "";
    if (kind === "delta" || kind === "step") this.retry = "";
    if (kind === "retry") Object.assign(this, { text: "", retry: event.text || "trying again" });
    this.#soon();
  }

  /** A line has come: its own words need not be shown twice. Called inside `keep`, so that both change at once. */
  lineCame(line) {
    if (line.event === "ended" && line.turn === this.turn) this.turn = "";
    if (line.turn !== this.turn || (line.role === "assistant" && (line.step ?? 0) === this.step)) {
      this.text = this.retry = "";
      this.draw();
    }
  }

  #soon() {
    this.frame ||= requestAnimationFrame(() => this.keep(() => this.draw()));
  }

  /** Blocks that did not change stay as they are: only the last ones are made anew. */
  draw() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const blocks = this.text ? blocksOf(this.text) : [];
    const sources = blocks.map((block) => block.kind + block.lines.join("\n"));
    if (!sources.length && !this.retry) {
      this.shown = [];
      this.root.replaceChildren();
      return;
    }
    let body = this.root.querySelector(".markdown");
    if (!body) {
      body = make("div", { className: "markdown" });
      this.root.replaceChildren(make("article", { className: "answer live", "aria-label": "The agent is answering" }, body));
      this.shown = [];
    }
    let same = 0;
    while (same < sources.length && sources[same] === this.shown[same]) same += 1;
    while (body.children.length > same) body.lastChild.remove();
    body.append(...blocks.slice(same).map((block) => nodeOf(block)));
    this.shown = sources;
    this.root.querySelector(".retry")?.remove();
    if (this.retry) body.after(make("p", { className: "retry" }, this.retry));
  }
}
