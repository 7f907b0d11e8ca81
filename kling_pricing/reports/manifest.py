"""The list of a report's files with their SHA-256, so that recipients can check that they got them intact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import file_digest
from pathlib import Path
from typing import NamedTuple

from kling_pricing.reports.document import Document

NAME = "manifest.json"
WRITER = "kling-pricing"
"""Marks a manifest as ours: other programs also write files named `manifest.json`."""


class Manifest(NamedTuple):
    """The files of a report, and the statements it was made from.

    Attributes:
        report: `reconciliation` or `spend`.
        title: of the report.
        sources: name of each statement -> its SHA-256 in hexadecimal; empty if the report uses only the ledger.
        files: name of each file -> the SHA-256 of its bytes, in hexadecimal.
        sizes_bytes: name of each file -> its size.
    """

    report: str
    title: str
    sources: Mapping[str, str]
    files: Mapping[str, str]
    sizes_bytes: Mapping[str, int]

    def text(self) -> str:
        """Returns the manifest as JSON; the same files give the same text."""
        files = [
            {"name": name, "size_bytes": self.sizes_bytes[name], "sha256": digest}
            for name, digest in sorted(self.files.items())
        ]
        data = {
            "written_by": WRITER,
            "report": self.report,
            "title": self.title,
            "sources": dict(sorted(self.sources.items())),
            "files": files,
        }
        return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


def manifest_of(document: Document, sources: Mapping[str, str], folder: Path) -> Manifest:
    """Lists the files of a folder, with the report and the statements they come from."""
    paths = sorted(path for path in folder.iterdir() if path.name != NAME)
    return Manifest(
        document.kind,
        document.title,
        sources,
        {path.name: digest_of(path) for path in paths},
        {path.name: path.stat().st_size for path in paths},
    )


def digest_of(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
