/** One tool call: folded to a line, open to its arguments, the tail of its output, how long it took and how it ended. */

import { argumentsOf, brief, bytes, make, span, visible } from "./words.js";

const TAIL_CHARS = 16_384;
const SIGNS = { ok: "✓", error: "✕", interrupted: "!", cancelled: "–", refused: "✕", denied: "✕" };

/** Keeps the end of what a call prints. */
export function addOutput(call, text) {
  call.output = (call.output + text).slice(-TAIL_CHARS);
}

/** `running`, `asks`, or the outcome. */
export function stateOf(call, asking) {
  if (call.result) return call.result.outcome;
  return asking.has(call.id) ? "asks" : "running";
}

/** A call's element; `context` has asking, toggled() and download(call). */
export function callNode(call, context) {
  const shown = stateOf(call, context.asking);
  const seconds = call.result?.duration_s;
  const time = seconds === undefined ? "" : span(seconds);
  const summary = make(
    "summary",
    {},
    make("span", { className: "sign", "aria-hidden": true }, SIGNS[shown] ?? (shown === "asks" ? "?" : "")),
    make("span", { className: "tool" }, call.asked?.name ?? call.result?.name ?? "tool"),
    make("code", { className: "brief" }, brief(call.asked?.args ?? "")),
    make("span", { className: "outcome" }, shown === "asks" ? "waits for a person" : shown),
    make("span", { className: "time", "data-since": shown === "running" ? sinceOf(call) : null }, time),
  );
  const details = make("details", { className: `call ${shown}`, id: `call-${call.id}`, open: call.open }, summary);
  if (call.open) details.append(body(call, context));
  details.addEventListener("toggle", () => {
    if (details.open === call.open) return;
    call.open = details.open;
    details.querySelector(".body")?.remove();
    if (call.open) details.append(body(call, context));
    context.toggled();
  });
  return details;
}

const sinceOf = (call) => Date.parse(call.started || call.at) || Date.now();

function body(call, context) {
  const node = make("div", { className: "body" });
  const pairs = argumentsOf(call.asked?.args);
  const list = make("dl", {});
  for (const [name, value] of pairs ?? [["arguments", call.asked?.args ?? ""]]) {
    list.append(make("dt", {}, visible(name)), make("dd", {}, make("pre", {}, value.split("\n").map(visible).join("\n"))));
  }
  node.append(list);
  if (call.decision) node.append(make("p", { className: "by" }, decided(call.decision)));
  else if (call.asked?.allowed_by) node.append(make("p", { className: "by" }, `Allowed by ${visible(call.asked.allowed_by)}`));
  const text = call.result ? call.result.content : call.output;
  if (text) {
    const label = call.result ? "result" : "output so far";
    node.append(make("p", { className: "by" }, label), make("pre", { className: "output", tabIndex: 0, "aria-label": label }, text.slice(-TAIL_CHARS)));
  } else if (call.result) node.append(make("p", { className: "by" }, "No output"));
  if (call.result?.artifact) {
    const button = make("button", { type: "button" }, `Download the whole result (${bytes(call.result.size ?? 0)})`);
    button.addEventListener("click", () => context.download(call));
    node.append(button);
  }
  return node;
}

/** New output in an open call, without making the rest anew. */
export function showOutput(call, context) {
  const details = document.getElementById(`call-${call.id}`);
  if (!details?.open || call.result) return;
  const output = details.querySelector(".output");
  if (!output) {
    details.querySelector(".body")?.remove();
    details.append(body(call, context));
    return;
  }
  const atEnd = output.scrollHeight - output.scrollTop - output.clientHeight < 24;
  output.textContent = call.output;
  if (atEnd) output.scrollTop = output.scrollHeight;
}

function decided(line) {
  const who = line.principal ? ` by ${line.principal}` : "";
  const always = line.allows ? `, and calls like ${line.allows.pattern ?? "it"} for this session` : "";
  return line.decision === "allow" ? `Allowed${who}${always}` : `Denied${who}`;
}
