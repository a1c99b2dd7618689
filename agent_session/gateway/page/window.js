/**
 * The part of a long list that is in the document, and the place that the reader keeps: at the end while the reader is
 * there, else on the very item that is being read, whatever comes, goes or grows around it.
 */

const MOST = 200; // items in the document
const STEP = 20; // how many come or go at once
const AHEAD = 60; // items that are kept ready before the first in the document
const NEAR_PX = 1_400; // how far from an end the next ones are fetched
const END_PX = 48; // so close to the end counts as being there

export class Window {
  /**
   * `scroller` scrolls, `holder` in it holds the items, `render(item)` makes one's element, `older()` fetches items
   * before the first, `changed()` hears when the reader comes to the end or leaves it.
   */
  constructor(scroller, holder, items, { render, older, changed }) {
    Object.assign(this, { scroller, holder, items, render, older, changed });
    this.from = this.to = items.length;
    this.stuck = true;
    this.top = 0;
    this.fetching = false; // stays true once there is nothing before the first
    this.onScroll = () => this.#scrolled();
    scroller.addEventListener("scroll", this.onScroll, { passive: true });
    this.sizes = new ResizeObserver(() => this.keep(() => {}));
    this.sizes.observe(scroller);
  }

  end() {
    this.ended = true;
    this.scroller.removeEventListener("scroll", this.onScroll);
    this.sizes.disconnect();
  }

  get complete() {
    return this.to === this.items.length;
  }

  /** Changes the document without moving what is being read. */
  keep(change) {
    if (this.stuck) {
      change();
      this.#toEnd();
      return;
    }
    const anchor = this.#firstVisible();
    const before = anchor?.getBoundingClientRect().top;
    change();
    const now = anchor && document.getElementById(anchor.id);
    if (now) this.scroller.scrollTop += now.getBoundingClientRect().top - before;
    this.top = this.scroller.scrollTop;
  }

  /** `count` items came before the first. */
  prepended(count) {
    this.from += count;
    this.to += count;
  }

  /** Items came behind the last. */
  appended(count) {
    const complete = this.to + count >= this.items.length;
    if (complete && (this.stuck || this.to - this.from < MOST)) this.keep(() => this.#show(this.from, this.items.length, "top"));
    else this.changed();
  }

  /** The end of the list, and the reader with it. */
  newest() {
    this.stuck = true;
    this.keep(() => {
      if (this.complete) return;
      this.holder.replaceChildren();
      this.from = this.to = this.items.length;
    });
    this.#grow();
    this.changed();
  }

  /** After a change of height that the reader made, such as a fold: stay where the reader is. */
  measure() {
    this.stuck = this.complete && this.#distance() < END_PX;
    this.changed();
  }

  #distance() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  #toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.top = this.scroller.scrollTop;
  }

  #scrolled() {
    const up = this.scroller.scrollTop < this.top - 1;
    this.top = this.scroller.scrollTop;
    const near = this.complete && this.#distance() < END_PX;
    if (near !== this.stuck && (near || up)) {
      this.stuck = near;
      this.changed();
    }
    this.#grow();
  }

  /** Takes in what is near to what is seen, and lets go of what is far. */
  #grow() {
    const near = () => this.scroller.scrollTop < NEAR_PX;
    while (near() && this.from > 0) {
      const full = this.to - this.from >= MOST;
      this.keep(() => this.#show(Math.max(0, this.from - STEP), this.to, "bottom"));
      if (full) break; // the other end gave way: wait for the reader
    }
    if (this.from < AHEAD && !this.fetching) this.#fetch();
    if (!this.complete && this.#distance() < NEAR_PX) {
      this.keep(() => this.#show(this.from, Math.min(this.items.length, this.to + STEP), "top"));
    }
  }

  /** A page from before the first; one that did not come is asked for again a little later. */
  async #fetch() {
    this.fetching = true;
    const more = await this.older();
    if (more === null) await new Promise((resolve) => setTimeout(resolve, 1_000));
    if (more === false) return;
    this.fetching = false;
    if (!this.ended) this.#grow();
  }

  /** Makes [from, to) stand in the document, at most MOST of it: the `spare` side gives way, unless it is being read. */
  #show(from, to, spare) {
    const before = this.items.slice(from, this.from).map(this.render);
    this.holder.prepend(...before);
    const behind = this.items.slice(this.to, to).map(this.render);
    this.holder.append(...behind);
    [this.from, this.to] = [from, to];
    const surplus = to - from - MOST;
    if (surplus <= 0) return;
    const gone = [...this.holder.children].slice(...(spare === "top" ? [0, surplus] : [-surplus]));
    for (const element of gone) element.remove();
    if (spare === "top") this.from += surplus;
    else this.to -= surplus;
  }

  #firstVisible() {
    const top = this.scroller.getBoundingClientRect().top;
    let [low, high] = [0, this.holder.children.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.holder.children[middle].getBoundingClientRect().bottom > top) high = middle;
      else low = middle + 1;
    }
    return this.holder.children[low] ?? this.holder.nextElementSibling;
  }
}
