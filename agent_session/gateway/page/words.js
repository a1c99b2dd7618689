/** Words and elements: times, amounts, hidden characters made visible. Never makes an element from text as HTML. */

/** An element with properties, attributes (names with a dash, or `role`) and children; empty children are left out. */
export function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, String(value));
    else element[name] = value;
  }
  element.append(...children.filter((one) => one !== null && one !== undefined && one !== ""));
  return element;
}

/** 412, 1.2k, 38k, 1.5M. */
export function amount(count) {
  if (count < 1_000) return String(count);
  if (count < 1_000_000) return count < 10_000 ? `${(count / 1_000).toFixed(1)}k` : `${Math.floor(count / 1_000)}k`;
  return `${(count / 1_000_000).toFixed(1)}M`;
}

export function dollars(microusd) {
  const value = microusd / 1_000_000;
  return value >= 1 ? `$${value.toFixed(2)}` : `$${value.toFixed(4)}`;
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  return count < 1024 * 1024 ? `${Math.ceil(count / 1024)} KB` : `${(count / 1024 / 1024).toFixed(1)} MB`;
}

/** Seconds as 3.2 s, 00:42 or 1:02:03. */
export function span(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const tail = `${String(minutes).padStart(2, "0")}:${String(whole % 60).padStart(2, "0")}`;
  return hours ? `${hours}:${tail}` : tail;
}

/** A moment for people: the time today, the date before. */
export function moment(iso) {
  const at = new Date(iso);
  const today = at.toDateString() === new Date().toDateString();
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return today ? time : `${at.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

const BLANK = /[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/u;
const UNSEEN = /[\p{C}\p{Zl}\p{Zp}\p{Zs}]/u;

/** One line of what would run, with every character that cannot be seen as an escape; then backslashes are doubled. */
export function visible(text) {
  const hidden = (char) => char !== " " && (UNSEEN.test(char) || BLANK.test(char));
  const chars = [...text];
  if (!chars.some(hidden)) return text;
  const escape = (char) => {
    const code = char.codePointAt(0);
    return code > 0xffff ? `\\U${code.toString(16).padStart(8, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  };
  return chars.map((char) => (hidden(char) ? escape(char) : char === "\\" ? "\\\\" : char)).join("");
}

/** A call's arguments as [name, text] pairs, or null for what is no JSON object. */
export function argumentsOf(args) {
  try {
    const found = JSON.parse(args || "{}");
    if (found === null || typeof found !== "object" || Array.isArray(found)) return null;
    return Object.entries(found).map(([name, value]) => [
      name,
      typeof value === "string" ? value : JSON.stringify(value),
    ]);
  } catch {
    return null;
  }
}

/** The arguments in one line, for a folded call. */
export function brief(args) {
  const pairs = argumentsOf(args);
  const text = pairs === null ? args : pairs.map(([, value]) => value).join(" · ");
  return visible(text.slice(0, 300).replace(/\s+/g, " "));
}
