/** Lines of the transcript as items to show, oldest first. Knows nothing of the document. */

/** A person's words tell which workflow run took them in; another one than before is where the session rolled over. */
const runOf = (items, from, step) => {
  for (let at = from; at >= 0 && at < items.length; at += step) if (items[at].run) return items[at].run;
  return "";
};

const NOTES = new Set(["gap", "compaction", "new", "model"]);

export class Transcript {
  constructor() {
    this.items = []; // {id, seq, kind: "user" | "answer" | "note", line}
    this.calls = new Map(); // id of a call: what is known of it
    this.steps = new Set(); // answers that stand: "turn/step"
    this.first = 0;
    this.last = 0;
    this.more = true; // whether there are lines before the first
  }

  /** A page of lines from before the first; returns how many items came. */
  prepend(lines, more) {
    const fresh = lines.filter((line) => !this.first || line.seq < this.first);
    const items = [];
    for (const line of fresh) this.#add(items, this.#note(line));
    const [before, behind] = [runOf(items, items.length - 1, -1), this.items.findIndex((one) => one.run)];
    if (before && behind >= 0 && this.items[behind].run !== before) items.push(rolledOver(this.items[behind]));
    this.items.unshift(...items);
    this.first = fresh[0]?.seq ?? this.first;
    this.last = Math.max(this.last, fresh.at(-1)?.seq ?? 0);
    this.more = more && fresh.length > 0;
    return items.length;
  }

  /** The next line; returns `{count, call}`: how many items are new, and the id of a call that changed. A known one is no news. */
  append(line) {
    if (line.seq <= this.last) return {};
    this.last = line.seq;
    this.first ||= line.seq;
    const [item, before] = [this.#note(line), this.items.length];
    this.#add(this.items, item);
    return { count: this.items.length - before, call: item ? "" : (line.call ?? "") };
  }

  /** What is known of a call; made when it is first heard of. */
  call(id) {
    if (!this.calls.has(id)) {
      this.calls.set(id, { id, asked: null, at: "", result: null, started: "", decision: null, output: "", open: false });
    }
    return this.calls.get(id);
  }

  #add(items, item) {
    if (!item) return;
    const before = item.run ? runOf(items, items.length - 1, -1) : "";
    if (before && before !== item.run) items.push(rolledOver(item));
    items.push(item);
  }

  #note(line) {
    if (line.role === "user") return { ...item(line, "user"), run: line.run };
    if (line.role === "assistant") {
      this.steps.add(`${line.turn}/${line.step ?? 0}`);
      for (const asked of line.tool_calls ?? []) Object.assign(this.call(asked.id), { asked, at: line.at });
      return line.content || line.tool_calls?.length ? item(line, "answer") : null;
    }
    if (line.role === "tool") {
      this.call(line.call).result = line;
      return null;
    }
    if (line.event === "started") this.call(line.call).started = line.at;
    if (line.event === "approval") this.call(line.call).decision = line;
    if (NOTES.has(line.event) || (line.event === "ended" && line.outcome !== "answered")) return item(line, "note");
    return null;
  }
}

const item = (line, kind) => ({ id: `line-${line.seq}`, seq: line.seq, kind, line });

const rolledOver = ({ seq, run }) => ({ id: `run-${seq}`, seq, kind: "note", line: { event: "rolled", run } });

/** What a person wrote, without what the model is told beside it: where the whole of a long text is, and the files. */
export function wordsOf(line) {
  const files = (line.attachments ?? []).map((one) => `\n[attachment: ${one.path} (${one.type}, ${one.size} bytes)]`);
  const whole = line.text_ref ? `\n… the whole text of ${line.size} bytes is in spool/${line.text_ref}` : "";
  const beside = whole + files.join("");
  return beside && line.content.endsWith(beside) ? line.content.slice(0, -beside.length) : line.content;
}
