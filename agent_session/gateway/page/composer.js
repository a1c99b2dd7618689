/** The box: a draft for each session, files to go with it, and what was sent and stands in no transcript yet. */

import { wordsOf } from "./transcript.js";
import { bytes, make } from "./words.js";

const MOST_BYTES = 64 * 1024 * 1024; // of one file, as the gateway takes it

export class Composer {
  /** `send(text, attachments, id)` and `upload(file)` talk to the gateway. */
  constructor(form, { send, upload }) {
    Object.assign(this, { form, send, upload, key: "", drafts: new Map(), files: [], busy: false });
    this.box = form.querySelector("textarea");
    this.list = form.querySelector("#files");
    this.told = form.querySelector("#told");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.box.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.submit();
    });
    this.box.addEventListener("input", () => this.#fit());
    const picker = form.querySelector("input[type=file]");
    form.querySelector("#attach").addEventListener("click", () => picker.click());
    picker.addEventListener("change", () => {
      this.add(picker.files);
      picker.value = "";
    });
    this.box.addEventListener("paste", (event) => {
      if (event.clipboardData.files.length) {
        event.preventDefault();
        this.add(event.clipboardData.files);
      }
    });
  }

  /** Turns to a session: its draft and files come back. */
  open(key) {
    if (this.key) this.drafts.set(this.key, { text: this.box.value, files: this.files });
    const draft = this.drafts.get(key) ?? { text: "", files: [] };
    Object.assign(this, { key, files: draft.files });
    this.box.value = draft.text;
    this.tell("");
    this.#fit();
    this.#showFiles();
  }

  tell(words) {
    this.told.textContent = words;
  }

  add(files) {
    for (const file of files) {
      if (file.size > MOST_BYTES) this.tell(`${file.name} is too large: the limit is ${bytes(MOST_BYTES)}.`);
      else this.files.push(file);
    }
    this.#showFiles();
    this.box.focus();
  }

  /** Sends what is there. The same id for every try of one message, so that it is said once. */
  async submit() {
    const text = this.box.value;
    if (this.busy || (!text.trim() && !this.files.length)) return;
    const files = this.files;
    this.#setBusy(true);
    this.tell(files.length ? "Sending the files…" : "");
    try {
      this.unsent = this.unsent?.text === text && this.unsent.key === this.key ? this.unsent : newMessage(this.key, text);
      const attachments = [];
      for (const file of files) attachments.push(await this.upload(file));
      await this.send(text, attachments, this.unsent.id);
      this.unsent = null;
      this.box.value = "";
      this.files = [];
      this.tell("");
      this.#fit();
      this.#showFiles();
    } catch (problem) {
      this.tell(`Not sent: ${problem.message}`);
    } finally {
      this.#setBusy(false);
    }
  }

  #setBusy(busy) {
    this.busy = busy;
    this.box.readOnly = busy;
    this.form.querySelector("#send").disabled = busy;
  }

  #fit() {
    this.box.style.height = "auto";
    this.box.style.height = `${Math.min(this.box.scrollHeight + 2, innerHeight * 0.4)}px`;
  }

  #showFiles() {
    this.list.replaceChildren(
      ...this.files.map((file) => {
        const remove = make("button", { type: "button", "aria-label": `Remove ${file.name}` }, "×");
        remove.addEventListener("click", () => {
          this.files = this.files.filter((one) => one !== file);
          this.#showFiles();
          this.box.focus();
        });
        return make("li", {}, `${file.name} (${bytes(file.size)})`, remove);
      }),
    );
  }
}

const newMessage = (key, text) => ({
  key,
  text,
  id: [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join(""),
});

/** What was sent here and stands in no line yet: shown below the answer that runs. */
export class Pending {
  constructor(root, keep) {
    Object.assign(this, { root, keep, waiting: [] });
  }

  add(id, text, attachments) {
    const files = attachments.length ? make("p", { className: "file" }, `${attachments.length} attached`) : null;
    const state = make("p", { className: "head" }, make("b", {}, "You"), make("span", {}, "sending…"));
    const label = "You said, not taken in yet";
    const node = make("article", { className: "user mine", "aria-label": label }, state, make("div", { className: "words" }, text), files);
    const one = { id, text, node, state: state.lastChild };
    this.waiting.push(one);
    this.keep(() => this.root.append(node));
    return one;
  }

  /** A person's line has come: if it holds these words, they need not be shown twice. Called inside `keep`. */
  lineCame(line) {
    const words = wordsOf(line);
    const found = this.waiting.find(({ text }) => (line.text_ref ? text.startsWith(words) : text === words));
    if (found) this.remove(found);
  }

  remove(one) {
    this.waiting = this.waiting.filter((other) => other !== one);
    one.node.remove();
  }
}
