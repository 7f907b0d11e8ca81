"""Compiles the bundled price book into the wheel. Hatchling runs this when it builds the wheel."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledBook(BuildHookInterface[Any]):
    """Adds the compiled book to a wheel; an editable installation has none and uses the cache."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles the book before the wheel is written.

        Raises:
            TableError: a bundled table is refused.
        """
        if version != "standard":
            return
        sys.path.insert(0, self.root)
        from kling_pricing.tables.loading.assembly import assembled_book  # noqa: PLC0415 (the path is set above)
        from kling_pricing.tables.loading.folders import table_files  # noqa: PLC0415
        from kling_pricing.tables.loading.stored_books import (  # noqa: PLC0415
            COMPILED_NAME,
            sources_digest,
            stored_text,
        )

        files = table_files()
        book = assembled_book(files)
        digest = str(sources_digest(files, is_build=True))
        self._folder = TemporaryDirectory()
        compiled = Path(self._folder.name, COMPILED_NAME)
        compiled.write_bytes(stored_text(digest, book).encode())
        build_data["force_include"][str(compiled)] = f"kling_pricing/pricing_tables/{COMPILED_NAME}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Removes the temporary file."""
        if version == "standard":
            self._folder.cleanup()
