"""Every entry of a table file reaches the book: plain YAML reads the files a second time, for comparison."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
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
from kling_pricing.wire.endpoints import Submission
from kling_pricing.wire.paths import PathPattern
from tests.commands import run
from tests.conftest import bundled

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
    assert [tier["tier"] for tier in found["kling_services"]["tiers"]] == ["service", "silent"]
    calls, lip_sync, avatar, length = found["kling_services"]["quantity"]
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
    assert avatar == {"fact": "video_length_s", "rounding": "nearest", "when": {"model": "kling-avatar"}}
    assert length == {"fact": "duration_s"}
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
        for root, name in ((package, "kling_pricing"), (bundled(), "kling_pricing/pricing_tables")):
            for path in root.rglob("*"):
                if path.suffix in {".py", ".yaml"}:
                    archive.write(path, f"{name}/{path.relative_to(root).as_posix()}")
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
