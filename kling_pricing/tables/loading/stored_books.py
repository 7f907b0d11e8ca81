"""Stored price books: the one that is compiled into the wheel, and those in the user's cache.

A stored book is a JSON file with the book (`book_json`) and two digests.
The first covers every YAML file of the book and the code that reads them, so a book is used only for the same
files and the same code. The second covers the book's text, and so shows damage.
If anything is missing or differs, the book is read from YAML instead.

The cache is a folder of mode 0700. A book in it is used only if the folder and the file belong to this user and
nobody else can write them. A system that cannot tell, such as Windows, has no cache.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO

from kling_pricing.errors import TableError
from kling_pricing.tables import IMPORTED_AT_NS
from kling_pricing.tables.book_json import book_from_json, book_to_json
from kling_pricing.tables.loading.folders import TableFiles, bundled_folder, package_folder
from kling_pricing.tables.price_book import PriceBook

CACHE_VARIABLE = "KLING_PRICING_CACHE"
"""The environment variable that names the folder of the cache, or turns the cache off with the value `off`."""

COMPILED_NAME = "book.json"
"""The compiled book's name in the bundled folder."""

MAX_CACHED = 8
"""The most books in the cache; beyond that, the oldest are removed."""

_BOOK_KINDS = {"prices", "capabilities", "providers"}
_CODE_FOLDERS = ("strict_yaml", "tables", "wire")
"""The parts of the package that decide which book some files give, besides its top-level modules."""

_CACHED_NAME = re.compile(r"price-book-[^/]*\.json")
_UNFINISHED_NAME = re.compile(r"\.price-book-[0-9a-f]{16}")
_CLOCK_STEP_NS = 100_000_000
"""File systems note the time of a change less exactly than this."""

_ABANDONED_S = 3600
"""The age after which an unfinished file is removed, because its process was killed."""


def sources_digest(files: TableFiles, *, is_build: bool = False) -> str | None:
    """Returns the digest of everything that decides which book some files give.

    Args:
        files: the files.
        is_build: whether a wheel is being built, from files that may have been unpacked a moment ago.

    Returns:
        The SHA-256 in hexadecimal; None if a file cannot be read or the code that runs is not known, in which
        case no stored book may be used.
    """
    digest = sha256()
    try:
        sources = {"/".join(path): file.data for path, file in files.items() if path[0] in _BOOK_KINDS}
        code = _code(is_build=is_build)
    except (TableError, OSError):
        return None
    if not code:
        return None
    for name, data in (sources | code).items():
        digest.update(f"{name} {len(data)}\n".encode("utf-8", "surrogateescape"))
        digest.update(data)
    return digest.hexdigest()


def _code(*, is_build: bool) -> dict[str, bytes]:
    """Returns the source of the code that reads tables, and of the package's version; empty if it is not known.

    The version alone would not do, because in a checkout the code changes without it. The source is that of the
    code that runs only if no file has changed since this process imported it, as an upgrade would change it.

    Raises:
        OSError: a file cannot be read.
    """
    package = package_folder()
    if not isinstance(package, Path) or not (package / "__init__.py").is_file():
        return {}
    folders = (package / name for name in _CODE_FOLDERS)
    paths = [*package.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    last_change_ns = max(path.stat().st_ctime_ns for path in paths)
    if last_change_ns > IMPORTED_AT_NS - _CLOCK_STEP_NS and not is_build:
        return {}
    names = {path.relative_to(package).as_posix(): path for path in paths}
    return {name: names[name].read_bytes() for name in sorted(names)}


def stored_text(digest: str, book: PriceBook) -> str:
    """Returns the JSON text in which a book is stored.

    Args:
        digest: the digest of its sources, from `sources_digest`.
        book: the book.
    """
    text = book_to_json(book)
    return f"{_head(digest)}{sha256(text.encode()).hexdigest()}{_BEFORE_BOOK}{text}{_END}"


_BEFORE_BOOK, _END = '",\n"book":', "}\n"


def _head(digest: str) -> str:
    return f'{{"sources":"{digest}","sha256":"'


def _book_in(stream: IO[bytes], digest: str) -> PriceBook | None:
    """Returns the book in a stored text; None if it has other sources or is damaged."""
    head = _head(digest).encode()
    if stream.read(len(head)) != head:
        return None
    rest = stream.read()
    start = 64 + len(_BEFORE_BOOK)
    text = rest[start : -len(_END)]
    if rest != f"{sha256(text).hexdigest()}{_BEFORE_BOOK}".encode() + text + _END.encode():
        return None
    try:
        return book_from_json(text)
    except Exception:  # noqa: BLE001 (whatever is wrong with it, the YAML files are right)
        return None


def stored_book(digest: str) -> PriceBook | None:
    """Returns the stored book with these sources; None if there is none that can be trusted."""
    with suppress(OSError), (bundled_folder() / COMPILED_NAME).open("rb") as stream:
        if (book := _book_in(stream, digest)) is not None:
            return book
    with suppress(OSError), _cache(create=False) as folder:
        if folder is not None:
            return _cached_book(folder, digest)
    return None


def _cached_book(folder: int, digest: str) -> PriceBook | None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # without a wait if it is a pipe
    file = os.open(_cached_name(digest), flags, dir_fd=folder)
    with os.fdopen(file, "rb") as stream:
        status = os.fstat(file)
        is_plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
        return _book_in(stream, digest) if is_plain and _is_own(status) else None


def store_book(digest: str, book: PriceBook) -> None:
    """Puts a book into the cache, and removes the oldest books; does nothing if the cache cannot be used."""
    with suppress(OSError), _cache(create=True) as folder:
        if folder is None:
            return
        unfinished = f".price-book-{os.urandom(8).hex()}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(unfinished, flags, 0o600, dir_fd=folder)
        try:
            with os.fdopen(file, "w", encoding="ascii") as stream:
                stream.write(stored_text(digest, book))
            os.rename(unfinished, _cached_name(digest), src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(unfinished, dir_fd=folder)
            raise
        _remove_old(folder)


def _cached_name(digest: str) -> str:
    return f"price-book-{digest}.json"


def _remove_old(folder: int) -> None:
    with os.scandir(folder) as entries:
        ages = {entry.name: entry.stat(follow_symlinks=False).st_mtime for entry in entries}
    cached = sorted(filter(_CACHED_NAME.fullmatch, ages), key=ages.__getitem__, reverse=True)
    abandoned_before = time.time() - _ABANDONED_S
    unfinished = [name for name in filter(_UNFINISHED_NAME.fullmatch, ages) if ages[name] < abandoned_before]
    for name in (*cached[MAX_CACHED:], *unfinished):
        with suppress(OSError):
            os.unlink(name, dir_fd=folder)


def cache_problem() -> str | None:
    """Returns why this process cannot keep a compiled price book; None: it can, or the cache is turned off.

    Creates the folder of the cache if it is missing.
    """
    try:
        with _cache(create=True) as folder:
            if folder is None and cache_folder() is not None:
                return "another user owns it or can write it"
            if folder is not None and not os.access(".", os.W_OK, dir_fd=folder):
                return "it cannot be written"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return None


@contextmanager
def _cache(*, create: bool) -> Iterator[int | None]:
    """Opens the folder of the cache; gives None if there is none or it cannot be trusted.

    Raises:
        OSError: it cannot be opened.
    """
    path = cache_folder()
    if path is None or not hasattr(os, "geteuid") or os.open not in os.supports_dir_fd:
        yield None
        return
    if create:
        _create(path)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield folder if _is_own(os.fstat(folder)) else None
    finally:
        os.close(folder)


def cache_folder() -> Path | None:
    """Returns the folder of the cache; None if it is turned off or the user has no home folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return None if chosen.lower() == "off" else Path(chosen)
    usual = "~/Library/Caches" if sys.platform == "darwin" else os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        base = Path(usual).expanduser()
    except RuntimeError:
        return None
    return base / "kling-pricing" if base.is_absolute() else None


def _create(path: Path) -> None:
    """Creates the folder of the cache, but not in another user's home, which `sudo` may keep."""
    if not path.exists():
        existing = next(parent for parent in path.absolute().parents if parent.exists())
        if existing.stat().st_uid == os.geteuid() or os.environ.get(CACHE_VARIABLE):
            path.mkdir(0o700, parents=True, exist_ok=True)


def _is_own(status: os.stat_result) -> bool:
    """Returns whether this user owns a file or folder and nobody else can write it."""
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
