/** Calls that wait for a person, as cards: the whole call with nothing hidden, and the decision, bound to its digest. */

import { argumentsOf, make, visible } from "./words.js";

export class Approvals {
  /** `decide(call, decision)` posts one; `changed(ids)` hears which calls wait. */
  constructor(root, { keep, decide, changed }) {
    Object.assign(this, { root, keep, decide, changed, cards: new Map() });
  }

  get ids() {
    return new Set([...this.cards.values()].map(({ call }) => call.call));
  }

  /** What waits now. Cards that stay are left alone: somebody may be about to press. Returns the new calls. */
  show(calls) {
    const wanted = new Map(calls.map((call) => [`${call.call} ${call.digest}`, call]));
    const fresh = [...wanted].filter(([name]) => !this.cards.has(name));
    const gone = [...this.cards].filter(([name]) => !wanted.has(name));
    if (!fresh.length && !gone.length) return [];
    this.keep(() => {
      for (const [name, { node }] of gone) {
        node.remove();
        this.cards.delete(name);
      }
      for (const [name, call] of fresh) {
        const node = this.#card(call);
        this.cards.set(name, { call, node });
        this.root.append(node);
      }
    });
    this.changed(this.ids);
    return fresh.map(([, call]) => call);
  }

  #card(call) {
    const told = make("p", { className: "told", role: "alert" });
    const title = `The agent asks to run ${visible(call.tool)}`;
    const buttons = [
      ["Allow once", { decision: "allow" }, "primary"],
      call.pattern ? ["Always for this session", { decision: "allow", pattern: call.pattern }, ""] : null,
      ["Deny", { decision: "deny" }, "danger"],
    ].filter(Boolean);
    const row = make("div", { className: "row" });
    for (const [words, decision, className] of buttons) {
      const button = make("button", { type: "button", className }, words);
      button.addEventListener("click", () => this.#press(row, told, call, decision));
      row.append(button);
    }
    return make(
      "section",
      { className: "approval", "aria-label": title },
      make("h2", {}, title),
      callList(call.args),
      call.why ? make("p", {}, `It asks because ${visible(call.why)}.`) : null,
      call.pattern ? make("p", { className: "by" }, "Always means: ", make("code", {}, visible(call.pattern))) : null,
      row,
      told,
    );
  }

  async #press(row, told, call, decision) {
    const buttons = [...row.children];
    for (const button of buttons) button.disabled = true;
    told.textContent = "";
    try {
      await this.decide(call, decision);
      told.className = "told done";
      told.textContent = decision.decision === "allow" ? "Allowed; it will run now." : "Denied.";
    } catch (problem) {
      for (const button of buttons) button.disabled = false;
      told.className = "told failed";
      told.textContent =
        problem.status === 403 ? `You may not decide on this: ${problem.message}` : `Not decided: ${problem.message}`;
    }
  }
}

function callList(args) {
  const list = make("dl", {});
  for (const [name, value] of argumentsOf(args) ?? [["arguments", args]]) {
    const text = value.split("\n").map(visible).join("\n");
    list.append(make("dt", {}, visible(name)), make("dd", {}, make("pre", { tabIndex: 0, "aria-label": visible(name) }, text)));
  }
  return list;
}
