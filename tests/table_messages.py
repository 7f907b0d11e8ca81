"""The messages of refused tables, word for word.

Tests state the part of a message that matters to them. The file beside the golden ledgers has all messages in
full, so no cause and no remedy changes unseen.
"""

from functools import cache
from pathlib import Path

from kling_pricing import TableError

FILE = Path(__file__).parent / "golden" / "table_messages.txt"

MOST = 5
"""The most messages of one error; further ones say the same of other rates."""


@cache
def messages() -> frozenset[str]:
    """Returns the messages, without files and lines."""
    return frozenset(FILE.read_text(encoding="utf-8").splitlines())


def assert_in_full(error: TableError, folder: Path) -> None:
    """Asserts that the file has the messages of the first problems; an intended message is added by hand."""
    for problem in error.problems[:MOST]:
        place = f"{problem.key_path}: " if problem.key_path else ""
        message = f"{place}{problem.problem}".replace(str(folder), "FOLDER")
        assert message in messages(), f"if this message is as intended, add it to {FILE.name}:\n{message}"
