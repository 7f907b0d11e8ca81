"""Loading tables, and holding the files against each other."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import PriceBook, TableError, load_price_book, quote
from tests.conftest import AT, PRICES, video

Folder = Callable[..., Path]
CAPABILITIES = Path("pricing_tables/capabilities/tasks.yaml")


def refusal(folder: Path) -> TableError:
    """The error that loading a folder ends in."""
    with pytest.raises(TableError) as caught:
        load_price_book(folder)
    return caught.value


def bundled_capabilities() -> str:
    """The text of the bundled matrix, from the installed package or the checkout."""
    import kling_pricing  # noqa: PLC0415

    package = Path(str(kling_pricing.__file__)).parent
    installed = package / "pricing_tables"
    root = installed if installed.is_dir() else package.parent / "pricing_tables"
    return (root / "capabilities" / "tasks.yaml").read_text(encoding="utf-8")


def test_a_folder_is_read_over_the_bundled_tables(folder: Folder) -> None:
    """The user's provider stands beside the bundled ones, and quotes by its own prices."""
    book = load_price_book(folder({"prices/acme/2026-11-01.yaml": PRICES}))
    assert set(book.tables) == {"acme", "qingbo", "tencent-vod"}
    quoted = quote(video(), provider="acme", book=book, at=AT)
    assert (quoted.total, quoted.currency, quoted.table.id) == (Decimal("0.5"), "EUR", "acme/2026-11-01")


def test_a_file_of_the_same_path_replaces_the_bundled_one(folder: Folder, book: PriceBook) -> None:
    """A user can correct a bundled table without editing the package."""
    corrected = PRICES.replace("provider: acme", "provider: qingbo")
    theirs = load_price_book(folder({"prices/qingbo/2026-04-29.yaml": corrected}))
    assert [table.currency for table in theirs.tables["qingbo"]] == ["EUR"]
    assert [table.currency for table in book.tables["qingbo"]] == ["USD"]


@pytest.mark.parametrize("written", ["0.05", '"0.05"', "'0.05'"])
def test_a_price_is_exact_whether_quoted_or_not(folder: Folder, written: str) -> None:
    """The three ways to write a price give the same `Decimal`."""
    text = PRICES.replace("silent: 0.05", f"silent: {written}")
    book = load_price_book(folder({"prices/acme/2026-11-01.yaml": text}))
    assert book.tables["acme"][0].rates["kling-v2-6", "720p", "silent"].unit_price == Decimal("0.05")  # type: ignore[index]


RATE = "rates.kling-v2-6.720p.silent"


@pytest.mark.parametrize(
    ("old", "new", "line", "key_path", "remedy"),
    [
        ("silent: 0.05", "silent: .nan", 14, RATE, "not a finite number"),
        ("silent: 0.05", "silent: NaN", 14, RATE, "not a finite number"),
        ("silent: 0.05", "silent: .inf", 14, RATE, "not a finite number"),
        ("silent: 0.05", "silent: inf", 14, RATE, "not a finite number"),
        ("silent: 0.05", "silent: -0.05", 14, RATE, "negative"),
        ("silent: 0.05", "silent: 0.0000000001", 14, RATE, "at most 9"),
        ("silent: 0.05", "silent: 010", 14, RATE, "plain decimal"),
        ("silent: 0.05", "silent: 1:30", 14, RATE, "plain decimal"),
        ("silent: 0.05", "silent: no", 14, RATE, "plain decimal"),
        ("silent: 0.05", "silent: true", 14, RATE, "must be a price"),
        ("silent: 0.05", "silent: [1]", 14, RATE, "must be a price"),
        ("silent: 0.05", "silent: 0.05, silent: 0.06", 14, RATE, "duplicate key"),
        (
            "silent: 0.05",
            "silent: 0.05, audio: 0.06",
            14,
            "rates.kling-v2-6.720p.audio",
            "no request can reach",
        ),
        ("  kling-v2-6:", "  kling-v9:", 14, "rates.kling-v9.720p.silent", "no request can reach this rate"),
        ("    1080p: {silent: 0.07}\n", "", 13, "rates.kling-v2-6.1080p.silent", "neither priced nor listed"),
        ("quantity:", "quantitee:", 10, "quantitee", "did you mean 'quantity'?"),
        ("currency: EUR", "currency: euro", 3, "currency", "match pattern"),
        ("currency: EUR\n", "", 1, "currency", "required"),
        ("provider: acme", "provider: other", 1, "provider", "the folder's name says 'acme'"),
        ("[tasks]", "[tusks]", 2, "wire_formats[0]", "no capabilities/tusks.yaml"),
        ("valid_from: null", "valid_from: soon", 4, "valid_from", "neither a day"),
        ("valid_from: null", "valid_from: 2026-11-01T08:00:00", 4, "valid_from", "neither a day"),
        ("valid_from: null", "valid_from: 2026-13-01", 4, "valid_from", "neither a day"),
        (
            "valid_from: null",
            "valid_from: 2026-11-02\nvalid_until: 2026-11-02",
            5,
            "valid_until",
            "ends before it begins",
        ),
        (
            "sources:\n  - {ref: price page, checked: 2026-11-01, authority: official}",
            "sources: []",
            5,
            "sources",
            "at least 1",
        ),
        ("authority: official", "authority: hearsay", 6, "sources[0].authority", "'official' or 'secondary'"),
        (
            "{tier: silent}\nq",
            "{tier: silent, when: {audoi: true}}\nq",
            9,
            "tiers[0].when",
            "did you mean 'audio'?",
        ),
        (
            "{tier: silent}\nq",
            "{tier: silent, when: {audio: [1]}}\nq",
            9,
            "tiers[0].when",
            "must be true or false",
        ),
        ("{tier: silent}\nq", "{tier: silent, when: {audio: {min: 1}}}\nq", 9, "tiers[0].when", "has no range"),
        (
            "{tier: silent}\nq",
            "{tier: silent, when: {videos: {mini: 1}}}\nq",
            9,
            "tiers[0].when",
            "min, max or both",
        ),
        (
            "{tier: silent}\nq",
            "{tier: silent, when: {videos: {min: 2, max: 1}}}\nq",
            9,
            "tiers[0].when",
            "above max",
        ),
        (
            "{tier: silent}\nq",
            "{tier: silent, when: {videos: {min: 0.5}}}\nq",
            9,
            "tiers[0].when",
            "whole number",
        ),
        (
            "{tier: silent}\nq",
            "{tier: silent, when: {resolution: []}}\nq",
            9,
            "tiers[0].when",
            "allows nothing",
        ),
        (
            "rates:",
            "unpriced:\n  - {model: kling-v3, resolution: 4k, tier: silent, why: x}\nrates:",
            13,
            "unpriced[0]",
            "has a rate",
        ),
        (
            "rates:",
            "unpriced:\n  - {model: kling-v3, resolution: 8k, tier: silent, why: x}\nrates:",
            13,
            "unpriced[0]",
            "no request can reach",
        ),
    ],
)
def test_a_price_file_that_cannot_be_trusted_is_refused(
    folder: Folder, old: str, new: str, line: int, key_path: str, remedy: str
) -> None:
    """Each mistake in a sound file ends in an error with its line, its key path and what to do."""
    assert old in PRICES
    error = refusal(folder({"prices/acme/2026-11-01.yaml": PRICES.replace(old, new, 1)}))
    assert error.file.endswith("prices/acme/2026-11-01.yaml")
    assert (error.line, error.key_path) == (line, key_path)
    assert remedy in error.problem


@pytest.mark.parametrize(
    ("old", "new", "key_path", "remedy"),
    [
        ("wire_format: tasks", "wire_format: other", "wire_format", "the file's name says 'tasks'"),
        ("names: [kling-v2.6]", "names: [kling-v3]", "models.kling-v2-6.names[0]", "already names kling-v3"),
        ("code: audio_resolution", "code: audio_last_frame", "models.kling-v2-6", "is used twice"),
        (
            "need: {audio: false}",
            "ned: {audio: false}",
            "models.kling-v3-omni.rules[0].ned",
            "did you mean 'need'?",
        ),
        ("duration_s: 5,", "duration_s: '5',", "defaults", "duration_s must be a whole number"),
        ("need: {audio: false}", "need: {}", "models.kling-v3-omni.rules[0].need", "at least 1"),
        (
            "size_bytes: {max: 31457280}",
            "size_byte: {max: 31457280}",
            "media[0].limits",
            "did you mean 'size_bytes'?",
        ),
    ],
)
def test_a_capability_file_that_cannot_be_trusted_is_refused(
    folder: Folder, old: str, new: str, key_path: str, remedy: str
) -> None:
    """A matrix is read as strictly as a price table."""
    text = bundled_capabilities()
    assert old in text
    error = refusal(folder({"capabilities/tasks.yaml": text.replace(old, new, 1)}))
    assert error.key_path == key_path
    assert error.line is not None
    assert remedy in error.problem


@pytest.mark.parametrize(
    "name", ["prices/2026-11-01.yaml", "prices/acme/2026-11-01.yml", "tasks.yaml", "capabilities/a/b.yaml"]
)
def test_a_file_that_would_not_be_read_is_an_error(folder: Folder, name: str) -> None:
    """A table in the wrong place is not silently ignored."""
    error = refusal(folder({name: PRICES}))
    assert "would not be read here" in error.problem
    assert error.file.endswith(name)


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """A misspelt folder does not leave only the bundled tables."""
    assert "no such folder" in refusal(tmp_path / "nowhere").problem


def test_two_tables_in_force_at_once_are_an_error(folder: Folder) -> None:
    """The later file is named, with the remedy in the earlier one."""
    later = PRICES.replace("valid_from: null", "valid_from: 2026-12-01")
    error = refusal(folder({"prices/acme/2026-11-01.yaml": PRICES, "prices/acme/2026-12-01.yaml": later}))
    assert error.file.endswith("prices/acme/2026-12-01.yaml")
    assert "overlaps acme/2026-11-01" in error.problem


def test_the_table_in_force_is_found_to_the_instant(folder: Folder) -> None:
    """A period contains its first instant and not its last; a gap between two is honest."""
    first = PRICES.replace("valid_from: null", "valid_from: null\nvalid_until: 2026-12-01")
    second = PRICES.replace("valid_from: null", "valid_from: 2026-12-02T08:00:00+02:00").replace("0.1}", "0.4}")
    book = load_price_book(folder({"prices/acme/a.yaml": first, "prices/acme/b.yaml": second}))
    in_force = {
        datetime(2026, 11, 30, 23, 59, 59, tzinfo=UTC): "acme/a",
        datetime(2026, 12, 2, 6, tzinfo=UTC): "acme/b",
    }
    for at, table in in_force.items():
        assert book.table("acme", at).id == table
    for at in (datetime(2026, 12, 1, tzinfo=UTC), datetime(2026, 12, 2, 5, 59, 59, tzinfo=UTC)):
        with pytest.raises(Exception, match="no table of acme is in force"):
            book.table("acme", at)


def test_the_bundled_tables_are_sound_and_carry_their_sources(book: PriceBook) -> None:
    """Every table has a source and a digest, and every rule of every matrix says where it was published."""
    for tables in book.tables.values():
        for table in tables:
            assert table.sources
            assert len(table.digest) == 64
    for matrix in book.matrices.values():
        for capabilities in matrix.models.values():
            assert all(rule.source for rule in capabilities.rules)
