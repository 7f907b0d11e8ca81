"""Loads the price book: the bundled tables and the user's own.

`folders` describes where the files are and how the user's folder overrides the bundled one.
`assembly` reads the files. That takes ten times as long as everything else that a quote needs, so a book that
`stored_books` has for exactly these files is used instead.
"""

from __future__ import annotations

import os
from functools import cache

from kling_pricing.tables.loading.folders import own_folder, table_files
from kling_pricing.tables.loading.stored_books import sources_digest, store_book, stored_book
from kling_pricing.tables.price_book import PriceBook


@cache
def default_price_book() -> PriceBook:
    """Returns the default book: the bundled tables, and those in the folder that `TABLES_VARIABLE` names.

    The book is loaded once per process.
    """
    return load_price_book(own_folder())


def load_price_book(directory: str | os.PathLike[str] | None = None) -> PriceBook:
    """Loads the bundled tables and those in the user's folder, which override bundled files of the same path.

    Raises:
        TableError: a file is refused, two files contradict each other, or the folder cannot be read. The
            error's `others` has all other problems in the files.
    """
    files = table_files(directory)
    digest = sources_digest(files)
    book = None if digest is None else stored_book(digest)
    if book is None:
        from kling_pricing.tables.loading.assembly import assembled_book  # noqa: PLC0415 (imports YAML and pydantic)

        book = assembled_book(files)
        if digest is not None:
            store_book(digest, book)
    return book
