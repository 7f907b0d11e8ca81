"""A chronicle of quotes: many requests, and everything that the library says about each of them.

Other tests state what matters to a rule. This one compares every field of quotes, comparisons, violations and
composed requests with a file, and every field of tables of one's own. After an intended change, write the file
anew with `KLING_PRICING_WRITE_CHRONICLE=1`, and read the difference.
"""

import json
import os
from collections.abc import Callable, Iterator
from difflib import unified_diff
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from kling_pricing import KlingPricingError, PriceBook, TableError, check, compare, load_price_book, quote
from kling_pricing.quoting.composing import RequestDescription, compose
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.translation import translated
from tests.conftest import AT, PRICES, bundled, video
from tests.test_ledger_chronicle import WRITE, written

FOLDER = Path(__file__).parent / "golden"
EXAMPLES = Path(__file__).parent.parent / "examples" / "requests"
URL = "https://example.com/"
FILES: tuple[dict[str, list[str]], ...] = (
    {},
    {"images": [f"{URL}1.png"]},
    {"first_frame": [f"{URL}1.png"], "last_frame": [f"{URL}2.png"]},
    {"videos": [f"{URL}v.mp4"]},
    {"images": [f"{URL}1.png", f"{URL}2.png"], "videos": [f"{URL}v.mp4"]},
)
"""The files of described requests."""


def outcome(call: Callable[[], Any]) -> str:
    """Returns what a call returns, or its error with all attributes."""
    try:
        return written(call())
    except KlingPricingError as error:
        return f"{type(error).__name__}: {error} {written(vars(error))}"


VARIATIONS: tuple[dict[str, Any], ...] = (
    {"duration": 5},
    {"duration": 99, "resolution": "8k", "audio": "yes"},
    {"duration": 10, "audio": True, "images": [f"{URL}1.png"]},
    {"nonsense": 1, "aspect_ratio": "2:1"},
)


def requests() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yields requests with their names and options: the examples, and variations of one of them."""
    for file in sorted(EXAMPLES.rglob("*.json")):
        options = {"wire_format": file.parent.name} if file.parent != EXAMPLES else {}
        if file.parent.name == "kling_v2":
            options["url"] = "https://api-singapore.klingai.com/text-to-video/kling-3.0"
        yield str(file.relative_to(EXAMPLES)), json.loads(file.read_text(encoding="utf-8")), options
    for model, fields in product(
        ("kling-v3", "kling-v2.6", "kling-video-o1", "kling-v9"),
        VARIATIONS,
    ):
        yield f"{model} {json.dumps(fields)}", video(model, **fields), {}


def compared(title: str, lines: list[str]) -> list[str]:
    """Returns the differences between lines and a file, which it writes first if that is wished."""
    file = FOLDER / f"chronicle_{title}.txt"
    if os.environ.get(WRITE):
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [*unified_diff(file.read_text(encoding="utf-8").splitlines(), lines, lineterm="", n=0)]


def test_quotes_say_the_same_in_every_form(book: PriceBook) -> None:
    """The data, the sentences, the page for notebooks, the violations and the comparison of each request."""
    lines = []
    for title, payload, options in requests():
        for provider in (None, "kling", "qingbo"):
            chosen = options | ({} if provider is None else {"provider": provider})
            try:
                quoted = quote(payload, at=AT, book=book, **chosen)
            except KlingPricingError as error:
                told = f"{type(error).__name__}: {error} {written(vars(error))}"
            else:
                forms = quoted.as_json(), repr(quoted), quoted._repr_html_()
                told = quoted.explain() if provider == "qingbo" else "\n".join(forms)
                assert json.loads(quoted.as_json()) == json.loads(json.dumps(quoted.as_dict()))
            lines += f"{title} at {provider}: {told}".splitlines()
    assert compared("quotes", lines) == []


def test_comparisons_say_the_same_in_every_form(book: PriceBook) -> None:
    """The options of a few requests at every provider, as data and as a page."""
    lines = []
    for title, payload, options in [*requests()][::6]:
        try:
            found = compare(payload, at=AT, book=book, **options)
        except KlingPricingError as error:
            lines.append(f"{title}: {error}")
            continue
        for option in found:
            told = option.as_dict() | {"quote": option.quote and option.quote.shown_total()}
            assert json.loads(option.as_json()) == json.loads(json.dumps(option.as_dict()))
            lines.append(f"{title}: {json.dumps(told)}")
        lines += found[0]._repr_html_().splitlines()
    assert compared("comparisons", lines) == []


def test_violations_have_all_their_parts(book: PriceBook) -> None:
    """Every violation of each request."""
    lines = []
    for title, payload, options in requests():
        try:
            violations = check(payload, at=AT, book=book, **options)
        except KlingPricingError as error:
            lines.append(f"{title}: {error}")
        else:
            lines += [f"{title}: {written(violation)}" for violation in violations]
    assert compared("violations", lines) == []


def test_descriptions_become_the_same_requests(book: PriceBook) -> None:
    """For each model, provider, action and kind of files: the format, the payload and the URL, or the error."""
    lines = []
    providers = ("kling", "qingbo", "qingbo-ai", "tencent-vod")
    models = (
        "kling-v3",
        "kling-v3-omni",
        "kling-v2-6",
        "kling-video-o1",
        "kling-3.0-turbo",
        "kling-v3-std-silent",
    )
    actions = (None, "motion_control", "image2video", "edit")
    for provider, model, action, files in product(providers, models, actions, FILES):
        settings: dict[str, Any] = {"duration_s": 5} if action is None else {}
        orientation = "video" if action == "motion_control" else None
        description = RequestDescription(model, settings, action, orientation, files)
        intake = Intake(book=book, at=AT, provider=provider)
        told = outcome(partial(compose, description, intake))
        lines.append(f"{model} at {provider}, {action}, {' and '.join(files) or 'no files'}: {told}")
    assert compared("descriptions", lines) == []


def test_translations_keep_the_words_of_the_caller(book: PriceBook) -> None:
    """Each example in the words of each provider's API, or the reason why that is not possible."""
    lines = []
    for title, payload, options in requests():
        intake = Intake(book=book, at=AT, **options)
        try:
            request, _ = intake.read(payload)
        except KlingPricingError:
            continue
        for provider in book.tables:
            found = translated(payload, request, provider, intake)
            told = found if isinstance(found, str) else written(found.payload)
            lines.append(f"{title} at {provider}: {told}")
    assert compared("translations", lines) == []


OWN = {
    "prices/acme/2026-11-01.yaml": PRICES.replace("valid_from: null", "valid_from: 2026-01-01")
    + "valid_until: 2027-01-01\n"
    + "hosts: [api.acme.example]\n"
    + "model_periods: {kling-v3: {valid_from: 2026-02-01, valid_until: 2026-12-01, why: the offer ends}}\n"
    + "notes: [{code: since_december, message: 'An accent: é', since: 2026-12-01}]\n"
    + "account_currency: EUR\n",
    "prices/acme/ours.yaml": "extends: acme/2026-11-01\ndiscount: 0.10\n"
    "valid_from: 2026-03-01\nvalid_until: 2026-09-01\n"
    "sources: [{ref: our contract, checked: 2026-11-02, authority: official}]\n"
    "notes: [{code: ours, message: Our own.}]\n"
    "rates: {kling-v2-6: {720p: {silent: 0.0400}}}\n",
    "prices/acme/later.yaml": "extends: acme/2026-11-01\nrates: {kling-v2-6: {1080p: {silent: 0.06}}}\n"
    "valid_from: 2026-09-01\n"
    "sources: [{ref: our contract, checked: 2026-11-02, authority: secondary}]\n",
}


def test_tables_of_ones_own_are_read_with_all_fields(folder: Callable[..., Path]) -> None:
    """A table and two contracts: periods, rates, notes, sources and hosts."""
    book = load_price_book(folder(OWN))
    lines = [written(table) for table in (*book.tables["acme"], *book.contracts["acme"])]
    lines += [book.table("acme", AT.replace(month=month)).id for month in (1, 3, 8, 9, 12)]
    assert compared("tables", lines) == []


def test_a_contract_changes_the_units_that_it_names(folder: Callable[..., Path]) -> None:
    """Another value of image units changes the prices in image units, with their texts, and no others."""
    contract = (
        "extends: kling/2026-09-20\nunits: {image: 0.003}\n"
        "sources: [{ref: our contract, checked: 2026-11-02, authority: official}]\n"
    )
    book = load_price_book(folder({"prices/kling/ours.yaml": contract}))
    (ours,) = book.contracts["kling"]
    published = next(table for table in book.tables["kling"] if table.id == "kling/2026-09-20")
    lines = [
        f"{written(published.rates[cell])} is {written(rate)}"
        for cell, rate in ours.rates.items()
        if rate != published.rates[cell]
    ]
    lines += [rate.description for rate in ours.rates.values() if rate.own_unit == ours.own_unit]
    assert compared("contract", lines) == []


def problems_of(files: dict[str, str], folder: Callable[..., Path]) -> Iterator[str]:
    """Yields every problem of files that are refused, with its place."""
    place = folder(files)
    try:
        load_price_book(place)
    except TableError as error:
        for problem in error.problems:
            yield f"{Path(problem.file).name}:{problem.line}: {problem.key_path}: {problem.problem}".replace(
                str(place), "FOLDER"
            )


def test_a_mistake_in_a_table_has_its_place(folder: Callable[..., Path], tmp_path: Path) -> None:
    """Each mistake in a file of prices or capabilities is reported with its line and its key path."""
    lines: list[str] = []
    own = OWN["prices/acme/2026-11-01.yaml"]
    for old, new in (
        ("tier: silent}", "tier: silent, when: {audoi: true}}"),
        ("tier: silent}", "tier: silent, when: [audio]}"),
        ("tier: silent}", "tier: silent, when: {audio: {}}}"),
        ("tier: silent}", "tier: silent, when: {duration_s: {min: 5, max: 3}}}"),
        ("tier: silent}", "tier: silent, when: {duration_s: {mni: 5}}}"),
        ("fact: duration_s}", "sum: [duration_s]}"),
        ("fact: duration_s}", "fact: duration}"),
        ("720p: {silent: 0.05}", "720p: {silent: 0.05, audio: 1}"),
        ("720p: {silent: 0.05}", "720p: {silent: 0}"),
        ("720p: {silent: 0.05}", "480p: {silent: 0.05}"),
        ("  kling-v2-6:", "  kling-v2-7:"),
        ("wire_formats: [tasks]", "wire_formats: [task]"),
        ("\ncurrency: EUR", "\ncurrency: eur"),
        ("valid_until: 2027", "valid_until: 2025"),
        ("account_currency: EUR", "account_currency: EUR\nunpriced: [{model: kling-v3, why: no}]"),
        ("account_currency: EUR", "unpriced: [{model: kling-v9, resolution: 1080, tier: x, why: no}]"),
        ("authority: official", "authority: official, pages: 3"),
    ):
        assert old in own
        files = {"prices/acme/2026-11-01.yaml": own.replace(old, new)}
        lines += [f"{new!r}: {problem}" for problem in problems_of(files, folder)]
    (tmp_path / "prices/acme/2026-11-01.yaml").write_text(own, encoding="utf-8")
    ours = OWN["prices/acme/ours.yaml"]
    for old, new in (
        ("discount: 0.10", "discount: 1"),
        ("discount: 0.10", "unit_value: 2"),
        ("valid_until: 2026-09-01", "valid_until: 2027-02-01"),
        ("valid_from: 2026-03-01", "valid_from: 2025-12-31"),
        ("extends: acme/2026-11-01", "extends: acme/2026-11"),
        ("kling-v2-6: {720p", "kling-v2-6: {8k"),
        ("silent: 0.0400", "silnt: 0.04"),
    ):
        assert old in ours
        files = {"prices/acme/ours.yaml": ours.replace(old, new)}
        lines += [f"{new!r}: {problem}" for problem in problems_of(files, folder)]
    (tmp_path / "prices/acme/ours.yaml").write_text(ours, encoding="utf-8")
    matrix = bundled("capabilities", "tasks.yaml").read_text(encoding="utf-8")
    for old, new in (
        ("\nrequired: [", "\nrequired: [promt, "),
        ("\nwire_format: tasks", "\nwire_format: task"),
        (
            "\nwarnings:\n",
            "\nwarnings:\n  - {code: x, when: {audoi: true}, need: {audio: [true]}, source: s}\n",
        ),
        ("\ndefaults: {", "\ndefaults: {audoi: 5, "),
        ("\nimplied_actions:\n", "\nimplied_actions:\n  - {action: fly}\n"),
        ("\nmedia:\n", "\nmedia:\n  - {kind: vidoes, limits: {}, source: s}\n"),
        ("fields: [", "fields: [promt, "),
    ):
        files = {"capabilities/tasks.yaml": matrix.replace(old, new, 1)}
        lines += [f"{new!r}: {problem}" for problem in problems_of(files, folder)]
    matrix = bundled("capabilities", "tasks_v2.yaml").read_text(encoding="utf-8")
    files = {"capabilities/tasks_v2.yaml": matrix.replace("submits_to: /v1/tasks", "submits_to: /v1/task", 1)}
    (tmp_path / "capabilities/tasks.yaml").unlink()
    lines += [f"submits_to: {problem}" for problem in problems_of(files, folder)]
    assert compared("mistakes", lines) == []
