/** What a session is doing, in words: state, queue, tokens and cost. */

import { amount, dollars, make, moment, visible } from "./words.js";

/** Fields that hold their default are left out of a status. */
export const stateOf = (status) => status?.state ?? "idle";

export const isRunning = (status) => !["idle", "closed", "unknown"].includes(stateOf(status));

/** The state as a person says it. */
export function stateWords(status) {
  const state = stateOf(status);
  if (state === "waiting approval") return "waits for a person";
  return status?.closing && state !== "closed" ? `${state}, closing` : state;
}

export function showDetails(root, status) {
  const rows = status ? rowsOf(status) : [];
  const told = JSON.stringify(rows.map(([name, value]) => [name, value.href ?? value]));
  if (told === root.dataset.told) return; // who has come to the link by keyboard stays there
  root.dataset.told = told;
  root.replaceChildren(
    ...rows.filter(([, value]) => value !== "").flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]),
  );
}

function workflowLink({ temporal_url, run_id }) {
  const href = run_id ? `${temporal_url}/${run_id}/history` : temporal_url;
  return make("a", { href, target: "_blank", rel: "noreferrer" }, "The workflow's history");
}

function rowsOf(status) {
  const tokens = (status.input_tokens ?? 0) + (status.output_tokens ?? 0);
  const cached = status.cached_tokens ? ` (${amount(status.cached_tokens)} cached)` : "";
  const deliveries = status.deliveries ? `${status.deliveries} to deliver` : "";
  return [
    ["State", stateWords(status) + (status.answered_by === "server" ? " (no worker answers)" : "")],
    ["Turn", status.turn ? `${status.n || "?"}, step ${status.step ?? 0}` : ""],
    ["Since", status.turn && status.since_s ? moment(status.since_s * 1000) : ""],
    ["Queue", [`${status.queue ?? 0} waiting`, deliveries].filter(Boolean).join(" · ")],
    ["Model", status.choice || status.model || ""],
    ["Tokens", amount(tokens) + cached],
    ["Cost", status.cost_microusd ? dollars(status.cost_microusd) : ""],
    ["Turns", `${status.turns ?? 0}`],
    ["Rolled over", status.roll_overs ? `${status.roll_overs} times; ${status.turns_in_run ?? 0} turns in this run` : ""],
    ["Temporal", status.temporal_url ? workflowLink(status) : ""],
    ["Shell", status.shell ?? ""],
    ["Allowed", (status.allowed ?? []).map(visible).join(" · ")],
    ["Last error", status.last_error ? `${status.last_error} (${status.last_error_id ?? ""})` : ""],
  ];
}
