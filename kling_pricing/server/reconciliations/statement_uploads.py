"""Reads an upload of statements, a form in parts (multipart/form-data), into a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, NamedTuple

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.concurrency import run_in_threadpool

from kling_pricing.errors import KlingPricingError
from kling_pricing.server.proxy.incoming import OVERLOADED, BodyError

STATEMENTS, MAPPING = "statements", "mapping_file"
"""The fields of the form with files."""

MEDIA_TYPE = "multipart/form-data"

_MAX_FIELDS, _MAX_FILES, _MAX_FIELD_BYTES, _MAX_NAME_BYTES, _MAX_HEADER_BYTES = 40, 20, 4000, 200, 2000


class Upload(NamedTuple):
    """An upload that is on disk.

    Attributes:
        fields: the fields of the form without files; empty ones are left out.
        statements: the names of the statements, which are in the folder `statements`.
        mapping: the name of the mapping file, which is in the folder `mapping`; None: there is none.
    """

    fields: Mapping[str, str]
    statements: tuple[str, ...]
    mapping: str | None


def boundary_of(content_type: str) -> bytes | None:
    """Returns the boundary of a form in parts; None: the body is not such a form."""
    kind, options = parse_options_header(content_type)
    return options.get(b"boundary") or None if kind.decode("latin-1") == MEDIA_TYPE else None


async def read_upload(
    boundary: bytes,
    parts: AsyncIterator[bytes],
    folder: Path,
    check: Callable[[Mapping[str, str]], None],
) -> Upload:
    """Reads an upload into a folder.

    Args:
        boundary: the boundary of its parts.
        parts: the body, bounded.
        folder: the folder.
        check: called with the fields before the first file is written, and again at the end.

    Raises:
        BodyError: the upload is too large (413) or too slow (408), or the disk is full (503).
        KlingPricingError: it is not a form in parts, or a file has an unusable name.
    """
    with ExitStack() as stack:
        reading = _UploadReading(folder, check, stack)
        parser = MultipartParser(
            boundary,
            {
                "on_part_begin": reading.part_begins,
                "on_header_field": reading.header_field,
                "on_header_value": reading.header_value,
                "on_header_end": reading.header_ends,
                "on_headers_finished": reading.headers_end,
                "on_part_data": reading.data,
                "on_part_end": reading.part_ends,
                "on_end": reading.ends,
            },
        )
        try:
            async for part in parts:
                await run_in_threadpool(parser.write, part)
        except FormParserError:
            raise KlingPricingError("the upload cannot be read; send it as multipart/form-data") from None
        except OSError as error:
            raise BodyError(
                f"the upload cannot be written: {error.strerror}; make room in the work folder",
                status=OVERLOADED,
            ) from None
    if not reading.is_complete:
        raise KlingPricingError("the upload ends too early; send it again")
    check(reading.fields)
    return Upload(reading.fields, tuple(reading.names[STATEMENTS]), next(iter(reading.names[MAPPING]), None))


class _UploadReading:
    """The state of reading one upload. The parser calls its methods."""

    def __init__(self, folder: Path, check: Callable[[Mapping[str, str]], None], stack: ExitStack) -> None:
        self.fields: dict[str, str] = {}
        self.names: dict[str, list[str]] = {STATEMENTS: [], MAPPING: []}
        self.is_complete = False
        self._folder = folder
        self._check = check
        self._stack = stack
        self._count = 0
        self._header = self._value = b""
        self._headers: dict[str, bytes] = {}
        self._field = ""
        self._file: BinaryIO | None = None
        self._is_skipped = False
        self._text = b""

    def part_begins(self) -> None:
        self._count += 1
        if self._count > _MAX_FIELDS:
            raise KlingPricingError(f"the form has more than {_MAX_FIELDS} parts; send fewer")
        self._headers, self._text, self._file, self._is_skipped = {}, b"", None, False

    def header_field(self, data: bytes, start: int, end: int) -> None:
        self._header = self._bounded(self._header + data[start:end])

    def header_value(self, data: bytes, start: int, end: int) -> None:
        self._value = self._bounded(self._value + data[start:end])

    @staticmethod
    def _bounded(header: bytes) -> bytes:
        if len(header) > _MAX_HEADER_BYTES:
            raise KlingPricingError(
                "a part of the form has a header that is too long; give a shorter file name"
            )
        return header

    def header_ends(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = self._value
        self._header = self._value = b""

    def headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if b"filename" not in options:
            return
        name = options[b"filename"].decode("utf-8", "replace")
        if not name:  # a browser sends this if no file was chosen
            self._is_skipped = True
            return
        if self._field not in self.names:
            known = " and ".join(self.names)
            raise KlingPricingError(f"a file must be in one of the fields {known}; send it there")
        self._check(self.fields)
        self._file = self._open(_safe_name(name))

    def _open(self, name: str) -> BinaryIO:
        known = self.names[self._field]
        if len(known) >= (1 if self._field == MAPPING else _MAX_FILES):
            raise KlingPricingError(f"{self._field} has too many files; send fewer")
        if name in known:
            raise KlingPricingError(f"two files have the name {name}; rename one of them")
        known.append(name)
        home = self._folder / ("mapping" if self._field == MAPPING else STATEMENTS)
        home.mkdir(exist_ok=True)
        return self._stack.enter_context((home / name).open("xb"))

    def data(self, data: bytes, start: int, end: int) -> None:
        if self._file is not None:
            self._file.write(data[start:end])
        elif not self._is_skipped:
            self._text += data[start:end]
            if len(self._text) > _MAX_FIELD_BYTES:
                raise KlingPricingError("a field of the form is too long; shorten it")

    def part_ends(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        elif not self._is_skipped:
            try:
                text = self._text.decode("utf-8").strip()
            except UnicodeDecodeError:
                raise KlingPricingError("a field of the form is not UTF-8; send the form as UTF-8") from None
            if self._field in self.fields:
                raise KlingPricingError("a field of the form is given twice; send it once")
            if text:
                self.fields[self._field] = text

    def ends(self) -> None:
        self.is_complete = True


def _safe_name(given: str) -> str:
    """Returns the last part of a file's name. It stays as it is, because reports and books show it.

    Raises:
        KlingPricingError: the name cannot be used.
    """
    name = given.replace("\\", "/").rpartition("/")[2].strip()
    is_long = len(name.encode("utf-8", "replace")) > _MAX_NAME_BYTES
    if not name or name.startswith(".") or not name.isprintable() or is_long:
        raise KlingPricingError(
            f"a file needs a printable name of at most {_MAX_NAME_BYTES} bytes that does not begin with a "
            "dot; rename the file"
        )
    return name
