"""From events to lines: what a turn looks like while it runs and when it is over.

Prints every answer once, whoever brings it first (the live bus or the reply) and however often the bus
has to be asked again. Sends nothing, decides nothing.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from agent_session.domain.cards import visible
from agent_session.domain.ids import scoped_id
from agent_session.domain.status_words import usage_words
from agent_session.live import events as E
from agent_session.live.events import LiveEvent
from agent_session.terminal.blocks import Block, Lines, Markdown, Stream
from agent_session.terminal.face import Face
from agent_session.terminal.look import BOLD, DIM, GREEN, RED, YELLOW, Look
from agent_session.terminal.render import Renderer, is_diff
from agent_session.terminal.text import clean, seconds, shortened, summary

TURNS_REMEMBERED, MESSAGES_REMEMBERED = 200, 2_000
TAIL_ROWS, OUTPUT_ROWS, DIFF_ROWS = 8, 3, 20


@dataclass
class Said:
    """Words of this terminal that no turn has taken up yet."""

    text: str
    echoed: bool = True  #: they stand on the screen where they belong


@dataclass
class Running:
    tool: str
    args: str
    began: float
    output: str = ""


@dataclass
class Progress:
    """The turn that runs."""

    turn: str = ""
    step: int = 0
    began: float = 0.0
    retry: str = ""
    tools: dict[str, Running] = field(default_factory=dict[str, Running])
    done: set[str] = field(default_factory=set[str])  #: calls whose line is printed
    streamed: str = ""  #: the answer of this step so far
    fed: dict[int, int] = field(default_factory=dict[int, int])  #: characters by step


class View:
    """One session on one screen."""

    def __init__(self, face: Face, look: Look, renderer: Renderer, key: str) -> None:
        self._face, self._look, self._renderer, self.key = face, look, renderer, key
        self.now = Progress()
        self.mine: dict[str, Said] = {}  #: by the message's id
        self._ended: deque[str] = deque(maxlen=TURNS_REMEMBERED)
        self._begun: deque[str] = deque(maxlen=MESSAGES_REMEMBERED)
        self._again: dict[int, int] = {}
        self._stream: Stream = Markdown() if face.streams_below else Lines()
        self._handlers: dict[str, Callable[[LiveEvent], None]] = {
            E.DELTA: self._delta,
            E.RETRY: self._retry,
            E.STEP: self._step,
            E.TOOL_STARTED: self._tool_started,
            E.TOOL_OUTPUT: self._tool_output,
            E.TOOL_FINISHED: self._tool_finished,
        }

    # ---- printing

    def say(self, text: str, style: str = "") -> None:
        """Our own words, a line or more."""
        text = self._look.words(text)
        self._face.write("\n".join(self._look.paint(line, style) for line in text.split("\n")))

    def echo(self, text: str) -> None:
        """The person's words, where their turn begins."""
        first, *rest = clean(text).split("\n")
        prompt = f"{self.key}> "
        lines = [self._look.paint(prompt, BOLD) + first, *(" " * len(prompt) + line for line in rest)]
        self._face.write("\n".join(lines))

    def _blocks(self, blocks: list[Block]) -> None:
        for block in blocks:
            gap = "" if block.close or self._first else "\n"
            self._first = False
            self._face.write(gap + self._renderer.block(block))

    _first = True  #: no block of this step stands on the screen yet

    # ---- the events

    def ask_again(self) -> None:
        """The bus is asked anew and repeats the running turn: what was shown of it is not shown twice."""
        self._again = dict(self.now.fed)

    def show(self, event: LiveEvent) -> None:
        """Take in one event."""
        if event.kind == E.TURN_ENDED:
            self.end(event.turn, event.outcome, event.text, event.note)
            self._cost(event)
        elif event.turn in self._ended:
            return
        elif event.turn:
            self._begin(event)
            if event.kind in self._handlers:
                self._handlers[event.kind](event)
        self._face.refresh()

    def _begin(self, event: LiveEvent) -> None:
        if event.turn != self.now.turn:
            self._reset(Progress(turn=event.turn, began=time.monotonic()))
        if event.kind == E.TURN_STARTED and event.call not in self._begun:
            self._begun.append(event.call)
            self._words(event)

    def _reset(self, now: Progress) -> None:
        self._blocks(self._stream.finish())
        self.now, self._again, self._first = now, {}, True

    def knows(self, scoped: str) -> None:
        """These words stand on the screen already."""
        self._begun.append(scoped)

    def _words(self, event: LiveEvent) -> None:
        """What a turn begins with, or was steered by: ours are not repeated, those that waited are, others'
        come by name."""
        said = self._own(event)
        if said is None:
            who = self._look.paint(f"{name_of(event.sender, event.note)}: ", BOLD)
            self._face.write(who + self._look.words(clean(event.text.strip())))
        elif not said.echoed:
            said.echoed = True
            self.echo(said.text)

    def _own(self, event: LiveEvent) -> Said | None:
        """The words of this terminal that the event tells of. It names who said them and where, and the digest that
        these make with an id that only we know: so nobody has to tell us who we are to a gateway."""
        of_event = (id for id in self.mine if scoped_id(event.note, event.sender, id) == event.call)
        found = next(of_event, None)
        return self.mine.pop(found) if found is not None else None

    def _step(self, event: LiveEvent) -> None:
        if event.step > self.now.step:
            self._blocks(self._stream.finish())
            self.now.step, self.now.streamed, self._first = event.step, "", True
        self.now.retry = ""

    def _delta(self, event: LiveEvent) -> None:
        if event.step < self.now.step:
            return  # the bus repeats what was shown
        self._step(event)
        text, again = event.text, self._again.get(event.step, 0)
        if again:  # seen before the bus was lost
            self._again[event.step] = max(0, again - len(text))
            text = text[again:]
        self.now.fed[event.step] = self.now.fed.get(event.step, 0) + len(text)
        self.now.streamed += text
        self._blocks(self._stream.feed(text))

    def _retry(self, event: LiveEvent) -> None:
        """The attempt's words are void. Those printed stay, with a note; those below the line vanish."""
        printed = bool(self.now.streamed) and not self._first
        self._stream = Markdown() if self._face.streams_below else Lines()
        self._again.pop(event.step, None)
        self.now.fed.pop(event.step, None)
        self.now.streamed, self._first, self.now.retry = "", True, clean(event.text)
        note = " (the answer above broke off and begins again)" if printed else ""
        self.say(f"  {self.now.retry}{note}", YELLOW)

    # ---- tools

    def _tool_started(self, event: LiveEvent) -> None:
        if event.call in self.now.done or event.call in self.now.tools:
            return
        self._blocks(self._stream.finish())
        self.now.tools[event.call] = Running(event.tool, event.text, time.monotonic())
        if not self._face.streams_below:
            self.say(f"  ⚙ {visible(event.tool)}  {self._short(event.text, 60)}")

    def _tool_output(self, event: LiveEvent) -> None:
        tool = self.now.tools.get(event.call)
        if tool is not None:
            tool.output = (tool.output + event.text)[-4_000:]

    def _tool_finished(self, event: LiveEvent) -> None:
        if event.call in self.now.done:
            return
        self.now.done.add(event.call)
        tool = self.now.tools.pop(event.call, None) or Running(event.tool, "", time.monotonic())
        took_ms = event.ms or (time.monotonic() - tool.began) * 1000
        self._face.write(self._tool_line(event.tool, tool.args, f"{seconds(took_ms)}  ", event.outcome))
        if event.outcome == "ok" and is_diff(event.text):
            lines = event.text.split("\n")
            more = f"\n    … {len(lines) - DIFF_ROWS} more lines: /expand" if len(lines) > DIFF_ROWS else ""
            diff = self._renderer.diff("\n".join(lines[:DIFF_ROWS]))
            self._face.write("\n".join(f"    {line}" for line in diff.split("\n")) + self._look.words(more))

    def _tool_line(self, tool: str, args: str, took: str, outcome: str) -> str:
        """⚙ shell  pytest -x ………… 5.0 s  ok"""
        width = min(self._renderer.width, 90)
        end = took + outcome
        head = f"  ⚙ {visible(tool)}  "
        words = self._short(args, max(8, width - len(head) - len(end) - 4))
        fill = self._look.fill * max(2, width - len(head) - len(words) - len(end) - 2)
        style = {"ok": GREEN, "error": RED, "refused": RED, "denied": RED}.get(outcome, YELLOW)
        left = self._look.words(f"{head}{words} ")
        return left + self._look.paint(f"{fill} {took}", DIM) + self._look.paint(outcome, style)

    def _short(self, args: str, width: int) -> str:
        return shortened(summary(args), width, self._look.dots)

    # ---- the end of a turn

    def is_over(self, turn: str) -> bool:
        return turn in self._ended

    def end(self, turn: str, outcome: str, text: str, error_id: str = "") -> None:
        """A turn is over, by the bus or by its reply: whichever comes first is shown."""
        mine = turn == self.now.turn
        streamed = self.now.streamed.strip() if mine else ""
        if turn in self._ended:
            return
        self._ended.append(turn)
        if mine and outcome == "answered" and text.startswith(self.now.streamed):
            self._blocks(self._stream.feed(text[len(self.now.streamed) :]))
            streamed = text.strip()
        if mine:
            self._reset(Progress())
        if outcome == "answered":
            if not text.strip() and not streamed:
                self.say("(no answer)", DIM)
            elif not streamed.startswith(text.strip()):
                self.answer(text)
        elif outcome == "failed":
            known = f" (agent-session logs --id {error_id})" if error_id and error_id not in text else ""
            self.say(f"error: {clean(text)}{known}", RED)
        else:
            self.say(f"({outcome})", YELLOW)
        self._face.refresh()

    def _cost(self, event: LiveEvent) -> None:
        """What the turn took; the offline model takes nothing."""
        if event.output_tokens and event.model != "offline":
            used = (event.input_tokens, event.output_tokens, event.cached_tokens, event.cost_microusd)
            self.say(f"  {usage_words(*used)}", DIM)

    def answer(self, text: str) -> None:
        """A whole answer that was not streamed."""
        stream: Stream = Markdown() if self._face.streams_below else Lines()
        self._first = True
        self._blocks([*stream.feed(text), *stream.finish()])
        self._first = True

    # ---- what stands above the prompt for now

    def live(self, width: int, rows: int) -> list[str]:
        """The answer's tail, the tools that run, the last lines of their output."""
        lines: list[str] = []
        tail = clean(self._stream.tail)
        if tail:
            wrapped = [piece for line in tail.split("\n") for piece in _wrapped(line, width - 1)]
            lines += [] if self._first or self._stream.tail_is_close else [""]
            lines += wrapped[-min(TAIL_ROWS, max(1, rows // 3)) :]
        for tool in self.now.tools.values():
            took = seconds((time.monotonic() - tool.began) // 1 * 1000).replace(".0 s", " s")
            head = f"  ⚙ {visible(tool.tool)}  "
            lines.append(
                self._look.words(head + self._short(tool.args, width - len(head) - len(took) - 4) + "  " + took)
            )
            output = [line for line in clean(tool.output).split("\n") if line.strip()]
            lines += [
                self._look.paint("    " + shortened(line, width - 6, self._look.dots), DIM)
                for line in output[-OUTPUT_ROWS if rows > 15 else -1 :]
            ]
        return lines


def name_of(sender: str, channel: str) -> str:
    """Who said it, and where: alice (slack)."""
    who = visible(sender.removeprefix("local:")) or "someone"
    return f"{who} ({visible(channel)})" if channel else who


def _wrapped(line: str, width: int) -> list[str]:
    from prompt_toolkit.utils import get_cwidth

    if len(line) * 2 <= width:
        return [line]
    pieces, piece, used = list[str](), "", 0
    for char in line.expandtabs(4):
        wide = get_cwidth(char)
        if used + wide > width:
            pieces.append(piece)
            piece, used = "", 0
        piece, used = piece + char, used + wide
    return [*pieces, piece]
