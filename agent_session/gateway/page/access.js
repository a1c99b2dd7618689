/**
 * The page's token: from a one-time code in the fragment, or from a token that a person types in. A typed token is
 * exchanged at once and never kept; what is kept lasts as long as this tab, and opens no more than the first one.
 */

import { Gateway, Problem } from "./api.js";

const STORED = "agent-session.page";
const CODE_MS = 60_000;

/** Takes the code out of the address before anything else can read it. Returns "" when there is none. */
export function codeFromAddress() {
  const fields = new URLSearchParams(location.hash.slice(1));
  const code = fields.get("code") ?? "";
  if (fields.has("code")) {
    fields.delete("code");
    const rest = fields.toString();
    history.replaceState(null, "", location.pathname + (rest ? `#${rest}` : ""));
  }
  return code;
}

/** `{token, name}` of this tab, or null. */
export function stored() {
  try {
    return JSON.parse(sessionStorage.getItem(STORED) ?? "null");
  } catch {
    return null;
  }
}

export function forget() {
  sessionStorage.removeItem(STORED);
}

/** As `exchange`, again while the gateway says that it cannot look at the code now, which is not used then. */
export async function exchangePatiently(code, tell) {
  const until = performance.now() + CODE_MS;
  for (;;) {
    try {
      return await exchange(code);
    } catch (problem) {
      const waitMs = (problem.retryAfterS || 2) * 1000;
      if (problem.status !== 503 || performance.now() + waitMs > until) throw problem;
      tell("The gateway cannot open this link yet. It is asked again.");
      await new Promise((done) => setTimeout(done, waitMs));
    }
  }
}

/** A page's token for a code. Errors: Problem. */
async function exchange(code) {
  const { token, name } = await new Gateway("", "", () => {}).post("/v1/codes/exchange", { code });
  sessionStorage.setItem(STORED, JSON.stringify({ token, name }));
  return { token, name };
}

/** A page's token for a typed one. Errors: Problem. */
export async function signIn(token) {
  if (!/^[\x21-\x7e]+$/.test(token)) throw new Problem(401, "no_valid_token", "That is no token.");
  const { code } = await new Gateway(token, "", () => {}).post("/v1/codes", {});
  return exchange(code);
}
