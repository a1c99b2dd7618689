"""The plan of a run: who says what, and which fault comes when. A pure function of the seed and the sizes.

Must not touch a process or a file: `senders.py` and `faults.py` carry the plan out.
"""

import random
from dataclasses import dataclass

MODES = (("collect", 45), ("followup", 40), ("steer", 10), ("interrupt", 5))
EFFECTS = (("say", 50), ("after", 30), ("before", 20))
SENDERS = ("a", "b")
PAIRS = (("", 84), ("raced", 8), ("behind", 8))
CLI, HTTP, SLACK = "cli", "http", "slack"

#: how often each fault comes beside the kills, for every hundred seconds of a run
RATES = {"stop": 6.0, "temporal": 3.0, "model": 6.0, "full": 2.5, "read_only": 2.5, "torn": 6.0, "drain": 2.0,
         "gateway": 3.0, "slack": 3.0}  # fmt: skip
MODEL_FAULTS = ("500", "503", "429", "hang", "break", "garbage")


@dataclass(frozen=True)
class Said:
    """One message, and what is done to its sending."""

    id: str
    session: str
    sender: str
    order: int  #: its place among what this sender says in this session
    at_s: float
    mode: str
    text: str
    effect: str  #: say, or a command with its effect `before` or `after` it sleeps
    place: str = ""  #: where its reply is delivered to, besides
    again: str = ""  #: `now`: sent twice at once; `late`: once more after its answer; `old`: after the sender's next
    pair: str = ""  #: with the sender's next: `raced`: both at once; `behind`: given up, and sent again after it


@dataclass(frozen=True)
class Fault:
    at_s: float
    kind: str
    target: int = 0  #: which worker, which session; taken modulo how many there are
    length_s: float = 0.0
    how: str = ""


@dataclass(frozen=True)
class Plan:
    seed: int
    seconds: float
    sessions: tuple[str, ...]
    said: tuple[Said, ...]
    faults: tuple[Fault, ...]


def make_plan(seed: int, messages: int, sessions: int, kills: int, seconds: float) -> Plan:
    chance = random.Random(seed)
    names = tuple(f"s{number:02}" for number in range(sessions))
    said = [one for number, name in enumerate(names) for one in _talk(chance, name, number, messages, names, seconds)]
    faults = sorted(_faults(chance, kills, seconds), key=lambda fault: fault.at_s)
    return Plan(seed, seconds, names, tuple(said), tuple(faults))


def _talk(
    chance: random.Random, name: str, number: int, messages: int, names: tuple[str, ...], seconds: float
) -> list[Said]:
    """What is said in one session, evenly over the time, as five senders. In Slack one waits for each answer."""
    count = messages // len(names) + (number < messages % len(names))
    orders = dict.fromkeys((*SENDERS, HTTP, SLACK, CLI), 0)
    found: list[Said] = []
    for index in range(count):
        sender = CLI if chance.random() < 0.02 else chance.choice((*SENDERS, HTTP, SLACK))
        effect = _one_of(chance, EFFECTS)
        identifier = f"m-{number:04}-{index:04}"
        found.append(
            Said(
                id=identifier,
                session=name,
                sender=sender,
                order=orders[sender],
                at_s=round(seconds * 0.92 * index / count + chance.uniform(0, 1.0), 2),
                mode=_one_of(chance, MODES) if sender != SLACK else "collect",
                text=_text(chance, identifier, effect),
                effect=effect,
                place=f"file:{name}-{sender}" if chance.random() < 0.4 and sender not in (HTTP, SLACK) else "",
                again=_one_of(chance, (("", 82), ("now", 6), ("late", 6), ("old", 6))),
                pair=_one_of(chance, PAIRS) if sender in (*SENDERS, HTTP) else "",
            )
        )
        orders[sender] += 1
    return found


def _text(chance: random.Random, identifier: str, effect: str) -> str:
    """The scripted model reads these words; a few texts are too long for a signal, a few answers for a result."""
    if effect == "say":
        words = f"{identifier} say"
        words += " wide" if chance.random() < 0.04 else ""
    else:
        nap_s = chance.choice((0, 0, 0, 0.1, 0.3, 1.0, 2.5))
        words = f"{identifier} do {effect} {nap_s}"
        words += chance.choice(("", "", "", "", " loud", " peek")) if chance.random() < 0.3 else ""
    return words + (" " + "x" * chance.randint(2_500, 6_000) if chance.random() < 0.04 else "")


def _faults(chance: random.Random, kills: int, seconds: float) -> list[Fault]:
    """Kills are spread evenly, some in pairs; the rest comes at random, once a kind at least."""
    found: list[Fault] = []
    for number in range(kills):
        at_s = seconds * 0.95 * (number + chance.random()) / max(1, kills)
        pair = number and chance.random() < 0.15
        found.append(Fault(found[-1].at_s if pair else max(1.0, at_s), "kill", chance.randrange(1000)))
    for kind, rate in RATES.items():
        for _ in range(max(1, round(rate * seconds / 100))):
            at_s, length_s = chance.uniform(0.05, 0.9) * seconds, 0.0
            how = ""
            if kind == "stop":
                length_s = chance.uniform(2, 10)
            elif kind in ("full", "read_only"):
                length_s = chance.uniform(2, 5)
            elif kind == "model":
                length_s, how = chance.uniform(1, 3), chance.choice(MODEL_FAULTS)
            elif kind in ("temporal", "drain", "gateway", "slack"):
                length_s = chance.uniform(0.2, 2)
            found.append(Fault(at_s, kind, chance.randrange(1000), round(length_s, 2), how))
    return found


def _one_of(chance: random.Random, choices: tuple[tuple[str, int], ...]) -> str:
    words, weights = zip(*choices, strict=True)
    return chance.choices(words, weights)[0]
