"""Putting a report's files in their folder: in the place of an earlier report's files, and of nobody else's.

A file in the folder is an earlier report's if our manifest there vouches for its bytes; every other file, and
one that was changed since it was written, belongs to somebody.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from shutil import copyfile
from typing import Any

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.reports.manifest import NAME, WRITER, Manifest, digest_of

_OURS = re.compile(r"[a-z][a-z_]*\.(html|xlsx|csv|parquet|json|jsonl)")
"""How our files are named: no name of a manifest leads out of its folder, or to another kind of file."""


def ensure_free(folder: Path, names: Iterable[str]) -> None:
    """Makes sure that files can be put into a folder without taking the place of anybody's.

    Raises:
        KlingPricingError: something there is not an earlier report's; nothing was changed.
    """
    earlier = _earlier(folder)
    taken = [
        name for name in names if os.path.lexists(folder / name) and not _is_earlier(folder / name, earlier)
    ]
    if os.path.lexists(folder / NAME) and _read(folder / NAME) is None:
        taken.append(NAME)
    if taken:
        raise KlingPricingError(
            f"the report is not written: in {folder} there is already {', '.join(map(shown, sorted(taken)))}, "
            "not written by an earlier report, or changed since; move it away, or name another folder"
        )


def put_in_place(aside: Path, folder: Path, found: Manifest) -> None:
    """Moves a report's files and its manifest into a folder, and an earlier report's out of it.

    Until all are there the manifest vouches for the files of both reports, so that a later report also knows
    them as ours where this one was killed.

    Args:
        aside: where they are, in the folder itself, so that moving them copies nothing.
        folder: where they are to be.
        found: the files, whose manifest is among them.

    Raises:
        KlingPricingError: as for `ensure_free`.
        OSError: they cannot be moved; the folder is as it was.
    """
    ensure_free(folder, found.files)
    earlier = _earlier(folder)
    names = [
        *found.files,
        *(name for name in earlier if name not in found.files and _is_earlier(folder / name, earlier)),
    ]
    replaced, between = aside / "replaced", aside / "between.json"
    replaced.mkdir()
    between.write_text(_of_both(earlier, found), encoding="utf-8")
    if (folder / NAME).exists():
        copyfile(folder / NAME, replaced / NAME)
    try:
        between.replace(folder / NAME)
        for name in names:
            with suppress(FileNotFoundError):
                (folder / name).replace(replaced / name)
            if name in found.files:
                (aside / name).replace(folder / name)
        (aside / NAME).replace(folder / NAME)
    except BaseException:
        for name in [*names, NAME]:
            before = replaced / name
            if before.exists():
                before.replace(folder / name)
            elif name == NAME or (name in found.files and not (aside / name).exists()):
                (folder / name).unlink(missing_ok=True)
        raise


def _read(path: Path) -> dict[str, Any] | None:
    """A manifest of ours; None: it is somebody else's, or none at all."""
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(path.read_text(encoding="utf-8"))
        if not path.is_symlink() and isinstance(found, dict) and found.get("written_by") == WRITER:
            return found
    return None


def _earlier(folder: Path) -> dict[str, set[str]]:
    """Names of an earlier report's files -> their SHA-256; two where one report was to replace another."""
    digests: dict[str, set[str]] = {}
    with suppress(KeyError, TypeError):
        for each in (_read(folder / NAME) or {"files": ()})["files"]:
            if _OURS.fullmatch(each["name"]) and each["name"] != NAME:
                digests.setdefault(each["name"], set()).add(each["sha256"])
    return digests


def _is_earlier(path: Path, digests: Mapping[str, set[str]]) -> bool:
    """Whether a file is there as an earlier report wrote it."""
    own = digests.get(path.name)
    return own is not None and path.is_file() and not path.is_symlink() and digest_of(path) in own


def _of_both(earlier: Mapping[str, set[str]], found: Manifest) -> str:
    """The manifest while the files of one report take the place of another's."""
    both = [*((name, each) for name in earlier for each in sorted(earlier[name])), *found.files.items()]
    files = [{"name": name, "sha256": digest} for name, digest in both]
    return json.dumps({"written_by": WRITER, "unfinished": True, "files": files})
