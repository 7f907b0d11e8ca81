"""Error messages in full: place, cause and remedy, word for word, for errors that other tests match in part."""

import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetExceededError,
    BudgetGuard,
    CapabilityError,
    KlingPricingError,
    PriceBook,
    PriceNotFoundError,
    Violation,
    WireFormatError,
    check,
    load_price_book,
    quote,
)
from kling_pricing.guard import allow, freeze_all, freeze_budgets, revoke, thaw_budgets
from kling_pricing.quoting.composing import RequestDescription, quote_description
from kling_pricing.quoting.intake import Intake
from tests.commands import run
from tests.conftest import AT, PRICES, Clock, OpenGuard, video
from tests.guards import CLIP, COST, answer, bound, sent

BOAT = {"model_name": "kling-v3", "prompt": "a boat"}
AUGUST = datetime(2026, 8, 1, tzinfo=UTC)
EDIT = {
    "model": "kling-v3-omni",
    "action": "edit",
    "prompt": "by moonlight",
    "duration": 0,
    "video_urls": ["https://example.com/v.mp4"],
    "keep_original_sound": "yes",
}
"""A request for `tasks_v2` whose price depends on the length of a video."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            "--model kling-v3-std-silent --audio",
            (
                "in wire format video_generations, the model's name determines the options, but none of this "
                "model's "
                "names has these options; use one of: kling-v3-std-silent"
            ),
        ),
        (
            "--model kling-v3-std-silent --video 1",
            (
                "wire format video_generations does not accept a video; leave the input out, or choose another "
                "wire "
                "format"
            ),
        ),
        (
            "--model kling-v3-std-silent --image 2",
            (
                "wire format video_generations does not accept 2 images; leave the input out, or choose "
                "another "
                "wire "
                "format"
            ),
        ),
        (
            "--model kling-v3-std-silent --orientation image",
            "wire format video_generations does not accept an orientation; leave it out",
        ),
        (
            "--model kling-v3-std-silent --first-frame --image 1",
            (
                "wire format video_generations cannot combine these inputs: images, first frame; give fewer "
                "inputs, or write the request to a file"
            ),
        ),
        (
            "--model kling-v2-6 --provider kling --duration 5 --image 1 --action generate",
            (
                "wire format kling reads this request as image2video, not as generate; change the inputs or "
                "the "
                "action"
            ),
        ),
        (
            "--model kling-v2-6 --provider kling --action motion_control --video 1 --image 1",
            (
                "in wire format kling, motion control needs the orientation of the character; set "
                "--orientation to "
                "image or video"
            ),
        ),
        (
            "--model kling-image-o1 --provider kling --duration 5",
            (
                "requests for kling-image-o1 are in wire format kling_images, which does not accept a "
                "duration; "
                "leave "
                "out --duration"
            ),
        ),
        (
            "--model kling-lip-sync --provider kling",
            (
                "in wire format kling_services, the URL names the model, and the payload does not; write the "
                "payload to a file, and also give the URL whose path is /v1/videos/advanced-lip-sync with --url"
            ),
        ),
        (
            "--model kling-3.0-turbo --url https://api-singapore.klingai.com/text-to-video/kling-3.0",
            (
                "the path of the URL names kling-3.0, not kling-3.0-turbo; use "
                "/text-to-video/kling-3.0-turbo or "
                "/image-to-video/kling-3.0-turbo, or leave the URL out"
            ),
        ),
    ],
)
def test_a_description_that_no_payload_expresses_says_what_to_change(options: str, message: str) -> None:
    """`quote --model` names the wire format, what it lacks, and the option to change."""
    done = run("quote", *shlex.split(options))
    assert done == (f"request: refused\n  {message}\n", "", 1)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: quote(video(), book={}),  # type: ignore[arg-type]
            KlingPricingError,
            "book must be a PriceBook from load_price_book(), got dict",
        ),
        (
            lambda: quote(video(), provider=5),  # type: ignore[arg-type]
            PriceNotFoundError,
            "provider must be text, got int",
        ),
        (
            lambda: quote(video(), wire_format=5),  # type: ignore[arg-type]
            WireFormatError,
            "wire_format must be text, got int",
        ),
        (
            lambda: quote(video(), media=[]),  # type: ignore[arg-type]
            KlingPricingError,
            "media must be a mapping from URLs to facts about the files, got list",
        ),
        (
            lambda: quote({"prompt": "x"}),
            CapabilityError,
            "model is required; set it to one of: kling-video-o1, kling-v3-omni, kling-v3, kling-v2.6",
        ),
        (
            lambda: quote({"prompt": "x"}, wire_format="kling"),
            CapabilityError,
            (
                "model_name is required; set it to one of: kling-v3, kling-v3-omni, kling-video-o1, "
                "kling-v2-6, "
                "kling-v2-5-turbo, kling-v2-1-master, kling-v2-1, kling-v2-master, kling-v1-6, kling-v1-5, "
                "kling-v1, "
                "kling-video-extend; or pass the URL of the request, if its path has a default model"
            ),
        ),
        (
            lambda: quote({"contents": [{"type": "prompt", "text": "x"}], "settings": {}}),
            CapabilityError,
            (
                "this API takes the model from the path of the URL, but no URL with a model was given; pass "
                "the "
                "URL of the request, which ends with one of: /text-to-video/kling-3.0-turbo, "
                "/image-to-video/kling-3.0-turbo, /text-to-video/kling-3.0, /image-to-video/kling-3.0, "
                "/omni-video/kling-3.0-omni, /omni-video/kling-o1, /text-to-video/kling-2.6, "
                "/image-to-video/kling-2.6, /text-to-video/kling-2.5-turbo, /image-to-video/kling-2.5-turbo, "
                "/motion-control/kling-3.0, /motion-control/kling-2.6"
            ),
        ),
        (
            lambda: quote({**video(), "extra": {"mode": "pro"}, "metadata": {}}),
            WireFormatError,
            (
                "field 'extra' belongs to wire format tasks_extra, but field 'metadata' belongs to "
                "openai_videos; use fields and names of only one of the two, or specify the wire format"
            ),
        ),
        (
            lambda: quote(EDIT, at=AT).total,
            PriceNotFoundError,
            (
                "the quote is a range, 0.3402 to 1.134 USD: the price depends on the length of the video in "
                "video_urls[0], which is unknown; the line items show the maximum; use `minimum` and "
                "`maximum`, or "
                "supply the missing fact"
            ),
        ),
        (
            lambda: quote(BOAT, url="https://qingbo.dev/v1/videos/text2video", at=AT),
            PriceNotFoundError,
            (
                "qingbo/2026-04-29 does not price requests in wire format kling, because the table does not "
                "say "
                "how they are billed; it prices only requests in tasks, tasks_extra, tasks_v2 or "
                "video_generations"
            ),
        ),
        (
            lambda: quote(
                {"model_name": "kling-image-o1", "prompt": "x"},
                wire_format="kling_images",
                provider="kling",
                at=AUGUST,
            ),
            PriceNotFoundError,
            (
                "kling/2026-07, the table for that time, has no price for requests in wire format "
                "kling_images; "
                "kling/2026-09-20 has prices for them and applies from 2026-09-15; choose a time in that "
                "period, "
                "or add your own price table"
            ),
        ),
        (
            lambda: quote({"prompt": "x"}, url="https://api-singapore.klingai.com/v1/videos/effects", at=AT),
            PriceNotFoundError,
            (
                "kling bills for requests to /v1/videos/effects, but their price is unknown: each effect has "
                "its "
                "own price, but kling-pricing has no copy of the list of effects; ask the provider for the "
                "price"
            ),
        ),
        (
            lambda: quote({"model": "kling-v2-master", "prompt": "x"}, wire_format="tasks_extra", at=AT),
            PriceNotFoundError,
            (
                "qingbo/2026-04-29 has no price for this request: QingBo's Kling series page lists no price "
                "for "
                "this model; priced models: kling-v2-6, kling-v3, kling-v3-omni, kling-video-o1"
            ),
        ),
    ],
)
def test_a_refused_quote_says_what_to_change(
    call: Callable[[], Any], kind: type[KlingPricingError], message: str
) -> None:
    """Each error of `quote` has its own class, and its message gives the cause and the remedy."""
    with pytest.raises(KlingPricingError) as caught:
        call()
    assert (type(caught.value), str(caught.value)) == (kind, message)


@pytest.mark.parametrize(
    ("model", "description", "options", "place"),
    [
        ("kling-v3-std-silent", {"settings": {"audio": True}}, {}, ("video_generations", "model")),
        ("kling-v3-std-silent", {"files": {"videos": ["v"]}}, {}, ("video_generations", None)),
        (
            "kling-v3-std-silent",
            {"files": {"images": ["a"], "first_frame": ["b"]}},
            {},
            ("video_generations", None),
        ),
        ("kling-v3-std-silent", {"orientation": "image"}, {}, ("video_generations", None)),
        ("kling-v2-6", {"action": "image2video"}, {"provider": "kling"}, ("kling", None)),
        (
            "kling-v2-6",
            {"action": "motion_control", "files": {"videos": ["v"], "images": ["a"]}},
            {"provider": "kling"},
            ("kling", "character_orientation"),
        ),
        (
            "kling-v3",
            {"orientation": "image", "files": {"videos": ["v"], "images": ["a"]}},
            {"provider": "kling"},
            ("kling", None),
        ),
        ("kling-image-v3", {"settings": {"duration_s": 5}}, {"provider": "kling"}, ("kling_images", None)),
        ("kling-lip-sync", {}, {"provider": "kling"}, ("kling_services", None)),
        (
            "kling-3.0-turbo",
            {},
            {"url": "https://api-singapore.klingai.com/omni-video/kling-o1"},
            ("kling_v2", None),
        ),
    ],
)
def test_an_inexpressible_description_has_its_place(
    model: str, description: dict[str, Any], options: dict[str, Any], place: tuple[str, str | None]
) -> None:
    """The error carries the wire format, and the field if one decides."""
    parts: dict[str, Any] = {"settings": {}, "action": None, "orientation": None, "files": {}}
    with pytest.raises(WireFormatError) as caught:
        quote_description(RequestDescription(model=model, **parts | description), Intake(at=AT, **options))
    assert (caught.value.wire_format, caught.value.field) == place


def test_a_description_is_read_in_an_assumed_format_only_if_nothing_decides() -> None:
    """Then a note says what another format of the provider would cost; an explicit format has no such note."""
    note = (
        "the request was read as wire format tasks, but in tasks_extra, extra.enable_audio defaults to true, "
        "and "
        "the price would be 0.5355 USD; specify the wire format, or set audio"
    )
    options = ("quote", "--model", "kling-v3", "--duration", "5", "--at", "2026-11-21")
    assert f"  note: {note}\n" in run(*options).stdout
    for explicit in (("--wire-format", "tasks"), ("--url", "https://www.qingbo.dev/v1/tasks")):
        assert "was read as" not in run(*options, *explicit).stdout


@pytest.mark.parametrize(
    ("payload", "options", "notes"),
    [
        (
            video(),
            {},
            [
                ("assumed_resolution", "resolution is not specified; the API's default is assumed: 720p"),
                ("assumed_audio", "audio is not specified; the API's default is assumed: false"),
                ("assumed_duration_s", "duration is not specified; the API's default is assumed: 5"),
                (
                    "other_reading",
                    (
                        "the request was read as wire format tasks, but in tasks_extra, extra.enable_audio "
                        "defaults to true, and the price would be 0.5355 USD; specify the wire format, or set "
                        "audio"
                    ),
                ),
                (
                    "newer_list_elsewhere",
                    (
                        "the company that published these prices has a newer price list, qingbo-ai, which "
                        "gives "
                        "0.378 USD for this request (qingbo-ai/2026-09-24)"
                    ),
                ),
                (
                    "stale_table",
                    (
                        "qingbo/2026-04-29 is based on a copy dated 2026-04-29, 206 days before the date of "
                        "this "
                        "quote; check that its prices are still valid"
                    ),
                ),
            ],
        ),
        (
            {"prompt": "a boat"},
            {"url": "https://api-singapore.klingai.com/v1/videos/omni-video"},
            [
                (
                    "assumed_model",
                    "model_name is not specified; the default for this path is assumed: kling-video-o1",
                ),
                ("assumed_resolution", "mode is not specified; the API's default is assumed: 1080p"),
                ("assumed_duration_s", "duration is not specified; the API's default is assumed: 5"),
                (
                    "aspect_ratio_absent",
                    (
                        "the API reference says that a request must have an aspect_ratio unless it has a first "
                        "frame or edits a video; 16:9 is assumed"
                    ),
                ),
            ],
        ),
        (
            EDIT,
            {},
            [
                ("assumed_resolution", "resolution is not specified; the API's default is assumed: 720p"),
                ("assumed_audio", "generate_audio is not specified; the API's default is assumed: false"),
                (
                    "not_checked",
                    (
                        "some facts about video_urls[0] are unknown, so this rule was not checked: the video "
                        "in "
                        "video_urls must be 3 to 10 seconds long"
                    ),
                ),
                (
                    "range",
                    (
                        "the price depends on the length of the video in video_urls[0], which is unknown; the "
                        "line items show the maximum"
                    ),
                ),
            ],
        ),
    ],
)
def test_the_notes_of_a_quote_are_complete(
    payload: dict[str, Any], options: dict[str, Any], notes: list[tuple[str, str]]
) -> None:
    """All notes, in order: assumptions, rules that were not checked, other readings, and other lists."""
    assert [tuple(note) for note in quote(payload, at=AT, **options).notes] == notes


def test_the_age_of_a_table_is_counted_in_full_days() -> None:
    """Notes are kept for the next quote, but never for another day, whatever the order of the quotes."""
    day, instant = timedelta(days=1), timedelta(microseconds=1)
    for days in (0, 1, 2, 1, 0):
        for at in (AT + days * day, AT + (days + 1) * day - instant):
            (note,) = [note for note in quote(video(), at=at).notes if note.code == "stale_table"]
            assert f", {206 + days} days before the date of this quote" in note.message


SERIES = "Kling series page, Available Models and Common Parameters"
TEXT_TO_VIDEO = "https://api-singapore.klingai.com/v1/videos/text2video"


@pytest.mark.parametrize(
    ("payload", "url", "violation"),
    [
        (
            {**BOAT, "image": "https://example.com/a.png"},
            TEXT_TO_VIDEO,
            Violation(
                "endpoint_action",
                "url",
                "/v1/videos/text2video",
                ["generate"],
                "because of image, this is an image2video request, but /v1/videos/text2video accepts only "
                "generate; post it to /v1/videos/image2video or /v1/videos/omni-video, or change its inputs",
                "reference, text to video",
            ),
        ),
        (
            {"model_name": "kling-v3-omni", "prompt": "a"},
            TEXT_TO_VIDEO,
            Violation(
                "endpoint_model",
                "model_name",
                "kling-v3-omni",
                [
                    *("kling-v1", "kling-v1-6", "kling-v2-master", "kling-v2-1-master"),
                    *("kling-v2-5-turbo", "kling-v2-6", "kling-v3"),
                ],
                "/v1/videos/text2video does not accept kling-v3-omni; post the request to "
                "/v1/videos/omni-video, or use one of the models that this path accepts: kling-v1, "
                "kling-v1-6, kling-v2-master, kling-v2-1-master, kling-v2-5-turbo, kling-v2-6, kling-v3",
                "reference, text to video",
            ),
        ),
        (
            video(video_urls=["https://example.com/v.mp4"]),
            None,
            Violation(
                "field_not_taken",
                "video_urls",
                1,
                [
                    *("action", "aspect_ratio", "audio", "callback_events", "callback_url", "duration"),
                    *("first_frame_image", "image_urls", "last_frame_image", "model", "prompt", "resolution"),
                    "watermark",
                ],
                "kling-v3 does not accept video_urls; leave it out",
                SERIES,
            ),
        ),
        (
            {"model": "kling-v3"},
            None,
            Violation("prompt_required", "prompt", None, None, "prompt is required; add it", SERIES),
        ),
        (
            video(duration=16),
            None,
            Violation(
                "duration_s_limit",
                "duration",
                16,
                {"min": 3, "max": 15},
                "duration must be 3 to 15 seconds for kling-v3, not 16",
                SERIES,
            ),
        ),
        (
            video("kling-v2.6", audio=True, resolution="720p"),
            None,
            Violation(
                "audio_resolution",
                "resolution",
                "720p",
                ["1080p"],
                "resolution must be 1080p for kling-v2.6 when audio is true, not 720p",
                "Kling series page, model list: 720P silent, 1080P with optional audio",
            ),
        ),
    ],
)
def test_a_violation_is_complete(payload: dict[str, Any], url: str | None, violation: Violation) -> None:
    """Each kind has its code, the field, the value, the allowed values, the message and the source."""
    assert check(payload, url=url, at=AT) == [violation]


def test_several_providers_of_a_format_are_named(folder: Callable[..., Path]) -> None:
    """The error lists the providers of the format, and all that price the model."""
    book = load_price_book(folder({"prices/acme/2026-11-01.yaml": PRICES}))
    assert refusal(lambda: quote(video(), book=book, at=AT)) == (
        "several providers use wire format tasks (acme and qingbo); specify the provider whose prices apply "
        "(kling-v3 is priced by acme, kling, qingbo, qingbo-ai and tencent-vod)"
    )


def refusal(call: Callable[[], Any]) -> str:
    """Returns the message of the error that a call raises."""
    with pytest.raises(KlingPricingError) as caught:
        call()
    return str(caught.value)


def test_a_reservation_that_was_not_sent_says_what_is_possible(open_guard: OpenGuard, clock: Clock) -> None:
    """Each verb for a sent job names the state of a reservation that was not sent, and the verb to use."""
    guard = open_guard()
    unsent = guard.admit(CLIP, project="trailer", key="k")
    begin = f"reservation {unsent.reservation_id} is reserved and cannot be "
    other = CLIP | {"duration": 6}
    assert [
        refusal(lambda: guard.bind(unsent, "t1")),
        refusal(lambda: guard.mark_in_doubt(unsent, "timeout")),
        refusal(lambda: guard.resolve(unsent, "not_charged")),
        refusal(lambda: guard.settle(unsent, 1)),
        refusal(lambda: guard.admit(other, project="trailer", key="k")),
    ] == [
        f"{begin}bound to task t1: it was never dispatched",
        f"{begin}marked in doubt: the job was never sent; release the reservation",
        f"{begin}released as refused or as not charged: the job was never sent; use `release` instead",
        f"{begin}settled: the job was never dispatched, so the provider cannot charge for it",
        (
            f"key 'k' of project trailer belongs to a different request, reservation {unsent.reservation_id}; "
            f"for a "
            "different job, use another key"
        ),
    ]
    clock.pass_by(minutes=16)
    assert refusal(lambda: guard.dispatch(unsent)) == (
        f"reservation {unsent.reservation_id} is released and cannot be dispatched: it was not dispatched in "
        "time; admit the request again"
    )


def test_a_reservation_that_was_sent_says_what_is_possible(open_guard: OpenGuard) -> None:
    """A job that was sent is not sent, released or bound again, and each error says how to go on."""
    guard = open_guard()
    admission = guard.admit(CLIP, project="trailer", key="k")
    guard.dispatch(admission)
    job = admission.reservation_id
    begin = f"reservation {job} is dispatching and cannot be "
    assert [
        refusal(lambda: guard.dispatch(admission)),
        refusal(lambda: guard.release(job)),
        refusal(lambda: guard.admit(CLIP, project="trailer", key="k")),
    ] == [
        (
            f"{begin}dispatched: the payload is handed out only once, and only while the reservation's state "
            f"is "
            "reserved"
        ),
        (
            f"{begin}released: the job was sent and may be running; if the provider refused the job, release "
            f"the "
            "reservation as refused; otherwise, resolve the reservation"
        ),
        (
            f"{begin}reserved again: the job with key 'k' was already sent, and its task is not known yet; "
            f"for a "
            "different job, use another key"
        ),
    ]
    guard.mark_in_doubt(job, "timeout")
    assert refusal(lambda: guard.release_refused(job)) == (
        f"reservation {job} is dispatching, in doubt and cannot be released: the provider may have accepted "
        f"the "
        "job; look up the task at the provider, then bind or resolve the reservation"
    )
    guard.bind(job, "t1")
    other = sent(guard)
    begin = f"reservation {job} is bound and cannot be "
    assert [
        refusal(lambda: guard.release(job)),
        refusal(lambda: guard.bind(job, "t2")),
        refusal(lambda: guard.bind(other.id, "t1")),
        refusal(lambda: guard.admit(CLIP, project="trailer", key="k")),
    ] == [
        (
            f"{begin}released: the provider accepted the job and may charge for it; observe the provider's "
            f"responses, "
            "or resolve the reservation"
        ),
        f"{begin}bound to task t2: it is already bound to task t1",
        (
            f"reservation {other.id} is dispatching and cannot be bound to task t1: the task belongs to "
            f"reservation "
            f"{job}"
        ),
        (
            f"{begin}reserved again: the job with key 'k' was already sent, and its task is t1; for a "
            f"different "
            f"job, "
            "use another key"
        ),
    ]


def test_a_settled_reservation_says_what_is_possible(open_guard: OpenGuard) -> None:
    """A settled job is released or settled otherwise only with the basis `operator`, and the errors say so."""
    guard = open_guard()
    job = guard.settle(bound(guard), "0.5", basis="statement").id
    begin = f"reservation {job} is settled and cannot be "
    assert [
        refusal(lambda: guard.release(job)),
        refusal(lambda: guard.settle(job, "0.25", basis="statement")),
        refusal(lambda: guard.resolve(job, "charged", amount="0.25")),
        refusal(lambda: guard.resolve(job, "not_charged")),
    ] == [
        (
            f"{begin}released: the job has been paid for; if the provider did not charge for the job after "
            f"all, "
            f"settle "
            "the reservation at 0 with the basis `operator`"
        ),
        (
            f"{begin}settled at 0.25 USD: it is already settled at 0.5 USD with the basis statement; use a "
            f"stronger "
            "basis"
        ),
        (
            f"{begin}resolved as charged 0.25 USD: it is already settled at 0.5 USD with the basis "
            f"statement; to "
            "correct the amount, settle the reservation with the basis `operator`"
        ),
        (
            f"{begin}released: the job has been paid for; if the provider did not charge for the job after "
            f"all, "
            f"settle "
            "the reservation at 0 with the basis `operator`"
        ),
    ]


def test_a_reference_that_fits_nothing_says_how_to_find_the_right_one(open_guard: OpenGuard) -> None:
    """An unknown id, an unknown task, another type and another provider each have their own remedy."""
    guard = open_guard()
    job = bound(guard)
    guard.record("qingbo", "t9", 1, labels={"project": "trailer"})
    (recorded,) = (other.id for other in guard.history() if other.task_id == "t9")
    assert [
        refusal(lambda: guard.reservation("nope")),
        refusal(lambda: guard.reservation(("qingbo", "t8"))),
        refusal(lambda: guard.reservation(5)),  # type: ignore[arg-type]
        refusal(lambda: guard.observe(answer("running"), provider="kling", reservation=job)),
        refusal(lambda: guard.record("qingbo", "t9", 2, labels={"project": "trailer"})),
        refusal(lambda: guard.resolve(job, "maybe")),  # type: ignore[arg-type]
        refusal(lambda: guard.observe({"data": []}, provider="qingbo", reservation=job)),
    ] == [
        "reservation nope is not in this ledger; list the ledger's reservations with `history`",
        "task t8 of provider qingbo is not in this ledger; list the ledger's reservations with `history`",
        (
            "a value of type int does not identify a reservation; pass an admission, a reservation, a "
            "reservation's "
            "id, or (provider, task id)"
        ),
        (
            f"reservation {job.id} belongs to provider qingbo, but kling is given as the provider of the "
            f"response; "
            "give the provider that sent the response"
        ),
        (
            f"task t9 of qingbo is already in the ledger as reservation {recorded} (settled); correct that "
            f"reservation "
            "with `settle`"
        ),
        "outcome must be 'charged' or 'not_charged', got 'maybe'",
        "the response lists 0 tasks; call `observe` without a reservation",
    ]


def test_a_frozen_budget_says_who_froze_it_and_how_to_go_on(open_guard: OpenGuard, ledger: str) -> None:
    """The error has the person, the time, the reason and the command, for one budget and for all spending."""
    guard = open_guard()
    (freeze,) = freeze_budgets(ledger, ["trailer"], actor="li", reason="the bill looks wrong")
    at = freeze.frozen_at.isoformat(timespec="seconds")
    assert refusal(lambda: guard.admit(CLIP, project="trailer")) == (
        f"li froze budget trailer at {at} (the bill looks wrong); to allow spending again, ask an "
        f"administrator "
        "to run `kling-pricing budget thaw trailer --reason TEXT`"
    )
    thaw_budgets(ledger, ["trailer"], actor="li", reason="it was right")
    at = freeze_all(ledger, actor="li", reason="a leak").frozen_at.isoformat(timespec="seconds")
    assert refusal(lambda: guard.admit(CLIP, project="trailer")) == (
        f"li froze all spending at {at} (a leak); to allow spending again, ask an administrator to run "
        "`kling-pricing budget thaw --all --reason TEXT`"
    )
    assert refusal(lambda: freeze_budgets(ledger, [], reason="x")) == (
        "budgets must be a list of one or more budget names, got a list"
    )


def test_an_allowance_that_is_not_possible_says_why(open_guard: OpenGuard, ledger: str) -> None:
    """Missing values, unknown ids, an end in the past, and a request that an allowance does not help."""
    trailer = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(1), currency="USD")
    guard = open_guard(
        trailer, Budget(name="teaser", match={"project": "teaser"}, cap=Decimal(9), currency="USD")
    )
    soon = datetime.now(UTC) + timedelta(hours=1)
    given: dict[str, Any] = {"amount": 1, "currency": "USD", "budgets": ["trailer"], "reason": "a retake"}
    ended = datetime(2020, 1, 1, tzinfo=UTC)
    assert [
        refusal(lambda: allow(ledger, "trailer", until=soon, reason="x")),
        refusal(lambda: allow(ledger, "trailer", until=soon, **given | {"amount": 0})),
        refusal(lambda: allow(ledger, "", until=soon, **given)),
        refusal(lambda: allow(ledger, "trailer", until=soon, key="", **given)),
        refusal(lambda: allow(ledger, "trailer", until=soon, **given | {"budgets": ["teazer"]})),
        refusal(lambda: allow(ledger, "trailer", until=soon, **given | {"currency": "CNY"})),
        refusal(lambda: allow(ledger, "trailer", until=ended, **given)),
        refusal(lambda: allow(ledger, request="r1", until=soon, reason="x")),
        refusal(lambda: revoke(ledger, "a1", reason="x")),
        refusal(lambda: guard.ask(CLIP, project="trailer", reason="a retake")),
        refusal(lambda: guard.ask(CLIP, project="other", reason="a retake")),
    ] == [
        "an allowance needs amount, currency and budgets; give these values, or the id of a filed request",
        "the amount of an allowance must be greater than 0",
        "project must be text of 1 to 200 printable characters, got ''",
        "key must be text of 1 to 200 printable characters, got ''",
        "unknown budget teazer; did you mean 'teaser'?",
        (
            "budget trailer is in USD, but the allowance is in CNY; add {quote: CNY, budget: USD, rate: ...} "
            "to accounting_rates"
        ),
        "the allowance would end at 2020-01-01T00:00:00+00:00, which is not in the future; give a later end",
        "unknown request r1 for an allowance; `kling-pricing budget allowances` lists the requests",
        "unknown allowance a1; the ledger has none; `kling-pricing budget allowances` lists the allowances",
        (
            "the request does not need an allowance: every budget that matches it has enough left; admit the "
            "request"
        ),
        "no budget matches the request, and an allowance cannot change that; add a budget for it",
    ]
    guard.admit(CLIP, project="trailer")
    asked = guard.ask(CLIP, project="trailer", reason="a retake")
    granted = allow(ledger, request=asked.id, until=soon, reason="granted")
    assert [
        refusal(lambda: allow(ledger, request=asked.id, until=soon, reason="again")),
        refusal(lambda: revoke(ledger, f"{granted.id}x", reason="x")),
    ] == [
        (
            f"request {asked.id} was granted already, as allowance {granted.id}; to grant more, give an amount "
            f"instead "
            "of the request"
        ),
        (
            f"unknown allowance {granted.id}x; did you mean {granted.id!r}?; `kling-pricing budget allowances` "
            f"lists "
            "the allowances"
        ),
    ]


ASK = "to ask for an allowance, run `kling-pricing budget ask FILE --project trailer{key} --reason TEXT`"


@pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("budget", "problem"),
    [
        ({"cap": "0.5"}, "budget trailer has 0.5 USD left"),
        ({"cap": "0.5", "window": "day"}, "budget trailer has 0.5 USD left until 2026-11-22T00:00:00+00:00"),
        (
            {"cap": "0.5", "window": "day", "match": {"project": "trailer", "user": "*"}},
            "budget trailer for user li has 0.5 USD left until 2026-11-22T00:00:00+00:00",
        ),
        (
            {"cap": "0.5", "window": {"rolling": "24h"}},
            "budget trailer has 0.5 USD left in its window of 24h, and its cap is lower than the cost",
        ),
        ({"cap": 9, "max_request": "0.3"}, "budget trailer allows 0.3 USD per request"),
        (
            {"cap": "0.01", "on_exceed": "cap"},
            "budget trailer has 0.01 USD left; the cheapest valid variant costs 0.2142 USD",
        ),
    ],
)
def test_a_request_that_does_not_fit_says_what_is_left(
    open_guard: OpenGuard, budget: dict[str, Any], problem: str
) -> None:
    """The error has the cost, the budget with its labels, what is left until when, and the command."""
    guard = open_guard(**budget)
    ask = ASK.format(key=" --key KEY" if "max_request" in budget else "")
    assert refusal(lambda: guard.admit(CLIP, project="trailer", labels={"user": "li"})) == (
        f"the request costs 0.714 USD, but {problem}; {ask}"
    )


@pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
def test_a_request_that_no_budget_matches_has_nothing_left(open_guard: OpenGuard) -> None:
    """The error names the labels, and its attributes say that nothing is available in any budget."""
    guard = open_guard()
    with pytest.raises(BudgetExceededError) as caught:
        guard.admit(CLIP, project="other", labels={"user": "li"})
    error = caught.value
    assert str(error) == (
        "no budget matches user=li, project=other, so nothing may be spent; add a matching budget, or "
        "set unmatched: allow"
    )
    assert (error.budget, error.requested, error.available, error.currency) == (
        None,
        COST,
        Decimal(0),
        "USD",
    )
    assert (error.window_end, error.cheapest) == (None, None)


def test_a_guard_that_cannot_be_opened_says_why(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A ledger without budgets, other budgets, times that are not times, and a ledger that is not a URL."""
    budget = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(9), currency="USD")
    opened = partial(BudgetGuard, ledger, book=book, clock=clock)
    name = "" if ledger.startswith("postgres") else ledger.removeprefix("sqlite:///")
    empty = refusal(opened)
    assert name in empty
    assert empty.partition(" has no ")[2] == (
        "budgets yet; check that this is the right ledger, then open it with budgets, or run `kling-pricing "
        "budget apply FILE`"
    )
    opened([budget]).close()
    assert [
        refusal(lambda: opened([budget.model_copy(update={"cap": Decimal("0.5")})])),
        refusal(lambda: opened(expires_after=5)),  # type: ignore[arg-type]
        refusal(lambda: opened(doubtful_after=timedelta(0))),
        refusal(lambda: BudgetGuard(5)),  # type: ignore[arg-type]
        refusal(lambda: BudgetGuard("spend.db")),
    ] == [
        (
            "the ledger's budgets differ from the given budgets (trailer: cap 9 -> 0.5 USD); open the ledger "
            "without "
            "budgets, or ask an administrator to install yours with `kling-pricing budget apply`"
        ),
        "expires_after must be a timedelta greater than zero, got 5",
        "doubtful_after must be a timedelta greater than zero, got 0:00:00",
        "the ledger must be a URL such as sqlite:///spend.db, got an object of type int",
        (
            "'spend.db' is not the URL of a ledger; write sqlite:///spend.db for a file in the current folder, "
            "sqlite:////srv/spend.db for a file elsewhere, or postgresql://user@host/database"
        ),
    ]


@pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
def test_a_value_that_a_ledger_cannot_keep_is_refused(open_guard: OpenGuard) -> None:
    """Projects, keys, labels, currencies and instants: each error names the argument and its limit."""
    guard = open_guard()
    admit = partial(guard.admit, CLIP)
    record = partial(guard.record, "qingbo", "t1", 1)
    seventeen = {f"label{number}": "x" for number in range(16)}
    length = "must be text of 1 to 200 printable characters, got"
    unsent = guard.admit(CLIP, project="trailer", key="x" * 200)
    guard.open_budget("trailer", 1)
    assert [
        refusal(lambda: admit(project="")),
        refusal(lambda: admit(project="trailer", key="a\nb")),
        refusal(lambda: admit(project="trailer", key="x" * 201)).partition(" got ")[0],
        refusal(lambda: admit(project="trailer", labels={"user": ""})),
        refusal(lambda: admit(project="trailer", labels={"": "li"})),
        refusal(lambda: admit(project="trailer", labels=["li"])),  # type: ignore[arg-type]
        refusal(lambda: admit(project="trailer", labels={"project": "teaser"})),
        refusal(lambda: admit(project="trailer", labels=seventeen)),
        refusal(lambda: record(labels="trailer")),  # type: ignore[arg-type]
        refusal(lambda: record(labels={"project": "trailer"}, currency="usd")),
        refusal(lambda: guard.set_cap("trailer", 1, until=guard.clock())),
        refusal(lambda: guard.set_cap("trialer", 1)),
        refusal(lambda: guard.apply([], remove="trailer")),
        refusal(lambda: guard.open_budget("trailer", 2)),
        refusal(lambda: guard.bind(unsent, "")),
        refusal(lambda: guard.reservation(("", "t1"))),
        refusal(lambda: guard.reservation(("qingbo", ""))),
        refusal(lambda: guard.record("qingbo", "", 1, labels={"project": "trailer"})),
        refusal(lambda: guard.record("qingbo", "t1", 1, labels={"project": "trailer", "user": ""})),
    ] == [
        f"project {length} ''",
        f"key {length} 'a\\nb'",
        f"key {length}".removesuffix(" got"),
        f"label user {length} ''",
        f"labels {length} ''",
        "labels must be a mapping such as {'user': 'li'}, got a list",
        "project is trailer, but labels give the project teaser; give the project only once",
        "labels: got 17, including the project; the maximum is 16; remove some",
        "labels must be a mapping that contains the project, got trailer",
        "currency must be three capital letters, such as USD, got usd",
        "until must be in the future, got 2026-11-21T00:00:00+00:00; give a later instant",
        "unknown budget trialer; did you mean 'trailer'?",
        "remove must be a list of the names of budgets, got trailer",
        "this window of budget trailer already has an opening balance; record other spend with `record`",
        f"task_id {length} ''",
        f"provider {length} ''",
        f"task_id {length} ''",
        f"task_id {length} ''",
        f"label user {length} ''",
    ]
