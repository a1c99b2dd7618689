"""HTML on standard input, Markdown on standard output. Run as a script by `web_fetch.py`, in a limited
child: `html_to_markdown.py <base URL>`.

What a reader does not see (scripts, styles, hidden elements) is left out, links become absolute. It must
not fetch anything, and it imports nothing of ours: at import time nothing at all, because the toolbox
imports every module of this folder.
"""

import re
import sys
import threading
from typing import TYPE_CHECKING
from urllib.parse import urljoin

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

UNSEEN = ("script", "style", "noscript", "template", "svg", "canvas", "iframe", "object", "head")
HIDDEN = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden)", re.IGNORECASE)
STACK_BYTES, DEPTH = 256 * 1024 * 1024, 20_000  #: for pages of many nested elements


def convert(html: str, base: str) -> str:
    from bs4 import BeautifulSoup, Comment
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(html, "html.parser")
    title = " ".join(soup.title.get_text().split()) if soup.title else ""
    base_tag = soup.find("base", href=True)
    base = urljoin(base, str(base_tag["href"])) if base_tag else base
    for tag in soup.find_all(_unseen):
        tag.extract()
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    _absolute_links(soup, base)
    part = _main_part(soup)
    try:
        body = MarkdownConverter(
            heading_style="ATX", bullets="-", escape_asterisks=False, escape_underscores=False
        ).convert_soup(part)
    except RecursionError:
        body = part.get_text("\n", strip=True)  # nested too deep for structure: its words all the same
    return (f"Title: {title}\n\n" if title else "") + _tidy(body)


def _unseen(tag: "Tag") -> bool:
    return (
        tag.name in UNSEEN
        or tag.has_attr("hidden")
        or str(tag.get("aria-hidden", "")).lower() == "true"
        or bool(HIDDEN.search(str(tag.get("style", ""))))
    )


def _absolute_links(soup: "BeautifulSoup", base: str) -> None:
    for name, attribute in (("a", "href"), ("img", "src")):
        for tag in soup.find_all(name):
            target = _joined(base, str(tag.get(attribute, "")).strip())
            if target.lower().startswith(("http://", "https://", "mailto:")):
                tag[attribute] = target
            elif name == "a":
                del tag[attribute]  # script, data and the like: the words of the link stay
            else:
                tag.replace_with(str(tag.get("alt", "")))


def _joined(base: str, target: str) -> str:
    try:
        return urljoin(base, target) if target else ""
    except ValueError:
        return ""


def _main_part(soup: "BeautifulSoup") -> "Tag":
    """The page's one main element when it has most of the words; menus around it are noise then."""
    found = soup.find_all("main")
    if len(found) == 1 and 2 * len(found[0].get_text()) >= len(soup.get_text()):
        return found[0]
    return soup


def _tidy(text: str) -> str:
    lines: list[str] = []
    for line in text.splitlines():
        line = line.rstrip()
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip() + "\n"


def main() -> None:
    html = sys.stdin.buffer.read().decode("utf-8", "replace")
    sys.stdout.buffer.write(convert(html, sys.argv[1]).encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


def on_a_large_stack() -> None:
    """Only a thread can have one; what goes wrong in it must still become our exit code."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            main()
        except BaseException as error:
            failed.append(error)

    threading.stack_size(STACK_BYTES)
    sys.setrecursionlimit(DEPTH)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        sys.exit(f"{type(failed[0]).__name__}: {failed[0]}")


if __name__ == "__main__":
    on_a_large_stack()
