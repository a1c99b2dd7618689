/** One item of the conversation as an element: a person's words, an answer with its tool calls, a thin line. */

import { callNode } from "./calls.js";
import { nodesOf } from "./markdown.js";
import { wordsOf } from "./transcript.js";
import { bytes, make, moment } from "./words.js";

export function blockNode(item, context) {
  if (item.kind === "user") return userNode(item, context);
  if (item.kind === "answer") return answerNode(item, context);
  const words = item.line.event === "rolled" ? runNode(item.line.run, context) : noteWords(item.line);
  return make("div", { id: item.id, className: `note ${item.line.event} ${item.line.outcome ?? ""}` }, words);
}

function runNode(run, context) {
  const name = make("a", { className: "run", "data-run": run, target: "_blank", rel: "noreferrer" }, run.slice(0, 8));
  const url = context.temporal();
  if (url) linkRun(name, url);
  return make("span", {}, "Rolled over into run ", name);
}

/** Makes the name of a workflow run a link into Temporal's UI. */
export function linkRun(name, url) {
  name.href = `${url}/${name.dataset.run}/history`;
}

function userNode({ id, line }, context) {
  const mine = line.principal === `http:${context.name}`;
  const own = (line.principal ?? "").split(":").pop();
  const who = line.kind && line.kind !== "person" ? line.kind : mine && !line.sender ? "You" : line.sender || own || "Somebody";
  return make(
    "article",
    { id, className: mine ? "user mine" : "user", "aria-label": `${who} said` },
    head(who, line, mine ? "" : line.channel),
    make("div", { className: "words" }, wordsOf(line)),
    line.text_ref ? make("p", { className: "by" }, `The beginning of ${bytes(line.size ?? 0)}`) : null,
    ...(line.attachments ?? []).map((one) => make("p", { className: "file" }, `${one.name} (${bytes(one.size ?? 0)})`)),
  );
}

function answerNode({ id, line }, context) {
  const calls = (line.tool_calls ?? []).map((asked) => callNode(context.call(asked.id), context));
  return make(
    "article",
    { id, className: "answer", "aria-label": "The agent answered" },
    line.content ? make("div", { className: "markdown" }, ...nodesOf(line.content)) : null,
    calls.length ? make("div", { className: "calls" }, ...calls) : null,
    line.content && !calls.length ? head("", line, line.model) : null,
  );
}

const head = (who, line, about) =>
  make(
    "p",
    { className: "head" },
    who ? make("b", {}, who) : null,
    about ? make("span", {}, about) : null,
    make("time", { dateTime: line.at, title: new Date(line.at).toLocaleString() }, moment(line.at)),
  );

function noteWords(line) {
  if (line.event === "new") return "A new talk begins here";
  if (line.event === "model") return line.model ? `Model from here on: ${line.model}` : "Model from here on: the configured one";
  if (line.event === "gap") return `Lines ${line.from} to ${line.to} were lost when the volume was restored`;
  if (line.event === "compaction") return "The model's view goes back no further than here";
  if (line.outcome === "cancelled") return "The turn was cancelled";
  if (line.outcome === "interrupted") return "The turn was interrupted by a newer message";
  return [line.content || "The turn failed", line.error_id ? ` (${line.error_id})` : ""].join("");
}
