"""One connection to Redis: the only module that knows the package `redis`.

Never sends anything again by itself: a command that was sent twice would be an event shown twice. Every fault is
an OSError that names the server, never its password nor what was sent.
"""

from collections.abc import Awaitable, Sequence
from functools import cache
from typing import Any

from pydantic import SecretStr

from agent_session.settings import BadSettings

CONNECT_S = 5.0
NO_ADDRESS = (
    "live.url is no address of Redis: write redis://:PASSWORD@HOST:6379/0, rediss://… for TLS, or unix:///PATH; "
    "what is special in a password is percent-encoded"
)
Word = str | bytes | int


class RedisAway(OSError):
    """Redis cannot be reached, refuses, or does not answer in time; the message says which. Try again later."""


class RedisAddress:
    """Where Redis is, with whatever the package's URLs can say (`?ssl_ca_certs=…`). Errors: BadSettings."""

    def __init__(self, url: SecretStr) -> None:
        try:
            from redis.asyncio import connection as library
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
        except ImportError:
            raise BadSettings(
                "live.url is set, but the package redis is not installed: pip install 'agent-session[redis]'"
            ) from None
        try:
            given: dict[str, Any] = dict(library.parse_url(url.get_secret_value()))
            self._make: Any = given.pop("connection_class", library.Connection)
            #: ours comes last: what a URL may add must not change how answers read
            ours = {"protocol": 2, "decode_responses": False, "retry_on_timeout": False}
            self._how = {"socket_connect_timeout": CONNECT_S, **given, **ours, "retry": Retry(NoBackoff(), 0)}
            self.connection(CONNECT_S)
        except (ValueError, TypeError, RedisError):  # their words may hold a piece of the password
            raise BadSettings(NO_ADDRESS) from None
        if "host" not in given and "path" not in given:  # an unescaped slash in the password, most likely
            raise BadSettings(NO_ADDRESS)
        self._password = str(given.get("password", ""))
        self._words = str(given.get("path") or f"{given['host']}:{given.get('port', 6379)}")

    def connection(self, silence_s: float) -> "RedisConnection":
        """Not open yet. A server that says nothing for so long, where something is expected, is away."""
        return RedisConnection(self, self._make(**{**self._how, "socket_timeout": silence_s}))

    def fault(self, error: Exception) -> RedisAway:
        """The error in our words. Redis repeats a command that it does not know, with what was to be said."""
        said = (str(error).splitlines() or [""])[0].partition(", with args")[0] or type(error).__name__
        said = said.replace(self._password, "********") if self._password else said
        return RedisAway(f"Redis at {self._words}: {said[:200]}")


@cache
def redis_address(url: SecretStr) -> RedisAddress:
    """The same one for the same URL: whoever shares it may share a connection. Errors: BadSettings."""
    return RedisAddress(url)


class RedisConnection:
    """Not for two tasks at once, except one that sends and one that receives."""

    def __init__(self, address: RedisAddress, connection: Any) -> None:
        self._address, self._connection = address, connection

    async def open(self) -> None:
        """Errors: RedisAway."""
        await self._do(self._connection.connect())

    async def call(self, *commands: Sequence[Word]) -> list[Any]:
        """Answers to commands that are sent in one go; the connection is opened where it is not. Errors: RedisAway,
        also when Redis refuses one."""
        await self._do(self._connection.send_packed_command(self._connection.pack_commands(commands)))
        return [await self.receive() for _ in commands]

    async def send(self, *command: Word) -> None:
        """Errors: RedisAway."""
        if not self._connection.is_connected:  # the library would open it again, and what came meanwhile were lost
            raise self._address.fault(ConnectionError("the connection was lost"))
        await self._do(self._connection.send_command(*command))

    async def receive(self) -> Any:
        """What Redis says next. Errors: RedisAway."""
        return await self._do(self._connection.read_response())

    async def close(self) -> None:
        await self._connection.disconnect(nowait=True)

    async def _do(self, asked: Awaitable[Any]) -> Any:
        try:
            return await asked
        except Exception as error:  # also whatever the library does where the other task has just closed it
            await self.close()  # answers to what was sent may still come: they must not be taken for others
            raise self._address.fault(error) from None
