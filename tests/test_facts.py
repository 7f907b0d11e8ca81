"""The published tables of the APIs, row by row: each row says what is sent, assumed and charged.

The values are those of the publications, written out here; nothing is taken from the tables of the package.
"""

import json
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import Budget, BudgetGuard, PriceBook, PriceNotFoundError, WebhookError, check, quote
from kling_pricing.hooks.webhooks import Webhooks
from kling_pricing.reconcile import Line
from kling_pricing.wire.formats import wire_format
from tests.charges import charge
from tests.conftest import AT, Clock
from tests.test_reconcile import World

HOSTS = ("api-singapore.klingai.com", "api-beijing.klingai.com", "api.klingai.com")
OFFICIAL = f"https://{HOSTS[0]}"
VIDEO_UNIT, IMAGE_UNIT = Decimal("0.14"), Decimal("0.0035")
CNY = "CNY"

FIRST = {"type": "first_frame", "url": "a"}
LAST = {"type": "last_frame", "url": "b"}
PROMPT = {"type": "prompt", "text": "a boat"}
MOTION = [{"type": "image", "url": "i"}, {"type": "video", "url": "v"}]
MEDIA = {"v": {"length_s": "5"}}

# The newer official API. Path; canonical model; where the prompt stands; resolutions, the default first; values
# of audio, the default first; whether it takes aspect_ratio; lengths in seconds; the default length.
NEWER = [
    ("text-to-video/kling-3.0-turbo", "kling-3.0-turbo", "top", "720p 1080p", "", True, range(3, 16), 5),
    ("image-to-video/kling-3.0-turbo", "kling-3.0-turbo", "contents", "720p 1080p", "", False, range(3, 16), 5),
    ("text-to-video/kling-3.0", "kling-v3", "top", "720p 1080p 4k", "off native", True, range(3, 16), 5),
    ("image-to-video/kling-3.0", "kling-v3", "contents", "720p 1080p 4k", "off native", False, range(3, 16), 5),
    (
        *("omni-video/kling-3.0-omni", "kling-v3-omni", "contents", "720p 1080p 4k", "off native original"),
        *(True, range(3, 16), 5),
    ),
    ("omni-video/kling-o1", "kling-video-o1", "contents", "720p 1080p", "off original", True, range(3, 11), 5),
    ("text-to-video/kling-2.6", "kling-v2-6", "top", "720p 1080p", "off native", True, (5, 10), 5),
    ("image-to-video/kling-2.6", "kling-v2-6", "contents", "720p 1080p", "off native", False, (5, 10), 5),
    ("text-to-video/kling-2.5-turbo", "kling-v2-5-turbo", "top", "720p 1080p", "", True, (5, 10), 5),
    ("image-to-video/kling-2.5-turbo", "kling-v2-5-turbo", "contents", "720p 1080p", "", False, (5, 10), 5),
    ("motion-control/kling-3.0", "kling-v3", "contents", "720p 1080p", "original off", False, (), None),
    ("motion-control/kling-2.6", "kling-v2-6", "contents", "720p 1080p", "original off", False, (), None),
]


def newer(path: str, *materials: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """Returns a valid body for a path of the newer API, with these materials and settings."""
    if path.startswith("text"):
        return {"prompt": "a boat", "settings": settings}
    contents = [*materials, PROMPT]
    if path.startswith("image"):
        contents.insert(0, FIRST)
    if path.startswith("motion"):
        contents += MOTION
        settings.setdefault("character_orientation", "image")
    return {"contents": contents, "settings": settings}


def refused(path: str, payload: dict[str, Any]) -> bool:
    """Returns whether the newer API refuses a body."""
    return bool(check(payload, url=f"{OFFICIAL}/{path}", media=MEDIA, at=AT, allow_unknown=True))


@pytest.mark.parametrize("row", NEWER, ids=[row[0] for row in NEWER])
def test_each_path_of_the_newer_api(row: tuple[Any, ...]) -> None:
    """The path names the model, and takes these settings and no others; left out, they have these defaults."""
    path, model, prompt, resolutions, audio, has_ratio, lengths, default = row
    resolutions, audio = resolutions.split(), audio.split()
    for host in HOSTS:
        quoted = quote(newer(path), url=f"https://{host}/{path}", media=MEDIA, at=AT)
        assert (quoted.provider, quoted.wire_format, quoted.canonical_model) == ("kling", "kling_v2", model)
        assert quoted.resolution == resolutions[0] == "720p"
        assert quoted.quantity == (default or 5)
        assert quoted.request.facts["audio"] is (model == "kling-3.0-turbo")
    accepted = [name for name in ("720p", "1080p", "4k") if not refused(path, newer(path, resolution=name))]
    assert accepted == resolutions
    heard = [
        name
        for name in ("off", "native", "original")
        if not refused(path, newer(path, audio=name, resolution="1080p"))
    ]
    assert sorted(heard) == sorted(audio)
    taken = [seconds for seconds in range(1, 18) if not refused(path, newer(path, duration=seconds))]
    assert taken == [*lengths]
    assert refused(path, newer(path, aspect_ratio="9:16")) is not has_ratio
    wrong: dict[str, Any] = {"prompt": "a boat", "settings": {}}
    if prompt == "top":
        wrong = {"contents": [PROMPT], "settings": {}}
    elif path.startswith("motion"):
        wrong = {"prompt": "a boat", **newer(path)}
    elif path.startswith("image"):
        wrong = {"prompt": "a boat", "contents": [FIRST]}
    assert refused(path, wrong)
    if path.startswith("motion"):
        body = newer(path)
        del body["settings"]["character_orientation"]
        assert refused(path, body)


OMNI, O1, I2V = "omni-video/kling-3.0-omni", "omni-video/kling-o1", "image-to-video/kling-3.0"
I2V_26 = "image-to-video/kling-2.6"
ELEMENT = {"type": "element", "element_id": "1", "id": "li"}
VOICE = {"type": "voice", "voice_id": "1", "id": "li"}

# The materials of the newer API: what is added, the paths that take it, paths that do not.
MATERIALS: list[tuple[list[dict[str, Any]], set[str], set[str]]] = [
    (
        [LAST],
        {I2V, "image-to-video/kling-2.6", "image-to-video/kling-2.5-turbo"},
        {"image-to-video/kling-3.0-turbo"},
    ),
    ([FIRST], {OMNI, O1}, set()),
    ([FIRST, LAST], {OMNI, O1}, set()),
    ([LAST], set(), {OMNI, O1}),
    ([{"type": "refer_image", "url": "c"}], {OMNI, O1}, {I2V, "image-to-video/kling-2.6"}),
    ([{"type": "feature_video", "url": "v"}], {OMNI, O1}, {I2V, "image-to-video/kling-2.6"}),
    ([{"type": "base_video", "url": "v"}], {OMNI, O1}, {I2V}),
    ([{"type": "feature_video", "url": "v"}, {"type": "base_video", "url": "w"}], set(), {OMNI, O1}),
    (
        [ELEMENT],
        {OMNI, O1, I2V, "motion-control/kling-3.0"},
        {"image-to-video/kling-2.6", "motion-control/kling-2.6"},
    ),
    ([{**ELEMENT, "id": str(number)} for number in range(3)], {I2V}, set()),
    ([{**ELEMENT, "id": str(number)} for number in range(4)], set(), {I2V}),
    ([ELEMENT, {**ELEMENT, "id": "b"}], set(), {"motion-control/kling-3.0"}),
    ([VOICE], {"image-to-video/kling-2.6"}, {I2V, OMNI, O1, "motion-control/kling-2.6"}),
    ([{**VOICE, "id": str(number)} for number in range(3)], set(), {"image-to-video/kling-2.6"}),
    (MOTION, set(), {OMNI, O1, I2V}),
]


@pytest.mark.parametrize(("materials", "takes", "refuses"), MATERIALS)
def test_each_material_of_the_newer_api(
    materials: list[dict[str, Any]], takes: set[str], refuses: set[str]
) -> None:
    """An entry of `contents` is taken on its paths only; two frames and voices of 2.6 need 1080p."""
    for path in takes | refuses:
        settings: dict[str, Any] = {"resolution": "1080p"}
        if materials[0]["type"] == "voice":
            settings["audio"] = "native" if path.startswith("image") else "off"
        body = newer(path, *materials, **settings)
        assert refused(path, body) is (path in refuses), path
    two_frames = {"image-to-video/kling-2.6", "image-to-video/kling-2.5-turbo"}
    if materials == [LAST] and takes:
        for path in takes:
            assert refused(path, newer(path, LAST)) is (path in two_frames)
    if materials == [VOICE]:
        assert refused("image-to-video/kling-2.6", newer("image-to-video/kling-2.6", VOICE, audio="off"))


@pytest.mark.parametrize(
    ("path", "longest"),
    [(row[0], 2500 if ("turbo" in row[0] and row[2] != "top") or "o1" in row[0] or "2." in row[0] else 3072)
     for row in NEWER if not row[0].startswith("motion")] + [("motion-control/kling-3.0", 2500)],
)  # fmt: skip
def test_the_longest_prompt_of_each_path(path: str, longest: int) -> None:
    """3072 characters on 3.0, omni and text to video of turbo; 2500 elsewhere."""
    for length in (longest, longest + 1):
        body = newer(path)
        if "prompt" in body:
            body["prompt"] = "x" * length
        else:
            body["contents"] = [
                {**entry, "text": "x" * length} if entry["type"] == "prompt" else entry
                for entry in body["contents"]
            ]
        assert refused(path, body) is (length > longest)


# Charges observed on one account, 2026-09-20 and 21: path, body, media, units taken, value of a unit.
OBSERVED: list[tuple[str, dict[str, Any], dict[str, Any], str, Decimal]] = [
    ("/text-to-video/kling-3.0-turbo", {"prompt": "a", "settings": {"duration": 3}}, {}, "2.4", VIDEO_UNIT),
    (
        *("/omni-video/kling-3.0-omni", {"contents": [FIRST, PROMPT], "settings": {"duration": 3}}, {}),
        *("1.8", VIDEO_UNIT),
    ),
    (
        *("/v1/videos/avatar/image2video", {"image": "i", "sound_file": "s"}, {"s": {"length_s": "11.3"}}),
        *("4.4", VIDEO_UNIT),
    ),
    ("/v1/audio/tts", {"text": "hello", "voice_id": "v"}, {}, "0.05", VIDEO_UNIT),
    ("/v1/general/custom-voices", {"voice_name": "li", "voice_url": "s"}, {}, "0.05", VIDEO_UNIT),
    (
        "/v1/images/generations",
        {"model_name": "kling-v3", "prompt": "a", "resolution": "1k"},
        {},
        "8",
        IMAGE_UNIT,
    ),
]


@pytest.mark.parametrize(("path", "body", "media", "units", "value"), OBSERVED)
def test_a_quote_is_what_was_taken_from_an_account(
    path: str, body: dict[str, Any], media: dict[str, Any], units: str, value: Decimal
) -> None:
    """Whole requested seconds count, not those of the file; an avatar counts the seconds of its sound."""
    assert quote(body, url=f"{OFFICIAL}{path}", media=media, at=AT).total == Decimal(units) * value


# The other billed paths of the official hosts: body, media, units, and the value of a unit.
IMAGE, PUPPY = "https://m.example/a.png", {"prompt": "a puppy"}
SIDES = {f"{side}_expansion_ratio": 0.1 for side in ("up", "down", "left", "right")}


def lip_sync(start: int, end: int) -> dict[str, Any]:
    """Returns a lip sync of the sound between two instants, in milliseconds."""
    face = {"face_id": "0", "sound_file": "s", "sound_insert_time": 0}
    return {"session_id": "7", "face_choose": [{**face, "sound_start_time": start, "sound_end_time": end}]}


SERVICES: list[tuple[str, dict[str, Any], str, Decimal]] = [
    ("videos/avatar/image2video", {"image": IMAGE, "sound_file": "s"}, "4.0", VIDEO_UNIT),
    ("videos/avatar/image2video", {"image": IMAGE, "audio_id": "s", "mode": "pro"}, "8.0", VIDEO_UNIT),
    ("videos/identify-face", {"video_id": "7"}, "0.05", VIDEO_UNIT),
    ("videos/advanced-lip-sync", lip_sync(0, 2000), "0.5", VIDEO_UNIT),
    ("videos/advanced-lip-sync", lip_sync(1000, 6001), "1", VIDEO_UNIT),
    ("videos/advanced-lip-sync", lip_sync(0, 60000), "6", VIDEO_UNIT),
    ("audio/tts", {"text": "x" * 1000, "voice_id": "v"}, "0.05", VIDEO_UNIT),
    ("audio/text-to-audio", {"prompt": "rain", "duration": 10}, "0.25", VIDEO_UNIT),
    ("audio/video-to-audio", {"video_id": "7"}, "0.25", VIDEO_UNIT),
    ("general/custom-voices", {"voice_name": "li", "video_id": "7"}, "0.05", VIDEO_UNIT),
    ("videos/image-recognize", {"image": IMAGE}, "0.1", VIDEO_UNIT),
    ("images/generations", {**PUPPY, "model_name": "kling-v3", "n": 9}, "72", IMAGE_UNIT),
    ("images/generations", {**PUPPY, "model_name": "kling-v3", "image": IMAGE}, "8", IMAGE_UNIT),
    ("images/generations", {**PUPPY, "model_name": "kling-v2-1"}, "4", IMAGE_UNIT),
    ("images/generations", {**PUPPY, "model_name": "kling-v2-1", "image": IMAGE, "n": 2}, "16", IMAGE_UNIT),
    ("images/omni-image", {**PUPPY, "model_name": "kling-v3-omni"}, "8", IMAGE_UNIT),
    ("images/omni-image", {**PUPPY, "model_name": "kling-v3-omni", "resolution": "2k"}, "8", IMAGE_UNIT),
    ("images/omni-image", {**PUPPY, "model_name": "kling-v3-omni", "resolution": "4k"}, "16", IMAGE_UNIT),
    ("images/omni-image", {**PUPPY, "model_name": "kling-image-o1", "n": 2}, "16", IMAGE_UNIT),
    (
        "images/omni-image",
        {**PUPPY, "model_name": "kling-v3-omni", "result_type": "series", "series_amount": 9},
        "72",
        IMAGE_UNIT,
    ),
    ("images/multi-image2image", {"subject_image_list": [{"subject_image": IMAGE}], "n": 2}, "32", IMAGE_UNIT),
    ("images/editing/expand", {"image": IMAGE, **SIDES, "n": 3}, "24", IMAGE_UNIT),
    ("general/ai-multi-shot", {"element_frontal_image": IMAGE}, "20", IMAGE_UNIT),
]


@pytest.mark.parametrize(("path", "body", "units", "value"), SERVICES)
def test_each_other_billed_path(path: str, body: dict[str, Any], units: str, value: Decimal) -> None:
    """Each costs its published units; an avatar's sound is 10 s long here."""
    quoted = quote(body, url=f"{OFFICIAL}/v1/{path}", media={"s": {"length_s": 10}}, at=AT)
    assert (quoted.total, quoted.provider) == (Decimal(units) * value, "kling")


FREE = ["/tasks", "/account/billing/package", "/account/billing/balance"]
FREE += [f"/v1/general/{name}" for name in ("advanced-custom-elements", "delete-elements")]
FREE += [f"/v1/general/{name}" for name in ("delete-advanced-elements", "delete-voices")]
NO_PRICE = ["/v1/videos/effects", "/v1/images/kolors-virtual-try-on"]
NO_PRICE += [
    f"/v1/videos/multi-elements/{name}-selection" for name in ("init", "add", "delete", "clear", "preview")
]


@pytest.mark.parametrize(("paths", "kind"), [(FREE, "free"), (NO_PRICE, "unpriced")])
def test_paths_without_a_price(book: PriceBook, paths: list[str], kind: str) -> None:
    """Listings, deletions and elements are free; effects, try-on and selections are billed without a price."""
    http = book.matrices["kling"].http
    patterns = http.free if kind == "free" else tuple(group.pattern for group in http.unpriced)
    for path in paths:
        assert any(pattern.matches(tuple(path.strip("/").split("/"))) for pattern in patterns), path


@pytest.mark.parametrize("path", NO_PRICE)
def test_a_path_without_a_price_is_not_quoted_as_another_job(path: str) -> None:
    """A body that also fits text-to-video is not quoted at the rate of that path."""
    with pytest.raises(PriceNotFoundError, match="their price is unknown: "):
        quote({"model_name": "kling-v3", "prompt": "a"}, url=f"{OFFICIAL}{path}", at=AT)


OMNI_MODELS = ["kling-video-o1", "kling-v3-omni"]
VIDEO_MODELS = [
    *("kling-v1", "kling-v1-5", "kling-v1-6", "kling-v2-master", "kling-v2-1", "kling-v2-1-master"),
    *("kling-v2-5-turbo", "kling-v2-6", "kling-v3", "kling-v3-omni", "kling-video-o1"),
]

# The legacy API: path, body, default model, all models, default mode as a resolution, default length.
LEGACY: list[tuple[str, dict[str, Any], str, list[str], str | None, str]] = [
    (
        "text2video",
        PUPPY,
        "kling-v1",
        [name for name in VIDEO_MODELS if name not in {*OMNI_MODELS, "kling-v1-5", "kling-v2-1"}],
        "720p",
        "5",
    ),
    (
        "image2video",
        {**PUPPY, "image": IMAGE},
        "kling-v1",
        [name for name in VIDEO_MODELS if name not in OMNI_MODELS],
        "720p",
        "5",
    ),
    ("omni-video", PUPPY, "kling-video-o1", OMNI_MODELS, "1080p", "5"),
    (
        "motion-control",
        {"image_url": "i", "video_url": "v", "character_orientation": "image"},
        "kling-v2-6",
        ["kling-v2-6", "kling-v3"],
        None,
        "5",
    ),
    (
        "multi-image2video",
        {**PUPPY, "image_list": [{"image": IMAGE}]},
        "kling-v1-6",
        ["kling-v1-6"],
        "720p",
        "5",
    ),
    (
        "multi-elements",
        {**PUPPY, "session_id": "s", "edit_mode": "removal"},
        "kling-v1-6",
        ["kling-v1-6"],
        "720p",
        "5",
    ),
]
JULY = datetime(2026, 7, 10, tzinfo=UTC)


@pytest.mark.parametrize(("path", "body", "model", "models", "resolution", "seconds"), LEGACY)
def test_each_path_of_the_legacy_api(
    path: str, body: dict[str, Any], model: str, models: list[str], resolution: str | None, seconds: str
) -> None:
    """Left out, the model, the mode, the length and the sound have these defaults; no other model is taken."""
    url = f"{OFFICIAL}/v1/videos/{path}"
    given = body if resolution else {**body, "mode": "std"}
    quoted = quote(given, url=url, media=MEDIA, at=JULY)
    assert (quoted.canonical_model, quoted.resolution) == (model, resolution or "720p")
    assert (quoted.request.facts["audio"], quoted.quantity) == (False, Decimal(seconds))
    if resolution is None:
        assert [found.code for found in check(body, url=url, media=MEDIA, at=JULY)] == ["motion_control_mode"]
    accepted = [
        name for name in VIDEO_MODELS if not check({**given, "model_name": name}, url=url, media=MEDIA, at=JULY)
    ]
    assert accepted == [name for name in VIDEO_MODELS if name in models]


PACKAGE = json.loads(
    '{"package_id":"p-71","product_type":"video","task_id":"9300000000000000007","api_key_name":"prod",'
    '"product_function":"Text to Video","model_name":"kling-3.0-turbo","resolution":"720p","duration":"3.041",'
    '"video_sound":"native","deduction_time":"1793491200000","unit_before_deduction":60.0,'
    '"deduction_amount":2.4,"unit_after_deduction":57.6}'
)
MONEY = ("package_id", "product_type", "unit_before_deduction", "unit_after_deduction")
BALANCE = {name: value for name, value in PACKAGE.items() if name not in MONEY} | {
    "cash_type": "balance",
    "balance_before_deduction": 41.2,
    "deduction_amount": 0.588,
    "balance_after_deduction": 40.612,
    "list_price": 0.84,
    "currency": "USD",
}


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A world of the official API."""
    clock = Clock(datetime(2026, 11, 1, tzinfo=UTC))
    return World(f"sqlite:///{tmp_path}/spend.db", book, clock, tmp_path, provider="kling")


def row(world: World, **columns: Any) -> Line:
    """Reconciles November with one row of an export."""
    entry = {name: value for name, value in columns.items() if value is not None}
    return world.line(world.statement(json.dumps([entry]), "export.json"))


@pytest.mark.parametrize(
    ("columns", "billed", "currency"),
    [
        (PACKAGE, "0.336", "USD"),
        ({**PACKAGE, "deduction_amount": "2.4", "unit_before_deduction": "60"}, "0.336", "USD"),
        ({**PACKAGE, "product_type": "image", "duration": None, "video_sound": None}, "0.0084", "USD"),
        ({**PACKAGE, "refer_video_input": False, "voice_control": False}, "0.336", "USD"),
        (BALANCE, "0.588", "USD"),
        ({**BALANCE, "currency": "CNY"}, "0.588", "CNY"),
        ({**BALANCE, "cash_type": "test_balance"}, "0", "USD"),
    ],
)
def test_each_column_of_the_exports(world: World, columns: dict[str, Any], billed: str, currency: str) -> None:
    """The amount is `deduction_amount`, in the unit of the pack or in the currency; never `list_price`."""
    line = row(world, **columns)
    assert (line.task_id, line.model) == ("9300000000000000007", "kling-3.0-turbo")
    assert (line.billed, line.currency) == (Decimal(billed), currency)
    assert line.billed_at == datetime.fromtimestamp(1793491200, UTC)
    assert line.resolution == "720p"
    if columns.get("video_sound") == "native":
        assert line.tier == "audio"


def test_a_deduction_belongs_to_the_month_of_its_own_time(world: World) -> None:
    """1793491199999 ms is the last millisecond of October, whatever the creation of the task was."""
    path = world.statement(json.dumps([{**PACKAGE, "deduction_time": "1793491199999"}]), "export.json")
    with world.reconcile(path) as result:
        assert ([*result.lines()], result.rows.outside) == ([], 1)


def test_the_units_of_audio_and_try_on_packs_have_no_published_value(world: World) -> None:
    """Such a row is named and is not counted; a video unit's value is never used for it."""
    for kind in ("audio", "try-on"):
        line = row(world, **{**PACKAGE, "product_type": kind})
        assert (line.category, line.billed) == ("invalid_row", None)


# Contradictions of the pages, and the reading taken: path, body, refusals, notes.
READINGS: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("/omni-video/kling-3.0-omni", {"contents": [PROMPT]}, [], ["aspect_ratio_absent"]),
    ("/text-to-video/kling-3.0-turbo", {"prompt": "x" * 3072}, [], ["long_prompt"]),
    (
        "/image-to-video/kling-3.0-turbo",
        {"contents": [FIRST, {"type": "prompt", "text": "x" * 2501}]},
        ["image_prompt_chars"],
        [],
    ),
    ("/omni-video/kling-o1", {"contents": [PROMPT], "settings": {"duration": 3}}, [], ["text_duration"]),
    ("/omni-video/kling-o1", {"contents": [PROMPT], "settings": {"duration": 11}}, ["duration_s_limit"], []),
    (
        "/v1/images/omni-image",
        {**PUPPY, "model_name": "kling-image-o1", "resolution": "4k"},
        ["resolution_limit"],
        [],
    ),
    ("/v1/images/generations", {**PUPPY, "model_name": ""}, [], ["assumed_model"]),
    ("/v1/videos/avatar/image2video", {"image": IMAGE, "sound_file": "s"}, [], ["range"]),
]


@pytest.mark.parametrize(("path", "body", "refusals", "notes"), READINGS)
def test_each_reading_where_the_pages_differ(
    path: str, body: dict[str, Any], refusals: list[str], notes: list[str]
) -> None:
    """Where two pages differ, the request is refused or noted as the reading says."""
    url = f"{OFFICIAL}{path}"
    assert [found.code for found in check(body, url=url, at=AT)] == refusals
    if not refusals:
        assert {note.code for note in quote(body, url=url, at=AT).notes} >= set(notes)


def test_an_empty_name_of_an_image_model_is_3_0() -> None:
    """One page says kling-v1, another kling-v3; the latter is taken."""
    quoted = quote({**PUPPY, "model_name": ""}, url=f"{OFFICIAL}/v1/images/generations", at=AT)
    assert (quoted.model, quoted.total) == ("kling-v3", 8 * IMAGE_UNIT)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([{"charge_type": "unit", "package_type": "video", "amount": "2.5"}], charge(("2.5", "video"))),
        ([{"charge_type": "unit", "package_type": "image", "amount": "8"}], charge(("8", "image"))),
        ([{"charge_type": "unit", "package_type": "audio", "amount": "1"}], charge(("1", "audio"))),
        (
            [{"charge_type": "cash", "cash_type": "balance", "amount": "6", "currency": "CNY"}],
            charge(("6", "CNY")),
        ),
        ([{"charge_type": "cash", "cash_type": "balance", "amount": "0.49"}], charge(("0.49", "cash"))),
    ],
)
def test_each_key_of_the_billing_list(entries: list[dict[str, Any]], expected: object) -> None:
    """Units are of their pack, cash is of its currency or of the account's; cash is never units."""
    body = {"id": "7", "status": "succeeded", "outputs": [], "billing": entries}
    task = wire_format("kling_v2").read_task(body)
    assert (task.task_id, task.state, task.charge) == ("7", "succeeded", expected)


def test_the_sample_of_a_charge_in_two_parts() -> None:
    """2.5 video units and 0.49 USD after a discount are 2.5 x 0.14 + 0.49 = 0.84 USD; free test money is 0."""
    sample = json.loads(
        '{"id":"7","status":"succeeded","billing":[{"charge_type":"unit","package_type":"video","amount":"2.5"},'
        '{"charge_type":"cash","cash_type":"balance","amount":"0.49","list_price":"0.49","currency":"USD"},'
        '{"charge_type":"cash","cash_type":"test_balance","amount":"9","currency":"USD"}]}'
    )
    found = wire_format("kling_v2").read_task(sample).charge
    assert found is not None
    worth = {"video": VIDEO_UNIT, "USD": Decimal(1)}
    assert sum((part.amount * worth[part.unit] for part in found.parts), Decimal(0)) == Decimal("0.84")


VECTOR = (
    b'{"id":"1234567890","status":"succeeded","message":"","create_time":1781080778802,'
    b'"update_time":1781080794151}'
)
VECTOR_HEADERS = {
    "webhook-id": "9876543210",
    "webhook-timestamp": "1781080794",
    "webhook-signature": "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4=",
}


class AtTheVector(datetime):
    """The time of the published callback, for the library that checks signatures."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "AtTheVector":
        """Returns the instant of the callback."""
        return cls.fromtimestamp(1781080794, tz)


def test_the_published_signature_of_a_callback_is_accepted(
    tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The id of the callback is not that of its body; a task that is in no ledger yet is remembered."""
    monkeypatch.setattr("standardwebhooks.webhooks.datetime", AtTheVector)
    clock = Clock(datetime.fromtimestamp(1781080794, UTC))
    budgets = [Budget(name="all", cap=1, currency="USD")]
    secret = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="  # noqa: S105 (published with the sample)
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", budgets, book=book, clock=clock) as guard:
        webhooks = Webhooks(guard, secret, provider="kling")
        assert webhooks.receive(VECTOR, VECTOR_HEADERS) is None
        assert [(seen.task_id, seen.state) for seen in guard.unclaimed()] == [("1234567890", "succeeded")]
        changed = {**VECTOR_HEADERS, "webhook-id": "1234567890"}
        with pytest.raises(WebhookError):
            webhooks.receive(VECTOR, changed)
