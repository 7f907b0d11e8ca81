"""Quotes: the exact price of a request, with the reason."""

import json
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import kling_pricing
from kling_pricing import (
    CapabilityError,
    KlingPricingError,
    PriceBook,
    PriceNotFoundError,
    TableError,
    WireFormatError,
    check,
    load_price_book,
    quote,
)
from kling_pricing.quoting.quote import LazyNotes
from tests.conftest import AT, video

VIDEO = [{"video_url": "https://example.com/v.mp4"}]
EXAMPLES = Path(__file__).parent.parent / "examples" / "requests"

# Typed from the page of 2026-04-29, section Pricing: USD per second.
# model as written, resolution, field that selects the tier, tier, price
QINGBO_2026_04_29 = [
    ("kling-v2.6", "720p", {}, "silent", "0.0391"),
    ("kling-v2.6", "1080p", {}, "silent", "0.06641"),
    ("kling-v2.6", "1080p", {"audio": True}, "audio", "0.159375"),
    ("kling-v3", "720p", {}, "silent", "0.0714"),
    ("kling-v3", "720p", {"audio": True}, "audio", "0.1071"),
    ("kling-v3", "1080p", {}, "silent", "0.0952"),
    ("kling-v3", "1080p", {"audio": True}, "audio", "0.1428"),
    ("kling-v3", "4k", {}, "silent", "0.455345"),
    ("kling-v3", "4k", {"audio": True}, "audio", "0.455345"),
    ("kling-v3-omni", "720p", {}, "silent", "0.0714"),
    ("kling-v3-omni", "720p", {"audio": True}, "audio", "0.0952"),
    ("kling-v3-omni", "720p", {"video_list": VIDEO}, "video_reference", "0.1071"),
    ("kling-v3-omni", "1080p", {}, "silent", "0.0952"),
    ("kling-v3-omni", "1080p", {"audio": True}, "audio", "0.119"),
    ("kling-v3-omni", "1080p", {"video_urls": ["v"]}, "video_reference", "0.1428"),
    ("kling-v3-omni", "4k", {}, "silent", "0.455345"),
    ("kling-video-o1", "720p", {}, "silent", "0.0714"),
    ("kling-video-o1", "720p", {"video_list": VIDEO}, "video_reference", "0.1071"),
    ("kling-video-o1", "1080p", {}, "silent", "0.0952"),
    ("kling-video-o1", "1080p", {"video_urls": ["v"]}, "video_reference", "0.1428"),
]


@pytest.mark.parametrize(("model", "resolution", "switch", "tier", "unit_price"), QINGBO_2026_04_29)
def test_every_published_price_comes_out_exactly(
    model: str, resolution: str, switch: dict[str, Any], tier: str, unit_price: str
) -> None:
    """The total is the printed price x the duration, for every duration that the model takes."""
    durations = range(3, 16) if model.startswith("kling-v3") else (5, 10)
    for duration in durations:
        quoted = quote(video(model, resolution=resolution, duration=duration, **switch), at=AT)
        assert quoted.total == Decimal(unit_price) * duration
        assert (quoted.unit_price, quoted.quantity) == (Decimal(unit_price), Decimal(duration))
        assert (quoted.tier, quoted.resolution, quoted.currency) == (tier, resolution, "USD")
        assert (quoted.provider, quoted.unit, quoted.table.id) == ("qingbo", "second", "qingbo/2026-04-29")


def test_the_table_holds_exactly_the_published_prices(book: PriceBook) -> None:
    """The table has the twenty prices of the page and no others."""
    (table,) = book.tables["qingbo"]
    assert len(table.rates) == len(QINGBO_2026_04_29) == 20
    written = {
        (model.replace("v2.6", "v2-6"), resolution, tier): Decimal(price)
        for model, resolution, _, tier, price in QINGBO_2026_04_29
    }
    assert {tuple(cell): rate.unit_price for cell, rate in table.rates.items()} == written


@pytest.mark.parametrize(
    ("payload", "total"),
    [
        (video("kling-v3", duration=5, resolution="1080p", audio=True), "0.714"),
        (video("kling-v3", duration=5, resolution="4K"), "2.276725"),
        (video("kling-v2.6", duration=10, resolution="1080p", audio=True), "1.59375"),
    ],
)
def test_worked_examples(payload: dict[str, Any], total: str) -> None:
    """The totals match those calculated by hand from the page's unit prices."""
    assert quote(payload, at=AT).total == Decimal(total)


@pytest.mark.parametrize(
    ("name", "action", "tier", "total"),
    [
        ("text_to_video", "generate", "audio", "0.7140"),  # 5 s x 0.1428
        ("first_frame", "image2video", "silent", "0.33205"),  # 5 s x 0.06641
        ("reference", "reference", "silent", "0.5712"),  # 6 s x 0.0952
        ("video_reference", "reference_video", "video_reference", "1.428"),  # 10 s x 0.1428
    ],
)
def test_the_four_requests_that_the_page_shows(name: str, action: str, tier: str, total: str) -> None:
    """The quotes of the shipped examples match the prices on the page."""
    quoted = quote((EXAMPLES / f"{name}.json").read_bytes(), at=AT)
    assert (quoted.action, quoted.tier, quoted.total) == (action, tier, Decimal(total))


@pytest.mark.parametrize("switch", [{"audio": True}, {"video_list": VIDEO}])
def test_a_combination_without_a_published_price_is_valid_and_not_quoted(switch: dict[str, Any]) -> None:
    """Omni at 4k with audio or a video reference is never priced at the rate of another cell."""
    payload = video("kling-v3-omni", resolution="4k", **switch)
    assert check(payload, at=AT) == []
    with pytest.raises(PriceNotFoundError, match=r"lists prices with .* only at 720p and 1080p") as caught:
        quote(payload, at=AT)
    assert (caught.value.provider, caught.value.model) == ("qingbo", "kling-v3-omni")
    assert caught.value.priced_instead[0] == "kling-v3-omni 4k silent at 0.455345 USD per second"


NEWER = (
    "the company that published these prices has a newer price list, qingbo-ai, "
    "which gives 0.756 USD for this request (qingbo-ai/2026-09-24)"
)
STALE = (
    "qingbo/2026-04-29 is based on a copy dated 2026-04-29, 206 days before the date of this quote; "
    "check that its prices are still valid"
)


def test_a_quote_explains_itself() -> None:
    """The text has the total, each line, the table, its source and every note."""
    payload = video("kling-v3", duration=5, resolution="1080p", audio=True)
    assert quote(payload, at=AT).explain().splitlines() == [
        "0.714 USD for kling-v3 (generate) at qingbo",
        "  kling-v3 1080p audio: 5 seconds x 0.1428 = 0.714 USD",
        "  priced by qingbo/2026-04-29, from QingBo docs, Kling series page of 2026-04-29, Pricing",
        f"  note: {NEWER}",
        f"  note: {STALE}",
    ]


@pytest.mark.parametrize(
    ("payload", "at", "note"),
    [
        (video("kling-v3", duration=5), AT, "gives 0.378 USD for this request (qingbo-ai/2026-09-24)"),
        (video("kling-v3", resolution="4k"), AT, "gives 2.41065 USD for this request (qingbo-ai/2026-09-24)"),
        (video("kling-v2.6", duration=10), AT, "gives 0.378 USD for this request (qingbo-ai/2026-09-24)"),
        (
            video("kling-v3-omni", video_urls=["v"]),
            datetime(2026, 9, 3, tzinfo=UTC),
            "gives 1.134 USD for this request (qingbo-ai/2026-06-19)",  # 5 s x 2 x 0.1134
        ),
        (
            video("kling-v3", resolution="4k"),
            datetime(2026, 9, 20, tzinfo=UTC),
            "has no price for this request (qingbo-ai/2026-09-19)",
        ),
        (video(extra={"mode": "pro"}), AT, "gives 0.756 USD for this request (qingbo-ai/2026-09-24)"),
        (video("kling-v3"), datetime(2026, 6, 18, tzinfo=UTC), None),  # the newer list was not in force
    ],
)
def test_a_quote_notes_what_the_newer_list_charges(
    payload: dict[str, Any], at: datetime, note: str | None
) -> None:
    """The note has the amount for this very request, by the list in force at the instant of the quote."""
    notes = [note.message for note in quote(payload, at=at).notes if note.code == "newer_list_elsewhere"]
    newer = "the company that published these prices has a newer price list, qingbo-ai, which"
    assert notes == ([] if note is None else [f"{newer} {note}"])


def test_the_note_on_the_newer_list_belongs_to_its_request() -> None:
    """Each of many similar requests has its own price by the newer list in the note, also when quoted again."""
    settings = [
        {"duration": duration, "resolution": resolution, "audio": audio, **inputs}
        for duration in (5, 10)
        for resolution in ("720p", "1080p", "4k")
        for audio in (False, True)
        for inputs in ({}, {"video_urls": ["v"]}, {"image_urls": ["i"]})
    ]
    payloads = [
        payload
        for model in ("kling-v2.6", "kling-v3", "kling-v3-omni", "kling-video-o1")
        for payload in (video(model, **setting) for setting in settings)
        if not check(payload, at=AT)
    ]
    compared = 0
    for payload in (*payloads, *reversed(payloads)):
        try:
            quoted = quote(payload, at=AT)
        except PriceNotFoundError:
            continue
        try:
            newer = quote(payload, provider="qingbo-ai", wire_format="tasks", at=AT)
        except PriceNotFoundError:
            amount = "has no price"
        else:
            amount = f"gives {newer.shown_total()} USD"
        (message,) = [note.message for note in quoted.notes if note.code == "newer_list_elsewhere"]
        assert f"which {amount} for this request" in message
        compared += 1
    assert compared > 80


@pytest.mark.parametrize(
    ("model", "launched"),
    [
        ("kling-video-o1", datetime(2025, 12, 8, tzinfo=UTC)),
        ("kling-v2.6", datetime(2025, 12, 10, tzinfo=UTC)),
        ("kling-v3", datetime(2026, 2, 12, tzinfo=UTC)),
        ("kling-v3-omni", datetime(2026, 2, 12, tzinfo=UTC)),
    ],
)
def test_a_list_without_a_beginning_notes_from_when_it_is_known(model: str, launched: datetime) -> None:
    """A quote from before that day has a note, and a model has no price before its launch."""
    known = datetime(2026, 4, 29, tzinfo=UTC)
    note = (
        "the prices in qingbo/2026-04-29 are known only from 2026-04-29 onward; "
        "earlier prices may have differed"
    )

    def notes(at: datetime) -> list[str]:
        return [note.message for note in quote(video(model), at=at).notes if note.code == "before_known_prices"]

    assert notes(known) == []
    assert notes(known - timedelta(seconds=1)) == notes(launched) == [note]
    with pytest.raises(
        PriceNotFoundError, match=f"prices it only from {launched:%Y-%m-%d}, because the model was launched"
    ):
        quote(video(model), at=launched - timedelta(seconds=1))


def test_a_quote_as_data_is_json_with_amounts_as_text() -> None:
    """The data has the documented keys, and every amount is text."""
    data = quote(video("kling-v3", duration=5, resolution="1080p", audio=True), at=AT).as_dict()
    assert json.loads(json.dumps(data)) == data
    digest, notes = data.pop("table_digest"), data.pop("notes")
    assert len(digest) == 64
    assert [note["code"] for note in notes] == ["newer_list_elsewhere", "stale_table"]
    assert data == {
        "provider": "qingbo",
        "model": "kling-v3",
        "canonical_model": "kling-v3",
        "table": "qingbo/2026-04-29",
        "wire_format": "tasks",
        "action": "generate",
        "resolution": "1080p",
        "tier": "audio",
        "unit": "second",
        "unit_price": "0.1428",
        "quantity": "5",
        "total": "0.714",
        "currency": "USD",
        "lines": [
            {
                "description": "kling-v3 1080p audio",
                "quantity": "5",
                "unit": "second",
                "unit_price": "0.1428",
                "amount": "0.714",
            }
        ],
    }


def test_a_table_from_a_copy_of_more_than_ninety_days_before_adds_a_note() -> None:
    """The note is absent ninety days after the day of the copy and present one second later."""
    checked = datetime(2026, 4, 29, tzinfo=UTC)
    fresh = quote(video(), at=checked + timedelta(days=90))
    stale = quote(video(), at=checked + timedelta(days=90, seconds=1))
    assert "stale_table" not in [note.code for note in fresh.notes]
    assert "stale_table" in [note.code for note in stale.notes]
    assert fresh.total == stale.total


def test_a_quote_cannot_be_changed() -> None:
    """Setting an attribute of a quote raises an error."""
    quoted = quote(video(), at=AT)
    with pytest.raises(AttributeError):
        quoted.total = Decimal(0)  # type: ignore[misc]


def test_the_default_book_is_used_when_none_is_given(book: PriceBook) -> None:
    """A quote with the bundled tables equals a quote without a book."""
    assert quote(video(), at=AT) == quote(video(), at=AT, book=book)
    assert quote(video()).total == quote(video(), at=AT).total


def test_check_reads_payloads_as_quote_does() -> None:
    """A bad shape, model or setting is a violation; an unknown provider or a non-object payload is an error."""
    assert [violation.code for violation in check(video(resoluton="4k"))] == ["unknown_field"]
    assert [violation.code for violation in check(video("kling-v9"))] == ["unknown_model"]
    assert check(video(seed=1), allow_unknown=True) == []
    with pytest.raises(PriceNotFoundError):
        check(video(), provider="nobody")
    with pytest.raises(WireFormatError):
        check("[]")


def test_every_public_name_is_there() -> None:
    """`__all__` lists every error of the tree and the public functions."""
    assert all(hasattr(kling_pricing, name) for name in kling_pricing.__all__)
    errors: list[type[KlingPricingError]] = [KlingPricingError, *KlingPricingError.__subclasses__()]
    tree = {error.__name__ for error in errors}
    own = {name for name in tree if name in vars(kling_pricing)}
    assert own >= {
        "KlingPricingError",
        "TableError",
        "WireFormatError",
        "CapabilityError",
        "PriceNotFoundError",
    }
    assert own <= set(kling_pricing.__all__)
    assert {"quote", "check", "load_price_book"} <= set(kling_pricing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kling_pricing.nothing  # noqa: B018


@pytest.mark.parametrize(
    "make",
    [
        lambda: quote(video(resoluton="4k")),
        lambda: quote(video(duration=99)),
        lambda: quote(video("kling-v3-omni", resolution="4k", audio=True)),
        lambda: kling_pricing.load_price_book("/nonexistent"),
    ],
)
def test_errors_survive_pickling(make: Any) -> None:
    """An error keeps its message and its data through a pickle."""
    import pickle  # noqa: PLC0415

    with pytest.raises((WireFormatError, CapabilityError, PriceNotFoundError, TableError)) as caught:
        make()
    copy = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (type(copy), str(copy), vars(copy)) == (type(caught.value), str(caught.value), vars(caught.value))


def test_a_quote_crosses_a_process_pool(book: PriceBook) -> None:
    """A quote and a book are unchanged by a pickle, and the book still quotes."""
    import pickle  # noqa: PLC0415

    quoted = quote(video(), at=AT, book=book)
    assert pickle.loads(pickle.dumps(quoted)) == quoted  # noqa: S301
    copy = pickle.loads(pickle.dumps(book))  # noqa: S301
    assert quote(video(), at=AT, book=copy) == quoted


WITH_NOTES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (video(), {}, "assumed_resolution"),
    (video(), {}, "other_reading"),
    (video(), {}, "newer_list_elsewhere"),
    (video(extra={"mode": "pro"}), {}, "extra_refused_elsewhere"),
    (video("kling-v3-omni", image_urls=["i"]), {"media": {"i": {"type": "png"}}}, "image_not_checked"),
    (
        {
            "model_name": "kling-v3-omni",
            "prompt": "a paper boat in the rain",
            "mode": "pro",
            "video_list": [{"video_url": "https://example.com/v.mp4", "refer_type": "base"}],
        },
        {"url": "https://api-singapore.klingai.com/v1/videos/omni-video"},
        "range",
    ),
]
"""A payload, the arguments of its quote, and the code of one of its notes."""


@pytest.mark.parametrize(("payload", "arguments", "code"), WITH_NOTES)
def test_notes_do_not_depend_on_when_they_are_read(
    payload: dict[str, Any], arguments: dict[str, Any], code: str
) -> None:
    """A quote has the same notes, and equals the same quote, before and after they are read or pickled."""
    import pickle  # noqa: PLC0415

    read, unread = quote(payload, at=AT, **arguments), quote(payload, at=AT, **arguments)
    notes = read.notes
    assert code in [note.code for note in notes]
    copies = [pickle.loads(pickle.dumps(each)) for each in (read, unread)]  # noqa: S301
    assert [each.notes for each in (*copies, unread)] == [notes] * 3
    again = quote(payload, at=AT, **arguments)
    assert again == read
    assert again._replace(lazy_notes=LazyNotes(tuple)) != read


@pytest.mark.parametrize(("payload", "arguments", "code"), WITH_NOTES)
def test_a_payload_that_changes_after_its_quote_does_not_change_the_notes(
    payload: dict[str, Any], arguments: dict[str, Any], code: str
) -> None:
    """The notes speak of the payload and the files as they were when the quote was made."""
    notes = quote(payload, at=AT, **arguments).notes
    payload, arguments = deepcopy(payload), deepcopy(arguments)
    quoted = quote(payload, at=AT, **arguments)
    for changed in (
        *payload.get("video_list", []),
        payload.get("extra", {}),
        arguments.get("media", {}),
        payload,
    ):
        changed.clear()
    assert quoted.notes == notes
    assert code in [note.code for note in notes]


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"at": "2026-11-21"}, "at must be a datetime"),
        ({"at": 0}, "at must be a datetime"),
        ({"media": 5}, "media must be a mapping"),
        ({"media": []}, "media must be a mapping"),
        ({"book": {}}, "book must be a PriceBook"),
        ({"provider": []}, "provider must be text"),
        ({"wire_format": ""}, "unknown wire format"),
    ],
)
def test_arguments_of_another_kind_are_refused(arguments: dict[str, Any], remedy: str) -> None:
    """An argument of the wrong type is refused instead of replaced by a default."""
    with pytest.raises(KlingPricingError, match=remedy):
        quote(video(), **arguments)


@pytest.mark.parametrize("field", ["duration", "audio", "resolution", "prompt", "foo"])
def test_a_number_of_a_million_digits_is_refused_like_any_other(field: str) -> None:
    """A number that is too long for Python to print does not break the message."""
    with pytest.raises(KlingPricingError) as caught:
        quote({**video(), field: 10**10_000}, at=AT)
    assert len(str(caught.value)) < 500
    assert len(repr(getattr(caught.value, "violations", ()))) < 2000


@pytest.mark.parametrize("action", ["\x1b[31mred", "\ud800", "line\nbreak", "x" * 10_000])
def test_a_message_is_one_printable_line(action: str) -> None:
    """A caller's value cannot colour a terminal, forge a line or flood a log."""
    with pytest.raises(CapabilityError) as caught:
        quote(video(action=action), at=AT)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000


def test_the_notes_of_a_table_do_not_depend_on_earlier_quotes() -> None:
    """Around every instant at which a table's notes change, a quote has the notes of a first quote."""
    payload = {"model": "kling-v3", "prompt": "A boat", "duration": 5, "resolution": "720p", "audio": False}
    used = load_price_book()
    (table, *_) = used.tables["qingbo"]
    changes = [table.checked, table.fresh_until, *(since for since, _ in table.dated_notes)]
    tick = timedelta.resolution
    for at in [instant for change in changes for instant in (change - tick, change, change + tick)]:
        fresh = replace(table)
        unused = PriceBook({**used.tables, "qingbo": (fresh,)}, used.matrices)
        expected = quote(payload, provider="qingbo", book=unused, at=at).notes
        assert quote(payload, provider="qingbo", book=used, at=at).notes == expected
        assert ("stale_table" in [note.code for note in expected]) == (at > table.fresh_until)
