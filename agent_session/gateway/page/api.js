/** Requests to the gateway. Holds the token; sends it in a header to this very origin, never in an address. */

/** An answer other than success. `code` is the gateway's word for programs; status 0: no answer at all. */
export class Problem extends Error {
  constructor(status, code, message, retryAfterS = 0) {
    super(message);
    Object.assign(this, { status, code, retryAfterS });
  }
}

export class Gateway {
  /** `onEnd` is told when the token is no longer valid. */
  constructor(token, name, onEnd) {
    Object.assign(this, { token, name, onEnd, ended: false });
  }

  /** The response, whatever it holds. Errors: Problem. */
  async request(method, path, { body, headers = {}, signal } = {}) {
    const own = this.token ? { Authorization: `Bearer ${this.token}` } : {};
    let response;
    try {
      response = await fetch(path, { method, body, signal, headers: { ...own, ...headers }, cache: "no-store" });
    } catch (error) {
      if (signal?.aborted) throw error;
      throw new Problem(0, "unreachable", "The gateway does not answer. It will be asked again.");
    }
    if (response.ok) return response;
    const problem = await problemOf(response);
    const refused = problem.status === 401 || problem.code === "too_many_failures";
    if (refused && this.token && !this.ended) {
      this.ended = true; // told once: requests under way end the same way
      this.onEnd(problem);
    }
    throw problem;
  }

  async get(path, options) {
    return (await this.request("GET", path, options)).json();
  }

  async post(path, value, headers = {}) {
    const sent = { body: JSON.stringify(value), headers: { "Content-Type": "application/json", ...headers } };
    return (await this.request("POST", path, sent)).json();
  }

  /** The path of a session's resource. */
  of(key, rest = "") {
    return `/v1/sessions/${encodeURIComponent(key)}${rest}`;
  }
}

async function problemOf(response) {
  const wait = Number(response.headers.get("Retry-After")) || 0;
  try {
    const { error } = await response.json();
    return new Problem(response.status, error.code, error.message, wait);
  } catch {
    return new Problem(response.status, "unreadable", `The gateway answered ${response.status}.`, wait);
  }
}
