"""Moving a report's files into their folder, where they replace the files of an earlier report and no others.

A file in the folder belongs to an earlier report if our manifest there lists its bytes.
Every other file, and every file that was changed since a report wrote it, belongs to the user.
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

_REPORT_FILE = re.compile(r"[a-z][a-z0-9_]*\.(html|xlsx|csv|parquet|json|jsonl)")
"""The names that report files can have: a forged manifest cannot name a file elsewhere or of another kind."""


def refuse_to_overwrite(folder: Path, names: Iterable[str]) -> None:
    """Checks that files with these names would replace nothing but an earlier report.

    Raises:
        KlingPricingError: one of them would replace another file; nothing was changed.
    """
    digests = _earlier_digests(folder)
    in_the_way = [
        name for name in names if os.path.lexists(folder / name) and not _is_intact(folder / name, digests)
    ]
    if os.path.lexists(folder / NAME) and _read_manifest(folder / NAME) is None:
        in_the_way.append(NAME)
    if in_the_way:
        files = ", ".join(map(shown, sorted(in_the_way)))
        raise KlingPricingError(
            f"{folder}: cannot replace files that were not written by an earlier report or have changed "
            f"since: {files}; move {'this file' if len(in_the_way) == 1 else 'these files'} elsewhere, or "
            "choose another folder"
        )


def publish(staging: Path, folder: Path, manifest: Manifest) -> None:
    """Moves a report's files and its manifest into a folder, and removes the files of an earlier report.

    While files move, an interim manifest lists the files of both reports, so that the next report still
    recognizes them all if this process is killed.

    Args:
        staging: a subfolder of `folder` that holds the files, so that moving them copies nothing.
        folder: the destination.
        manifest: the files; written as a file, it is among them.

    Raises:
        KlingPricingError: as for `refuse_to_overwrite`.
        OSError: the files cannot be moved; the folder is as it was.
    """
    refuse_to_overwrite(folder, manifest.files)
    earlier = _earlier_digests(folder)
    names = [
        *manifest.files,
        *(name for name in earlier if name not in manifest.files and _is_intact(folder / name, earlier)),
    ]
    replaced, interim = staging / "replaced", staging / "interim.json"
    replaced.mkdir()
    interim.write_text(_interim_manifest(earlier, manifest), encoding="utf-8")
    if (folder / NAME).exists():
        copyfile(folder / NAME, replaced / NAME)
    try:
        interim.replace(folder / NAME)
        for name in names:
            with suppress(FileNotFoundError):
                (folder / name).replace(replaced / name)
            if name in manifest.files:
                (staging / name).replace(folder / name)
        (staging / NAME).replace(folder / NAME)
    except BaseException:
        for name in [*names, NAME]:
            before = replaced / name
            if before.exists():
                before.replace(folder / name)
            elif name == NAME or (name in manifest.files and not (staging / name).exists()):
                (folder / name).unlink(missing_ok=True)
        raise


def _read_manifest(path: Path) -> dict[str, Any] | None:
    """Reads a manifest; None if the file is missing or is not one of ours."""
    with suppress(OSError, ValueError, RecursionError):
        data = json.loads(path.read_text(encoding="utf-8"))
        if not path.is_symlink() and isinstance(data, dict) and data.get("written_by") == WRITER:
            return data
    return None


def _earlier_digests(folder: Path) -> dict[str, set[str]]:
    """Returns the names of an earlier report's files -> their SHA-256; two if a replacement was interrupted."""
    digests: dict[str, set[str]] = {}
    with suppress(KeyError, TypeError):
        for file in (_read_manifest(folder / NAME) or {"files": ()})["files"]:
            if _REPORT_FILE.fullmatch(file["name"]) and file["name"] != NAME:
                digests.setdefault(file["name"], set()).add(file["sha256"])
    return digests


def _is_intact(path: Path, digests: Mapping[str, set[str]]) -> bool:
    """Whether a file still has the bytes that an earlier report wrote."""
    expected = digests.get(path.name)
    return expected is not None and path.is_file() and not path.is_symlink() and digest_of(path) in expected


def _interim_manifest(earlier: Mapping[str, set[str]], manifest: Manifest) -> str:
    """Returns the manifest that stands in the folder while one report replaces another."""
    both = [*((name, digest) for name in earlier for digest in sorted(earlier[name])), *manifest.files.items()]
    files = [{"name": name, "sha256": digest} for name, digest in both]
    return json.dumps({"written_by": WRITER, "unfinished": True, "files": files})
