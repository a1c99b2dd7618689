"""What happens in Redis when an event is published, in one step: it is kept for those who come in the middle of a
turn, and told to those who watch.

The id that the stream gives an event travels with it. So whoever subscribes first and reads the stream then knows
of each event that comes whether the stream has shown it: none is missed, none comes twice.
"""

from agent_session.live.events import DROPPED, TURN_ENDED, LiveEvent, decode, encode
from agent_session.live.redis_connection import Word
from agent_session.live.running import RunningTurns

KEPT_S = 900  #: after the last event of a turn that has not ended
KEPT_BYTES = 1024 * 1024  #: of the events of one turn; beyond it the oldest go, half of them at a time
FORGETS = (TURN_ENDED, DROPPED)  #: after these nothing is kept of a session
Position = tuple[int, int]  #: a place in a stream
START: Position = (0, 0)

#: An entry: `b`, how many bytes there are up to it, and `e`, the event. Of a turn that has ended one entry without
#: words stays, so that its place is known.
SCRIPT = """
local name, event, forget, kept_ms, kept_bytes = KEYS[1], ARGV[1], ARGV[2] == '1', ARGV[3], tonumber(ARGV[4])
local id
if forget then
  id = redis.call('XADD', name, 'MAXLEN', 1, '*', 'b', 0, 'e', '')
else
  local newest = redis.call('XREVRANGE', name, '+', '-', 'COUNT', 1)[1]
  local bytes = #event + (newest and tonumber(newest[2][2]) or 0)
  id = redis.call('XADD', name, '*', 'b', bytes, 'e', event)
  local count = redis.call('XLEN', name)
  while count > 1 and bytes - tonumber(redis.call('XRANGE', name, '-', '+', 'COUNT', 1)[1][2][2]) > kept_bytes do
    count = math.floor(count / 2)
    redis.call('XTRIM', name, 'MAXLEN', count)
  end
end
redis.call('PEXPIRE', name, kept_ms)
redis.call('PUBLISH', name, id .. ' ' .. event)
return id
"""

#: The newest id and all events, a line each, as one text: quicker to read than a thousand entries.
KEPT = """
local entries, found = redis.call('XRANGE', KEYS[1], '-', '+'), {}
for i, entry in ipairs(entries) do found[i] = entry[2][4] end
return {#entries > 0 and entries[#entries][1] or '', table.concat(found)}
"""


def load_command() -> tuple[Word, ...]:
    return ("SCRIPT LOAD", SCRIPT)


def publish_command(loaded: bytes, name: str, event: LiveEvent) -> tuple[Word, ...]:
    """`loaded`: what Redis answered to `load_command`."""
    forget = "1" if event.kind in FORGETS else "0"
    return ("EVALSHA", loaded, 1, name, encode(event), forget, KEPT_S * 1000, KEPT_BYTES)


def kept_command(name: str) -> tuple[Word, ...]:
    return ("EVAL", KEPT, 1, name)


def shown_so_far(session: str, place: bytes, kept: bytes) -> tuple[Position, list[LiveEvent]]:
    """From the answer to `kept_command`: up to where it goes, and what the running turn has shown, shortened."""
    events = (decode(line) for line in kept.splitlines())
    running = RunningTurns()
    running.note_all(event for event in events if event is not None and event.session == session)
    return position_of(place) if place else START, running.of(session)


def published(raw: bytes) -> tuple[Position, LiveEvent] | None:
    """What comes over a channel; None for what is none of ours."""
    id, _, event = raw.partition(b" ")
    found = decode(event)
    try:
        return (position_of(id), found) if found is not None else None
    except ValueError:
        return None


def position_of(id: bytes) -> Position:
    """Errors: ValueError."""
    milliseconds, _, number = id.partition(b"-")
    return int(milliseconds), int(number)
