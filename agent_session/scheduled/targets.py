"""Where answers go: refused at once when the channel could never post there, not when the first answer is due.

Each channel reads its own places; one whose settings are absent here reads them, too.
"""

from agent_session.domain import schedules as domain
from agent_session.settings import Settings
from channels import load_channel


def checked_target(text: str, settings: Settings) -> str:
    """`last`, `none`, or an address that its channel can post to. Errors: BadSchedule; BadSettings (routes)."""
    target = domain.checked_target(text)
    if target not in (domain.LAST, domain.NONE):
        try:
            check_address(target, settings)
        except ValueError as error:
            raise domain.BadSchedule(str(error)) from None
    return target


def check_address(address: str, settings: Settings) -> None:
    """Of a place, `<channel>:<place>`. Errors: ValueError for one that can never be posted to, or whose channel
    nobody has; BadSettings (routes)."""
    name, _, place = address.partition(":")
    channel = load_channel(name, settings)
    if not channel.capabilities.delivers:
        raise ValueError(f"channel {name!r} delivers nothing: name a place that can be written to, like file:notes")
    channel.check_place(place)
