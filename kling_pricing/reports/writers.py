"""Writing a report's files: all of them, or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from decimal import Context, localcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal, TypeAlias, get_args

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.reports.document import Document
from kling_pricing.reports.manifest import NAME, Manifest, manifest
from kling_pricing.reports.publish import ensure_free, put_in_place

Format: TypeAlias = Literal["html", "xlsx", "csv", "parquet", "json", "disputes", "focus"]
"""In which forms a report can be written."""

FORMATS: tuple[Format, ...] = get_args(Format)
"""Those of a reconciliation: all of them."""

SPEND_FORMATS: tuple[Format, ...] = ("html", "xlsx", "csv", "parquet", "json", "focus")
"""Those of a ledger's spend, where there is no statement to dispute."""

_NEEDS: dict[str, str] = {"html": "jinja2", "xlsx": "xlsxwriter", "parquet": "duckdb", "focus": "duckdb"}

OnFormat: TypeAlias = Callable[[str], None]
"""Told the name of each format before it is written: it may take a while."""


def checked(formats: Iterable[str], known: Iterable[str]) -> list[str]:
    """Formats in their usual order, each once.

    Raises:
        KlingPricingError: there is no such format, or what it needs is not installed.
    """
    wanted = [formats] if isinstance(formats, str) else list(formats)
    possible = list(known)
    for each in wanted:
        if each not in possible:
            raise KlingPricingError(f"there is no format {shown(each)} here; there are: {', '.join(possible)}")
        module = _NEEDS.get(each)
        if module is not None and find_spec(module) is None:
            raise KlingPricingError(
                f"reports as {each} need {module}, which is not installed; pip install 'kling-pricing[reports]'"
            )
    if not wanted:
        raise KlingPricingError(f"no format is given; there are: {', '.join(possible)}")
    return [each for each in possible if each in wanted]


def write_all(
    out_dir: str | os.PathLike[str],
    formats: Iterable[str],
    document: Document,
    *,
    sources: Mapping[str, str],
    others: Mapping[str, Callable[[Path], None]],
    on_format: OnFormat | None,
) -> Manifest:
    """Writes every file beside its place first, and puts them there together; the manifest comes last.

    An earlier report's files are replaced or removed; other files are left alone, and a report that would take
    the place of one is not written.

    Args:
        out_dir: the folder.
        formats: which to write; those that are not among `others` print the document.
        document: the report.
        sources: what it was made from, with digests.
        others: what writes a format that is made for somebody else.
        on_format: told of each format.

    Raises:
        KlingPricingError: the folder cannot be written, or holds a file in the place of ours that is not an
            earlier report's.
    """
    folder = Path(out_dir)
    with _errors(folder), localcontext(Context(prec=60)):
        formats = list(formats)
        ensure_free(folder, [name for each in formats for name in _FILES[each](document)])
        with _aside(folder) as aside:
            for each in formats:
                if on_format is not None:
                    on_format(each)
                if each in others:
                    others[each](aside)
                else:
                    import_module(f"kling_pricing.reports.formats.{each}").write(document, aside)
            found = manifest(document, sources, aside)
            (aside / NAME).write_text(found.text(), encoding="utf-8", newline="\n")
            put_in_place(aside, folder, found)
    return found


_FILES: dict[str, Callable[[Document], list[str]]] = {
    "html": lambda _: ["report.html"],
    "xlsx": lambda _: ["report.xlsx"],
    "csv": lambda document: [f"{each.name}.csv" for each in document.sections],
    "parquet": lambda document: [f"{each.name}.parquet" for each in document.sections if each.per_task],
    "json": lambda document: [
        "report.json",
        *(f"{each.name}.jsonl" for each in document.sections if each.per_task),
    ],
    "disputes": lambda _: ["disputes.csv"],
    "focus": lambda _: ["focus.csv", "focus.parquet"],
}
"""What each format writes, to know before it takes its time whether there is room for it."""


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A place in a folder that is made if it is not there; of what fails, neither remains."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(mkdtemp(prefix=".report-", dir=folder))
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except BaseException:
        for each in missing:
            with suppress(OSError):  # not made yet, or somebody else has put something there
                each.rmdir()
        raise


@contextmanager
def _errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise KlingPricingError(
            f"the report cannot be written into {folder}: {error.strerror or error}; "
            "name a folder that this user can write, on a disk with room"
        ) from error
