"""Every entry of a table file reaches the book: plain YAML reads the files a second time, for comparison."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

import kling_pricing
from kling_pricing import PriceBook, load_price_book
from kling_pricing.tables.capabilities import CapabilityMatrix, IgnoredField, ModelCapabilities
from kling_pricing.tables.http_rules import UnpricedPaths
from kling_pricing.tables.loading import folders
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.wire.endpoints import Submission
from kling_pricing.wire.paths import PathPattern
from tests.commands import run
from tests.conftest import PRICES, bundled

FILES = sorted(path.stem for path in bundled("capabilities").glob("*.yaml"))


def plain(*path: str) -> dict[str, Any]:
    """Returns the content of a bundled file, read without the library."""
    content: dict[str, Any] = yaml.safe_load(bundled(*path).read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def book_from_yaml() -> PriceBook:
    """The bundled tables, read from YAML and not from a stored book."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLING_PRICING_CACHE", "off")
        return load_price_book()


def paths(groups: list[dict[str, Any]]) -> tuple[PathPattern, ...]:
    """Returns the patterns of all paths of some groups, in order."""
    return tuple(PathPattern.of(path) for group in groups for path in group["paths"])


@pytest.mark.parametrize("name", FILES)
def test_a_matrix_has_the_endpoints_and_names_of_its_file(book_from_yaml: PriceBook, name: str) -> None:
    """Endpoints, sources, ignored fields, known names, and models with their names and implied facts."""
    file, matrix = plain("capabilities", f"{name}.yaml"), book_from_yaml.matrices[name]
    assert (matrix.wire_format, [*matrix.models]) == (name, [*file["models"]])
    assert matrix.sources == tuple(source["ref"] for source in file["sources"])
    assert matrix.submissions == tuple(
        Submission(
            entry["path"],
            name,
            tuple(entry.get("actions") or ()),
            entry["source"],
            entry.get("status"),
            entry.get("cancel"),
            tuple(entry.get("other_status", ())),
            entry.get("model"),
            tuple(entry.get("models", ())),
        )
        for entry in file.get("endpoints", ())
    )
    assert matrix.ignored_fields == tuple(
        IgnoredField(entry["field"], entry["provider"]) for entry in file.get("ignored_fields", ())
    )
    assert matrix.known_names == {
        known.lower(): entry["why"] for entry in file.get("known_names", ()) for known in entry["names"]
    }
    names = {
        written: (model, entry["names"][written] if isinstance(entry["names"], dict) else {})
        for model, entry in file["models"].items()
        for written in entry["names"]
    }
    assert {written: (model, {**implied}) for written, (model, implied) in matrix.names.items()} == names
    for written in names:
        assert matrix.find(written) == matrix.names[written]
        assert matrix.find(written.upper()) is not None
    assert matrix.find("kling-unheard-of") is None


@pytest.mark.parametrize("name", FILES)
def test_a_model_has_the_capabilities_of_its_file(book_from_yaml: PriceBook, name: str) -> None:
    """Inputs, defaults, rules with their codes, sources and times, implied actions and limits for files."""
    file, matrix = plain("capabilities", f"{name}.yaml"), book_from_yaml.matrices[name]
    for model, entry in file["models"].items():
        known = matrix.models[model]
        assert (known.model, known.source, known.names) == (model, entry["source"], tuple(entry["names"]))
        assert known.fields == {*entry["fields"]}
        required = file["required"] if entry.get("required") is None else entry["required"]
        assert known.required == tuple(required)
        assert known.defaults == file["defaults"] | entry.get("defaults", {})
        assert [limit.kind for limit in known.media] == [
            limit["kind"] for limit in chain(file.get("media", ()), entry.get("media", ()))
        ]
        assert rules_of(known) == expected_rules(file, model)


def rules_of(known: ModelCapabilities) -> list[tuple[Any, ...]]:
    """Returns the rules of a model: code, tested and limited facts, source, message, and two flags."""
    return [
        (rule.code, {*rule.when}, {*rule.need}, rule.source, rule.message, rule.warning, rule.is_dated)
        for rule in known.rules
    ]


def expected_rules(file: Mapping[str, Any], model: str) -> list[tuple[Any, ...]]:
    """Returns the rules that a file gives a model, in the same form."""
    entry = file["models"][model]
    limits: list[tuple[Any, ...]] = [
        (f"{fact}_limit", set(), {fact}, entry["source"], "", False, False)
        for fact in ("action", *entry["limits"])
    ]
    listed = [
        (rule, key == "warnings")
        for level in (file, entry)
        for key in ("rules", "warnings")
        for rule in level.get(key, ())
    ]
    return limits + [
        (
            rule["code"],
            {*rule.get("when", {})} - {"model"},
            {*rule["need"]},
            rule["source"],
            rule.get("message") or "",
            warns,
            rule.get("since") is not None or rule.get("until") is not None,
        )
        for rule, warns in listed
        if "model" not in rule.get("when", {}) or model in _listed(rule["when"]["model"])
    ]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [*value]


@pytest.mark.parametrize("name", FILES)
def test_the_http_rules_are_those_of_the_file(book_from_yaml: PriceBook, name: str) -> None:
    """Keys, ids of the caller's own, refusals, free and unpriced paths, MCP, and where errors stand."""
    matrix: CapabilityMatrix = book_from_yaml.matrices[name]
    file, rules = plain("capabilities", f"{name}.yaml").get("http", {}), matrix.http
    key, own_id, mcp = file.get("idempotency"), file.get("own_id"), file.get("mcp")
    assert (rules.idempotency and tuple(rules.idempotency)) == (
        key and (key["header"], key["hours"], key["source"])
    )
    assert rules.own_id_field == (tuple(own_id["field"].split(".")) if own_id else ())
    assert rules.own_id_lookup == (own_id and own_id.get("lookup"))
    assert ".".join(rules.callback_field) == file.get("callback", {"field": ""})["field"]
    assert [
        (answer.unless, answer.codes, answer.source, answer.unless_message) for answer in rules.refused
    ] == [
        (
            tuple(entry.get("unless", ())),
            frozenset(_listed(entry.get("code", ()))),
            entry["source"],
            (entry.get("unless_message") or "").lower(),
        )
        for entry in file.get("refused", ())
    ]
    assert rules.forms is file.get("forms", False)
    assert rules.free == paths(file.get("free", []))
    assert rules.other_services == paths(file.get("other_services", []))
    assert rules.unpriced == tuple(
        UnpricedPaths(PathPattern.of(path), group["why"])
        for group in file.get("unpriced", ())
        for path in group["paths"]
    )
    assert rules.allow_paths == ()
    assert rules.task_lists == tuple(listed["path"] for listed in file.get("task_lists", ()))
    assert rules.billed_facts == tuple((file.get("billed_facts") or {"facts": ()})["facts"])
    assert rules.code_at == tuple(tuple(path.split(".")) for path in file.get("code_at", ()))
    assert rules.error == file.get("error", {"error": {"message": "{message}", "code": "{code}"}})
    assert (rules.mcp and rules.mcp[1:]) == (
        mcp
        and (
            mcp["submits_to"],
            mcp["create"],
            mcp["nested"],
            (mcp["key"], *mcp["beside"]),
            mcp["key"],
            tuple(mcp["task_tools"]),
            tuple(mcp.get("free", ())),
            tuple(mcp["methods"]),
            tuple(mcp.get("refused_errors", ())),
        )
    )
    assert rules.mcp is None or rules.mcp.pattern == PathPattern.of(mcp["path"])


def instant(written: Any) -> datetime | None:
    """Returns the instant of a day in a file."""
    return None if written is None else datetime.fromisoformat(str(written)).replace(tzinfo=UTC)


def amount(written: Any) -> Decimal:
    """Returns the amount in a file."""
    return Decimal(str(written))


def contents(table: PriceTable) -> dict[str, Any]:
    """Returns the content of a price table in the form of a file."""
    unit = table.billing.statement_unit
    return {
        "hosts": table.hosts,
        "wire_formats": table.wire_formats,
        "also_prices": table.also_prices,
        "allow_paths": table.allow_paths,
        "currency": table.currency,
        "valid_from": table.valid_from,
        "valid_until": table.valid_until,
        "known_from": table.known_from,
        "newer_list": table.newer_list,
        "sources": [(source.ref, source.checked, source.authority) for source in table.sources],
        "billing": (table.billing.failed_tasks, unit and (unit.name, unit.per_currency_unit, unit.rounding)),
        "tiers": [(choice.result, {*choice.when}) for choice in table.tiers],
        "quantity": [(tuple(choice.result), {*choice.when}) for choice in table.quantity],
        "rates": {(*cell,): rate.own_units or rate.unit_price for cell, rate in table.rates.items()},
        "unit": table.own_unit,
        "units": table.units,
        "account_currency": table.account_currencies,
        "periods": {model: tuple(period) for model, period in table.model_periods.items()},
        "whys": table.period_reasons,
        "unpriced": [tuple(cells) for cells in table.unpriced],
        "unpriced_rest": table.unpriced_rest,
        "unreached": [tuple(cells) for cells in table.unreached],
        "notes": [(since, note.code, note.message) for since, note in table.notes],
    }


def quantity(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns a way to count units in a file, in the order of its attributes."""
    fact, *added = entry.get("sum") or [entry["fact"]]
    least = entry.get("at_least")
    floor = least and (least["fact"], least.get("times", 1))
    given = [entry.get(key, default) for key, default in QUANTITY.items()]
    return (fact, *given, tuple(added), floor)


QUANTITY = {"unit": "second", "per": 1, "rounding": "exact", "step": 1, "minimum": 0}


def expected_contents(file: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a price file in the same form."""
    unit = file["billing"].get("statement_unit")
    accounts, periods = file.get("account_currency") or {}, file.get("model_periods", {})
    since, until = instant(file["valid_from"]), instant(file.get("valid_until"))

    def cells(key: str) -> list[tuple[Any, ...]]:
        names = ("model", "resolution", "tier", "why")
        return [tuple(entry.get(name) for name in names) for entry in file.get(key, ())]

    return {
        **{name: tuple(file.get(name, ())) for name in ("hosts", "wire_formats", "also_prices", "allow_paths")},
        **{name: file.get(name) for name in ("currency", "newer_list", "unpriced_rest")},
        "valid_from": since,
        "valid_until": until,
        "known_from": instant(file.get("known_from")),
        "sources": [(each["ref"], instant(each["checked"]), each["authority"]) for each in file["sources"]],
        "billing": (
            file["billing"]["failed_tasks"],
            unit and (unit["name"], unit["per_currency_unit"], unit["rounding"]),
        ),
        "tiers": [(each["tier"], {*each.get("when", ())}) for each in file["tiers"]],
        "quantity": [(quantity(each), {*each.get("when", ())}) for each in file["quantity"]],
        "rates": {
            (model, resolution, tier): amount(price)
            for model, resolutions in file["rates"].items()
            for resolution, tiers in resolutions.items()
            for tier, price in tiers.items()
        },
        "unit": file["unit"]["name"] if "unit" in file else None,
        "units": {kind: amount(value) for kind, value in file.get("units", {}).items()},
        "account_currency": accounts if isinstance(accounts, dict) else {"": accounts},
        "periods": {
            model: (instant(each.get("valid_from")) or since, instant(each.get("valid_until")) or until)
            for model, each in periods.items()
        },
        "whys": {model: each["why"] for model, each in periods.items() if each.get("why")},
        "unpriced": cells("unpriced"),
        "unreached": cells("unreached"),
        "notes": [
            (instant(each.get("since")), each["code"], each["message"]) for each in file.get("notes", ())
        ],
    }


PRICE_FILES = sorted((path.parent.name, path.stem) for path in bundled("prices").glob("*/*.yaml"))


@pytest.mark.parametrize(("provider", "name"), PRICE_FILES)
def test_a_price_table_has_the_content_of_its_file(book_from_yaml: PriceBook, provider: str, name: str) -> None:
    """Every key of a price file reaches the table, with all its values and in the same order."""
    (table,) = [each for each in book_from_yaml.tables[provider] if each.id == f"{provider}/{name}"]
    assert contents(table) == expected_contents(plain("prices", provider, f"{name}.yaml"))
    digest = sha256(bundled("prices", provider, f"{name}.yaml").read_bytes()).hexdigest()
    assert (table.provider, table.digest, table.contract) == (provider, digest, None)


EVERY_KEY = """
hosts: [api.acme.example, acme.example]
also_prices: [tasks_v2]
allow_paths: [/v1/files]
newer_list: qingbo
valid_until: 2027-01-01
account_currency: EUR
units: {video: 0.5, image: 0.25}
unpriced_rest: acme has not given us this price
model_periods:
  kling-v3: {valid_from: 2026-03-01, why: it was launched on that day}
  kling-v3-omni: {valid_until: 2026-12-01}
unreached:
  - {model: kling-v3, tier: loud, why: it is not sold now}
unpriced:
  - {model: kling-v3-omni, resolution: 4k, tier: silent, why: nobody sells it}
notes:
  - {code: first_note, message: the first note}
  - {code: later_note, message: the later note, since: 2026-02-03}
"""


def test_a_price_file_may_have_every_key(folder: Callable[..., Path]) -> None:
    """Keys that no bundled file has reach the table too."""
    text = PRICES.replace("valid_from: null", "valid_from: 2026-01-02") + EVERY_KEY
    text = text.replace("4k: {silent: 0.3}", "4k: {silent: 0.3, loud: 0.4}", 1)
    text = text.replace("    4k: {silent: 0.3}\n", "")
    text = text.replace(
        "refunded", "charged, statement_unit: {name: coin, per_currency_unit: 100, rounding: up}"
    )
    text = text.replace(
        "{fact: duration_s}", "{sum: [duration_s, video_length_s], at_least: {fact: duration_s}}"
    )
    table = load_price_book(folder({"prices/acme/a.yaml": text})).tables["acme"][0]
    assert contents(table) == expected_contents(yaml.safe_load(text))


@pytest.mark.parametrize("name", sorted(path.stem for path in bundled("providers").glob("*.yaml")))
def test_an_unpriced_provider_has_the_content_of_its_file(book_from_yaml: PriceBook, name: str) -> None:
    """Hosts, wire formats, the reason and the sources of a provider without prices."""
    file, provider = plain("providers", f"{name}.yaml"), book_from_yaml.unpriced[name]
    assert (provider.provider, provider.hosts, provider.wire_formats, provider.why) == (
        *(name, tuple(file["hosts"]), tuple(file["wire_formats"]), file["why"]),
    )
    assert [(source.ref, source.checked, source.authority) for source in provider.sources] == [
        (source["ref"], instant(source["checked"]), source["authority"]) for source in file["sources"]
    ]


TEMPLATE = """\
# Prices of acme. Replace every null, then run `kling-pricing tables check`.
# If the provider has no price for a combination, remove its rate and list it under `unpriced`:
# unpriced:
#   - {model: kling-3.0-turbo, resolution: 720p, tier: silent, why: "..."}
# If you know only some of the prices, leave the other rates null and state the reason in one line:
# unpriced_rest: "acme has not given us this price"
provider: acme
hosts: []  # hosts of the API, without https:// and path, such as api.example.com
wire_formats: [tasks_v2]
currency: EUR
valid_from: DAY  # the first day of these prices
sources:
  # ref: page or document; checked: the day you read it; authority: official, or secondary (a copy)
  - {ref: null, checked: null, authority: official}

billing: {failed_tasks: unconfirmed}  # or: refunded, charged

# The tiers and units of qingbo-ai/2026-09-24; the first match applies.
# If acme bills by other tiers, change them here and below.
tiers:
  - {tier: motion_control, when: {action: motion_control}}
  - {tier: video_reference, when: {videos: {min: 1}}}
  - {tier: audio, when: {audio: true}}
  - {tier: silent}
quantity:
  - {fact: video_length_s, rounding: truncate, minimum: 1, when: {action: [edit, motion_control]}}
  - {fact: duration_s}

rates:  # model -> resolution -> tier -> price per second
  kling-3.0-turbo:
    720p: {silent: null}
    1080p: {silent: null}
"""
"""The beginning of a new price file for `tasks_v2`, with the day of its making left out."""


def test_a_new_price_file_begins_with_all_that_is_known(tmp_path: Path) -> None:
    """The tiers, the units and the combinations are those of the provider whose API it is."""
    run("tables", "new", "acme", "--wire-format", "tasks_v2", "--currency", "EUR", "--out", tmp_path)
    (path,) = (tmp_path / "prices" / "acme").iterdir()
    text = path.read_text(encoding="utf-8").replace(path.stem, "DAY")
    assert text[: len(TEMPLATE)] == TEMPLATE
    assert {model: [*rates] for model, rates in yaml.safe_load(text)["rates"].items()} == {
        "kling-3.0-turbo": ["720p", "1080p"],
        "kling-v2-6": ["720p", "1080p"],
        "kling-v2-6-motion-control": ["720p", "1080p"],
        "kling-v3": ["720p", "1080p", "4k"],
        "kling-v3-motion-control": ["720p", "1080p"],
        "kling-v3-omni": ["720p", "1080p", "4k"],
        "kling-video-o1": ["720p", "1080p"],
    }


def test_a_new_price_file_has_the_tiers_and_units_that_apply(tmp_path: Path) -> None:
    """Tiers that no request of the API reaches are left out; units and steps are those of the similar table."""
    found = {}
    for wire_format in ("video_generations", "kling_services"):
        run("tables", "new", "acme", "--wire-format", wire_format, "--out", tmp_path / wire_format)
        (path,) = (tmp_path / wire_format / "prices" / "acme").iterdir()
        text = path.read_text(encoding="utf-8")
        found[wire_format] = yaml.safe_load(text)
    assert found["video_generations"]["tiers"] == [
        {"tier": "audio", "when": {"audio": True}},
        {"tier": "silent"},
    ]
    assert found["video_generations"]["quantity"] == [{"fact": "duration_s"}]
    assert [tier["tier"] for tier in found["kling_services"]["tiers"]] == ["service"]
    calls, lip_sync, avatar = found["kling_services"]["quantity"]
    assert (calls["fact"], calls["unit"], "kling-avatar-tts" in calls["when"]["model"]) == (
        "calls",
        "call",
        True,
    )
    assert lip_sync == {
        "fact": "video_length_s",
        "unit": "5 seconds",
        "per": 5,
        "rounding": "ceil",
        "step": 5,
        "minimum": 5,
        "when": {"model": "kling-lip-sync"},
    }
    assert avatar == {"fact": "video_length_s", "rounding": "nearest"}
    assert "rates:  # model -> resolution -> tier -> price per call or 5 seconds or second\n" in text


def test_the_schema_describes_conditions() -> None:
    """A condition is a value, a list, or a range with at least one end; only known facts have conditions."""
    value = {"type": ["string", "number", "boolean"]}
    schema = json.loads(run("tables", "schema", "capabilities").stdout)
    when = schema["$defs"]["RuleEntry"]["properties"]["when"]
    assert (when["type"], when["additionalProperties"]) == ("object", False)
    assert {"audio", "duration_s", "videos"} < when["properties"].keys()
    assert when["properties"]["duration_s"] == {
        "description": "One value, a list of values, or a range that includes its ends.",
        "anyOf": [
            value,
            {"type": "array", "items": value, "minItems": 1},
            {
                "type": "object",
                "properties": {"min": {"type": "number"}, "max": {"type": "number"}},
                "additionalProperties": False,
                "minProperties": 1,
            },
        ],
    }


ARCHIVED = """
from kling_pricing import quote
quoted = quote({"model": "kling-v3", "prompt": "x", "duration": 5}, provider="qingbo")
print(quoted.total, quote.__globals__["__file__"].partition("kling.zip")[1])
"""


def test_the_tables_are_read_from_an_archive(tmp_path: Path) -> None:
    """The package also works from a zip archive, which has no folder of its files."""
    package = Path(str(kling_pricing.__file__)).parent
    with ZipFile(tmp_path / "kling.zip", "w") as archive:
        for path in package.rglob("*.py"):
            archive.write(path, f"kling_pricing/{path.relative_to(package).as_posix()}")
        for path in bundled().rglob("*.yaml"):  # a wheel has them in the package, a source tree beside it
            archive.write(path, f"kling_pricing/pricing_tables/{path.relative_to(bundled()).as_posix()}")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "kling.zip")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ARCHIVED],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=tmp_path,
    )
    assert (done.stdout, done.stderr) == ("0.3570 kling.zip\n", "")


def test_the_package_is_found_where_its_file_is_not_in_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """In an archive, the import system knows where the package is."""
    monkeypatch.setattr(folders, "__file__", "kling.zip/kling_pricing/tables/loading/folders.py")
    assert str(folders.package_folder()) == str(Path(str(kling_pricing.__file__)).parent)
