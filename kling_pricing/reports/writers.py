"""Writing a report's files: all of them, or none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from decimal import Context, localcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Literal, TypeAlias, get_args

from kling_pricing.display import not_installed, shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.reports.document import Document
from kling_pricing.reports.formats.focus import VERSIONS
from kling_pricing.reports.formats.html import page_names
from kling_pricing.reports.kept_rows import kept_section
from kling_pricing.reports.manifest import NAME, Manifest, manifest_of
from kling_pricing.reports.publish import publish, refuse_to_overwrite
from kling_pricing.temporary import temporary_folder

Format: TypeAlias = Literal["html", "xlsx", "csv", "parquet", "json", "disputes", "focus"]
"""The output formats of reports."""

FORMATS: tuple[Format, ...] = get_args(Format)
"""The formats of a reconciliation: all of them."""

SPEND_FORMATS: tuple[Format, ...] = ("html", "xlsx", "csv", "parquet", "json", "focus")
"""The formats of a spend statement, which has no provider statement to dispute."""

_REQUIRED_MODULES: dict[str, str] = {
    "html": "jinja2",
    "xlsx": "xlsxwriter",
    "parquet": "duckdb",
    "focus": "duckdb",
}

OnFormat: TypeAlias = Callable[[str], None]
"""Called with the name of each format before it is written, which may take a while."""


def select_formats(formats: Iterable[str], available: Iterable[str]) -> list[str]:
    """Returns the requested formats, without duplicates, in the order of the available ones.

    Raises:
        KlingPricingError: a format is unknown, or needs a package that is not installed.
    """
    requested = [formats] if isinstance(formats, str) else list(formats)
    possible = list(available)
    for name in requested:
        if name not in possible:
            raise KlingPricingError(f"unknown report format {shown(name)}; choose from {', '.join(possible)}")
        module = _REQUIRED_MODULES.get(name)
        if module is not None and find_spec(module) is None:
            raise KlingPricingError(not_installed(f"report format {name}", module, "reports"))
    if not requested:
        raise KlingPricingError(f"no report format given; choose from {', '.join(possible)}")
    return [name for name in possible if name in requested]


def write_all(
    out_dir: str | os.PathLike[str],
    formats: Iterable[str],
    document: Document,
    *,
    sources: Mapping[str, str],
    special_writers: Mapping[str, Callable[[Path], None]],
    options: Mapping[str, Mapping[str, Any]],
    on_format: OnFormat | None,
) -> Manifest:
    """Writes every file into a staging folder first, then moves them all into place; the manifest comes last.

    Replaces or removes the files of an earlier report and leaves other files alone.
    Writes nothing if a file would overwrite one that is not from a report.

    Args:
        out_dir: the folder.
        formats: the formats to write.
        document: the report.
        sources: name of each statement that the report comes from -> its SHA-256.
        special_writers: format -> the function that writes it, for formats that do not print the document.
        options: format -> further arguments of the function that writes it.
        on_format: called before each format.

    Raises:
        KlingPricingError: the folder cannot be written, or holds a file that the report would overwrite and
            that is not from an earlier report.
    """
    folder = Path(out_dir)
    with _os_errors_named(folder), localcontext(Context(prec=60)):
        formats = list(formats)
        refuse_to_overwrite(folder, [file for name in formats for file in _FILES[name](document)])
        with (
            _staging_folder(folder) as staging,
            temporary_folder("kling-pricing-rows-", gettempdir()) as rows_folder,
        ):
            if len(formats) > 1:
                document = _with_kept_rows(document, rows_folder)
            for name in formats:
                if on_format is not None:
                    on_format(name)
                if name in special_writers:
                    special_writers[name](staging)
                else:
                    import_module(f"kling_pricing.reports.formats.{name}").write(
                        document, staging, **options.get(name, {})
                    )
            manifest = manifest_of(document, sources, staging)
            (staging / NAME).write_text(manifest.text(), encoding="utf-8", newline="\n")
            publish(staging, folder, manifest)
    return manifest


def _with_kept_rows(document: Document, folder: Path) -> Document:
    """Returns a document whose long tables are made once for all formats."""
    sections = (kept_section(section, folder) if section.per_task else section for section in document.sections)
    return document._replace(sections=tuple(sections))


_FILES: dict[str, Callable[[Document], list[str]]] = {
    "html": page_names,
    "xlsx": lambda _: ["report.xlsx"],
    "csv": lambda document: [f"{section.name}.csv" for section in document.sections],
    "parquet": lambda document: [
        f"{section.name}.parquet" for section in document.sections if section.per_task
    ],
    "json": lambda document: [
        "report.json",
        *(f"{section.name}.jsonl" for section in document.sections if section.per_task),
    ],
    "disputes": lambda _: ["disputes.csv"],
    "focus": lambda _: [f"{name}.{suffix}" for name in VERSIONS for suffix in ("csv", "parquet")],
}
"""The files of each format, so that a conflict shows before any slow work starts."""


@contextmanager
def _staging_folder(folder: Path) -> Iterator[Path]:
    """Creates the folder if it is missing, and a temporary folder in it; removes both after an error."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(".kling-pricing-report-", folder) as staging:
            yield staging
    except BaseException:
        for path in missing:
            with suppress(OSError):  # it was not created yet, or another process has put a file into it
                path.rmdir()
        raise


@contextmanager
def _os_errors_named(folder: Path) -> Iterator[None]:
    """Turns an OSError into an error that names the folder and the remedy."""
    try:
        yield
    except OSError as error:
        raise KlingPricingError(
            f"{folder}: cannot write the report: {error.strerror or error}; "
            "choose a folder that this user can write to, on a disk with enough space"
        ) from error
