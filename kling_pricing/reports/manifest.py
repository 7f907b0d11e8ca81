"""The list of a report's files with their SHA-256, so that whoever gets them can tell that they are whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple

from kling_pricing.reports.document import Document

NAME = "manifest.json"
WRITER = "kling-pricing"
"""What tells a manifest of ours from other files of that name."""


class Manifest(NamedTuple):
    """What was written, and from what.

    Attributes:
        report: `reconciliation` or `spend`.
        title: of the report.
        sources: what it was made from: name -> SHA-256 in hexadecimal; of a ledger, nothing.
        files: name of each file -> SHA-256 of its bytes, in hexadecimal.
        sizes_bytes: name of each file -> its size.
    """

    report: str
    title: str
    sources: Mapping[str, str]
    files: Mapping[str, str]
    sizes_bytes: Mapping[str, int]

    def text(self) -> str:
        """The manifest as JSON; the same files give the same text."""
        files = [
            {"name": name, "size_bytes": self.sizes_bytes[name], "sha256": digest}
            for name, digest in sorted(self.files.items())
        ]
        found = {
            "written_by": WRITER,
            "report": self.report,
            "title": self.title,
            "sources": dict(sorted(self.sources.items())),
            "files": files,
        }
        return json.dumps(found, ensure_ascii=False, indent=2) + "\n"


def manifest(document: Document, sources: Mapping[str, str], folder: Path) -> Manifest:
    """Takes stock of a folder."""
    paths = sorted(path for path in folder.iterdir() if path.name != NAME)
    return Manifest(
        document.kind,
        document.title,
        sources,
        {path.name: digest_of(path) for path in paths},
        {path.name: path.stat().st_size for path in paths},
    )


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
