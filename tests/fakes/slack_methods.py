"""The methods of Slack's Web API that the fake knows. Each takes the arguments and returns the answer.

Names, arguments, errors and limits are those of Slack's reference; what a method changes, the app is
told by an event, as Slack does.
"""

from collections.abc import Callable
from typing import Any

from tests.fakes.slack_state import APP, BOT, BOT_USER, TEAM, File, Json, SlackError, Workspace

TEXT_CHARS, STREAM_CHARS, SECTION_CHARS, BLOCKS = 40_000, 12_000, 3_000, 50
Method = Callable[[Json], Json]


class Methods:
    """`emit(event)` tells the app, `url(path)` is an address of this server, `connect()` a new socket's."""

    def __init__(
        self,
        workspace: Workspace,
        emit: Callable[[Json], Any],
        url: Callable[[str], str],
        connect: Callable[[], str],
    ) -> None:
        self._workspace, self._emit, self._url, self._connect = workspace, emit, url, connect

    def named(self, name: str) -> Method:
        found = getattr(self, name.replace(".", "_"), None)
        if found is None or name.startswith(("_", "named")):
            raise SlackError("unknown_method", req_method=name)
        return found

    # --- who and where ---

    def auth_test(self, given: Json) -> Json:
        return {
            "url": self._url("/"), "team": "Team", "user": "agent", "team_id": TEAM,
            "user_id": BOT_USER, "bot_id": BOT, "is_enterprise_install": False,
        }  # fmt: skip

    def apps_connections_open(self, given: Json) -> Json:
        return {"url": self._connect()}

    def users_info(self, given: Json) -> Json:
        found = self._workspace.users.get(given.get("user", ""))
        if found is None:
            raise SlackError("user_not_found")
        return {"user": found}

    def conversations_open(self, given: Json) -> Json:
        return {"channel": {"id": self._workspace.dm(given.get("users", ""))}}

    def conversations_info(self, given: Json) -> Json:
        return {"channel": self._workspace.place(given.get("channel", ""))}

    def conversations_history(self, given: Json) -> Json:
        channel = self._place_of_member(given)
        return _page(list(reversed(self._workspace.top(channel))), given)

    def conversations_replies(self, given: Json) -> Json:
        found = self._workspace.thread(self._place_of_member(given), given.get("ts", ""))
        if not found:
            raise SlackError("thread_not_found")
        return _page(found, given)

    def _place_of_member(self, given: Json) -> str:
        """A conversation, or the direct messages with a person who is named instead."""
        channel = str(given.get("channel", ""))
        if channel in self._workspace.users:
            channel = self._workspace.dm(channel)
        if not self._workspace.place(channel)["is_member"]:
            raise SlackError("not_in_channel")
        return channel

    # --- messages ---

    def chat_postMessage(self, given: Json) -> Json:
        channel = self._place_of_member(given)
        given = _with_markdown(given)
        _check(given)
        names = ("text", "blocks", "thread_ts", "metadata", "attachments", "unfurl_links", "unfurl_media")
        kept = {name: given[name] for name in names if name in given}
        message = self._workspace.put(channel, {"user": BOT_USER, "bot_id": BOT, "app_id": APP, "text": "", **kept})
        self._emit(_event(channel, message))
        return {"channel": channel, "ts": message["ts"], "message": message}

    def chat_update(self, given: Json) -> Json:
        channel = self._place_of_member(given)
        message = self._own(channel, given, "cant_update_message")
        if message.get("streaming_state") == "in_progress":
            raise SlackError("streaming_state_conflict")
        given = _with_markdown(given)
        _check(given, update=True)
        before = dict(message)
        message.update({name: given[name] for name in ("text", "blocks", "metadata", "attachments") if name in given})
        message["edited"] = {"user": BOT_USER, "ts": self._workspace.ts()}
        changed = {"subtype": "message_changed", "message": dict(message), "previous_message": before}
        self._emit(_event(channel, {"type": "message", "ts": self._workspace.ts(), **changed}))
        return {"channel": channel, "ts": message["ts"], "text": message.get("text", ""), "message": message}

    def chat_delete(self, given: Json) -> Json:
        channel = self._place_of_member(given)
        message = self._own(channel, given, "cant_delete_message")
        self._workspace.remove(channel, message["ts"])
        gone = {"subtype": "message_deleted", "deleted_ts": message["ts"], "previous_message": message}
        self._emit(_event(channel, {"type": "message", "ts": self._workspace.ts(), **gone}))
        return {"channel": channel, "ts": message["ts"]}

    def chat_postEphemeral(self, given: Json) -> Json:
        channel = self._place_of_member(given)
        if given.get("user") not in self._workspace.users:
            raise SlackError("user_not_in_channel")
        _check(given)
        self._workspace.ephemerals.append({**given, "channel": channel})
        return {"message_ts": self._workspace.ts()}

    def _own(self, channel: str, given: Json, refusal: str) -> Json:
        message = self._workspace.need(channel, str(given.get("ts", "")))
        if message.get("bot_id") != BOT:
            raise SlackError(refusal)
        return message

    # --- messages that grow ---

    def chat_startStream(self, given: Json) -> Json:
        channel = self._place_of_member(given)
        if not given.get("thread_ts"):
            raise SlackError("invalid_arguments")
        if not self._workspace.place(channel).get("is_im"):
            for name in ("recipient_team_id", "recipient_user_id"):
                if not given.get(name):
                    raise SlackError(f"missing_{name}")
        text = _streamed(given)
        kept = {"user": BOT_USER, "bot_id": BOT, "app_id": APP, "thread_ts": given["thread_ts"]}
        message = self._workspace.put(channel, {**kept, "text": text, "streaming_state": "in_progress"})
        self._emit(_event(channel, message))
        return {"channel": channel, "ts": message["ts"]}

    def chat_appendStream(self, given: Json) -> Json:
        channel, message = self._growing(given)
        message["text"] += _streamed(given)
        return {"channel": channel, "ts": message["ts"]}

    def chat_stopStream(self, given: Json) -> Json:
        channel, message = self._growing(given)
        message["text"] += _streamed(given)
        message["streaming_state"] = "completed"
        message.update({name: given[name] for name in ("blocks", "metadata") if name in given})
        return {"channel": channel, "ts": message["ts"], "message": message}

    def _growing(self, given: Json) -> tuple[str, Json]:
        channel = self._place_of_member(given)
        message = self._own(channel, given, "message_not_owned_by_app")
        if message.get("streaming_state") != "in_progress":
            raise SlackError("message_not_in_streaming_state")
        return channel, message

    def assistant_threads_setStatus(self, given: Json) -> Json:
        self._workspace.place(given.get("channel_id", ""))
        self._workspace.statuses.append(given)
        return {}

    def assistant_threads_setTitle(self, given: Json) -> Json:
        self._workspace.need(given.get("channel_id", ""), given.get("thread_ts", ""))
        return {}

    def reactions_add(self, given: Json) -> Json:
        message = self._workspace.need(given.get("channel", ""), given.get("timestamp", ""))
        names = message.setdefault("reactions", [])
        if given["name"] in names:
            raise SlackError("already_reacted")
        names.append(given["name"])
        return {}

    def reactions_remove(self, given: Json) -> Json:
        message = self._workspace.need(given.get("channel", ""), given.get("timestamp", ""))
        if given["name"] not in message.get("reactions", []):
            raise SlackError("no_reaction")
        message["reactions"].remove(given["name"])
        return {}

    def views_open(self, given: Json) -> Json:
        view = {"id": f"V{self._workspace.number():08d}", **given.get("view", {})}
        self._workspace.views.append(view)
        return {"view": view}

    views_publish = views_push = views_update = views_open

    # --- files ---

    def files_getUploadURLExternal(self, given: Json) -> Json:
        made = self._workspace.file(given["filename"], b"")
        made.more = {"expected": int(given["length"])}
        return {"upload_url": self._url(f"/upload/{made.id}"), "file_id": made.id}

    def files_completeUploadExternal(self, given: Json) -> Json:
        found = [self._file(one["id"]) for one in given["files"]]
        for file in found:
            if len(file.data) != file.more.pop("expected", len(file.data)):
                raise SlackError("invalid_upload")
            file.url = self._url(f"/files-pri/{TEAM}-{file.id}/{file.name}")
        if given.get("channel_id"):
            kept = {"channel": given["channel_id"], "text": given.get("initial_comment", "")}
            thread = {"thread_ts": given["thread_ts"]} if given.get("thread_ts") else {}
            channel = self._place_of_member(kept)
            message = {"user": BOT_USER, "bot_id": BOT, "app_id": APP, "files": [file.shown() for file in found]}
            self._workspace.put(channel, {**message, "text": kept["text"], **thread})
        return {"files": [{"id": file.id, "title": file.name} for file in found]}

    def files_info(self, given: Json) -> Json:
        shown = self._file(given.get("file", "")).shown()
        return {"file": {name: value for name, value in shown.items() if name != "file_access"}}

    def _file(self, id: str) -> File:
        if id not in self._workspace.files:
            raise SlackError("file_not_found")
        return self._workspace.files[id]


def _event(channel: str, message: Json) -> Json:
    return {**message, "type": "message", "channel": channel, "event_ts": message["ts"]}


def _with_markdown(given: Json) -> Json:
    """`markdown_text` stands for the text, and for the blocks."""
    if "markdown_text" not in given:
        return given
    if given.get("text") or given.get("blocks"):
        raise SlackError("markdown_text_conflict")
    if len(given["markdown_text"]) > STREAM_CHARS:
        raise SlackError("msg_too_long")
    return {**given, "text": given["markdown_text"], "blocks": []}


def _check(given: Json, *, update: bool = False) -> None:
    blocks = given.get("blocks") or []
    if not (given.get("text") or blocks or given.get("attachments") or update):
        raise SlackError("no_text")
    if len(given.get("text") or "") > TEXT_CHARS:
        raise SlackError("msg_too_long")
    if len(blocks) > BLOCKS:
        raise SlackError("invalid_blocks", response_metadata={"messages": ["[ERROR] no more than 50 items allowed"]})
    for block in blocks:
        text = (block.get("text") or {}).get("text", "") if isinstance(block.get("text"), dict) else ""
        if block["type"] == "section" and not (0 < len(text) <= SECTION_CHARS or block.get("fields")):
            raise SlackError("invalid_blocks", response_metadata={"messages": ["[ERROR] section text: 1 to 3000"]})
        if block["type"] == "markdown" and len(block.get("text", "")) > STREAM_CHARS:
            raise SlackError("msg_too_long")
    metadata = given.get("metadata")
    if metadata and not (isinstance(metadata.get("event_type"), str) and isinstance(metadata["event_payload"], dict)):
        raise SlackError("invalid_metadata_format")


def _streamed(given: Json) -> str:
    chunks = given.get("chunks") or []
    text = (given.get("markdown_text") or "") + "".join(one.get("text", "") for one in chunks)
    if len(text) > STREAM_CHARS:
        raise SlackError("msg_too_long")
    return text


def _page(messages: list[Json], given: Json) -> Json:
    """The page that the arguments ask for; metadata only on request."""
    oldest, latest, edge = given.get("oldest"), given.get("latest"), str(given.get("inclusive", "")).lower()
    inclusive = edge in ("1", "true")
    if oldest:
        messages = [one for one in messages if one["ts"] > str(oldest) or (inclusive and one["ts"] == str(oldest))]
    if latest:
        messages = [one for one in messages if one["ts"] < str(latest) or (inclusive and one["ts"] == str(latest))]
    start, limit = int(given.get("cursor") or 0), int(given.get("limit") or 100)
    page = messages[start : start + limit]
    if str(given.get("include_all_metadata", "")).lower() not in ("1", "true"):
        page = [{name: value for name, value in one.items() if name != "metadata"} for one in page]
    more = start + limit < len(messages)
    following = {"next_cursor": str(start + limit) if more else ""}
    return {"messages": page, "has_more": more, "response_metadata": following}
