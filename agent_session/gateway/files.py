"""Attachments in, artifacts out. What comes out is what a tool or a page said: it is never shown, only saved."""

import asyncio
import mimetypes
import os
import re

from aiohttp import web
from pydantic import Field

from agent_session.domain.limits import SPOOL_BYTES
from agent_session.domain.messages import Attachment, attachment_from
from agent_session.gateway.access import READ, SEND
from agent_session.gateway.body import read_body
from agent_session.gateway.errors import Problem
from agent_session.gateway.route import ANY_BYTES, Answer, Call, Route, Strict, Tolerant
from agent_session.gateway.state import Gateway
from agent_session.paths import UnsafePath, open_regular
from agent_session.transcript.spool import FOLDER
from agent_session.transcript.volume import Volume, VolumeUnavailable

ARTIFACTS = "artifacts"
CALL = re.compile(r"t-[0-9a-f]{16}-[0-9]{1,6}-[0-9]{1,6}")
MEDIA_TYPE = re.compile(r"[\w.+-]{1,60}/[\w.+-]{1,60}", re.ASCII)
UNTOLD = (ANY_BYTES, "application/x-www-form-urlencoded")  #: what clients send that do not say
UPLOADS = 16  #: taken in at a time, as each is held in memory
CHUNK_BYTES = 256 * 1024
DOWNLOAD_S = 600.0  #: of one artifact
DOWNLOAD = {"Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff"}


class Named(Strict):
    name: str = Field(description="The file's name, as people see it.", min_length=1, max_length=200,
                      pattern=r"^[^/\\\x00-\x1f\x7f]+$")  # fmt: skip


class AttachmentAnswer(Tolerant):
    attachment: str = Field(description="To put into a message's `attachments`; valid in this session only.")


async def attach(gateway: Gateway, call: Call) -> web.StreamResponse:
    asked: Named = call.query
    if gateway.uploads >= UPLOADS:
        raise Problem(429, "too_many_uploads", "too many files are being sent; try again", None, {"Retry-After": "2"})
    gateway.uploads += 1
    try:
        limit = min(SPOOL_BYTES, gateway.settings.gateway.max_body_bytes)
        data = await read_body(call.request, limit)
        stored = await call.client.attach(call.key, data, asked.name, _kind(call.request, asked.name))
    finally:
        gateway.uploads -= 1
    return web.json_response(AttachmentAnswer(attachment=stored.wire).model_dump())


def _kind(request: web.Request, name: str) -> str:
    given = request.content_type
    guessed = mimetypes.guess_type(name)[0] or ANY_BYTES
    return given if given not in UNTOLD and MEDIA_TYPE.fullmatch(given) else guessed


async def stored_attachments(gateway: Gateway, key: str, texts: list[str]) -> list[Attachment]:
    """Those that lie in the session's spool. Errors: Problem 400 for others; VolumeUnavailable."""
    found: list[Attachment] = []
    for number, text in enumerate(texts):
        where = f"attachments.{number}"
        try:
            one = attachment_from(text)
        except ValueError as error:
            raise Problem(400, "invalid_field", f"{where}: {error}", where) from None
        if await asyncio.to_thread(_spooled_size, gateway.volume, key, one.ref) != one.size:
            raise Problem(400, "no_such_attachment", f"{where}: this session has no such file: store it first", where)
        found.append(one)
    return found


def _spooled_size(volume: Volume, key: str, ref: str) -> int:
    """-1 when there is none."""
    try:
        with volume.session_folder(key, FOLDER) as handle:
            return os.stat(ref, dir_fd=handle, follow_symlinks=False).st_size
    except FileNotFoundError:
        return -1


async def artifact(gateway: Gateway, call: Call) -> web.StreamResponse:
    name = call.request.match_info["call"]
    descriptor = await asyncio.to_thread(_open_artifact, gateway.volume, call.key, name)
    if descriptor is None:
        raise Problem(
            404, "no_such_artifact", "there is none: results up to 16 KiB stand whole in the transcript", "call"
        )
    try:
        headers = {**DOWNLOAD, "Content-Disposition": f'attachment; filename="{name}.txt"'}
        response = web.StreamResponse(headers=headers)
        response.content_type, response.content_length = ANY_BYTES, os.fstat(descriptor).st_size
        await response.prepare(call.request)
        left = response.content_length
        try:
            async with asyncio.timeout(DOWNLOAD_S):
                while left and (piece := await asyncio.to_thread(os.read, descriptor, min(CHUNK_BYTES, left))):
                    await response.write(piece)
                    left -= len(piece)
        except (OSError, TimeoutError):
            pass  # what is left is noticed below
        if left and call.request.transport is not None:
            call.request.transport.abort()  # a client must not take half of it for the whole
        return response
    finally:
        os.close(descriptor)


def _open_artifact(volume: Volume, key: str, name: str) -> int | None:
    if not CALL.fullmatch(name):
        return None
    try:
        with volume.session_folder(key, ARTIFACTS) as handle:
            return open_regular(handle, name, os.O_RDONLY)
    except (FileNotFoundError, UnsafePath):
        return None
    except OSError as error:
        raise VolumeUnavailable(str(error)) from error


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/sessions/{key}/artifacts/{call}",
        handler=artifact,
        summary="A tool's whole result, as a download",
        scope=READ,
        tag="files",
        answers={200: Answer(about="The result", content=ANY_BYTES)},
        problems=(404,),
    ),
    Route(
        method="POST",
        path="/v1/sessions/{key}/attachments",
        handler=attach,
        summary="Store a file, to send it with a message",
        scope=SEND,
        tag="files",
        query=Named,
        body_content=ANY_BYTES,
        answers={200: Answer(about="Stored", body=AttachmentAnswer)},
    ),
)
