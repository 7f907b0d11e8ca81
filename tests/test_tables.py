"""Loading tables, and holding the files against each other."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import PriceBook, PriceNotFoundError, TableError, compare, load_price_book, quote
from tests.conftest import AT, PRICES, bundled, video

Folder = Callable[..., Path]


def refusal(folder: Path) -> TableError:
    """The error that loading a folder ends in."""
    with pytest.raises(TableError) as caught:
        load_price_book(folder)
    return caught.value


def bundled_capabilities() -> str:
    """The text of a bundled matrix."""
    return bundled("capabilities", "tasks.yaml").read_text(encoding="utf-8")


def test_a_folder_is_read_over_the_bundled_tables(folder: Folder) -> None:
    """The user's provider stands beside the bundled ones, and quotes by its own prices."""
    book = load_price_book(folder({"prices/acme/2026-11-01.yaml": PRICES}))
    assert set(book.tables) == {"acme", "kling", "qingbo", "qingbo-ai", "tencent-vod"}
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
        ("silent: 0.05", "silent: true", 14, RATE, "must be an amount"),
        ("silent: 0.05", "silent: [1]", 14, RATE, "must be an amount"),
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
        ("currency: EUR", "currency: euro", 3, "currency", "three capital letters"),
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
            "add at least one",
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
            "  - {tier: silent}",
            "  - {tier: silent, when: {audio: false}}",
            9,
            "tiers[0]",
            "must have no `when`",
        ),
        ("  - {tier: silent}", "  - {tier: silent}\n  - {tier: audio}", 10, "tiers[1]", "is never reached"),
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
        ("required: [model, prompt]", "required: [model, promt]", "required[1]", "did you mean 'prompt'?"),
        (
            "watermark, images",
            "watermarc, images",
            "models.kling-v3-omni.fields[7]",
            "did you mean 'watermark'?",
        ),
        ("action: first_last_frame,", "action: first_last,", "implied_actions[1].action", "did you mean"),
        ("      resolution: [720p, 1080p]\n", "", "models.kling-video-o1.limits", "list those it takes"),
        (
            "      resolution: [720p, 1080p]\n",
            "      action: [x]\n",
            "models.kling-video-o1.limits.action",
            "is said by",
        ),
        ("need: {audio: false}", "need: {}", "models.kling-v3-omni.rules[0].need", "add at least one"),
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


@pytest.mark.parametrize(
    "name", ["prices/acme/a.YAML", "prices/acme/a.json", "prices/acme/a.yaml/b.yaml", "a.yml"]
)
def test_a_misnamed_file_is_an_error(folder: Folder, name: str) -> None:
    """A user's prices are never silently left out."""
    assert "would not be read here" in refusal(folder({name: PRICES})).problem


def test_a_folder_without_tables_is_an_error(folder: Folder) -> None:
    """An empty folder, or one of something else, is a mistake; hidden files are not looked at."""
    assert "holds no tables" in refusal(folder({".git/config.yaml": "x", "notes.txt": "y"})).problem


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("720p: {silent: 0.05}", "720p: {silnt: 0.05}", "'silnt' is unknown, did you mean 'silent'?"),
        ("  kling-v2-6:", "  kling-v2.6:", "'kling-v2.6' is unknown, did you mean 'kling-v2-6'?"),
    ],
)
def test_a_misspelt_cell_is_pointed_out(folder: Folder, old: str, new: str, hint: str) -> None:
    """The error says which part of an unreachable rate is not known at all."""
    assert hint in refusal(folder({"prices/acme/a.yaml": PRICES.replace(old, new)})).problem


@pytest.mark.parametrize("value", ["9999-12-31", "0001-01-01", "9999-12-31T23:59:59-14:00"])
def test_a_date_that_is_not_believable_is_refused(folder: Folder, value: str) -> None:
    """It would overflow, or never come."""
    text = PRICES.replace("checked: 2026-11-01", f"checked: {value}")
    assert "neither a day" in refusal(folder({"prices/acme/a.yaml": text})).problem


TWO_TIERS = PRICES.replace(
    "  - {tier: silent}", "  - {tier: long, when: {duration_s: {min: 10}}}\n  - {tier: silent}"
)


def test_a_tier_that_only_some_durations_reach_must_be_priced(folder: Folder) -> None:
    """Completeness looks at every turning point, not only at the ends."""
    error = refusal(folder({"prices/acme/a.yaml": TWO_TIERS}))
    assert error.key_path == "rates.kling-video-o1.720p.long"
    assert "neither priced nor listed" in error.problem


def test_a_rate_whose_action_is_not_allowed_cannot_be_reached(folder: Folder) -> None:
    """A video-reference rate needs the action that takes a reference video."""
    text = bundled_capabilities().replace(
        "actions: [generate, image2video, reference, reference_video]",
        "actions: [generate, image2video, reference]",
    )
    error = refusal(folder({"capabilities/tasks.yaml": text}))
    assert "video_reference" in error.problem


CONTRACT = """\
extends: acme/a
sources: [{ref: our contract, checked: 2026-11-01, authority: official}]
discount: 0.1
"""


def test_a_contract_shows_list_and_contract_totals(folder: Folder) -> None:
    """The discount is a line of its own, and the lines sum to what the customer pays."""
    book = load_price_book(folder({"prices/acme/a.yaml": PRICES, "prices/acme/ours.yaml": CONTRACT}))
    quoted = quote(video(duration=7), provider="acme", book=book, at=AT)
    assert (quoted.total, quoted.list_total, quoted.table.id) == (Decimal("0.63"), Decimal("0.7"), "acme/ours")
    assert [(line.description, line.amount) for line in quoted.lines] == [
        ("kling-v3 720p silent", Decimal("0.7")),
        ("contract discount of 10 %", Decimal("-0.07")),
    ]
    assert "at list prices: 0.7 EUR" in quoted.explain()
    assert quoted.as_dict()["list_total"] == "0.7"


def test_a_discount_is_rounded_once_half_up(folder: Folder) -> None:
    """Nine decimals are kept: 0.05 x 5 s x 0.0000000333 is 0.0000000083 and becomes 0.000000008."""
    contract = CONTRACT.replace("0.1", "0.000000033")
    book = load_price_book(folder({"prices/acme/a.yaml": PRICES, "prices/acme/ours.yaml": contract}))
    quoted = quote(video("kling-v2.6", duration=5), provider="acme", book=book, at=AT)
    assert quoted.total == Decimal("0.25") - Decimal("0.000000008")


def test_a_contract_price_replaces_the_published_one(folder: Folder) -> None:
    """No discount is taken off it; other cells get theirs."""
    contract = CONTRACT + "rates: {kling-v3: {720p: {silent: 0.08}}}\n"
    book = load_price_book(folder({"prices/acme/a.yaml": PRICES, "prices/acme/ours.yaml": contract}))
    own = quote(video(duration=5), provider="acme", book=book, at=AT)
    assert (own.total, own.list_total) == (Decimal("0.4"), Decimal("0.5"))
    other = quote(video(duration=5, resolution="1080p"), provider="acme", book=book, at=AT)
    assert (other.total, other.list_total) == (Decimal("0.9"), Decimal(1))


def test_a_contract_holds_for_its_period_only(folder: Folder) -> None:
    """Before and after it, the published prices are quoted."""
    contract = CONTRACT + "valid_from: 2026-12-01\nvalid_until: 2027-01-01\n"
    book = load_price_book(folder({"prices/acme/a.yaml": PRICES, "prices/acme/ours.yaml": contract}))
    ids = [
        book.table("acme", datetime(year, month, day, tzinfo=UTC)).id
        for year, month, day in ((2026, 11, 30), (2026, 12, 1), (2026, 12, 31), (2027, 1, 1))
    ]
    assert ids == ["acme/a", "acme/ours", "acme/ours", "acme/a"]


@pytest.mark.parametrize(
    ("old", "new", "line", "key_path", "remedy"),
    [
        ("acme/a", "acme/b", 1, "extends", "did you mean 'acme/a'?"),
        ("acme/a", "qingbo/2026-04-29", 1, "extends", "put this file into prices/qingbo/"),
        ("discount: 0.1", "discount: 10", 3, "discount", "ten percent is 0.1"),
        ("discount: 0.1", "dicount: 0.1", 3, "dicount", "did you mean 'discount'?"),
        ("discount: 0.1", "", 1, "", "changes nothing"),
        ("discount: 0.1", "unit_value: 0.1", 3, "unit_value", "is not priced in units"),
        (
            "discount: 0.1",
            "rates: {kling-v3: {8k: {silent: 1}}}",
            3,
            "rates.kling-v3.8k.silent",
            "publishes no price",
        ),
    ],
)
def test_a_bad_contract_names_its_file_and_line(
    folder: Folder, old: str, new: str, line: int, key_path: str, remedy: str
) -> None:
    """A contract is read as strictly as a published table."""
    error = refusal(folder({"prices/acme/a.yaml": PRICES, "prices/acme/ours.yaml": CONTRACT.replace(old, new)}))
    assert error.file.endswith("prices/acme/ours.yaml")
    assert (error.line, error.key_path) == (line, key_path)
    assert remedy in error.problem


def test_two_contracts_in_force_at_once_are_an_error(folder: Folder) -> None:
    """Which of them applies is not for the library to guess."""
    files = {"prices/acme/a.yaml": PRICES, "prices/acme/b.yaml": CONTRACT, "prices/acme/c.yaml": CONTRACT}
    assert "is in force together with acme/b" in refusal(folder(files)).problem


def test_a_books_tables_cannot_be_changed(book: PriceBook) -> None:
    """Nobody can change a later quote's price by accident."""
    with pytest.raises(TypeError):
        book.tables["qingbo"] = ()  # type: ignore[index]
    with pytest.raises(AttributeError):
        book.tables["qingbo"][0].rates.clear()  # type: ignore[attr-defined]


# A closed table is one that a later table of its provider follows. Its data never changes again; a change of
# wording in its file needs a new digest here.
CLOSED = {
    "qingbo-ai/2026-06-19": "3e3ee3e4964b545cbece4defd34d16be41cea61f3128323694afde961ec84502",
}


def test_closed_tables_are_never_edited(book: PriceBook) -> None:
    """A price change is a new file: the digest of every closed table is pinned here."""
    closed = {table.id: table.digest for tables in book.tables.values() for table in tables[:-1]}
    assert closed == CLOSED


YEAR = PRICES.replace("valid_from: null", "valid_from: 2026-01-01\nvalid_until: 2027-01-01")
NARROWED = (
    YEAR + "model_periods:\n  kling-v3: {valid_from: 2026-03-01, valid_until: '2026-06-01T08:00:00+02:00'}\n"
)


def test_a_model_may_narrow_its_tables_period(folder: Folder) -> None:
    """From its first instant on, and no longer at its last, the model has the table's price."""
    book = load_price_book(folder({"prices/acme/2026.yaml": NARROWED}))

    def total(at: datetime, model: str = "kling-v3") -> Decimal:
        return quote(video(model), provider="acme", at=at, book=book).total

    assert total(datetime(2026, 3, 1, tzinfo=UTC)) == Decimal("0.5")
    assert total(datetime(2026, 6, 1, 5, 59, 59, tzinfo=UTC)) == Decimal("0.5")
    assert total(AT, "kling-v2.6") == Decimal("0.25")
    for at in (datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), datetime(2026, 6, 1, 6, tzinfo=UTC), AT):
        with pytest.raises(PriceNotFoundError) as caught:
            total(at)
        assert str(caught.value) == (
            f"no price of kling-v3 is in force at {at.isoformat()}: acme/2026 prices it "
            "from 2026-03-01 until 2026-06-01T06:00:00+00:00 only; "
            "price at an instant in that period, or add a table of your own"
        )
        assert (caught.value.provider, caught.value.model) == ("acme", "kling-v3")
    (own,) = [
        each for each in compare(video(), at=AT, book=book) if each.provider == "acme" and not each.changes
    ]
    assert own.why_not.startswith("no price of kling-v3 is in force")


def test_a_bound_that_a_model_leaves_out_is_its_tables(folder: Folder) -> None:
    """A model that begins later ends with the table; in a contract over it, too."""
    later = YEAR + "model_periods:\n  kling-v3: {valid_from: 2026-12-01}\n"
    contract = (
        "extends: acme/2026\ndiscount: 0.5\nsources: [{ref: x, checked: 2026-11-01, authority: official}]\n"
    )
    book = load_price_book(folder({"prices/acme/2026.yaml": later, "prices/acme/ours.yaml": contract}))
    with pytest.raises(PriceNotFoundError, match="acme/ours prices it from 2026-12-01 until 2027-01-01 only"):
        quote(video(), provider="acme", at=AT, book=book)
    at = datetime(2026, 12, 1, tzinfo=UTC)
    assert quote(video(), provider="acme", at=at, book=book).total == Decimal("0.25")


@pytest.mark.parametrize(
    ("entry", "key_path", "problem"),
    [
        ("kling-v9: {valid_from: 2026-02-01}", "model_periods.kling-v9", "has no rates; did you mean"),
        ("kling-v3: {}", "model_periods.kling-v3", "narrows nothing"),
        ("kling-v3: {valid_from: 2025-12-31}", "model_periods.kling-v3.valid_from", "before the table's own"),
        ("kling-v3: {valid_until: 2027-01-02}", "model_periods.kling-v3.valid_until", "after the table's own"),
        ("kling-v3: {valid_from: 2027-01-01}", "model_periods.kling-v3", "holds no instant"),
        ("kling-v3: {valid_until: 2026-01-01}", "model_periods.kling-v3", "holds no instant"),
        ("kling-v3: {valid_from: 2026-03-01, valid_until: 2026-03-01}", "model_periods.kling-v3", "no instant"),
        ("kling-v3: {from: 2026-03-01}", "model_periods.kling-v3.from", "unknown key"),
    ],
)
def test_a_models_period_lies_within_its_tables(
    folder: Folder, entry: str, key_path: str, problem: str
) -> None:
    """A period that no instant of the table is in, or that reaches beyond it, is an error with its place."""
    error = refusal(folder({"prices/acme/2026.yaml": f"{YEAR}model_periods:\n  {entry}\n"}))
    assert error.key_path == key_path
    assert problem in error.problem


IN_UNITS = "extends: kling/2026-09-20\nsources: [{ref: x, checked: 2026-11-01, authority: official}]\n"


def test_a_units_value_of_ones_own_prices_every_cell(folder: Folder) -> None:
    """Exactly, as long as every price fits into the nine decimals that are kept."""
    book = load_price_book(folder({"prices/kling/ours.yaml": IN_UNITS + "unit_value: '0.0987654'\n"}))
    quoted = quote({"model_name": "kling-custom-voice"}, book=book, at=AT)  # 0.05 units
    assert (quoted.total, quoted.list_total) == (Decimal("0.00493827"), Decimal("0.007"))


@pytest.mark.parametrize(
    ("content", "key_path", "problem"),
    [
        ("unit_value: 0.098765432\n", "unit_value", "make 0.0790123456 USD (kling-3.0-turbo 720p audio)"),
        (
            "rates: {kling-v3: {720p: {silent: 0.123456789}}}\n",
            "rates",
            "make 0.01728395046 USD (kling-v3 720p",
        ),
    ],
)
def test_a_unit_price_is_never_rounded(folder: Folder, content: str, key_path: str, problem: str) -> None:
    """Units that make a price of more decimals than are kept are refused, with the cell and the remedy."""
    error = refusal(folder({"prices/kling/ours.yaml": IN_UNITS + content}))
    assert error.key_path == key_path
    assert problem in error.problem
    assert "give them fewer decimals" in error.problem


def test_a_published_unit_price_is_never_rounded_either(folder: Folder) -> None:
    """The same holds for a price file whose rates are in units."""
    prices = PRICES + "unit: {name: credit, value: 0.00000001}\n"
    error = refusal(folder({"prices/acme/a.yaml": prices}))
    assert error.key_path == "unit.value"
    assert "0.05 credits at 0.00000001 make 0.0000000005 EUR (kling-v2-6 720p silent)" in error.problem
