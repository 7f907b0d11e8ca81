"""Finds the files that the user means: files, folders and patterns."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path

from kling_pricing.shot_lists.errors import ShotListError
from kling_pricing.shot_lists.table_files import SUFFIXES

_JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
_SUFFIXES = (*SUFFIXES, *_JSON_SUFFIXES)
_OTHER_SPREADSHEETS = (".xls", ".xlsm", ".xlsb", ".ods", ".numbers")
_STANDARD_INPUT = "-"


def is_shot_list(path: str) -> bool:
    """Returns whether the name of a file is that of a shot list, and not of JSON."""
    return path.lower().endswith(SUFFIXES)


def expanded(paths: Sequence[str]) -> Iterator[str | ShotListError]:
    """Yields the files that the paths mean, in their order, or the reason why a path means none.

    A folder stands for all files with requests in it and in the folders below it, sorted by name. A pattern
    such as `shots/*.csv` stands for the files that it matches, also if the shell has left it as it is.
    """
    for path in paths:
        if path.lower().endswith(_OTHER_SPREADSHEETS) and Path(path).is_file():
            yield ShotListError("cannot be read; save it as XLSX or CSV", file=path)
        elif path == _STANDARD_INPUT or Path(path).is_file():
            yield path
        elif Path(path).is_dir():
            files = [
                str(file) for file in sorted(Path(path).rglob("*")) if _is_meant(file.relative_to(path), file)
            ]
            if not files:
                problem = (
                    f"contains no file with requests; the names of such files end in {', '.join(_SUFFIXES)}"
                )
                yield ShotListError(problem, file=path)
            yield from files
        elif has_magic(path):
            files = [file for file in sorted(_matching(path)) if Path(file).is_file()]
            if not files:
                yield ShotListError("matches no file; correct the pattern", file=path)
            yield from files
        else:
            yield path


def _matching(pattern: str) -> Collection[str]:
    """Returns the paths that match a pattern. `**` follows no links, because they may lead in circles."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return glob(pattern)  # noqa: PTH207 (it skips hidden files)
    start = next(place for place, part in enumerate(parts) if has_magic(part))
    wanted = [part if part == "**" else part.replace("**", "*") for part in parts[start:]]
    if wanted[-1] == "**":  # `pathlib` means folders alone
        wanted.append("*")
    top = Path(*parts[:start])
    return {
        str(path)
        for path in top.glob("/".join(wanted))
        if not any(part.startswith(".") and part not in wanted for part in path.relative_to(top).parts)
    }


def _is_meant(relative: Path, file: Path) -> bool:
    """Returns whether a file in a folder holds requests; hidden files and locks of office programs do not."""
    is_hidden = any(part.startswith((".", "~$")) for part in relative.parts)
    return not is_hidden and relative.suffix.lower() in _SUFFIXES and file.is_file()


def refuse_overwriting(output: str | None, inputs: Sequence[str], option: str) -> None:
    """Refuses an output that is one of the inputs, whatever its path.

    Raises:
        ShotListError: the output would overwrite an input.
    """
    if output is None or not Path(output).exists():
        return
    for path in inputs:
        if path != _STANDARD_INPUT and Path(path).exists() and Path(path).samefile(output):
            problem = f"is one of the inputs, which are never overwritten; choose another name for {option}"
            raise ShotListError(problem, file=output)
