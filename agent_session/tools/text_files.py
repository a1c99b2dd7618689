"""Text in files and pages: which encoding it is in, what a binary file is, some lines or bytes of a large one.

Pure work on bytes and open files, always within a limit; it must not open a path.
"""

import codecs
import io
import mimetypes
import re
from dataclasses import dataclass
from typing import BinaryIO

from agent_session.tools.base import ToolError

SAMPLE_BYTES = 64 * 1024
SCAN_BYTES = 1024 * 1024 * 1024  #: how far lines are counted in a large file
BLOCK_BYTES = 1024 * 1024
MARKS = (  #: utf-32 first: its mark begins with that of utf-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "a zip archive, or a document in one"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x7fELF", "an ELF program or library"),
    (b"SQLite format 3\0", "an SQLite database"),
)
#: Python knows codecs that are no charsets (base64, zip) or that are slow (idna, punycode).
CHARSET = re.compile(
    r"(us-)?ascii|utf-?(8|16|32)([-_]?[lb]e)?|(iso-?)?8859-?\d+|iso-8859-\d+(-[ei])?|latin-?\d|windows-\d+|cp\d+|koi8-?[ru]"
    r"|mac(intosh|-?roman|-?cyrillic)|shift[-_]?jis|sjis|euc[-_]?(jp|kr)|iso-2022-jp|gb(2312|k|18030)|big5(-?hkscs)?",
    re.IGNORECASE,
)
META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?([\w.:-]{1,40})", re.IGNORECASE)
CONTROLS = bytes(code for code in range(32) if code not in b"\t\n\r\f\b\x1b")


@dataclass(frozen=True)
class Encoding:
    name: str
    mark: int = 0  #: bytes of the byte order mark at the start

    @property
    def unit(self) -> int:
        return 4 if "32" in self.name else 2 if "16" in self.name else 1

    @property
    def note(self) -> str:
        """The first line of what is shown; empty for plain UTF-8."""
        with_mark = ", with a byte order mark" if self.mark and self.unit == 1 else ""
        return "" if self.name == "utf-8" and not self.mark else f"(encoding: {self.name}{with_mark})\n"


def encoding_of(sample: bytes) -> Encoding | None:
    """The encoding of a text that begins like this; None for a binary file."""
    for mark, name in MARKS:
        if sample.startswith(mark):
            return Encoding(name, len(mark))
    head = sample[:8192]
    if b"\0" in head or any(head.startswith(magic) for magic, _ in MAGIC):
        return None
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)  # the sample may end within a character
        return Encoding("utf-8")
    except UnicodeDecodeError:
        odd = len(head) - len(head.translate(None, CONTROLS))
        return Encoding("latin-1") if odd * 100 <= len(head) else None


def kind_of(sample: bytes, name: str) -> str:
    """What a binary file is, as far as one can tell."""
    for magic, kind in MAGIC:
        if sample.startswith(magic):
            return kind
    return mimetypes.guess_type(name)[0] or "of a kind that is not known"


def some_bytes(file: BinaryIO, encoding: Encoding, size: int, first: int, count: int) -> str:
    """`count` bytes from `first` on, whole characters, under a line that says how to go on. Errors: ToolError."""
    first -= first % encoding.unit
    if first < 0 or first >= max(size, 1):
        raise ToolError(f"there is no byte {first}: the file has {size}, counted from 0")
    file.seek(first)
    data = file.read(max(count - count % encoding.unit, encoding.unit))
    whole = _without_part_of_a_character(data, encoding) if first + len(data) < size else data
    end = first + len(whole)
    skip = encoding.mark if first == 0 else 0
    more = f"; read on with first_byte={end}" if end < size else ""
    return f"(bytes {first} to {end} of {size}{more})\n{whole[skip:].decode(encoding.name, 'replace')}"


def _without_part_of_a_character(data: bytes, encoding: Encoding) -> bytes:
    if encoding.name == "latin-1":
        return data
    decoder = codecs.getincrementaldecoder(encoding.name)("replace")
    decoder.decode(data)
    left = len(decoder.getstate()[0])
    return data[:-left] if 0 < left < len(data) else data


def some_lines(file: BinaryIO, encoding: Encoding, first: int, last: int, limit: int) -> str:
    """Lines `first` to `last` (0: the end), read as a stream, at most `limit` bytes; where it cuts, it says
    how to go on. Errors: ToolError."""
    file.seek(encoding.mark)
    number, offset, fresh, shown = 1, encoding.mark, True, bytearray()
    while (not last or number <= last) and (piece := file.readline(BLOCK_BYTES)):
        if number >= first:
            room = limit - len(shown)
            if len(piece) > room and fresh and shown:
                return _decoded(shown, encoding) + f"\n… cut before line {number}: read on with first_line={number} …"
            if len(piece) > room:
                shown += piece[:room]
                note = f"\n… cut in line {number}: read on with first_byte={offset + room} …"
                return _decoded(shown, encoding) + note
            shown += piece
        elif offset > SCAN_BYTES:
            raise ToolError(f"line {first} lies beyond the first {SCAN_BYTES} bytes: use first_byte")
        fresh = piece.endswith(b"\n")
        offset += len(piece)
        number += fresh
    if not shown and (first > 1 or last):
        lines = number - fresh
        raise ToolError(f"the file has {lines} lines: there is none from {first} to {last or 'the end'}")
    return _decoded(shown, encoding)


def _decoded(data: bytes | bytearray, encoding: Encoding) -> str:
    return data.decode(encoding.name, "replace")


def as_utf8(file: BinaryIO, encoding: Encoding) -> BinaryIO:
    """A text of wide characters, whole in memory as UTF-8, so that its lines can be found by their ends."""
    file.seek(encoding.mark)
    return io.BytesIO(file.read().decode(encoding.name, "replace").encode("utf-8", "replace"))


def count_lines(file: BinaryIO) -> int | None:
    """How many lines a large file has; None when that takes too long."""
    file.seek(0)
    count, seen, last = 0, 0, b"\n"
    while block := file.read(BLOCK_BYTES):
        count += block.count(b"\n")
        seen += len(block)
        last = block[-1:]
        if seen > SCAN_BYTES:
            return None
    return count + (last != b"\n")


def decoded_page(data: bytes, charset: str, html: bool) -> str:
    """The text of a page: by its byte order mark, its header, its own declaration, else by trial."""
    for mark, name in MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    if not charset and html and (found := META_CHARSET.search(data[:4096])):
        charset = found[1].decode("ascii", "replace")
    if CHARSET.fullmatch(charset):
        latin = charset.lower() in ("iso-8859-1", "latin-1", "latin1", "ascii", "us-ascii")
        try:
            return data.decode("windows-1252" if latin else charset, "replace")  # what the web means by it
        except LookupError:
            pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        cut = error.reason == "unexpected end of data" and error.end == len(data)  # within a character
        return data.decode("utf-8" if cut else "windows-1252", "replace")
