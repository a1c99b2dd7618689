/**
 * Markdown as document nodes. Every word of the source ends in a text node: no HTML is parsed, no picture is loaded,
 * links lead to http, https and mailto alone. Bounded in depth, and each search for an end is given up once.
 */

import { make } from "./words.js";

const DEPTH = 8;
const FENCE = /^( {0,3})(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})[ \t]+(.*?)[ \t]*#*$/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])([ \t]+)(?=\S)/;
const QUOTE = /^ {0,3}> ?/;
const CELLS = /^ {0,3}\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

/** The top-level blocks of a text, each `{kind, lines}`; a block before the last never changes as text is added. */
export function blocksOf(text) {
  const lines = text.split("\n");
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const [kind, end] = blockAt(lines, at);
    blocks.push({ kind, lines: lines.slice(at, end) });
    at = end;
  }
  return blocks;
}

function blockAt(lines, at) {
  const line = lines[at];
  const fence = FENCE.exec(line);
  if (fence) return ["fence", fenceEnd(lines, at, fence)];
  if (HEADING.test(line)) return ["heading", at + 1];
  if (RULE.test(line)) return ["rule", at + 1];
  if (QUOTE.test(line)) return ["quote", whileTrue(lines, at, (one) => QUOTE.test(one))];
  if (ITEM.test(line)) return ["list", listEnd(lines, at)];
  if (line.includes("|") && lines[at + 1]?.includes("-") && CELLS.test(lines[at + 1])) {
    return ["table", whileTrue(lines, at, (one) => one.includes("|"))];
  }
  return ["paragraph", whileTrue(lines, at + 1, (one) => one.trim() !== "" && !begins(one))];
}

const begins = (line) => FENCE.test(line) || HEADING.test(line) || QUOTE.test(line) || ITEM.test(line);

function whileTrue(lines, at, holds) {
  while (at < lines.length && holds(lines[at])) at += 1;
  return at;
}

function fenceEnd(lines, at, [, , mark]) {
  for (let end = at + 1; end < lines.length; end += 1) {
    const closed = lines[end].trim();
    if (closed.length >= mark.length && closed === mark[0].repeat(closed.length)) return end + 1;
  }
  return lines.length;
}

function listEnd(lines, at) {
  const ordered = /\d/.test(ITEM.exec(lines[at])[2]);
  let end = at + 1;
  for (let look = end; look < lines.length; look += 1) {
    const line = lines[look];
    if (!line.trim()) continue;
    const item = ITEM.exec(line);
    const joins = item ? /\d/.test(item[2]) === ordered : /^ {2,}|^\t/.test(line) || (look === end && !begins(line));
    if (!joins || (!item && RULE.test(line))) break;
    end = look + 1;
  }
  return end;
}

/** The node of one block. */
export function nodeOf(block, depth = 0) {
  if (depth > DEPTH) return make("p", {}, block.lines.join("\n"));
  if (block.kind === "fence") return codeNode(block.lines);
  if (block.kind === "rule") return make("hr");
  if (block.kind === "quote") {
    const inner = block.lines.map((line) => line.replace(QUOTE, "")).join("\n");
    return make("blockquote", {}, ...nodesOf(inner, depth + 1));
  }
  if (block.kind === "list") return listNode(block.lines, depth);
  if (block.kind === "table") return tableNode(block.lines);
  if (block.kind === "heading") {
    const [, marks, text] = HEADING.exec(block.lines[0]);
    return make(`h${Math.min(6, marks.length + 2)}`, {}, ...inline(text)); // the page's own are h1 and h2
  }
  return make("p", {}, ...inline(block.lines.join("\n").trim()));
}

export const nodesOf = (text, depth = 0) => blocksOf(text).map((block) => nodeOf(block, depth));

function codeNode(lines) {
  const [, indent, mark, about] = FENCE.exec(lines[0]);
  const closed = lines.length > 1 && new RegExp(`^\\s*${mark[0]}{${mark.length},}\\s*$`).test(lines.at(-1));
  const body = lines.slice(1, closed ? -1 : undefined).map((line) => line.replace(new RegExp(`^ {0,${indent.length}}`), ""));
  const language = about.trim().split(/\s/)[0].slice(0, 30);
  return make("pre", { tabIndex: 0, "aria-label": language ? `Code, ${language}` : "Code" }, make("code", {}, body.join("\n")));
}

function listNode(lines, depth) {
  const first = ITEM.exec(lines[0]);
  const ordered = /\d/.test(first[2]);
  const list = make(ordered ? "ol" : "ul", ordered ? { start: Number.parseInt(first[2], 10) } : {});
  let item = [];
  const close = () => {
    const nodes = nodesOf(item.join("\n"), depth + 1);
    const tight = nodes[0]?.tagName === "P" ? [...nodes.shift().childNodes] : [];
    list.append(make("li", {}, ...tight, ...nodes));
  };
  for (const [at, line] of lines.entries()) {
    const found = ITEM.exec(line);
    if (found && found[1].length < 2) {
      if (at) close();
      item = [line.slice(found[0].length)];
    } else item.push(line.replace(/^(?: {1,4}|\t)/, ""));
  }
  close();
  return list;
}

function tableNode([head, , ...rows]) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").slice(0, 50);
  const row = (line, tag) => make("tr", {}, ...cells(line).map((cell) => make(tag, {}, ...inline(cell.trim()))));
  const table = make("table", {}, make("thead", {}, row(head, "th")), make("tbody", {}, ...rows.map((one) => row(one, "td"))));
  return make("div", { className: "table", tabIndex: 0, role: "group", "aria-label": "Table" }, table);
}

const LINK = /!?\[([^[\]\n]{0,500})\]\(<?([^\s<>()]{0,2000}(?:\([^\s()]{0,200}\))?[^\s<>()]{0,500})>?(?:[ \t]+"[^"\n]{0,200}")?\)/y;
const ANGLED = /<([a-z]{4,6}:[^\s<>]{1,2000})>/iy;
const BARE = /(?:https?:\/\/|mailto:)[^\s<>"'`]{1,2000}/iy;
const MARKS = [
  ["**", "strong"],
  ["__", "strong"],
  ["~~", "del"],
  ["*", "em"],
  ["_", "em"],
];
const SPECIAL = /[\\`*_~[!<\nhHmM]/g;

/** The nodes of a run of text. */
export function inline(text, depth = 0) {
  const nodes = [];
  const hopeless = new Set(); // marks without an end to be found
  let plain = "";
  const put = (...made) => {
    if (plain) nodes.push(plain);
    plain = "";
    nodes.push(...made);
  };
  for (let at = 0; at < text.length; ) {
    SPECIAL.lastIndex = at;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    plain += text.slice(at, next);
    at = next;
    if (at >= text.length) break;
    const found = depth < DEPTH ? special(text, at, depth, hopeless) : null;
    if (found) {
      put(...found.nodes);
      at = found.end;
    } else if (text[at] === "\\" && /[!-/:-@[-`{-~]/.test(text[at + 1] ?? "")) {
      plain += text[at + 1];
      at += 2;
    } else plain += text[at++];
  }
  put();
  return nodes;
}

function special(text, at, depth, hopeless) {
  const char = text[at];
  if (char === "\n") return { nodes: [make("br")], end: at + 1 };
  if (char === "`") return codeSpan(text, at, hopeless);
  if (char === "[" || char === "!") return link(text, at);
  if (char === "<") return angled(text, at);
  if (/[hm]/i.test(char)) return bareLink(text, at);
  for (const [mark, tag] of MARKS) {
    if (!text.startsWith(mark, at) || hopeless.has(mark)) continue;
    const found = marked(text, at, mark, hopeless);
    if (found) return { nodes: [make(tag, {}, ...inline(found, depth + 1))], end: at + found.length + 2 * mark.length };
  }
  return null;
}

function marked(text, at, mark, hopeless) {
  const begin = at + mark.length;
  if (/\s/.test(text[begin] ?? " ") || (mark[0] === "_" && /\w/.test(text[at - 1] ?? " "))) return "";
  for (let end = text.indexOf(mark, begin + 1); ; end = text.indexOf(mark, end + 1)) {
    if (end < 0) {
      hopeless.add(mark);
      return "";
    }
    const inWord = mark[0] === "_" && /\w/.test(text[end + mark.length] ?? " ");
    const doubled = mark.length === 1 && text[end + 1] === mark;
    if (doubled) end += 1;
    else if (!/\s/.test(text[end - 1]) && !inWord) return text.slice(begin, end);
    if (end - begin > 5_000) {
      hopeless.add(mark); // else every further one of this paragraph would look as far
      return "";
    }
  }
}

function codeSpan(text, at, hopeless) {
  const mark = /^`+/.exec(text.slice(at, at + 20))[0];
  if (hopeless.has(mark)) return null;
  const end = text.indexOf(mark, at + mark.length);
  if (end < 0) {
    hopeless.add(mark);
    return null;
  }
  const inner = text.slice(at + mark.length, end).replace(/\n/g, " ");
  const padded = inner.length > 2 && inner.startsWith(" ") && inner.endsWith(" ") && inner.trim();
  return { nodes: [make("code", {}, padded ? inner.slice(1, -1) : inner)], end: end + mark.length };
}

function link(text, at) {
  LINK.lastIndex = at;
  const found = LINK.exec(text);
  const href = found && safe(found[2]);
  if (!href) return null;
  const words = [found[1] || href]; // plain: a link in a link could lead elsewhere
  return { nodes: [anchor(href, words)], end: at + found[0].length };
}

function angled(text, at) {
  ANGLED.lastIndex = at;
  const found = ANGLED.exec(text);
  const href = found && safe(found[1]);
  return href ? { nodes: [anchor(href, [found[1]])], end: at + found[0].length } : null;
}

function bareLink(text, at) {
  if (/\w/.test(text[at - 1] ?? " ")) return null;
  BARE.lastIndex = at;
  const found = BARE.exec(text)?.[0].replace(/[.,;:!?*_~)\]}]+$/, "");
  const href = found && safe(found);
  return href ? { nodes: [anchor(href, [found])], end: at + found.length } : null;
}

/** The address, or "" for one that a page must not lead to. */
export function safe(address) {
  try {
    const url = new URL(address); // relative ones have no place to lead to
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : "";
  } catch {
    return "";
  }
}

const anchor = (href, words) => make("a", { href, target: "_blank", rel: "noopener noreferrer", title: href }, ...words);
