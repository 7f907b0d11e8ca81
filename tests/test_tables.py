"""Loading tables, and checking the files against each other."""

import copy
import pickle
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import PriceBook, PriceNotFoundError, TableError, check, compare, load_price_book, quote
from kling_pricing.strict_yaml import load
from kling_pricing.tables.rates import Cell
from tests.conftest import AT, PRICES, bundled, video
from tests.table_messages import assert_in_full

Folder = Callable[..., Path]
CLIP = [{"video_url": "v"}]


def refusal(folder: Path) -> TableError:
    """Returns the error with which loading a folder fails."""
    with pytest.raises(TableError) as caught:
        load_price_book(folder)
    assert_in_full(caught.value, folder)
    return caught.value


def bundled_capabilities() -> str:
    """Returns the text of a bundled matrix."""
    return bundled("capabilities", "tasks.yaml").read_text(encoding="utf-8")


def test_a_folder_is_added_to_the_bundled_tables(folder: Folder) -> None:
    """The user's provider is available next to the bundled ones, with its own prices."""
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
        ("silent: 0.05", "silent: 0.0000000001", 14, RATE, "the maximum is 9"),
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
        (
            "provider: acme",
            "provider: other",
            1,
            "provider",
            "differs from the folder's name 'acme'; make them the same",
        ),
        ("[tasks]", "[tusks]", 2, "wire_formats[0]", "no capabilities/tusks.yaml"),
        (
            "valid_from: null",
            "valid_from: soon",
            4,
            "valid_from",
            "must be a day such as 2026-04-29, or a time with a time zone",
        ),
        (
            "valid_from: null",
            "valid_from: 2026-11-01T08:00:00",
            4,
            "valid_from",
            "must be a day such as 2026-04-29, or a time with a time zone",
        ),
        (
            "valid_from: null",
            "valid_from: 2026-13-01",
            4,
            "valid_from",
            "must be a day such as 2026-04-29, or a time with a time zone",
        ),
        (
            "valid_from: null",
            "valid_from: 2026-11-02\nvalid_until: 2026-11-02",
            5,
            "valid_until",
            "must be later than valid_from; correct one of the two",
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
        (
            "{tier: silent}\nq",
            "{tier: silent, when: {audio: {min: 1}}}\nq",
            9,
            "tiers[0].when",
            "a range is not possible",
        ),
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
            "resolution: does not allow any value; list at least one",
        ),
        (
            "  - {tier: silent}",
            "  - {tier: silent, when: {audio: false}}",
            9,
            "tiers[0]",
            "the last entry must always match; remove its `when`, or add a last entry without `when`",
        ),
        (
            "  - {tier: silent}",
            "  - {tier: silent}\n  - {tier: audio}",
            10,
            "tiers[1]",
            "cannot be reached, because the entry before it always matches; put that entry last",
        ),
        (
            "valid_from: null",
            "valid_from: 2026-11-01\nknown_from: 2026-11-01",
            5,
            "known_from",
            "applies only to a table whose valid_from is null; remove it",
        ),
        (
            "valid_from: null",
            "valid_from: null\nnewer_list: qingbo-ia",
            5,
            "newer_list",
            "no provider 'qingbo-ia'; did you mean 'qingbo-ai'?",
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
def test_an_invalid_price_file_is_refused(
    folder: Folder, old: str, new: str, line: int, key_path: str, remedy: str
) -> None:
    """Each mistake in a valid file causes an error with its line, its key path and the remedy."""
    assert old in PRICES
    error = refusal(folder({"prices/acme/2026-11-01.yaml": PRICES.replace(old, new, 1)}))
    assert error.file.endswith("prices/acme/2026-11-01.yaml")
    assert (error.line, error.key_path) == (line, key_path)
    assert remedy in error.problem


@pytest.mark.parametrize(
    ("old", "new", "key_path", "remedy"),
    [
        (
            "wire_format: tasks",
            "wire_format: other",
            "wire_format",
            "differs from the file's name 'tasks'; make them the same",
        ),
        (
            "names: [kling-v2.6]",
            "names: [kling-v3]",
            "models.kling-v2-6.names[0]",
            "'kling-v3' is already a name of kling-v3; remove one of the two",
        ),
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
        (
            "      resolution: [720p, 1080p]\n",
            "",
            "models.kling-video-o1.limits",
            "list the allowed values, such as resolution: [720p]",
        ),
        (
            "      resolution: [720p, 1080p]\n",
            "      action: [x]\n",
            "models.kling-video-o1.limits.action",
            "`actions` already lists the actions; remove this limit",
        ),
        ("need: {audio: false}", "need: {}", "models.kling-v3-omni.rules[0].need", "add at least one"),
        (
            "need: {audio: false}",
            "since: soon\n        need: {audio: false}",
            "models.kling-v3-omni.rules[0].since",
            "must be a day such as 2026-04-29, or a time with a time zone",
        ),
        (
            "need: {audio: false}",
            "since: 2026-11-01\n        until: 2026-11-01\n        need: {audio: false}",
            "models.kling-v3-omni.rules[0].until",
            "must be later than since; correct one of the two",
        ),
        (
            "size_bytes: {max: 31457280}",
            "size_byte: {max: 31457280}",
            "media[0].limits",
            "did you mean 'size_bytes'?",
        ),
        (
            "- path: /v1/tasks\n",
            "- path: /v1/tasks\n    model: kling-v33\n",
            "endpoints[0].model",
            "'kling-v33' is unknown; did you mean 'kling-v3'?",
        ),
        (
            "required: [model, prompt]",
            "ignored_fields: [{field: modl, provider: x, source: y}]\nrequired: [model, prompt]",
            "ignored_fields[0].field",
            "'modl' is unknown; did you mean 'model'?",
        ),
        (
            "        need: {audio: false}",
            "        since: 2026-05-01\n        until: 2026-05-01\n        need: {audio: false}",
            "models.kling-v3-omni.rules[0].until",
            "must be later than since; correct one of the two",
        ),
    ],
)
def test_an_invalid_capability_file_is_refused(
    folder: Folder, old: str, new: str, key_path: str, remedy: str
) -> None:
    """A matrix is read as strictly as a price table."""
    text = bundled_capabilities()
    assert old in text
    error = refusal(folder({"capabilities/tasks.yaml": text.replace(old, new, 1)}))
    assert error.key_path == key_path
    assert error.line is not None
    assert remedy in error.problem


def test_a_capability_file_of_an_unknown_format_is_refused(folder: Folder) -> None:
    """A file can only describe an API whose payloads the library can read."""
    text = bundled_capabilities().replace("wire_format: tasks", "wire_format: unheard", 1)
    error = refusal(folder({"capabilities/unheard.yaml": text}))
    assert (error.key_path, error.line) == ("wire_format", 3)
    assert error.problem.startswith("unknown wire format; known wire formats: tasks, ")


def test_a_rule_applies_from_since_until_until(folder: Folder) -> None:
    """Both ends are instants; the first is in the period and the last is not."""
    rule = "        need: {audio: false}"
    text = bundled_capabilities()
    assert rule in text
    dated = text.replace(
        rule, f"        since: 2026-05-01\n        until: '2026-05-02T12:00:00+02:00'\n{rule}", 1
    )
    book = load_price_book(folder({"capabilities/tasks.yaml": dated}))
    payload = video("kling-v3-omni", audio=True, video_list=CLIP)
    first, end = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, 10, tzinfo=UTC)
    second = timedelta(seconds=1)

    def codes(at: datetime) -> list[str]:
        return [violation.code for violation in check(payload, book=book, at=at)]

    assert codes(first - second) == codes(end) == []
    assert codes(first) == codes(end - second) == ["audio_video_reference"]


@pytest.mark.parametrize(
    "name", ["prices/2026-11-01.yaml", "prices/acme/2026-11-01.yml", "tasks.yaml", "capabilities/a/b.yaml"]
)
def test_a_file_in_the_wrong_place_is_an_error(folder: Folder, name: str) -> None:
    """A table in the wrong place is not silently ignored."""
    error = refusal(folder({name: PRICES}))
    assert error.problem.startswith("is not read from this folder; move it to prices/<provider>/<date>.yaml, ")
    assert error.file.endswith(name)


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    """A misspelt folder is an error, and the bundled tables are not used instead."""
    assert "no such folder" in refusal(tmp_path / "nowhere").problem


def test_two_tables_in_force_at_once_are_an_error(folder: Folder) -> None:
    """The error names the later file, and its remedy concerns the earlier table."""
    later = PRICES.replace("valid_from: null", "valid_from: 2026-12-01")
    error = refusal(folder({"prices/acme/2026-11-01.yaml": PRICES, "prices/acme/2026-12-01.yaml": later}))
    assert error.file.endswith("prices/acme/2026-12-01.yaml")
    assert "overlaps acme/2026-11-01" in error.problem


def test_the_table_in_force_is_found_to_the_instant(folder: Folder) -> None:
    """A period includes its first instant and excludes its end; in a gap no table applies."""
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
        with pytest.raises(PriceNotFoundError, match="acme has no price table for"):
            book.table("acme", at)


def test_a_source_was_checked_on_the_day_of_the_copy_that_it_names() -> None:
    """A copy that was read later is as old as it was, so that notes about stale tables come in time."""
    dated = 0
    for file in bundled().rglob("*.yaml"):
        for source in load(file.read_bytes(), name=file.name).tree["sources"]:
            for day in re.findall(r"\b20\d\d-\d\d-\d\d\b", source["ref"]):
                assert str(source["checked"]) == day, (file.name, source)
                dated += 1
    assert dated > 20


def test_the_bundled_tables_have_sources(book: PriceBook) -> None:
    """Every table has a source and a digest, and every rule of every matrix has a source."""
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
    """The user's prices are never silently ignored."""
    assert refusal(folder({name: PRICES})).problem.startswith(
        "is not read from this folder; move it to prices/"
    )


def test_a_folder_without_tables_is_an_error(folder: Folder) -> None:
    """A folder that is empty, or has only other files, is an error; hidden files are ignored."""
    problem = refusal(folder({".git/config.yaml": "x", "notes.txt": "y"})).problem
    assert problem.startswith("has no tables; put them at prices/<provider>/<date>.yaml, ")


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("720p: {silent: 0.05}", "720p: {silnt: 0.05}", "'silnt' is unknown, did you mean 'silent'?"),
        ("  kling-v2-6:", "  kling-v2.6:", "'kling-v2.6' is unknown, did you mean 'kling-v2-6'?"),
    ],
)
def test_a_misspelt_cell_is_pointed_out(folder: Folder, old: str, new: str, hint: str) -> None:
    """The error names the unknown part of an unreachable rate."""
    assert hint in refusal(folder({"prices/acme/a.yaml": PRICES.replace(old, new)})).problem


@pytest.mark.parametrize("value", ["9999-12-31", "0001-01-01", "9999-12-31T23:59:59-14:00"])
def test_a_date_out_of_range_is_refused(folder: Folder, value: str) -> None:
    """A date outside the years 2000 to 2200 is an error."""
    text = PRICES.replace("checked: 2026-11-01", f"checked: {value}")
    assert (
        "must be a day such as 2026-04-29, or a time with a time zone"
        in refusal(folder({"prices/acme/a.yaml": text})).problem
    )


TWO_TIERS = PRICES.replace(
    "  - {tier: silent}", "  - {tier: long, when: {duration_s: {min: 10}}}\n  - {tier: silent}"
)


def test_a_tier_that_only_some_durations_reach_must_be_priced(folder: Folder) -> None:
    """The check for completeness tries every turning point, not only the ends of a range."""
    error = refusal(folder({"prices/acme/a.yaml": TWO_TIERS}))
    assert error.key_path == "rates.kling-video-o1.720p.long"
    assert "neither priced nor listed" in error.problem


def test_a_rate_whose_action_is_not_allowed_cannot_be_reached(folder: Folder) -> None:
    """A video-reference rate needs the action that takes a reference video."""
    text = bundled_capabilities().replace(
        "actions: [generate, image2video, reference, reference_video]",
        "actions: [generate, image2video, reference]",
    )
    prices = PRICES.replace(
        "  - {tier: silent}",
        "  - {tier: video_reference, when: {videos: {min: 1}, model: kling-v3-omni}}\n  - {tier: silent}",
    )
    omni, rest = prices.split("  kling-v3-omni:\n")
    prices = f"{omni}  kling-v3-omni:\n" + re.sub(
        r"\{(silent: \d.\d)\}", r"{\1, video_reference: 0.4}", rest, count=3
    )
    load_price_book(folder({"prices/acme/a.yaml": prices}))
    error = refusal(folder({"capabilities/tasks.yaml": text}))
    assert error.key_path == "rates.kling-v3-omni.720p.video_reference"
    assert "no request can reach this rate" in error.problem


@pytest.mark.parametrize(
    ("period", "in_force"),
    [
        ("", (True, True, True)),
        ("since: 2026-11-01", (False, True, True)),
        ("until: 2026-12-01", (True, True, False)),
        ("since: 2026-11-01\n        until: 2026-12-01", (False, True, False)),
        ("since: 2026-11-01T00:00:00.000001Z", (False, False, True)),
    ],
)
def test_a_rule_may_hold_for_a_part_of_the_time(
    folder: Folder, period: str, in_force: tuple[bool, ...]
) -> None:
    """It is judged at the instant of the quote, by `quote`, `check` and `compare` alike."""
    rule = 'need: {audio: false}\n        message: "audio cannot be combined with a reference video'
    text = bundled_capabilities()
    assert rule in text
    text = text.replace(rule, f"{period}\n        {rule}")
    book = load_price_book(folder({"capabilities/tasks.yaml": text}))
    payload = video("kling-v3-omni", audio=True, video_urls=["v"])
    start, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    for at, holds in zip((start - timedelta(seconds=1), start, end), in_force, strict=True):
        codes = [violation.code for violation in check(payload, book=book, at=at)]
        assert codes == ["audio_video_reference"] * holds
        own = next(option for option in compare(payload, book=book, at=at) if not option.changes)
        assert own.why_not.startswith("audio cannot be combined") is holds


CONTRACT = """\
extends: acme/a
sources: [{ref: our contract, checked: 2026-11-01, authority: official}]
discount: 0.1
"""


def test_a_contract_shows_list_and_contract_totals(folder: Folder) -> None:
    """The discount is a separate line, and the lines sum to the amount that the customer pays."""
    book = load_price_book(folder({"prices/acme/a.yaml": PRICES, "prices/acme/ours.yaml": CONTRACT}))
    quoted = quote(video(duration=7), provider="acme", book=book, at=AT)
    assert (quoted.total, quoted.list_total, quoted.table.id) == (Decimal("0.63"), Decimal("0.7"), "acme/ours")
    assert [(line.description, line.amount) for line in quoted.lines] == [
        ("kling-v3 720p silent", Decimal("0.7")),
        ("contract discount of 10%", Decimal("-0.07")),
    ]
    assert "at list prices: 0.7 EUR" in quoted.explain()
    assert quoted.as_dict()["list_total"] == "0.7"


def test_a_discount_is_rounded_once_half_up(folder: Folder) -> None:
    """The discount has nine decimals: 0.05 x 5 s x 0.000000033 is 0.00000000825 and becomes 0.000000008."""
    contract = CONTRACT.replace("0.1", "0.000000033")
    book = load_price_book(folder({"prices/acme/a.yaml": PRICES, "prices/acme/ours.yaml": contract}))
    quoted = quote(video("kling-v2.6", duration=5), provider="acme", book=book, at=AT)
    assert quoted.total == Decimal("0.25") - Decimal("0.000000008")


@pytest.mark.parametrize(
    ("discount", "seconds", "total"),
    [
        ("0.0125", 7, "3.147572312"),  # 3.187415 x 0.0125 = 0.0398426875
        ("0.0125", 3, "1.348959562"),  # 1.366035 x 0.0125 = 0.0170754375
        ("0.0333", 7, "3.081274080"),  # 3.187415 x 0.0333 = 0.1061409195
        ("0.0333", 15, "6.602730172"),  # 6.830175 x 0.0333 = 0.2274448275
    ],
)
def test_an_uneven_discount_keeps_the_exact_list_total(
    folder: Folder, discount: str, seconds: int, total: str
) -> None:
    """The list total is the published price, and the discount is rounded half up, once."""
    contract = CONTRACT.replace("acme/a", "qingbo/2026-04-29").replace("0.1", discount)
    book = load_price_book(folder({"prices/qingbo/ours.yaml": contract}))
    quoted = quote(video(duration=seconds, resolution="4k"), provider="qingbo", book=book, at=AT)
    assert (quoted.total, quoted.list_total) == (Decimal(total), Decimal("0.455345") * seconds)
    assert quoted.table.contract is not None
    cell = Cell("kling-v3", "4k", "silent")
    assert quoted.table.contract.charge(cell, Decimal("0.455345") * seconds) == quoted.total


def test_an_unknown_provider_is_an_error_that_lists_the_known_ones(book: PriceBook) -> None:
    """The price book has the only text for this error."""
    known = "use one of: kling, octopusx, qingbo, qingbo-ai, tencent-vod, uniall"
    for look_up in (lambda: book.table("acme", AT), lambda: book.tables_of("acme")):
        with pytest.raises(PriceNotFoundError) as caught:
            look_up()
        assert (str(caught.value), caught.value.provider) == (f"unknown provider 'acme'; {known}", "acme")


def test_the_tables_of_a_provider_end_with_its_contracts(folder: Folder) -> None:
    """The published tables come first."""
    book = load_price_book(folder({"prices/acme/a.yaml": PRICES, "prices/acme/ours.yaml": CONTRACT}))
    assert [table.id for table in book.tables_of("acme")] == ["acme/a", "acme/ours"]


OMNI = {"model": "Kling-3.0-Omni", "prompt": "a boat", "seconds": "5"}
NO_PRICES = (
    "octopusx publishes no prices (its docs list models and billing names, but no amounts); "
    "add its prices to your own folder of tables, in a full price file (`kling-pricing tables new octopusx "
    "--wire-format openai_videos --out FOLDER` writes a file to fill in) or in a file that extends another "
    "provider's table"
)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"provider": "octopusx"}, {"url": "https://octopusx.ai/v1/videos"}, {"url": "http://gw/v1/videos"}],
)
def test_a_known_provider_without_prices_is_named(arguments: dict[str, Any]) -> None:
    """The error says whose prices are missing, how to give them, and who prices this model."""
    with pytest.raises(PriceNotFoundError) as caught:
        quote(OMNI, at=AT, **arguments)
    assert str(caught.value) == f"{NO_PRICES}, or choose a provider with prices: tencent-vod"
    assert (caught.value.provider, caught.value.model) == ("octopusx", "kling-v3-omni")
    assert caught.value.priced_instead == ("tencent-vod",)


def test_providers_without_prices_are_known_by_their_apis(book: PriceBook) -> None:
    """Their wire formats and hosts are read from their files, and they have no tables."""
    apis = {name: (provider.hosts, provider.wire_formats) for name, provider in book.unpriced.items()}
    assert apis == {
        "octopusx": (("octopusx.ai",), ("openai_videos",)),
        "uniall": ((), ("video_generations",)),
    }
    assert book.tables_of("octopusx") == ()
    endpoint = book.endpoint("https://octopusx.ai/v1/video/generations")
    assert (endpoint.provider, endpoint.wire_formats) == ("octopusx", ("openai_videos",))
    assert copy.copy(book).unpriced == book.unpriced
    with pytest.raises(PriceNotFoundError) as caught:
        book.table("octopusx", AT)
    assert str(caught.value) == NO_PRICES


def test_a_table_of_ones_own_prices_a_provider_without_prices(folder: Folder) -> None:
    """Its host and its wire format come from the provider's file."""
    text = bundled("prices", "tencent-vod", "2026.yaml").read_text(encoding="utf-8")
    own = text.replace(
        "provider: tencent-vod\nwire_formats: []\nalso_prices: [openai_videos, tasks]",
        "provider: octopusx\nwire_formats: [openai_videos]\nalso_prices: [tasks]",
    )
    assert own != text
    book = load_price_book(folder({"prices/octopusx/2026-11-01.yaml": own}))
    for url in (None, "https://octopusx.ai/v1/videos"):
        quoted = quote(OMNI | {"size": "1280x720"}, book=book, at=AT, url=url)
        assert (quoted.provider, quoted.minimum, quoted.maximum) == ("octopusx", Decimal("3.0"), Decimal("4.0"))


ADOPTED = "extends: tencent-vod/2026\nsources: [{ref: our bill, checked: 2026-11-01, authority: secondary}]\n"


@pytest.mark.parametrize(
    ("more", "minimum", "maximum"), [("", "3.0", "4.0"), ("discount: 0.1\n", "2.7", "3.6")]
)
def test_a_provider_without_prices_may_extend_another_providers_table(
    folder: Folder, more: str, minimum: str, maximum: str
) -> None:
    """The rates are the other provider's, with or without a discount; the provider is that of the folder."""
    book = load_price_book(folder({"prices/octopusx/ours.yaml": ADOPTED + more}))
    quoted = quote(OMNI | {"size": "1280x720"}, url="https://octopusx.ai/v1/videos", book=book, at=AT)
    table = quoted.table
    assert (quoted.provider, table.id, quoted.currency) == ("octopusx", "octopusx/ours", "CNY")
    assert (table.hosts, table.wire_formats, table.also_prices) == (("octopusx.ai",), ("openai_videos",), ())
    assert (quoted.minimum, quoted.maximum) == (Decimal(minimum), Decimal(maximum))


def test_a_table_that_does_not_price_the_providers_requests_cannot_be_extended(folder: Folder) -> None:
    """The error names the requests that the provider takes."""
    error = refusal(
        folder({"prices/octopusx/ours.yaml": ADOPTED.replace("tencent-vod/2026", "kling/2026-09-20")})
    )
    assert error.key_path == "extends"
    assert error.problem == (
        "kling/2026-09-20 does not price requests in openai_videos, which octopusx accepts; "
        "extend a table that prices them"
    )


PROVIDER = """\
provider: acme
hosts: [acme.example]
wire_formats: [tasks]
why: it publishes none
sources: [{ref: docs, checked: 2026-11-01, authority: official}]
"""


@pytest.mark.parametrize(
    ("old", "new", "key_path", "remedy"),
    [
        (
            "provider: acme",
            "provider: other",
            "provider",
            "differs from the file's name 'acme'; make them the same",
        ),
        ("[tasks]", "[task]", "wire_formats[0]", "no capabilities/task.yaml; did you mean 'tasks'?"),
        ("[tasks]", "[]", "wire_formats", "add at least one"),
        ("[acme.example]", "[octopusx.ai]", "hosts[0]", "'octopusx.ai' is also a host of "),
        ("why:", "reason:", "reason", "unknown key"),
        ("why: it publishes none\n", "", "why", "required"),
    ],
)
def test_an_invalid_provider_file_is_refused(
    folder: Folder, old: str, new: str, key_path: str, remedy: str
) -> None:
    """A provider file is read as strictly as a price table."""
    error = refusal(folder({"providers/acme.yaml": PROVIDER.replace(old, new)}))
    assert error.key_path in {key_path, ""} or error.file.endswith("octopusx.yaml")
    assert remedy in error.problem


def test_a_provider_file_of_ones_own_makes_a_provider_known(folder: Folder) -> None:
    """Its requests are refused for want of a price, with the provider's name."""
    book = load_price_book(folder({"providers/acme.yaml": PROVIDER}))
    with pytest.raises(
        PriceNotFoundError, match=r"^acme publishes no prices \(it publishes none\); add its prices"
    ):
        quote(video(), url="https://acme.example/v1/tasks", book=book, at=AT)


def test_a_contract_price_replaces_the_published_one(folder: Folder) -> None:
    """The price of the contract has no discount; other cells have one."""
    contract = CONTRACT + "rates: {kling-v3: {720p: {silent: 0.08}}}\n"
    book = load_price_book(folder({"prices/acme/a.yaml": PRICES, "prices/acme/ours.yaml": contract}))
    own = quote(video(duration=5), provider="acme", book=book, at=AT)
    assert (own.total, own.list_total) == (Decimal("0.4"), Decimal("0.5"))
    assert [line.description for line in own.lines] == ["kling-v3 720p silent, contract price"]
    other = quote(video(duration=5, resolution="1080p"), provider="acme", book=book, at=AT)
    assert (other.total, other.list_total) == (Decimal("0.9"), Decimal(1))
    assert [line.description for line in other.lines] == ["kling-v3 1080p silent", "contract discount of 10%"]


def test_a_contract_applies_in_its_period_only(folder: Folder) -> None:
    """Before and after the period, the published prices apply."""
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
        (
            "acme/a",
            "qingbo/2026-04-29",
            1,
            "extends",
            "move the file to prices/qingbo/; if acme bills you, write a table for acme",
        ),
        (
            "discount: 0.1",
            "discount: 10",
            3,
            "discount",
            "must be a fraction below 1; write ten percent as 0.1",
        ),
        ("discount: 0.1", "dicount: 0.1", 3, "dicount", "did you mean 'discount'?"),
        ("discount: 0.1", "", 1, "", "changes nothing"),
        (
            "discount: 0.1",
            "unit_value: 0.1",
            3,
            "unit_value",
            "acme/a has no unit of its own; give a discount or rates",
        ),
        (
            "discount: 0.1",
            "rates: {kling-v3: {8k: {silent: 1}}}",
            3,
            "rates.kling-v3.8k.silent",
            "has no price for kling-v3 8k silent that a contract could replace; remove this rate",
        ),
        (
            "discount: 0.1",
            "discount: 0.1\nvalid_from: 2026-11-10\nvalid_until: 2026-11-10",
            5,
            "valid_until",
            "must be later than valid_from; correct one of the two",
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
    """The library does not guess which contract applies."""
    files = {"prices/acme/a.yaml": PRICES, "prices/acme/b.yaml": CONTRACT, "prices/acme/c.yaml": CONTRACT}
    assert "overlaps acme/b; end one of the contracts before the other starts" in refusal(folder(files)).problem


def test_a_books_tables_cannot_be_changed(book: PriceBook) -> None:
    """A caller cannot change a later quote by accident."""
    with pytest.raises(TypeError):
        book.tables["qingbo"] = ()  # type: ignore[index]
    with pytest.raises(AttributeError):
        book.tables["qingbo"][0].rates.clear()  # type: ignore[attr-defined]


# A table is closed when its provider has a later one. Its data never changes again; if the wording in its file
# changes, put the new digest here.
CLOSED = {
    "kling/2026-07": "af97f6ba2d056905a21b0f7269ade62e5624625671dd62bbf2e3f9d18e5e9ca1",
    "qingbo-ai/2026-06-19": "f7ecbf330820c4fff80425c99b7a0d80a6000eee752ed440241192df4609470c",
    "qingbo-ai/2026-09-04": "52f68ffbfbc9c0bf2a9088adf77de1eca4edc78fe7a39825e03414f3a4fbb3ee",
    "qingbo-ai/2026-09-07": "095e82f8f632f3a1de2252bb9f946b888e296a63a4dc8676ed08ae22ce133815",
    "qingbo-ai/2026-09-19": "5392f25e00ff4d0d8d90cc0878c5a0157051d0044299bb93f65c8e5b4c41dede",
}


def test_closed_tables_are_never_edited(book: PriceBook) -> None:
    """A price change is a new file: the digest of every closed table is pinned here."""
    closed = {table.id: table.digest for tables in book.tables.values() for table in tables[:-1]}
    assert closed == CLOSED


SUMMED = PRICES.replace(
    "  - {fact: duration_s}\n",
    "  - sum: [video_length_s, duration_s]\n"
    "    at_least: {fact: duration_s, times: 2}\n"
    "    when: {videos: {min: 1}}\n"
    "  - {fact: duration_s}\n",
)


@pytest.mark.parametrize(
    ("length_s", "duration", "seconds", "total"),
    [
        ("6", 10, "20", "1.88"),  # 6 + 10 is less than twice 10
        ("10", 10, "20", "1.88"),
        ("10.5", 10, "20.5", "1.927"),
        ("12", 10, "22", "2.068"),
        ("3", 3, "6", "0.564"),
    ],
)
def test_a_quantity_may_be_a_sum_with_a_floor(length_s: str, duration: int, seconds: str, total: str) -> None:
    """Input and output count together, but at least twice the output: the example table has this rule."""
    book = load_price_book(Path(__file__).parent.parent / "examples" / "tables")
    payload = video("kling-v3-omni", duration=duration, video_list=CLIP)
    media = {"v": {"length_s": length_s}}
    quoted = quote(payload, provider="harbour", media=media, book=book, at=AT)
    assert (quoted.quantity, quoted.total) == (Decimal(seconds), Decimal(total))
    plain = quote(video("kling-v3-omni", duration=duration), provider="harbour", book=book, at=AT)
    assert plain.total == Decimal("0.157") * duration


def test_a_sum_of_an_unknown_length_is_not_quoted(folder: Folder) -> None:
    """Nothing limits the length in this format, so the error asks for it."""
    book = load_price_book(folder({"prices/acme/2026-11-01.yaml": SUMMED}))
    with pytest.raises(PriceNotFoundError, match="pass the length of the video with `media`"):
        quote(video("kling-v3-omni", video_list=CLIP), provider="acme", book=book, at=AT)


@pytest.mark.parametrize(
    ("quantity", "key_path", "problem"),
    [
        ("{unit: second}", "quantity[0]", "must have either `fact` or `sum`; give one of the two"),
        (
            "{fact: duration_s, sum: [duration_s, video_length_s]}",
            "quantity[0]",
            "must have either `fact` or `sum`; give one of the two",
        ),
        (
            "{sum: [duration_s]}",
            "quantity[0].sum",
            "must list two or more different facts; for a single fact, use `fact`",
        ),
        ("{sum: [duration_s, duration_s]}", "quantity[0].sum", "must list two or more different facts"),
        ("{sum: [duration_s, shots]}", "quantity[0].sum[1]", "duration_s"),
        (
            "{fact: duration_s, at_least: {fact: duration_s, times: 0}}",
            "quantity[0].at_least.times",
            "must be greater than 0",
        ),
    ],
)
def test_a_quantity_that_makes_no_sense_is_refused(
    folder: Folder, quantity: str, key_path: str, problem: str
) -> None:
    """The error names the entry and the remedy."""
    text = PRICES.replace("{fact: duration_s}", quantity)
    error = refusal(folder({"prices/acme/2026-11-01.yaml": text}))
    assert error.key_path == key_path
    assert problem in error.problem


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            "valid_from: 2026-01-01\nknown_from: 2026-02-01",
            "applies only to a table whose valid_from is null; remove it",
        ),
        (
            "valid_from: null\nvalid_until: 2026-02-01\nknown_from: 2026-02-01",
            "must be earlier than valid_until",
        ),
    ],
)
def test_known_from_is_for_open_beginnings(folder: Folder, change: str, problem: str) -> None:
    """A table with a beginning is known from it on."""
    error = refusal(folder({"prices/acme/2026.yaml": PRICES.replace("valid_from: null", change)}))
    assert error.key_path == "known_from"
    assert problem in error.problem


def test_a_quote_before_a_table_is_known_has_a_note(folder: Folder) -> None:
    """The note ends with the instant from which the table is known."""
    text = PRICES.replace("valid_from: null", "valid_from: null\nknown_from: 2026-02-01")
    book = load_price_book(folder({"prices/acme/2026.yaml": text}))
    for at, noted in (
        (datetime(2026, 1, 31, 23, 59, tzinfo=UTC), True),
        (datetime(2026, 2, 1, tzinfo=UTC), False),
    ):
        quoted = quote(video(), provider="acme", book=book, at=at)
        assert ("before_known_prices" in [note.code for note in quoted.notes]) is noted


def test_every_bundled_table_with_an_open_beginning_says_from_when_it_is_known(book: PriceBook) -> None:
    """Without a beginning, a price of long ago would look as sure as one of today."""
    opened = {
        table.id: table.known_from
        for tables in book.tables.values()
        for table in tables
        if not table.valid_from
    }
    assert opened == {
        "kling/2026-07": datetime(2026, 6, 17, tzinfo=UTC),
        "qingbo/2026-04-29": datetime(2026, 4, 29, tzinfo=UTC),
        "tencent-vod/2026": datetime(2026, 11, 19, tzinfo=UTC),
    }


YEAR = PRICES.replace("valid_from: null", "valid_from: 2026-01-01\nvalid_until: 2027-01-01")
NARROWED = (
    YEAR + "model_periods:\n  kling-v3: {valid_from: 2026-03-01, valid_until: '2026-06-01T08:00:00+02:00'}\n"
)


def test_a_model_may_narrow_its_tables_period(folder: Folder) -> None:
    """The model has the table's price from the first instant of its own period, and no longer at its end."""
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
            f"kling-v3 has no price at {at.isoformat()}: acme/2026 prices it only "
            "from 2026-03-01 until 2026-06-01T06:00:00+00:00; "
            "choose a time in that period, or add your own price table"
        )
        assert (caught.value.provider, caught.value.model) == ("acme", "kling-v3")
    (own,) = [
        each for each in compare(video(), at=AT, book=book) if each.provider == "acme" and not each.changes
    ]
    assert own.why_not.startswith("kling-v3 has no price at")


def test_a_missing_bound_of_a_models_period_is_that_of_the_table(folder: Folder) -> None:
    """A model that starts later ends with the table, and in a contract with the contract."""
    later = YEAR + "model_periods:\n  kling-v3: {valid_from: 2026-12-01}\n"
    contract = (
        "extends: acme/2026\ndiscount: 0.5\nsources: [{ref: x, checked: 2026-11-01, authority: official}]\n"
    )
    book = load_price_book(folder({"prices/acme/2026.yaml": later, "prices/acme/ours.yaml": contract}))
    with pytest.raises(PriceNotFoundError, match="acme/ours prices it only from 2026-12-01 until 2027-01-01"):
        quote(video(), provider="acme", at=AT, book=book)
    at = datetime(2026, 12, 1, tzinfo=UTC)
    assert quote(video(), provider="acme", at=at, book=book).total == Decimal("0.25")


@pytest.mark.parametrize(
    ("entry", "key_path", "problem"),
    [
        ("kling-v9: {valid_from: 2026-02-01}", "model_periods.kling-v9", "has no rates; did you mean"),
        ("kling-v3: {}", "model_periods.kling-v3", "has no period; give valid_from, valid_until or both"),
        (
            "kling-v3: {valid_from: 2025-12-31}",
            "model_periods.kling-v3.valid_from",
            "is before the table's own valid_from; remove this valid_from",
        ),
        (
            "kling-v3: {valid_until: 2027-01-02}",
            "model_periods.kling-v3.valid_until",
            "is after the table's own valid_until; remove this valid_until",
        ),
        (
            "kling-v3: {valid_from: 2027-01-01}",
            "model_periods.kling-v3",
            "has a period that is empty or outside the table's",
        ),
        (
            "kling-v3: {valid_until: 2026-01-01}",
            "model_periods.kling-v3",
            "has a period that is empty or outside the table's",
        ),
        (
            "kling-v3: {valid_from: 2026-03-01, valid_until: 2026-03-01}",
            "model_periods.kling-v3",
            "has a period that is empty or outside the table's",
        ),
        ("kling-v3: {from: 2026-03-01}", "model_periods.kling-v3.from", "unknown key"),
    ],
)
def test_a_models_period_lies_within_its_tables(
    folder: Folder, entry: str, key_path: str, problem: str
) -> None:
    """A period that is empty, or extends beyond the period of the table, is an error with its place."""
    error = refusal(folder({"prices/acme/2026.yaml": f"{YEAR}model_periods:\n  {entry}\n"}))
    assert error.key_path == key_path
    assert problem in error.problem


IN_UNITS = "extends: kling/2026-09-20\nsources: [{ref: x, checked: 2026-11-01, authority: official}]\n"


def test_a_contracts_unit_value_prices_every_cell(folder: Folder) -> None:
    """Every price is exact, as long as it has at most nine decimals."""
    book = load_price_book(folder({"prices/kling/ours.yaml": IN_UNITS + "unit_value: '0.0987654'\n"}))
    url = "https://api-singapore.klingai.com/v1/general/custom-voices"
    quoted = quote({"voice_name": "a"}, url=url, book=book, at=AT)  # 0.05 units
    assert (quoted.total, quoted.list_total) == (Decimal("0.00493827"), Decimal("0.007"))


@pytest.mark.parametrize(
    ("content", "key_path", "problem"),
    [
        (
            "unit_value: 0.098765432\n",
            "unit_value",
            "the price of kling-3.0-turbo 720p audio is 0.8 units at 0.098765432, which is 0.0790123456 USD",
        ),
        (
            "rates: {kling-v3: {720p: {silent: 0.123456789}}}\n",
            "rates",
            "the price of kling-v3 720p silent is 0.123456789 units at 0.14, which is 0.01728395046 USD",
        ),
    ],
)
def test_a_unit_price_is_never_rounded(folder: Folder, content: str, key_path: str, problem: str) -> None:
    """A price in units that needs more than nine decimals is refused, with the cell and the remedy."""
    error = refusal(folder({"prices/kling/ours.yaml": IN_UNITS + content}))
    assert error.key_path == key_path
    assert problem in error.problem
    remedy = "use fewer decimal places in the price or in the unit value"
    assert f"at most 9 decimal places are allowed; {remedy}" in error.problem


def test_a_published_unit_price_is_never_rounded_either(folder: Folder) -> None:
    """The same applies to a price file whose rates are in units."""
    prices = PRICES + "unit: {name: credit, value: 0.00000001}\n"
    error = refusal(folder({"prices/acme/a.yaml": prices}))
    assert error.key_path == "unit.value"
    assert "kling-v2-6 720p silent is 0.05 credits at 0.00000001, which is 0.0000000005 EUR" in error.problem


PACKS = PRICES.replace("rates:", "unit: {name: unit, value: 0.5}\nunits: {video: 0.5, image: 0.0125}\nrates:")


def test_a_table_gives_the_value_of_a_unit_by_the_kind_of_pack(folder: Folder) -> None:
    """A contract's `unit_value` replaces the value of packs that count the units of the rates, and no other."""
    contract = (
        "extends: acme/a\nunit_value: 0.4\nsources: [{ref: x, checked: 2026-11-01, authority: official}]\n"
    )
    book = load_price_book(folder({"prices/acme/a.yaml": PACKS, "prices/acme/ours.yaml": contract}))
    (table,), (ours,) = book.tables["acme"], book.contracts["acme"]
    assert table.units == {"video": Decimal("0.5"), "image": Decimal("0.0125")}
    assert ours.units == {"video": Decimal("0.4"), "image": Decimal("0.0125")}
    assert book.tables["qingbo"][0].units == {}
    assert book.tables["kling"][-1].units == {"video": Decimal("0.14"), "image": Decimal("0.0035")}


@pytest.mark.parametrize(
    ("old", "new", "key_path", "remedy"),
    [
        ("video: 0.5", "video: 0", "units.video", "must be greater than 0"),
        ("video: 0.5", "unit: 0.4", "units.unit", "differs from the value of `unit`; make the two"),
    ],
)
def test_the_value_of_a_unit_is_checked(folder: Folder, old: str, new: str, key_path: str, remedy: str) -> None:
    """A unit that is worth nothing, or contradicts the unit of the rates, is refused."""
    error = refusal(folder({"prices/acme/a.yaml": PACKS.replace(old, new)}))
    assert (error.key_path, remedy in str(error)) == (key_path, True)


IMAGES = PACKS.replace("image: 0.0125}", "image: 0.0125}\npack_of: {kling-v3: image}")


def test_a_models_rates_may_be_in_the_units_of_another_pack(folder: Folder) -> None:
    """Each unit has its own value, and a contract sets them separately."""
    contract = "extends: acme/a\nsources: [{ref: x, checked: 2026-11-01, authority: official}]\n"
    book = load_price_book(folder({"prices/acme/a.yaml": IMAGES}))
    published = quote(video(), provider="acme", book=book, at=AT)
    assert (published.lines[0].description, published.total) == (
        "kling-v3 720p silent, 0.1 image units at 0.0125 EUR",
        Decimal("0.00625"),
    )
    assert quote(video("kling-v2.6"), provider="acme", book=book, at=AT).total == Decimal("0.125")
    for change, images, videos in (
        ("unit_value: 0.4\n", "0.00625", "0.1"),
        ("units: {image: 0.01}\n", "0.005", "0.125"),
        ("unit_value: 0.4\nunits: {image: 0.01}\n", "0.005", "0.1"),
        ("rates: {kling-v3: {720p: {silent: 0.2}}}\n", "0.0125", "0.125"),
        ("units: {image: 0.01}\nrates: {kling-v3: {720p: {silent: 0.2}}}\n", "0.01", "0.125"),
    ):
        files = {"prices/acme/a.yaml": IMAGES, "prices/acme/ours.yaml": contract + change}
        book = load_price_book(folder(files))
        quoted = [quote(video(name), provider="acme", book=book, at=AT) for name in ("kling-v3", "kling-v2.6")]
        assert [one.total for one in quoted] == [Decimal(images), Decimal(videos)]
        assert quoted[0].list_total == Decimal("0.00625")


@pytest.mark.parametrize(
    ("contract", "old", "new", "key_path", "remedy"),
    [
        ("", "pack_of: {kling-v3:", "pack_of: {kling-v4:", "pack_of.kling-v4", "'kling-v4' has no rates"),
        (
            "",
            "image}",
            "audio}",
            "pack_of.kling-v3",
            "no value for units of kind 'audio'; add one",
        ),
        ("", "0.0125", "0.000000001", "units.image", "0.1 image units at 0.000000001"),
        ("units: {video: 0.4}", "", "", "units.video", "give the price as unit_value"),
        ("units: {audio: 0.4}", "", "", "units.audio", "acme/a has no unit of this kind"),
        ("units: {image: 0.000000001}", "", "", "units.image", "0.1 image units at 0.000000001"),
    ],
)
def test_the_units_of_another_pack_are_checked(
    folder: Folder, contract: str, old: str, new: str, key_path: str, remedy: str
) -> None:
    """Models, kinds of packs and values must agree, and the error names the line to change."""
    files = {"prices/acme/a.yaml": IMAGES.replace(old, new) if old else IMAGES}
    if contract:
        source = "sources: [{ref: x, checked: 2026-11-01, authority: official}]"
        files["prices/acme/ours.yaml"] = f"extends: acme/a\n{source}\n{contract}\n"
    error = refusal(folder(files))
    assert (error.key_path, remedy in str(error)) == (key_path, True)


def test_the_currency_of_an_account_is_that_of_its_host(folder: Folder) -> None:
    """A table gives it for each host or for all of them; a contract gives it for all."""
    contract = (
        "extends: kling/2026-09-20\naccount_currency: CNY\n"
        "sources: [{ref: x, checked: 2026-11-01, authority: official}]\n"
    )
    everywhere = PACKS.replace("rates:", "account_currency: EUR\nrates:")
    book = load_price_book(folder({"prices/acme/a.yaml": everywhere, "prices/kling/ours.yaml": contract}))
    kling, hosts = book.tables["kling"][-1], ("api-singapore.klingai.com", "api-beijing.klingai.com", "")
    assert [kling.account_currency(host) for host in hosts] == ["USD", None, None]
    assert [book.contracts["kling"][0].account_currency(host) for host in hosts] == ["CNY"] * 3
    assert book.tables["acme"][0].account_currency("") == "EUR"
    assert book.tables["qingbo"][0].account_currency("www.qingbo.dev") is None


def test_the_currency_of_an_unlisted_host_is_refused(folder: Folder) -> None:
    """A mistyped host would leave its charges without a value."""
    prices = PACKS.replace("rates:", "account_currency: {api.acme.example: EUR}\nrates:")
    error = refusal(folder({"prices/acme/a.yaml": prices}))
    assert (error.key_path, "is not one of the table's hosts" in error.problem) == (
        "account_currency.api.acme.example",
        True,
    )


def places(folder: Path) -> list[tuple[str, str]]:
    """Returns the file and the key path of every problem in a folder."""
    return [(problem.file.rpartition("/")[2], problem.key_path) for problem in refusal(folder).problems]


def test_one_check_finds_all_problems_of_a_capability_file(folder: Folder) -> None:
    """Names that no other part has, double entries and empty periods come in one run, each with its line."""
    text = bundled("capabilities", "video_generations.yaml").read_text(encoding="utf-8")
    code = "      - code: prompt_or_shots\n        since: 2026-02-01\n        until: 2026-01-01\n"
    for old, new in (
        ("required: [model]", "required: [modell]"),
        ("{action: image2video, when", "{action: image3video, when"),
        ("fields: [model, prompt,", "fields: [modle, prompt,"),
        ("      resolution: [720p, 1080p]\n", "      action: [generate]\n"),
        ("      - code: last_image_image\n", code),
        ("endpoints:\n", "endpoints:\n  - {path: /v1/video/generations, actions: [fly], source: x}\n"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    error = refusal(folder({"capabilities/video_generations.yaml": text}))
    problems = [problem.key_path for problem in error.problems]
    assert sorted(problems) == [
        "endpoints[0].actions[0]",
        "endpoints[1].path",
        "implied_actions[1].action",
        "models.kling-v3",
        "models.kling-v3.fields[0]",
        "models.kling-v3.limits.action",
        "models.kling-v3.rules[2].until",
        "required[0]",
    ]


def test_one_check_finds_all_problems_of_a_price_file(folder: Folder) -> None:
    """Tiers, quantities, units, hosts and periods are all checked in one run."""
    prices = PRICES.replace(
        "rates:",
        "account_currency: {x.example: EUR}\nmodel_periods: {kling-v9: {}}\nunits: {image: 0.1}\n"
        "pack_of: {kling-v3: audio}\nrates:",
    ).replace("  - {fact: duration_s}\n", "  - {unit: call}\n  - {fact: duration_s}\n")
    problems = [problem.key_path for problem in refusal(folder({"prices/acme/a.yaml": prices})).problems]
    assert sorted(problems) == [
        "account_currency.x.example",
        "model_periods.kling-v9",
        "model_periods.kling-v9",
        "pack_of.kling-v3",
        "quantity[0]",
        "quantity[1]",
    ]


def test_one_check_finds_all_problems_of_a_contract(folder: Folder) -> None:
    """The discount, the rates and the units are all checked in one run."""
    contract = (
        "extends: acme/a\nsources: [{ref: x, checked: 2026-11-01, authority: official}]\ndiscount: 1\n"
        "units: {audio: 0.1, video: 0.4}\n"
        "rates: {kling-v9: {720p: {silent: 0.1}}, kling-v3: {720p: {silent: 0}}}\n"
    )
    files = {"prices/acme/a.yaml": PACKS, "prices/acme/ours.yaml": contract}
    assert sorted(problem.key_path for problem in refusal(folder(files)).problems) == [
        "discount",
        "rates.kling-v3.720p.silent",
        "rates.kling-v9.720p.silent",
        "units.audio",
        "units.video",
    ]


def test_one_check_finds_all_problems_of_a_folder(folder: Folder) -> None:
    """Problems of several files, and several problems of one file, come in one error, each once."""
    beta = PRICES.replace("provider: acme", "provider: beta").replace("  kling-v2-6:", "  kling-v2.6:")
    prices = {
        "prices/acme/a.yaml": PRICES.replace("{silent: 0.05}", "{silent: -1}").replace("EUR", "euro"),
        "prices/beta/b.yaml": beta.replace("4k: {silent: 0.3}", "4k: {silent: 0}", 1),
        "prices/beta/contract.yaml": "extends: beta/b\nsources: []\ndiscont: 0.1\n",
    }
    expected = [
        ("a.yaml", "currency"),
        ("a.yaml", "rates.kling-v2-6.720p.silent"),
        ("b.yaml", "rates.kling-v3.4k.silent"),
        ("b.yaml", "rates.kling-v2.6.720p.silent"),
        ("b.yaml", "rates.kling-v2.6.1080p.silent"),
        ("b.yaml", "rates.kling-v2-6.720p.silent"),
        ("b.yaml", "rates.kling-v2-6.1080p.silent"),
        ("contract.yaml", "discont"),
        ("contract.yaml", "sources"),
    ]
    assert places(folder(prices)) == expected
    capabilities = {"capabilities/tasks.yaml": "wire_format: tasks\n"}
    required = [("tasks.yaml", key) for key in ("sources", "required", "defaults", "models")]
    unreachable = [place for place in expected if "kling-v2" not in place[1] or place[0] == "a.yaml"]
    assert places(folder({**prices, **capabilities})) == [*required, *unreachable]


def test_files_that_contradict_each_other_are_found_in_one_check(folder: Folder) -> None:
    """Overlapping tables, a host of another provider and a bad contract are three problems."""
    contradicting = {
        "prices/acme/a.yaml": PRICES,
        "prices/acme/b.yaml": PRICES,
        "prices/beta/a.yaml": PRICES.replace("provider: acme", "provider: beta\nhosts: [qingbo.dev]"),
        "prices/beta/contract.yaml": "extends: beta/a\n"
        "sources: [{ref: x, checked: 2026-11-01, authority: official}]\ndiscount: 1\n",
    }
    assert places(folder(contradicting)) == [
        ("b.yaml", "valid_from"),
        ("a.yaml", "hosts[0]"),
        ("contract.yaml", "discount"),
    ]


def test_misplaced_files_are_found_in_one_check(folder: Folder) -> None:
    """Every file that would never be read is named."""
    misplaced = folder({"prices/acme/a.yaml": PRICES, "prices/b.yaml": PRICES, "prices/acme/x/c.yaml": PRICES})
    assert len(refusal(misplaced).problems) == 2


def test_the_problems_of_a_folder_can_be_pickled(folder: Folder) -> None:
    """The other problems cross a process pool with the first."""
    error = refusal(folder({"prices/acme/a.yaml": PRICES.replace("0.05", "-1").replace("EUR", "euro")}))
    assert list(map(str, pickle.loads(pickle.dumps(error)).problems)) == list(map(str, error.problems))  # noqa: S301
    assert len(error.problems) == 2


@pytest.mark.parametrize(
    ("old", "new", "key_path"),
    [
        ("{silent: 0.05}", "{silent: 0}", "rates.kling-v2-6.720p.silent"),
        ("currency: EUR", "currency: EUR\nunit: {name: unit, value: 0}", "unit.value"),
    ],
)
def test_a_price_of_0_must_be_intended(folder: Folder, old: str, new: str, key_path: str) -> None:
    """A forgotten price is not a free job; a table with `free: true` may have both."""
    free = PRICES.replace(old, new)
    error = refusal(folder({"prices/acme/a.yaml": free}))
    assert (error.key_path, error.problem) == (
        key_path,
        "is 0; enter the price, or add `free: true` to the file if the provider charges nothing",
    )
    book = load_price_book(folder({"prices/acme/a.yaml": f"{free}free: true\n"}))
    quoted = quote(video("kling-v2.6"), provider="acme", book=book, at=AT)
    assert quoted.total == 0


@pytest.mark.parametrize(
    ("change", "key_path"),
    [("unit_value: 0", "unit_value"), ("rates: {kling-v3: {720p: {silent: 0}}}", "rates.kling-v3.720p.silent")],
)
def test_a_contract_price_of_0_must_be_intended(folder: Folder, change: str, key_path: str) -> None:
    """The same holds for a unit value and for rates in a contract."""
    units = PRICES.replace("currency: EUR", "currency: EUR\nunit: {name: unit, value: 0.5}")
    contract = (
        "extends: acme/a\nsources: [{ref: x, checked: 2026-11-01, authority: official}]\n" + change + "\n"
    )
    files = {"prices/acme/a.yaml": units, "prices/acme/b.yaml": contract}
    error = refusal(folder(files))
    assert (error.key_path, "add `free: true`" in error.problem) == (key_path, True)
    book = load_price_book(folder({**files, "prices/acme/b.yaml": f"{contract}free: true\n"}))
    assert quote(video(), provider="acme", book=book, at=AT).total == 0


def test_a_unit_value_of_0_also_holds_for_a_contracts_own_rates(folder: Folder) -> None:
    """A unit value of 0 is not replaced by the published value."""
    files = {
        "prices/acme/a.yaml": PRICES.replace("currency: EUR", "currency: EUR\nunit: {name: unit, value: 0.5}"),
        "prices/acme/b.yaml": "extends: acme/a\nunit_value: 0\nfree: true\n"
        "rates: {kling-v3: {720p: {silent: 2}}}\n"
        "sources: [{ref: x, checked: 2026-11-01, authority: official}]\n",
    }
    book = load_price_book(folder(files))
    assert quote(video(), provider="acme", book=book, at=AT).total == 0


def test_a_contract_for_a_free_table_states_the_value_of_a_unit(folder: Folder) -> None:
    """Rates of 0 do not tell the value of a unit."""
    free = re.sub(r"silent: [0-9.]+", "silent: 0", PRICES)
    contract = (
        "extends: acme/a\nrates: {kling-v3: {720p: {silent: 2}}}\n"
        "sources: [{ref: x, checked: 2026-11-01, authority: official}]\n"
    )
    files = {
        "prices/acme/a.yaml": free.replace("EUR", "EUR\nfree: true\nunit: {name: unit, value: 0.5}"),
        "prices/acme/b.yaml": contract,
    }
    problem = "all rates of acme/a are 0, so the value of its unit is unknown; add a unit_value"
    assert refusal(folder(files)).problem == problem
    book = load_price_book(folder({**files, "prices/acme/b.yaml": f"{contract}unit_value: 0.5\n"}))
    assert quote(video(), provider="acme", book=book, at=AT).total == 5
