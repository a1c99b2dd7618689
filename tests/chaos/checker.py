"""The checker: what was sent, and what can be seen from outside, against what was promised.

Reads the evidence folder and nothing else. Must not import the engine: it would believe what the engine
believes. Each violation has a kind, a session and words; docs/reliability.md says what each kind means.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path

from tests.chaos.seen import Deed, Message, Seen, Talk, load
from tests.chaos.stalls import Held, late, silences, worst

STALL_S = 15.0


@dataclass(frozen=True)
class Violation:
    kind: str
    session: str
    words: str


@dataclass
class Verdict:
    violations: list[Violation] = field(default_factory=list)
    stall_s: float = 0.0  #: the longest, faults taken out
    silence_s: float = 0.0  #: the longest, faults included
    late_s: float = 0.0  #: how long a delivery came after its reply at most, faults taken out
    silences: int = 0  #: how many were longer than a stall may be, faults included

    def add(self, kind: str, session: str, words: str) -> None:
        self.violations.append(Violation(kind, session, words))


def check(folder: Path) -> tuple[Seen, Verdict]:
    seen, verdict = load(folder), Verdict()
    for message in seen.messages.values():
        _answered_once(seen, message, verdict)
    for talk in seen.talks.values():
        _transcript(talk, verdict)
        _names(seen, talk, verdict)
        _effects(seen, talk, verdict)
    _order(seen, verdict)
    _deliveries(seen, verdict)
    _slack(seen, verdict)
    _canaries(seen, verdict)
    _wedged(seen, verdict)
    _stalls(seen, verdict)
    return seen, verdict


def _answered_once(seen: Seen, message: Message, verdict: Verdict) -> None:
    """A message is taken in the end, and has one reply, from the one turn that holds its words."""
    talk = seen.talks.get(message.session)
    turns = talk.said.get(message.id, []) if talk else []
    if message.accepted is None:
        tried = "tried until the end" if message.tried_at >= 0 else "never came to say it"
        verdict.add("untaken", message.session, f"{message.id} was never taken: {message.sender} {tried}")
    elif not message.replies:
        verdict.add("lost", message.session, f"{message.id} has no reply")
    if message.accepted is not None and not turns:
        verdict.add("lost", message.session, f"{message.id} stands in no turn")
    if len(turns) > 1:
        verdict.add("doubled", message.session, f"{message.id} stands in the turns {turns}")
    known = {(reply["turn"], reply["outcome"], reply["text"]) for reply in message.replies}
    if len(known) > 1:
        verdict.add("doubled", message.session, f"{message.id} got different replies: {sorted(known)}"[:400])
    for turn, outcome, text in known:
        if outcome == "unknown":
            verdict.add("lost", message.session, f"{message.id}: {text}")
        elif outcome not in ("answered", "interrupted"):
            verdict.add("failed", message.session, f"{message.id} was answered {outcome}: {text[:200]}")
        elif outcome == "interrupted" and not seen.interrupts[message.session]:
            verdict.add("failed", message.session, f"{message.id} was interrupted by nobody")
        if turns and turn not in turns:
            verdict.add("doubled", message.session, f"{message.id} stands in {turns}, its reply is of {turn}")
        if outcome == "answered" and message.id not in text:
            verdict.add("lost", message.session, f"the reply to {message.id} does not name it: {text[:120]}")


def _transcript(talk: Talk, verdict: Verdict) -> None:
    """It parses, its numbers have no gap, each call has one result, each turn one end, before the next begins."""
    for words in talk.bad:
        verdict.add("transcript", talk.session, words)
    numbers = [line.get("seq") for line in talk.lines]
    if numbers != list(range(1, len(numbers) + 1)):
        gap = next((a, b) for a, b in pairwise([0, *numbers]) if b != a + 1)
        verdict.add("transcript", talk.session, f"seq goes from {gap[0]} to {gap[1]}")
    for call, count in Counter(talk.calls).items():
        if count > 1:
            verdict.add("transcript", talk.session, f"call {call} was asked for {count} times")
        if len(talk.results[call]) != 1:
            verdict.add("resultless", talk.session, f"call {call} has {len(talk.results[call])} results")
    for call in set(talk.results) - set(talk.calls):
        verdict.add("transcript", talk.session, f"a result for {call}, which nobody asked for")
    order = list(dict.fromkeys(line.get("turn") for line in talk.lines))
    if talk.ended != order:
        odd = sorted(set(order) ^ set(talk.ended)) or "another order"
        verdict.add("transcript", talk.session, f"turns and their ends differ: {odd}")


def _names(seen: Seen, talk: Talk, verdict: Verdict) -> None:
    """Final answers name each message once: the scripted model names what no answer before has named."""
    for name, places in talk.named.items():
        if len(places) > 1:
            verdict.add("doubled", talk.session, f"{name} is answered in the turns {places}")
        if name not in seen.messages:
            verdict.add("doubled", talk.session, f"{name} is answered and was never said")
    for name in set(talk.said) - set(seen.messages):
        verdict.add("doubled", talk.session, f"{name} stands in the transcript and was never said")


def _effects(seen: Seen, talk: Talk, verdict: Verdict) -> None:
    """A finished effect happened once, an interrupted one at most once, and the model was told which."""
    for name, count in seen.effects[talk.session].items():
        if count > 1:
            verdict.add("doubled", talk.session, f"the effect of {name} happened {count} times")
        if name not in talk.deeds:
            verdict.add("doubled", talk.session, f"the effect of {name} happened, and no call stands for it")
    for name, deeds in talk.deeds.items():
        if len(deeds) > 1:
            verdict.add("doubled", talk.session, f"{name} was asked of a tool {len(deeds)} times")
        _deed(seen, talk, name, deeds[0], verdict)
    for message in seen.messages.values():
        replied = {reply["outcome"] for reply in message.replies}
        asked = message.session == talk.session and message.effect != "say"
        if asked and "answered" in replied and message.id not in talk.deeds:
            verdict.add("lost", talk.session, f"{message.id} was answered, its command never ran")


def _deed(seen: Seen, talk: Talk, name: str, deed: Deed, verdict: Verdict) -> None:
    count, word = seen.effects[talk.session][name], talk.fates.get(name, "")
    stopped = deed.outcome in ("interrupted", "cancelled")
    if not stopped and (deed.outcome != "ok" or not deed.finished):
        verdict.add("failed", talk.session, f"the command of {name} ended {deed.outcome}: {deed.content[:200]}")
    elif not stopped and count != 1:
        verdict.add("lost", talk.session, f"{name} finished, its effect happened {count} times")
    elif deed.surely_not and count:
        verdict.add("doubled", talk.session, f"{name} is said not to have run, its effect happened")
    truth = "unrun" if deed.surely_not else "interrupted" if stopped else "done"
    if word and word != truth:
        verdict.add("untold", talk.session, f"{name} was {truth}, and the model was told it was {word}")


def _order(seen: Seen, verdict: Verdict) -> None:
    """What a sender says once the message before is taken comes after it; steering and interrupts go ahead."""
    by_sender: defaultdict[tuple[str, str], list[Message]] = defaultdict(list)
    for message in seen.messages.values():
        if message.mode in ("collect", "followup") and message.accepted is not None:
            by_sender[message.session, message.sender].append(message)
    for (session, sender), messages in by_sender.items():
        places = seen.talks[session].places if session in seen.talks else {}
        found = [one for one in sorted(messages, key=lambda one: one.accepted_at) if one.id in places]
        for one, other in combinations(found, 2):
            if not one.owed_before(other):
                continue
            if places[one.id] > places[other.id]:
                verdict.add("swapped", session, f"{sender} said {one.id} before {other.id}; they were taken in swapped")
            # a turn that was told to its waiters before the volume let it be written has no number yet
            numbers = [reply["n"] for message in (one, other) for reply in message.replies[:1] if reply["n"]]
            if len(numbers) == 2 and numbers[0] > numbers[1]:
                verdict.add(
                    "swapped", session, f"{one.id} was answered in turn {numbers[0]}, {other.id} in {numbers[1]}"
                )


def _deliveries(seen: Seen, verdict: Verdict) -> None:
    """Each reply to a place stands there once, in order, word for word."""
    sessions = {message.place.partition(":")[2]: message.session for message in seen.messages.values()}
    for place, posts in seen.delivered.items():
        session = sessions.get(place, "")
        talk = seen.talks.get(session) or Talk(session)
        for reply, count in Counter(post["reply"] for post in posts).items():
            if count > 1:
                verdict.add("doubled", session, f"{place} holds {reply} {count} times")
            if reply not in talk.numbers:
                verdict.add("doubled", session, f"{place} holds {reply}, which is no turn")
        numbers = [talk.numbers.get(post["reply"], 0) for post in posts]
        if numbers != sorted(numbers):
            verdict.add("swapped", session, f"{place} holds the turns {numbers}")
    for message in seen.messages.values():
        if not message.place or not message.replies:
            continue
        turn, outcome, text = (message.replies[0][name] for name in ("turn", "outcome", "text"))
        wanted = text if outcome == "answered" else f"({outcome})"
        posts = [post for post in seen.delivered[message.place.partition(":")[2]] if post["reply"] == turn]
        if not posts:
            verdict.add("lost", message.session, f"the reply to {message.id} never came to {message.place}")
        elif outcome != "failed" and posts[0]["text"] != wanted:
            verdict.add("doubled", message.session, f"{message.place} got other words for {message.id}")


def _slack(seen: Seen, verdict: Verdict) -> None:
    """Each reply stands in its thread once, whole and in order, and nothing is left half said."""
    for session, posts in seen.slack.items():
        talk = seen.talks.get(session) or Talk(session)
        for (reply, part), count in Counter((post["reply"], post["part"]) for post in posts).items():
            if not reply:
                verdict.add("lost", session, f"{count} answers in Slack were begun and never finished")
            elif count > 1:
                verdict.add("doubled", session, f"Slack holds part {part} of {reply} {count} times")
            elif reply not in talk.numbers:
                verdict.add("doubled", session, f"Slack holds {reply}, which is no turn")
        numbers = [(talk.numbers.get(post["reply"], 0), post["part"]) for post in posts]
        if numbers != sorted(numbers):
            verdict.add("swapped", session, f"Slack holds the turns and parts {numbers}")


def _canaries(seen: Seen, verdict: Verdict) -> None:
    """The provider's key, and the key that signs messages, are in nothing that was written."""
    for path in sorted(seen.folder.rglob("*")):
        if not path.is_file() or path.name in ("run.json", "mac.key"):
            continue
        data = path.read_bytes()
        for canary in seen.canaries:
            if canary in data:
                verdict.add("canary", "", f"{path.relative_to(seen.folder)} holds a secret")


def _wedged(seen: Seen, verdict: Verdict) -> None:
    for session in seen.sessions:
        status = seen.statuses.get(session, {"state": "nothing is known of it"})
        open_things = {name: status.get(name) for name in ("queue", "deliveries", "deliveries_dropped")}
        if status.get("state") != "idle" or any(open_things.values()):
            verdict.add("wedged", session, f"{status.get('state')}, {open_things}")


def _stalls(seen: Seen, verdict: Verdict) -> None:
    """While somebody waits for an answer, something moves; a reply comes to its place: 15 s at most beyond faults."""
    held = Held(seen)
    answers, deliveries = list(silences(seen, held)), list(late(seen, held))
    verdict.silence_s = max((one.raw_s for one in answers), default=0.0)
    verdict.silences = len(worst([one for one in answers if one.raw_s > STALL_S]))
    verdict.stall_s = max((one.beyond_s for one in answers), default=0.0)
    verdict.late_s = max((one.beyond_s for one in deliveries), default=0.0)
    for found, what in ((answers, "nothing moved"), (deliveries, "its delivery did not come")):
        for one in worst([one for one in found if one.beyond_s > STALL_S]):
            words = f"{what} for {one.beyond_s:.1f} s beyond faults ({one.raw_s:.1f} s in all), from {one.began:.1f} on"
            verdict.add("stall", one.message.session, f"{one.message.id} of {one.message.sender}: {words}")
