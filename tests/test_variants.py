"""Capping: the chosen variant is valid, fits and changes nothing else, and no better variant would have fitted.

The tests find the best variant by brute force: every name of the model, and every length, resolution and
soundtrack that does not exceed the request's.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from functools import cache
from itertools import permutations, product
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetExceededError,
    BudgetGuard,
    Budgets,
    KlingPricingError,
    Quote,
    WireFormatError,
    check,
    quote,
)
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.settings import Limits
from kling_pricing.quoting.variants import CheaperVariant, cheaper_variants
from kling_pricing.wire.formats import wire_format
from tests.conftest import AT, Clock, bundled_book, video
from tests.guards import VerifiedGuard

BOOK = bundled_book()
URL = "https://example.com/a.png"
CLIP = "https://example.com/a.mp4"
RESOLUTIONS = ("720p", "1080p", "4k")
NANO = Decimal("0.000000001")

# wire format, providers that price it, inputs
WIRES: list[tuple[str, tuple[str, ...], list[dict[str, Any]]]] = [
    (
        "tasks",
        ("qingbo", "qingbo-ai", "kling"),
        [{}, {"image_urls": [URL]}, {"first_frame_image": URL}, {"video_urls": [CLIP]}],
    ),
    ("tasks_extra", ("qingbo", "kling"), [{}, {"image_urls": [URL]}]),
    (
        "tasks_v2",
        ("qingbo-ai",),
        [
            {},
            {"image_urls": [URL]},
            {"video_urls": [CLIP]},
            {"image_urls": [URL], "video_urls": [CLIP], "character_orientation": "video"},
        ],
    ),
    ("openai_videos", ("tencent-vod",), [{}, {"image": URL}]),
    ("video_generations", ("qingbo-ai", "kling"), [{}, {"image": URL}]),
    (
        "kling",
        ("kling",),
        [
            {},
            {"image": URL},
            {"video_list": [{"video_url": CLIP, "refer_type": "feature"}]},
            {"image_url": URL, "video_url": CLIP, "character_orientation": "video"},
        ],
    ),
]
# wire format -> fields that a change may write
WRITTEN = {
    "tasks": {"model", "duration", "resolution", "audio"},
    "tasks_extra": {"model", "duration", "extra.mode", "extra.enable_audio"},
    "tasks_v2": {"model", "duration", "resolution", "generate_audio"},
    "openai_videos": {
        "model",
        "duration",
        "metadata.output_config.resolution",
        "metadata.output_config.audio_generation",
    },
    "video_generations": {"model", "duration"},
    "kling": {"model_name", "duration", "mode", "sound"},
}


def requests_of(wire: str, provider: str, inputs: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Quote]]:
    """Yields every valid and priced request of models x resolutions x audio x durations."""
    for name, resolution, audio, duration in product(
        BOOK.matrices[wire].names, (None, *RESOLUTIONS), (None, False, True), (None, 0, 5, 10)
    ):
        model = "model_name" if wire == "kling" else "model"
        given = {"resolution": resolution, "audio": audio, "duration_s": duration}
        try:
            payload = wire_format(wire).amend(
                {model: name, "prompt": "a boat", **inputs},
                {setting: value for setting, value in given.items() if value is not None},
            )
            yield payload, quote(payload, provider=provider, wire_format=wire, at=AT, book=BOOK)
        except KlingPricingError:
            continue


@cache
def quoted(wire: str, provider: str, text: str) -> Quote | None:
    """Returns the quote of a payload; None if it is not valid or has no price."""
    try:
        return quote(json.loads(text), provider=provider, wire_format=wire, at=AT, book=BOOK)
    except KlingPricingError:
        return None


def settings_of(quoted_request: Quote) -> dict[str, Any]:
    """Returns the length, resolution, soundtrack and model of a request."""
    facts: Mapping[str, Any] = quoted_request.request.facts
    return {setting: facts[setting] for setting in ("duration_s", "resolution", "audio", "model")}


def loss(original: Quote, quoted_request: Quote, limits: Limits) -> tuple[int, ...]:
    """Returns the loss of a variant in each setting, the setting that is given up last in front."""
    before, after = settings_of(original), settings_of(quoted_request)
    models = [before["model"], *(model for model in limits.models if model != before["model"])]
    lost = {
        "duration_s": (before["duration_s"] or 0) - (after["duration_s"] or 0),
        "resolution": sum(
            after["resolution"] in RESOLUTIONS
            and RESOLUTIONS.index(after["resolution"]) <= step < RESOLUTIONS.index(before["resolution"])
            for step in range(len(RESOLUTIONS))
        ),
        "audio": int(before["audio"] is True and after["audio"] is False),
        "model": models.index(after["model"]),
    }
    assert not any(lost[setting] for setting in lost if setting not in limits.sacrifice)
    return tuple(lost[setting] for setting in reversed(limits.sacrifice))


def everything(
    payload: Mapping[str, Any], original: Quote, limits: Limits
) -> dict[tuple[int, ...], tuple[Decimal, dict[str, Any]]]:
    """Returns the cost of each loss within limits, by trying every payload that could express it."""
    wire, facts = original.wire_format, settings_of(original)
    may = limits.sacrifice
    shots = original.request.facts["shots"] or original.request.facts["multi_shot"]
    length, sharpness = facts["duration_s"], facts["resolution"]
    lengths = [length]
    if length and "duration_s" in may and not shots:
        lengths += [shorter for shorter in range(1, length) if shorter >= limits.min_duration_s]
    resolutions = [sharpness]
    if sharpness in RESOLUTIONS and "resolution" in may:
        floor = RESOLUTIONS.index(limits.min_resolution)
        resolutions += RESOLUTIONS[floor : RESOLUTIONS.index(sharpness)]
    audios = [True, False] if facts["audio"] is True and "audio" in may else [facts["audio"]]
    known = BOOK.matrices[wire].names
    models = {facts["model"], *(limits.models if "model" in may else ())}
    costs: dict[tuple[int, ...], tuple[Decimal, dict[str, Any]]] = {}
    for name, duration_s, resolution, audio in product(
        [name for name in known if known[name][0] in models], lengths, resolutions, audios
    ):
        wanted = {"duration_s": duration_s, "resolution": resolution, "audio": audio}
        changed = {setting: value for setting, value in wanted.items() if value != facts[setting]}
        renamed = {} if name == original.model else {"model": name}
        short = {"duration_s": duration_s} if "duration_s" in changed else {}
        stated = {setting: value for setting, value in wanted.items() if value is not None}
        for changes in (changed, stated, short):
            try:
                amended = wire_format(wire).amend(payload, {**renamed, **changes})
            except (WireFormatError, KeyError):
                continue
            variant = quoted(wire, original.provider, json.dumps(amended))
            if (
                variant is not None
                and settings_of(variant) == {**wanted, "model": known[name][0]}
                and variant.action == original.action
            ):
                if variant.maximum < original.maximum:
                    costs.setdefault(loss(original, variant, limits), (variant.maximum, amended))
                break
    return costs


def paths(value: Any, here: str = "") -> dict[str, Any]:
    """Returns every path of a payload with its value."""
    if not isinstance(value, dict):
        return {here: value}
    return {
        path: item for name in value for path, item in paths(value[name], f"{here}.{name}".strip(".")).items()
    }


def is_sound(payload: Mapping[str, Any], original: Quote, variant: CheaperVariant) -> None:
    """Asserts that a variant is valid and cheaper, and differs from the request only in its changes."""
    wire = original.wire_format
    assert check(variant.payload, wire_format=wire, at=AT, book=BOOK) == []
    assert variant.payload == wire_format(wire).amend(payload, variant.changes)
    assert variant.quote.maximum < original.maximum
    before, after = paths(payload), paths(variant.payload)
    assert before.keys() <= after.keys()
    assert {path for path in after if before.get(path) != after[path]} <= WRITTEN[wire]
    facts, new = dict(original.request.facts), dict(variant.quote.request.facts)
    allowed = {*settings_of(original), "duration_stated", "resolution_stated"}
    assert {fact for fact in facts if facts[fact] != new[fact]} <= allowed


def first_that_fits(variants: list[CheaperVariant], amount: Decimal) -> CheaperVariant | None:
    """Returns the variant that is chosen if this amount is left."""
    return next((variant for variant in variants if variant.quote.maximum <= amount), None)


def compared(payload: Mapping[str, Any], original: Quote, limits: Limits) -> int:
    """Compares the chosen with the best variant at every deciding amount; returns the number of variants."""
    variants = cheaper_variants(payload, original, limits, Intake(book=BOOK, at=AT))
    for variant in variants:
        is_sound(payload, original, variant)
    best = everything(payload, original, limits)
    amounts = {cost for cost, _ in best.values()}
    for amount in {*amounts, *(cost - NANO for cost in amounts), Decimal(0), original.maximum}:
        chosen = first_that_fits(variants, amount)
        expected = min((lost for lost, (cost, _) in best.items() if cost <= amount), default=None)
        assert (chosen and loss(original, chosen.quote, limits)) == expected, (payload, amount)
    return len(best)


# wire format -> a request in which every setting can be given up, its provider, other models of that wire
RICH: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "tasks": (
        video("kling-v3", duration=8, resolution="1080p", audio=True, watermark=True, aspect_ratio="1:1"),
        "qingbo",
        ("kling-v3-omni", "kling-v2-6", "kling-video-o1"),
    ),
    "tasks_extra": (
        {
            "model": "kling-v3",
            "prompt": "a boat",
            "duration": 8,
            "image_urls": [URL],
            "extra": {"mode": "pro", "enable_audio": True},
        },
        "qingbo",
        ("kling-v2-master", "kling-v1-6"),
    ),
    "tasks_v2": (
        {"model": "kling-v3-omni", "prompt": "a", "duration": 8, "resolution": "1080P", "generate_audio": True},
        "qingbo-ai",
        ("kling-v3", "kling-3.0-turbo", "kling-v2-6"),
    ),
    "openai_videos": (
        {
            "model": "Kling-3.0-Omni",
            "prompt": "a boat",
            "seconds": "8",
            "duration": 8,
            "metadata": {"output_config": {"resolution": "1080P", "audio_generation": "Enabled"}},
        },
        "tencent-vod",
        ("kling-v2-6",),
    ),
    "video_generations": (
        {"model": "kling-v3-pro-audio", "prompt": "a", "duration": "8", "extra_body": {"cfg_scale": 0.5}},
        "kling",
        (),
    ),
    "kling": (
        {
            "model_name": "kling-v3",
            "prompt": "a",
            "mode": "4k",
            "duration": "8",
            "sound": "on",
            "cfg_scale": 0.5,
        },
        "kling",
        ("kling-v3-omni", "kling-v2-6", "kling-v2-5-turbo"),
    ),
}
WRITTEN["openai_videos"].add("seconds")

SPACE = [
    (wire, provider, inputs)
    for wire, providers, made_from in WIRES
    for provider in providers
    for inputs in made_from
]


@pytest.mark.parametrize(("wire", "provider", "inputs"), SPACE)
def test_the_best_that_fits_is_chosen(wire: str, provider: str, inputs: dict[str, Any]) -> None:
    """For every valid request and at every amount that decides, the best variant that fits is chosen."""
    counted = [
        compared(payload, original, Limits()) for payload, original in requests_of(wire, provider, inputs)
    ]
    assert sum(counted) > 0


ORDERS = [
    *permutations(("duration_s", "resolution", "audio")),
    *permutations(("duration_s", "resolution", "audio", "model")),
]


@pytest.mark.parametrize("wire", RICH)
@pytest.mark.parametrize(("min_duration_s", "min_resolution"), [(1, "720p"), (4, "1080p"), (8, "4k")])
def test_the_order_of_sacrifice_and_the_floors_decide(
    wire: str, min_duration_s: int, min_resolution: str
) -> None:
    """The best variant is chosen in all 6 orders of three settings and all 24 of four, with any floors."""
    payload, provider, models = RICH[wire]
    original = quoted(wire, provider, json.dumps(payload))
    assert original is not None
    for order in ORDERS:
        named = models if "model" in order else ()
        compared(payload, original, Limits(order, named, min_duration_s, min_resolution))


@pytest.mark.parametrize("sacrifice", [(), ("audio",), ("resolution",), ("duration_s",), ("model",)])
def test_settings_that_may_not_be_given_up_stay(sacrifice: tuple[str, ...]) -> None:
    """If a single setting may be given up, or none, the others stay as they are."""
    payload, provider, models = RICH["tasks"]
    original = quoted("tasks", provider, json.dumps(payload))
    assert original is not None
    count = compared(payload, original, Limits(sacrifice, models if sacrifice == ("model",) else ()))
    assert count == {(): 0, ("audio",): 1, ("resolution",): 1, ("duration_s",): 5, ("model",): 1}[sacrifice]


# through the guard

PLENTY = Decimal(1000)


def a_guard(ledger: str, clock: Clock, *budgets: Budget, **more: Any) -> BudgetGuard:
    """Returns a guard with these budgets."""
    return VerifiedGuard(ledger, Budgets(budgets, **more), book=BOOK, clock=clock)


def capping(cap: object, name: str = "caps", **fields: Any) -> Budget:
    """Returns a budget that caps."""
    return Budget(name=name, cap=cap, currency=fields.pop("currency", "USD"), on_exceed="cap", **fields)


@pytest.mark.parametrize("wire", RICH)
def test_the_guard_sends_the_best_variant_that_fits(wire: str, ledger: str, clock: Clock) -> None:
    """At every deciding amount and a nano below it, the guard sends the best variant and reserves its cost."""
    payload, provider, _ = RICH[wire]
    original = quoted(wire, provider, json.dumps(payload))
    assert original is not None
    currency, unit = original.currency, original.table.billing.statement_unit
    guard = a_guard(ledger, clock, capping(PLENTY, match={"project": "*"}, currency=currency))
    step = Decimal(1) / unit.per_currency_unit if unit else NANO

    def taken(amount: Decimal) -> Decimal:
        return -(-amount // step) * step

    best = everything(payload, original, Limits())
    costs = sorted({taken(cost) for cost, _ in best.values()} | {taken(original.maximum)})
    for place, left in enumerate(amount for cost in costs for amount in (cost - NANO, cost)):
        project = f"p{place}"
        guard.open_budget("caps", PLENTY - left, labels={"project": project})
        fitting = {lost: variant for lost, variant in best.items() if taken(variant[0]) <= left}
        if taken(original.maximum) <= left:
            cost, expected = original.maximum, payload
        elif fitting:
            cost, expected = fitting[min(fitting)]
        else:
            with pytest.raises(BudgetExceededError) as refused:
                guard.admit(payload, project=project, provider=provider, wire_format=wire)
            assert (refused.value.available, refused.value.cheapest) == (left, costs[0])
            continue
        admission = guard.admit(payload, project=project, provider=provider, wire_format=wire)
        assert admission.quote.maximum == admission.reservation.expected == cost
        assert admission.reservation.reserved == taken(cost) <= left
        sent = guard.dispatch(admission)
        assert sent == expected
        assert quote(sent, provider=provider, wire_format=wire, at=AT, book=BOOK).maximum == cost
    guard.verify()


def payloads_read(wire: str, work: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns every payload that is parsed while some work is done, as JSON text."""
    module = wire_format(wire)
    parse = module.parse
    payloads: list[str] = []

    def counting(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> Any:
        payloads.append(json.dumps(payload, sort_keys=True))
        return parse(payload, allow_unknown=allow_unknown)

    with monkeypatch.context() as patched:
        patched.setattr(module, "parse", counting)
        work()
    return payloads


def test_capping_reads_each_variant_once(ledger: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request of 15 s, 1080p, with audio has 13 lengths x 2 resolutions x 2 soundtracks: 52 readings."""
    payload = video("kling-v3", duration=15, resolution="1080p", audio=True)
    guard = a_guard(ledger, clock, capping("0.3"))
    read = payloads_read("tasks", lambda: guard.admit(payload, project="trailer"), monkeypatch)
    assert len(read) == len(set(read)) == 52
    assert read[0] == json.dumps(payload, sort_keys=True)


@pytest.mark.parametrize("wire", RICH)
def test_no_payload_is_read_twice_while_capping(wire: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original has been read already, and each variant is a different payload, of other models too."""
    payload, provider, models = RICH[wire]
    original = quoted(wire, provider, json.dumps(payload))
    assert original is not None
    limits = Limits((*Limits().sacrifice, "model"), models)
    cheaper: list[CheaperVariant] = []

    def cap() -> None:
        cheaper.extend(cheaper_variants(payload, original, limits, Intake(book=BOOK, at=AT)))

    read = payloads_read(wire, cap, monkeypatch)
    assert len(read) == len(set(read)) >= len(cheaper) > 0
    assert json.dumps(payload, sort_keys=True) not in read


# payload, budgets, file, changes (None: refused)
AUDIO_5S = video("kling-v3", duration=5, resolution="1080p", audio=True)  # 5 s x 0.1428: 0.714
CHOICES: dict[str, tuple[dict[str, Any], list[Budget], dict[str, Any], dict[str, Any] | None]] = {
    "it fits": (AUDIO_5S, [capping("0.714")], {}, {}),
    "the length goes first": (AUDIO_5S, [capping("0.713999999")], {}, {"duration_s": 4}),
    "then the resolution": (AUDIO_5S, [capping("0.42")], {}, {"duration_s": 3, "resolution": "720p"}),
    "a reject budget refuses what another would cap": (
        AUDIO_5S,
        [capping("0.5"), Budget(name="rejects", cap="0.6", currency="USD")],
        {},
        None,
    ),
    "a reject budget that has room lets another cap": (
        AUDIO_5S,
        [capping("0.6"), Budget(name="rejects", cap="0.714", currency="USD")],
        {},
        {"duration_s": 4},
    ),
    "a limit for a single request caps too": (
        AUDIO_5S,
        [capping(9, max_request="0.6")],
        {},
        {"duration_s": 4},
    ),
    "the tightest of several decides": (
        AUDIO_5S,
        [capping("0.6"), capping("0.5", "tighter")],
        {},
        {"duration_s": 3},
    ),
    "a floor of length": (
        AUDIO_5S,
        [capping("0.5", min_duration_s=4)],
        {},
        {"resolution": "720p", "duration_s": 4},
    ),
    "a floor above the request": (
        AUDIO_5S,
        [capping("0.6", min_duration_s=9)],
        {},
        {"resolution": "720p"},
    ),
    "a floor of resolution": (
        AUDIO_5S,
        [capping("0.4", min_resolution="1080p")],
        {},
        {"audio": False, "duration_s": 4},
    ),
    "the strictest of each floor": (
        AUDIO_5S,
        [
            capping("0.48", min_duration_s=5, min_resolution="720p"),
            capping(9, "other", min_duration_s=3, min_resolution="1080p"),
        ],
        {},
        {"audio": False},
    ),
    "what one budget keeps": (
        AUDIO_5S,
        [capping("0.4"), capping(9, "other", keep=["resolution"])],
        {},
        {"audio": False, "duration_s": 4},
    ),
    "all is kept": (
        AUDIO_5S,
        [capping("0.7", keep=["duration_s", "resolution", "audio"])],
        {},
        None,
    ),
    "audio goes first where the file says so": (
        AUDIO_5S,
        [capping("0.6")],
        {"capping": {"sacrifice": ["audio", "resolution", "duration_s"]}},
        {"audio": False},
    ),
    "another model where it is named": (
        AUDIO_5S,
        [capping("0.6")],
        {"capping": {"sacrifice": ["model"], "models": ["kling-video-o1", "kling-v3-omni"]}},
        {"model": "kling-v3-omni"},
    ),
    "no other model where none is named": (AUDIO_5S, [capping("0.1")], {}, None),
    "the model that is kept": (
        AUDIO_5S,
        [capping("0.6", keep=["model"])],
        {"capping": {"sacrifice": ["model"], "models": ["kling-v3-omni"]}},
        None,
    ),
    "a name that says resolution and audio": (
        {"model": "kling-v3-pro-audio", "prompt": "a", "duration": 3},
        [capping("0.4")],
        {},
        {"model": "kling-v3-std-audio"},
    ),
    "shots keep their length": (
        {
            "model_name": "kling-v3",
            "multi_shot": True,
            "shot_type": "customize",
            "multi_prompt": [
                {"index": 1, "prompt": "A lighthouse", "duration": "2"},
                {"index": 2, "prompt": "Its lamp", "duration": "4"},
            ],
            "mode": "pro",
            "duration": "6",
        },
        [capping("0.51")],
        {},
        {"resolution": "720p"},
    ),
}


@pytest.mark.parametrize("case", CHOICES)
def test_the_rules_of_capping(case: str, ledger: str, clock: Clock) -> None:
    """Each rule of capping changes the request as its line says."""
    payload, budgets, more, changes = CHOICES[case]
    guard = a_guard(ledger, clock, *budgets, **more)
    provider = "kling" if payload["model" if "model" in payload else "model_name"] != "kling-v3" else None
    if changes is None:
        with pytest.raises(BudgetExceededError):
            guard.admit(payload, project="trailer", provider=provider)
        assert guard.history() == []
    else:
        admission = guard.admit(payload, project="trailer", provider=provider)
        assert (admission.changes, admission.capped) == (changes, bool(changes))


def test_a_range_is_capped_by_its_maximum(ledger: str, clock: Clock) -> None:
    """A range is capped until its maximum fits, with the dearest of the open resolutions and soundtracks."""
    payload = {"model": "Kling-3.0-Omni", "prompt": "a boat", "duration": 5}
    options: dict[str, Any] = {"provider": "tencent-vod", "wire_format": "openai_videos"}
    original = quote(payload, at=AT, book=BOOK, **options)
    assert original.minimum < original.maximum
    guard = a_guard(ledger, clock, capping(original.maximum - NANO, currency=original.currency))
    admission = guard.admit(payload, project="trailer", **options)
    assert admission.changes == {"duration_s": 4}
    assert admission.reservation.reserved == admission.quote.maximum == original.maximum / 5 * 4


def test_a_refusal_names_the_cheapest_variant_in_the_currency_of_the_budget(ledger: str, clock: Clock) -> None:
    """The refusal gives 1.52082 CNY for three silent seconds at 720p: 0.2142 USD at 7.1 CNY each."""
    guard = a_guard(
        ledger,
        clock,
        capping(1, currency="CNY"),
        accounting_rates=[{"quote": "USD", "budget": "CNY", "rate": "7.1"}],
    )
    with pytest.raises(BudgetExceededError) as refused:
        guard.admit(AUDIO_5S, project="trailer")
    error = refused.value
    assert (error.budget, error.currency, error.window_end) == ("caps", "CNY", None)
    assert [error.requested, error.available, error.cheapest] == [Decimal("5.0694"), 1, Decimal("1.52082")]
    assert str(error) == (
        "the request costs 5.0694 CNY, but budget caps has 1 CNY left; the cheapest valid variant costs "
        "1.52082 CNY; to ask for an allowance, run `kling-pricing budget ask FILE --project trailer "
        "--reason TEXT`"
    )


def test_a_refusal_names_the_budget_that_lacks_most(ledger: str, clock: Clock) -> None:
    """A budget that rejects is named before budgets that cap; then the one that can give the smallest part."""
    guard = a_guard(
        ledger,
        clock,
        capping("0.1", "a"),
        Budget(name="b", match={"user": "any"}, cap="0.6", currency="USD"),
        Budget(name="c", match={"user": "any"}, cap="0.5", currency="USD"),
        Budget(name="d", match={"user": "any"}, cap=9, currency="USD", max_request="0.55"),
    )
    for labels, budget, available, cheapest in (
        ({}, "a", "0.1", Decimal("0.2142")),
        ({"user": "li"}, "c", "0.5", None),
    ):
        with pytest.raises(BudgetExceededError) as refused:
            guard.admit(AUDIO_5S, project="trailer", labels=labels)
        error = refused.value
        assert (error.budget, error.available, error.cheapest) == (budget, Decimal(available), cheapest)


def test_a_key_keeps_its_changes(ledger: str, clock: Clock) -> None:
    """Admitting a key again returns the same reservation and changes, although nothing would fit now."""
    guard = a_guard(ledger, clock, capping("0.6"))
    first, repeated = [guard.admit(AUDIO_5S, project="trailer", key="shot") for _ in range(2)]
    assert (repeated.reservation, repeated.changes) == (first.reservation, {"duration_s": 4})
    assert guard.dispatch(repeated) == {**AUDIO_5S, "duration": 4}
    with pytest.raises(BudgetExceededError, match=r"has 0\.0288 USD left"):
        guard.admit(AUDIO_5S, project="trailer", key="other")


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parent.parent / "examples" / "requests").rglob("*.json"))
)
def test_every_example_is_capped_soundly(path: Path) -> None:
    """Every example is capped soundly at every provider that prices it, at every deciding amount."""
    payload = json.loads(path.read_text(encoding="utf-8"))
    wire = path.parent.name if path.parent.name != "requests" else "tasks"
    for provider in BOOK.tables:
        original = quoted(wire, provider, json.dumps(payload))
        if original is not None:
            compared(payload, original, Limits())
