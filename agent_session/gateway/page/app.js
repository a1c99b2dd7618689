/** The whole page: who is signed in, which session is open, what is told to the person. */

import { codeFromAddress, exchangePatiently, forget, signIn, stored } from "./access.js";
import { Gateway } from "./api.js";
import { Composer } from "./composer.js";
import { Conversation } from "./conversation.js";
import { isRunning, showDetails, stateOf, stateWords } from "./details.js";
import { Sessions } from "./sessions.js";
import { span } from "./words.js";

const byId = (id) => document.getElementById(id);
const FIRST_SESSION = "main";
const ENDED =
  "This page's access has ended: it lasts 12 hours at most, and ends with the token that it came from. Sign in again; what you were writing is kept.";

const problems = new Map();
let gateway = null;
let sessions = null;
let conversation = null;
let openings = 0;

const composer = new Composer(byId("composer"), {
  send: (text, attachments, id) => conversation.send(text, attachments, id),
  upload: (file) => conversation.upload(file),
});

/* ---- signing in ---- */

async function start() {
  const code = codeFromAddress();
  if (code) {
    await follow(code);
    return;
  }
  const kept = stored() ?? (document.documentElement.dataset.identity === "proxy" ? { token: "", name: "" } : null);
  if (kept) enter(kept);
  else ask("");
}

/** A link with a one-time code. */
async function follow(code) {
  const mine = ++openings; // another link, or a typed token, may be quicker: then this one says no more
  const still = (act) => (given) => mine === openings && act(given);
  try {
    still(enter)(await exchangePatiently(code, still(ask)));
  } catch (problem) {
    still(ask)(`The link does not open this page: ${problem.message}.`);
  }
}

function ask(words) {
  byId("app").hidden = true;
  byId("door").hidden = false;
  byId("door-told").textContent = words;
  byId("token").focus();
}

function enter({ token, name }) {
  openings += 1;
  leave(); // a token was typed while a link was still being opened
  gateway = new Gateway(token, name, () => {
    forget();
    leave();
    ask(ENDED);
  });
  byId("door").hidden = true;
  byId("app").hidden = false;
  byId("token").value = "";
  sessions = new Sessions(byId("session-list"), gateway, {
    href: addressOf,
    failed: (problem) => showProblem("sessions", problem),
    found: () => conversation?.exists(),
  });
  sessions.refresh();
  openFromAddress();
}

function leave() {
  sessions?.end();
  conversation?.close();
  sessions = conversation = null;
}

byId("door-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = byId("door-form").querySelector("button");
  button.disabled = true;
  byId("door-told").textContent = "";
  try {
    enter(await signIn(byId("token").value.trim()));
  } catch (problem) {
    const wait = problem.retryAfterS ? ` Try again in ${problem.retryAfterS} s.` : "";
    byId("door-told").textContent =
      problem.status === 401 ? "This token is not valid here." : `Not signed in: ${problem.message}.${wait}`;
    byId("token").select();
  } finally {
    button.disabled = false;
  }
});

byId("sign-out").addEventListener("click", () => {
  forget();
  leave();
  ask("You are signed out of this tab.");
});

/* ---- which session is open ---- */

const addressOf = (key) => `#${new URLSearchParams({ session: key })}`;

function openFromAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1)).get("session") || FIRST_SESSION;
  if (gateway && !byId("app").hidden && conversation?.key !== wanted) open(wanted);
}

function open(key) {
  conversation?.close();
  composer.open(key);
  byId("title").textContent = key;
  document.title = `${key} · agent-session`;
  byId("empty").hidden = true;
  showStatus(null);
  problems.clear();
  showProblem("", null);
  showPanel("");
  const parts = {
    scroller: byId("scroller"),
    lines: byId("lines"),
    live: byId("live"),
    approvals: byId("approvals"),
    pending: byId("pending"),
    empty: byId("empty"),
  };
  const page = {
    status: showStatus,
    tick: showClock,
    say,
    problem: showProblem,
    restored: () => open(key),
    place: (atEnd) => (byId("newest").hidden = atEnd),
  };
  conversation = new Conversation(gateway, key, parts, page);
  sessions.mark(key, false);
  conversation.open();
}

addEventListener("hashchange", () => {
  const code = codeFromAddress(); // a new link, opened in this very tab
  if (!code) {
    openFromAddress();
    return;
  }
  leave();
  follow(code);
});

byId("new-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = byId("new-key").value.trim();
  if (!key) return;
  byId("new-key").value = "";
  location.hash = addressOf(key);
  byId("text").focus();
});

/* ---- what the page says ---- */

function showStatus(status) {
  const running = isRunning(status);
  byId("state").textContent = status ? stateWords(status) : "";
  byId("state").className = running ? "running" : "";
  byId("cancel").hidden = !running;
  byId("busy").hidden = !running || stateOf(status) === "waiting approval";
  showDetails(byId("details-list"), status);
  if (conversation) sessions?.mark(conversation.key, running);
  showClock(status);
}

function showClock(status) {
  const seconds = isRunning(status) && status.since_s ? Math.max(0, Math.floor(Date.now() / 1000 - status.since_s)) : -1;
  byId("clock").textContent = seconds < 0 ? "" : span(seconds);
}

/** For ears: the eyes see it where it stands. */
function say(words) {
  byId("announce").textContent = words;
}

/** Troubles, each until what it is about succeeds; null ends one. */
function showProblem(about, problem) {
  if (problem && problem.status !== 401) problems.set(about, problem.message);
  else problems.delete(about);
  const words = [...new Set(problems.values())].join(" · ");
  const bar = byId("problem");
  if (bar.textContent !== words) bar.textContent = words;
  bar.hidden = !words;
}

/* ---- keys and panels ---- */

async function cancel() {
  if (!conversation?.running) return;
  byId("cancel").disabled = true;
  try {
    await conversation.cancel();
    say("The turn is being cancelled.");
  } catch (problem) {
    composer.tell(`Not cancelled: ${problem.message}`);
  } finally {
    byId("cancel").disabled = false;
  }
}

/** On narrow screens: the sessions or the details over the conversation; "" for neither. */
function showPanel(name) {
  for (const one of ["sessions", "details"]) {
    byId("app").classList.toggle(`show-${one}`, one === name);
    byId(`toggle-${one}`).setAttribute("aria-expanded", String(one === name));
  }
}

const shownPanel = () => ["sessions", "details"].find((one) => byId("app").classList.contains(`show-${one}`)) ?? "";

for (const name of ["sessions", "details"]) {
  byId(`toggle-${name}`).addEventListener("click", () => {
    showPanel(shownPanel() === name ? "" : name);
    if (shownPanel()) byId(name).querySelector("a, button, input, [tabindex]")?.focus();
  });
}
byId("shade").addEventListener("click", () => showPanel(""));
byId("cancel").addEventListener("click", cancel);
byId("newest").addEventListener("click", () => {
  conversation?.newest();
  byId("scroller").focus();
});
byId("skip").addEventListener("click", () => byId("text").focus());

addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || event.isComposing || byId("app").hidden) return;
  const panel = shownPanel();
  if (panel) {
    showPanel("");
    byId(`toggle-${panel}`).focus();
  } else cancel();
});

/* ---- files dropped anywhere ---- */

const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
addEventListener("dragover", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  byId("composer").classList.add("drop");
});
addEventListener("dragleave", (event) => event.relatedTarget || byId("composer").classList.remove("drop"));
addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  byId("composer").classList.remove("drop");
  if (conversation) composer.add(event.dataTransfer.files);
});

start();
