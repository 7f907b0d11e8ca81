"""A chronicle of refused tables: many mistakes in files, each with its line, its key path and its remedy.

Each mistake has a file of its own, so that one check reports all of them. `test_quote_chronicle` says how to
write the files of expected messages anew.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

import kling_pricing
from kling_pricing import PriceBook, TableError
from kling_pricing.tables.book_json import CLASSES, book_from_json, book_to_json
from kling_pricing.tables.loading.assembly import assembled_book
from kling_pricing.tables.loading.folders import TableFile, table_files
from kling_pricing.tables.loading.matrices import load_matrix
from kling_pricing.tables.loading.stored_books import sources_digest, stored_text
from kling_pricing.tables.price_table import PriceTable, period
from tests.conftest import AT, PRICES, bundled
from tests.test_quote_chronicle import compared

Folder = Callable[..., Path]
SOURCES = "sources: [{ref: x, checked: 2026-11-01, authority: official}]\n"
PACKS = PRICES.replace(
    "rates:",
    "unit: {name: credit, value: 0.5}\nunits: {video: 0.5, image: 0.0125}\npack_of: {kling-v3: image}\nrates:",
)

MISTAKES_IN_PRICES = (
    ("rates:", "rates:\n  kling-v3:"),
    ("silent: 0.05", "silent: null"),
    ("silent: 0.05}\n    1080p: {silent: 0.07}", "silent: null}\n    1080p: {silent: null}"),
    ("currency: EUR", "currency: null"),
    ("sources:", "sources:\n  - null"),
    ("silent: 0.05", "silent: 0"),
    ("silent: 0.05}\n    1080p: {silent: 0.07}", "silent: 0}\n    1080p: {silent: 0}"),
    ("valid_from: null", "valid_from: 2026-11-02\nvalid_until: 2026-11-02"),
    ("valid_from: null", "valid_from: 2026-11-02\nvalid_until: 2026-11-01"),
    ("rates:", "model_periods: {kling-v3: {valid_from: 2026-02-01}}\nrates:"),
    ("rates:", "model_periods: {kling-v3: {why: x}}\nrates:"),
    ("rates:", "model_periods: {kling-v9: {valid_from: 2026-02-01, why: x}}\nrates:"),
    (
        "rates:",
        "model_periods: {kling-v3: {valid_from: 2026-02-01, valid_until: 2026-01-01, why: x}}\nrates:",
    ),
    (
        "valid_from: null",
        "valid_from: 2026-03-01\nmodel_periods: {kling-v3: {valid_from: 2026-02-01, why: x}}",
    ),
    ("value: 0.5}", "value: 0}"),
    ("value: 0.5}", "value: 0.000000001}"),
    ("image: 0.0125", "image: 0.000000001"),
    ("image: 0.0125", "credit: 0.4"),
    ("pack_of: {kling-v3: image}", "pack_of: {kling-v3: imag}"),
    ("pack_of: {kling-v3: image}", "pack_of: {kling-v4: image}"),
    ("pack_of: {kling-v3: image}", "account_currency: {api.acme.example: EUR}"),
    ("{fact: duration_s}", "{unit: second}"),
    ("{fact: duration_s}", "{sum: [duration_s, duration_s]}"),
    ("{fact: duration_s}", "{fact: duration_s, when: {audio: true}}"),
    ("- {fact: duration_s}", "- {fact: calls}\n  - {fact: duration_s}"),
    ("- {tier: silent}", "- {tier: silent}\n  - {tier: audio}"),
    ("- {tier: silent}", "- {tier: silent, when: {audio: false}}"),
    ("billing: {", "billing: {statement_unit: {name: u, per_currency_unit: 3, rounding: up}, "),
    ("valid_from: null", "valid_from: 2026-11-01\nknown_from: 2026-11-01"),
    ("valid_from: null", "valid_from: null\nnewer_list: qingbo-ia"),
    ("rates:", "hosts: [www.qingbo.dev]\nrates:"),
    ("rates:", "unpriced:\n  - {model: kling-v3, resolution: 4k, tier: silent, why: x}\nrates:"),
    ("rates:", "unreached:\n  - {model: kling-v3, resolution: 4k, tier: silent, why: x}\nrates:"),
)
"""Parts of `PACKS` and what replaces them."""

MISTAKES_IN_CONTRACTS = (
    "",
    "discount: 1\n",
    "discount: 0\n",
    "unit_value: 0\n",
    "unit_value: 0.000000001\n",
    "units: {image: 0.000000001}\n",
    "units: {video: 0.4}\n",
    "units: {imag: 0.4}\n",
    "rates: {kling-v9: {720p: {silent: 0.1}}}\n",
    "rates: {kling-v3: {720p: {silent: 0}}}\n",
    "rates: {kling-v2-6: {720p: {silent: 0.000000003}}}\n",
    "discount: 0.1\nvalid_from: 2025-01-01\n",
    "discount: 0.1\nvalid_until: 2028-01-01\n",
    "discount: 0.1\nvalid_from: 2026-06-01\nvalid_until: 2026-06-01\n",
)
"""The lines of contracts that follow `extends` and the sources."""

MISTAKES_IN_MATRICES = (
    ("tasks", "\nwire_format: tasks", "\nwire_format: task"),
    ("tasks", "\nrequired: [", "\nrequired: [promt, "),
    ("tasks", "names: [kling-v2.6]", "names: [kling-v2.6, kling-v3, kling-v3-omni]"),
    ("tasks", "names: [kling-v2.6]", "names: {kling-v3: {audio: false}}"),
    ("tasks", "code: audio_resolution", "code: audio_last_frame"),
    ("tasks", "code: audio_resolution", "code: unknown_field"),
    ("tasks", "      resolution: [720p, 1080p]\n", "      resolution: {min: 1}\n"),
    ("tasks", "      resolution: [720p, 1080p]\n", "      action: [generate]\n"),
    ("tasks", "- path: /v1/tasks\n", "- path: /v1/tasks\n    models: [kling-v33, kling-v3]\n"),
    ("tasks", "- path: /v1/tasks\n", "- path: /v1/tasks\n    model: kling-v33\n"),
    ("tasks", "- path: /v1/tasks\n", "- path: /v1/tasks\n    actions: [generate, fly]\n"),
    ("tasks", "endpoints:\n", "endpoints:\n  - {path: /v1/tasks, source: x}\n"),
    ("tasks", "\nrequired: [", "\nignored_fields: [{field: modl, provider: x, source: y}]\nrequired: ["),
    ("tasks", "callback: {field: callback_url", "callback: {field: calback_url"),
    ("kling", "own_id: {field: external_task_id", "own_id: {field: external_id"),
    ("kling_v2", "callback: {field: options.callback_url", "callback: {field: options.url"),
    ("kling_v2", "callback: {field: options.callback_url", "callback: {field: option.callback_url"),
    ("tasks_v2", "submits_to: /v1/tasks", "submits_to: /v1/task"),
    ("tasks", "action: first_last_frame,", "action: first_last,"),
    ("tasks", "fields: [", "fields: [promt, "),
    (
        "tasks",
        "need: {audio: false}",
        "since: 2026-11-02\n        until: 2026-11-01\n        need: {audio: false}",
    ),
    (
        "tasks",
        "\nwarnings:\n",
        "\nwarnings:\n  - {code: x, when: {}, need: {audio: true}, source: s, until: 1}\n",
    ),
)
"""Capability files, a part of each, and what replaces it."""


def told(error: TableError, place: Path) -> Iterator[str]:
    """Yields every problem of an error in full."""
    for problem in error.problems:
        yield f"{problem.file}:{problem.line}: {problem.key_path}: {problem.problem}".replace(f"{place}/", "")


def test_every_mistake_in_prices_and_contracts_is_reported_in_full(folder: Folder) -> None:
    """One check reports each mistake with its file, its line, its key path and its remedy."""
    files = {}
    for number, (old, new) in enumerate(MISTAKES_IN_PRICES):
        provider = f"p{number:02}"
        assert PACKS.count(old) >= 1, old
        files[f"prices/{provider}/a.yaml"] = PACKS.replace("acme", provider).replace(old, new, 1)
    for number, lines in enumerate(MISTAKES_IN_CONTRACTS):
        provider = f"c{number:02}"
        dated = PACKS.replace("valid_from: null", "valid_from: 2026-01-01\nvalid_until: 2027-01-01")
        files[f"prices/{provider}/a.yaml"] = dated.replace("acme", provider)
        files[f"prices/{provider}/ours.yaml"] = f"extends: {provider}/a\n{SOURCES}{lines}"
    place = folder(files)
    with pytest.raises(TableError) as caught:
        assembled_book(table_files(place))
    for name in files:  # further problems show only when the files can be read
        if name in str([problem.file for problem in caught.value.problems]):
            (place / name).unlink()
    with pytest.raises(TableError) as further:
        assembled_book(table_files(place))
    assert compared("refused_prices", [*told(caught.value, place), "", *told(further.value, place)]) == []


def test_every_mistake_in_a_capability_file_is_reported_in_full(tmp_path: Path) -> None:
    """Each mistake has its line, its key path and its remedy, and the known names when one is misspelt."""
    lines: list[str] = []
    for name, old, new in MISTAKES_IN_MATRICES:
        text = bundled("capabilities", f"{name}.yaml").read_text(encoding="utf-8")
        assert old in text, old
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(TableError) as caught:
            load_matrix(TableFile(f"capabilities/{name}.yaml", path))
        lines += [f"{new.strip()!r}", *(f"  {line}" for line in told(caught.value, tmp_path))]
    assert compared("refused_matrices", lines) == []


def test_a_stored_book_names_its_classes(book: PriceBook) -> None:
    """Each value of a stored book is written under the name of its class, and equal long values once."""
    text = book_to_json(book)
    assert text.isascii()
    assert text.startswith('[["=",')
    for kind in CLASSES:
        if kind.__name__ in text:
            assert f'["{kind.__name__}",' in text
    names = {kind.__name__ for kind in CLASSES if f'["{kind.__name__}",' in text}
    assert {"PriceBook", "PriceTable", "Rate", "Cell", "CapabilityMatrix", "Rule", "Choice", "OneOf"} <= names
    shared = text.rpartition('],["')[0]
    assert shared.count('["TableSource","') < sum(len(table.sources) for table in tables_of(book))


def tables_of(book: PriceBook) -> list[PriceTable]:
    """Returns the published tables of a book."""
    return [table for tables in book.tables.values() for table in tables]


def test_the_digest_of_a_books_sources_covers_each_file_with_its_name_and_length(folder: Folder) -> None:
    """The digest is that of every table and every module that reads tables, in order."""
    files = table_files(folder({"prices/acme/2026-11-01.yaml": PRICES}))
    package = Path(str(kling_pricing.__file__)).parent
    modules = [*package.glob("*.py")]
    for name in ("strict_yaml", "tables", "wire"):
        modules += (package / name).rglob("*.py")
    content = {"/".join(path): file.data for path, file in files.items() if path[0] != "statements"}
    code = {path.relative_to(package).as_posix(): path.read_bytes() for path in modules}
    digest = sha256()
    for name, data in [*content.items(), *sorted(code.items())]:
        digest.update(f"{name} {len(data)}\n".encode() + data)
    assert sources_digest(files, is_build=True) == digest.hexdigest()


def test_a_stored_text_has_the_digests_of_its_sources_and_of_the_book(book: PriceBook) -> None:
    """The text begins with both digests, and ends with the book."""
    text = book_to_json(book)
    digest = sha256(text.encode()).hexdigest()
    assert stored_text("0" * 64, book) == f'{{"sources":"{"0" * 64}","sha256":"{digest}",\n"book":{text}}}\n'


def test_a_stored_book_keeps_every_kind_of_value(book: PriceBook) -> None:
    """Texts that look like references, long and short values and every field survive."""
    table = replace(
        book.tables["qingbo"][0],
        allow_paths=("=", "/a", "a text that is longer than a reference to it", "é" * 30),
        units={"video": Decimal("0.10"), "=": Decimal(0)},
    )
    kept = PriceBook({"qingbo": (table,)}, book.matrices)
    read = book_from_json(book_to_json(kept)).tables["qingbo"][0]
    assert is_dataclass(read)
    values: dict[str, Any] = {field.name: getattr(read, field.name) for field in fields(read) if field.init}
    assert values == {name: getattr(table, name) for name in values}
    assert [str(value) for value in read.units.values()] == ["0.10", "0"]


def test_a_table_with_prices_of_0_counts_in_no_unit_of_its_own(folder: Folder) -> None:
    """A rate gives the value of its unit, but a rate of 0 units gives none. One unit is in the singular."""
    free = PACKS.replace("silent: 0.05", "silent: 0").replace("silent: 0.07", "silent: 1") + "free: true\n"
    (table,) = assembled_book(table_files(folder({"prices/acme/a.yaml": free}))).tables["acme"]
    told_units = {
        f"{cell.model} {cell.resolution}": (rate.description, table.counted_in(rate))
        for cell, rate in table.rates.items()
        if cell.model in {"kling-v2-6", "kling-v3"}
    }
    assert told_units == {
        "kling-v2-6 720p": ("kling-v2-6 720p silent, 0 credits at 0.5 EUR", None),
        "kling-v2-6 1080p": ("kling-v2-6 1080p silent, 1 credit at 0.5 EUR", ("credit", Decimal("0.5"))),
        "kling-v3 720p": ("kling-v3 720p silent, 0.1 image units at 0.0125 EUR", ("image", Decimal("0.0125"))),
        "kling-v3 1080p": (
            "kling-v3 1080p silent, 0.2 image units at 0.0125 EUR",
            ("image", Decimal("0.0125")),
        ),
        "kling-v3 4k": ("kling-v3 4k silent, 0.3 image units at 0.0125 EUR", ("image", Decimal("0.0125"))),
    }


@pytest.mark.parametrize(
    ("since", "until", "text"),
    [
        (None, None, "always"),
        (AT.replace(hour=0, minute=0, second=0, microsecond=0), None, f"from {AT:%Y-%m-%d}"),
        (None, AT.replace(hour=0, minute=0, second=0, microsecond=0), f"until {AT:%Y-%m-%d}"),
        (AT.replace(hour=1), AT.replace(hour=0, minute=0, second=1, microsecond=0), None),
        (AT.replace(hour=0, minute=1, second=0, microsecond=0), None, None),
    ],
)
def test_a_period_is_described_by_its_days_or_its_instants(
    book: PriceBook, since: Any, until: Any, text: str | None
) -> None:
    """A bound at midnight is a day, and any other bound an instant."""
    table = replace(book.tables["qingbo"][0], valid_from=since, valid_until=until)
    bounds = [("from", since), ("until", until)]
    expected = text or " ".join(f"{word} {bound.isoformat()}" for word, bound in bounds if bound is not None)
    assert period(table) == expected
