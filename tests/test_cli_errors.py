"""Every command with bad input: the exit code, and words that a user of the command line understands."""

import json
import re
import sqlite3
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from kling_pricing import errors
from kling_pricing.cli.exit_codes import REFUSED, UNREADABLE, exit_code
from kling_pricing.cli.wording import with_options
from kling_pricing.errors import KlingPricingError
from tests.commands import COMMANDS, run
from tests.conftest import PRICES, video

REQUEST = json.dumps(video(duration=5))
BUDGETS = "budgets:\n  - {name: trailer, match: {project: trailer}, cap: 1, currency: USD}\n"
STATEMENT = "task_id,model,status,created_at,cost\n"

PYTHON = re.compile(r"[A-Z]\w+Error\b|\b(?!LABEL=|user=|RESERVATION=|COLUMN=)\w+=|`[a-z]+_[a-z_]+`|Traceback")
"""Exception classes and Python arguments; `LABEL=VALUE` and the like are written on the command line itself."""


ARGUMENTS: dict[str, str] = {
    "files": "request.json",
    "file": "request.json",
    "before": "request.json",
    "after": "request.json",
    "budget file": "budgets.yaml",
    "ref": "nothing",
    "task_id": "t-1",
    "provider": "qingbo",
    "amount": "0.5",
    "table_id": "qingbo/2026-04-29",
    "before_id": "qingbo/2026-04-29",
    "after_id": "qingbo/2026-04-29",
    "folder": "tables",
    "kind": "prices",
    "name": "trailer",
    "new_provider": "newcomer",
    "names": "trailer",
    "request_file": "request.json",
    "project": "trailer",
    "allowance": "nothing",
    "request": "nothing",
    "url": "sqlite:///spend.db",
    "number": "1",
    "month name": "2026-10",
    "statement file": "november.csv",
    "receiver": "env:ALERTS_URL",
    "shell": "bash",
}
"""A good value of each argument; `budget file` for `file` of the group `budget`."""

REQUIRED: dict[str, list[str]] = {
    "ledger": ["--ledger", "sqlite:///spend.db"],
    "project": ["--project", "trailer"],
    "spent": ["--spent", "0.5"],
    "provider": ["--provider", "qingbo"],
    "ledgers": ["--ledger", "sqlite:///spend.db"],
    "statements": ["--statement", "november.csv"],
    "wire_format": ["--wire-format", "tasks"],
    "out": ["--out", "tables"],
    "since": ["--from", "2026-11-01"],
    "until": ["--until", "2026-12-01"],
    "everything": ["--all"],
    "cap": ["--cap", "0.5"],
    "reason": ["--reason", "the bill looks wrong"],
    "money": ["--money", "100"],
}
"""A good value of each required option."""

BAD: dict[str, tuple[str, str]] = {
    **dict.fromkeys(("before", "after"), ("nowhere.csv", "nowhere.csv: cannot be read")),
    **dict.fromkeys(("money", "max_increase"), ("1e3", "'1e3' is not a plain decimal number")),
    "groups": ("nowhere", "has no column 'nowhere' to group by; use a column of the list, or one of: "),
    "maps": ("nowhere", "'nowhere' has no value; write COLUMN=FIELD"),
    "models": ("nobody", "unknown model nobody; use one of: "),
    "refusals": ("request.json/below", "request.json/below: cannot be written in this format"),
    "top": ("0", "0 is not in the range"),
    "values": ("duratoin=5", "unknown field duratoin; did you mean 'duration'?"),
    "accounts": ("strange.yaml", "strange.yaml: cannot be read"),
    "rates": ("strange.yaml", "strange.yaml: cannot be read"),
    "account": ("", "the account must be text of 1 to 200 printable characters"),
    "as_of": ("yesterday", "'yesterday' is not an ISO 8601 date or time"),
    "actor": ("", "actor must be text of 1 to 200 printable characters"),
    "dispute_also": ("everything", "'everything' is not 'not_in_ledger'"),
    "also": ("everything", "'everything' is not 'unexplained'"),
    "invoice_currency": ("usd", "three capital letters, such as USD, got usd"),
    "invoice_total": ("1e3", "is not a plain decimal number"),
    "max_unreadable": ("1e3", "is not a plain decimal number"),
    "number": ("x", "'x' is not a valid integer"),
    "replaces": ("nowhere.csv", "the books do not contain a statement nowhere.csv to replace"),
    "after_id": ("nowhere/2020", "unknown price table 'nowhere/2020'; use one of: "),
    "amount": ("1e3", "'1e3' is not a plain decimal number|column 1e3: does not have this column"),
    "at": ("yesterday", "'yesterday' is not an ISO 8601 date or time"),
    "base_url": ("gw", "write an http or https URL"),
    "basis": ("hearsay", "'hearsay' is not one of"),
    "batch_tolerance": ("1e3", "'1e3' is not a plain decimal number"),
    "before_id": (
        "qingbo/2026-04-30",
        "unknown price table 'qingbo/2026-04-30'; did you mean 'qingbo/2026-04-29'?",
    ),
    "book": ("nowhere", "nowhere: no such folder"),
    "billed_at": ("nowhere", "column nowhere: does not have this column"),
    "config": ("nowhere.yaml", "nowhere.yaml: cannot be read"),
    "expires": ("yesterday", "'yesterday' is not an ISO 8601 date or time"),
    "role": ("boss", "'boss' is not one of"),
    **dict.fromkeys(("tls_cert", "tls_key"), ("nowhere.pem", "belong together; give both files")),
    "workers": ("0", "0 is not in the range"),
    "budgets": ("nowhere.yaml", "nowhere.yaml: cannot be read"),
    "cap": ("1e3", "'1e3' is not a plain decimal number"),
    "currency": ("usd", "currency must be three capital letters"),
    "decimals": ("10", "10 is not in the range"),
    **dict.fromkeys(
        ("duration", "durations"), ("5.5", "'5.5' is not a whole number of seconds; write a number")
    ),
    "duration_s": ("nowhere", "column nowhere: does not have this column"),
    "duration_unit": ("hour", "'hour' is not one of"),
    "file": ("nowhere.json", "nowhere.json"),
    "files": ("nowhere.json", "nowhere.json: cannot be read"),
    "folder": ("nowhere", "'nowhere' does not exist"),
    "formats": ("pdf", "'pdf' is not one of"),
    "grace": ("soon", "'soon'"),
    "host": ("203.0.113.1", "cannot listen on 203.0.113.1|would accept access keys without encryption"),
    "headers": ("@nowhere.txt", "nowhere.txt: cannot be read"),
    "key": ("x" * 300, "key must be text of 1 to 200 printable characters"),
    "kind": ("recipes", "'recipes' is not one of"),
    "above": ("nobody", "unknown budget nobody; use one of: trailer"),
    "names": ("nobody", "unknown budget nobody; use one of: trailer"),
    "request_file": ("nowhere.json", "nowhere.json"),
    "account_currency": ("dollars", "the account currency must be a code of three capital letters"),
    "every": ("0", "0 is not in the range"),
    "encoding": ("utf-99", "unknown encoding 'utf-99'; give a name such as gb18030"),
    "keep": (".", "is not empty"),
    "labels": ("user", "'user' is not a label with a value; write LABEL=VALUE, such as user=li"),
    "ledger": ("sqlite:///", "'sqlite:///' is not the URL of a ledger"),
    "ledgers": ("sqlite:///", "sqlite:///"),
    "limit": ("0", "0 is not in the range"),
    "mapping": ("nowhere", "nowhere"),
    "media": ("nowhere.json", "nowhere.json: cannot be read"),
    "memory_limit": ("lots", "500MB"),
    "month": ("2026-13", "2026-13"),
    "name": (
        "nobody",
        "the ledger's budgets are trailer|no budget nobody is in force|nobody is not a month",
    ),
    "offset": ("8", "must be an offset from UTC in hours and minutes"),
    "out": ("request.json/below", "request.json/below"),
    "new_provider": (
        "Acme Inc",
        "provider must be made of lower-case letters, digits, dots, underscores and hyphens",
    ),
    "orientation": ("north", "'north' is not one of"),
    "own": ("nowhere", "'nowhere' does not exist"),
    "pairs": ("x", "'x' is not a pair; write RESERVATION=TASK_ID"),
    "port": ("70000", "70000 is not in the range"),
    "receiver": ("nowhere", "do not name the receiver nowhere|a receiver must be env:NAME or file:PATH"),
    "record": ("nowhere/calls.har", "nowhere/calls.har: cannot be written"),
    "rows": ("0", "0 is not in the range"),
    "scenario": ("nowhere.yaml", "nowhere.yaml: cannot be read"),
    "seed": ("x", "'x' is not a valid integer"),
    "shell": ("csh", "'csh' is not one of"),
    "speed": ("-1", "-1 is not in the range"),
    "start": ("yesterday", "'yesterday' is not an ISO 8601 date or time"),
    "project": ("x" * 300, "project must be text of 1 to 200 printable characters|unknown project 'xxx"),
    "provider": (
        "nobody",
        "unknown provider 'nobody'; use one of: kling, octopusx, qingbo, qingbo-ai, tencent-vod, uniall",
    ),
    "ref": ("", "must be text of 1 to 200 printable characters"),
    "remove": ("trailer", "budget trailer is to be removed, but the new budgets contain it"),
    "reservation": ("", "must be text of 1 to 200 printable characters"),
    "since": ("yesterday", "'yesterday' is not an ISO 8601 date or time"),
    "spent": ("1e3", "'1e3' is not a plain decimal number"),
    "statements": ("nowhere.csv", "nowhere.csv: cannot be read"),
    "table_id": ("nowhere/2020", "unknown price table 'nowhere/2020'; use one of: "),
    "task_id": ("", "the task id must be text of 1 to 200 printable characters|must have at least 1 character"),
    "thousands": ("x", "'x' is not one of"),
    "time_format": ("%q", "must be iso, unix, ms, or a pattern"),
    "unit": ("us!", "must be a currency code of three capital letters"),
    "unit_column": ("nowhere", "column nowhere: does not have this column"),
    "timezone": ("Mars/Base", "Mars/Base"),
    "tolerance": ("1e3", "'1e3' is not a plain decimal number"),
    **dict.fromkeys(
        ("account_column", "tasks", "tier", "project_column"),
        ("nowhere", "column nowhere: does not have this column"),
    ),
    "day_zone": ("Mars/Base", "Mars/Base"),
    "totals": ("Total", "'Total' is not a mark; write COLUMN=TEXT"),
    "until": ("yesterday", "'yesterday' is not an ISO 8601 date or time"),
    "url": ("nowhere", "http or https URL|is not the URL of a ledger"),
    "video_length": ("soon", "'soon' is not a length in seconds; write a number such as 5.04"),
    "window": ("soon", "'soon'"),
    "wire_format": ("morse", "'morse' is not one of"),
}
"""Parameter -> a value that cannot be read, and what the message says of it."""

UNCHECKED = {
    *("allow_unknown", "as_json", "asks", "audio", "charged", "refused", "settle"),  # flags
    *("everything", "accept_loss", "yes", "allow_weaker", "as_yaml", "since_last", "watch"),  # flags
    *("remember", "dispute", "dry_run", "is_confirmed", "despite_gaps", "sums"),  # flags
    *("is_available", "is_markdown", "is_most", "is_shorter"),  # flags
    *("sheet", "match_by"),  # only shot lists have sheets and columns
    *("all_projects", "behind_proxy", "schema", "read_only", "demo", "no_open"),  # flags
    *("no_bom", "accounts_schema", "fx_schema"),  # flags
    "by_labels",  # a label that no job has is an error only if there are jobs
    *("model", "resolution", "action"),  # part of the request, which the API refuses
    *("images", "first_frame", "last_frame", "videos"),  # any text can be a URL
    *("reason", "billing_account", "invoice_id"),  # any text will do
    "budget",  # a name that no budget has lists nothing
    "grant",  # only the server knows its roles
    "tables",  # the doctor reports what is wrong with them
    *("request", "allowance"),  # an unknown id is refused by the ledger
}
FILTERS = {
    ("history", "project"),
    ("history", "key"),
    ("decide", "project"),
    ("decide", "key"),
    ("map", "name"),
    ("issue", "name"),
    ("revoke", "name"),
    ("reprice", "project"),
    ("doctor", "ledger"),
}
"""Parameters of which any name is good: an unknown one lists nothing, each request reports it, or it is new."""


NEEDED: dict[object, list[str]] = {
    ("resolve",): ["--charged"],
    ("ledger", "recover"): ["--accept-loss", "--reason", "a copy was restored"],
    ("key", "issue"): ["--project", "trailer"],
    ("reconcile",): ["--provider", "qingbo", "--month", "2026-11"],
    ("reprice",): ["--provider", "qingbo", "--month", "2026-11"],
    **{
        command: ["--provider", "qingbo"]
        for command in (
            *(("dispute", name) for name in ("list", "open", "resolve")),
            *(("month", name) for name in ("close", "list")),
            ("write-off",),
        )
    },
    ("statement", "map"): [*("--unit", "quota", "--time-format", "ms", "--offset", "+00:00", "--yes")],
    ("budget", "allow"): ["--amount", "1", "--currency", "USD", "--budget", "trailer"],
    **{name: ["--sums", "--timezone", "UTC"] for name in ("account_column", "tasks", "tier", "project_column")},
    "day_zone": ["--sums"],
    "batch_tolerance": ["--tolerance", "1"],
    "formats": ["--out", "reports"],
    "record": ["--port", "0"],
    "invoice_total": ["--invoice-currency", "USD"],
    "invoice_currency": ["--invoice-total", "1"],
    "tolerance": ["--batch-tolerance", "1"],
}
"""Command or parameter -> the options without which it is bad usage anyway."""


class Case(NamedTuple):
    """A command, and its parameter that gets a bad value."""

    path: tuple[str, ...]
    parameter: click.Parameter


CASES = [
    Case(path, parameter)
    for path, command in COMMANDS.items()
    for parameter in command.params
    if parameter.name not in UNCHECKED and (path[-1], parameter.name) not in FILTERS
]


def arguments(case: Case) -> list[str]:
    """Returns good values for everything but the parameter of the case."""
    bad, _ = BAD[case.parameter.name or ""]
    options, words = [*NEEDED.get(case.path, ()), *NEEDED.get(case.parameter.name, ())], []
    for parameter in COMMANDS[case.path].params:
        name = parameter.name or ""
        if isinstance(parameter, click.Argument):
            good = ARGUMENTS.get(f"{case.path[0]} {name}") or ARGUMENTS[name]
            if (case.parameter.name, name) != ("file", "ref"):  # a file has references of its own
                words.append(bad if parameter is case.parameter else good)
        elif parameter is case.parameter:
            options += [parameter.opts[0], bad]
        elif parameter.required:
            options += REQUIRED[name]
    return [*case.path, *options, "--", *words]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with one good file of each kind."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "request.json").write_text(REQUEST)
    (tmp_path / "budgets.yaml").write_text(BUDGETS)
    (tmp_path / "november.csv").write_text(STATEMENT)
    prices = tmp_path / "tables" / "prices" / "acme" / "2026-11-01.yaml"
    prices.parent.mkdir(parents=True)
    prices.write_text(PRICES)
    assert run("budget", "apply", "budgets.yaml", ledger="sqlite:///spend.db").returncode == 0
    return tmp_path


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{' '.join(case.path)} {case.parameter.name}")
def test_an_unreadable_value_exits_2_and_names_the_problem(case: Case) -> None:
    """A bad amount, name, date or file is bad input in every command, and the message is plain."""
    done = run(*arguments(case))
    text = " ".join(done.stderr.split())
    assert (done.returncode, done.stdout) == (UNREADABLE, "")
    assert any(problem in text for problem in BAD[case.parameter.name or ""][1].split("|")), text
    assert PYTHON.search(text) is None


def test_every_parameter_has_a_bad_value_or_takes_any() -> None:
    """A new option needs a line in one of the two lists, and no line stands for an option that is gone."""
    names = {parameter.name for command in COMMANDS.values() for parameter in command.params}
    assert names == {*BAD, *UNCHECKED}


REFUSALS: dict[str, list[str]] = {
    "quote": ["long.json"],
    "check": ["long.json"],
    "compare": ["long.json"],
    "compare-lists": ["long.json", "long.json"],
    "fit": ["long.json", "--money", "100"],
    "tables diff": ["qingbo/2026-04-29", "kling/2026-09-20"],
    "tables check": ["broken"],
    "budget check": ["broken.yaml"],
    "budget plan": ["other.yaml"],
    "budget apply": ["other.yaml"],
    "budget open": ["trailer", "--spent", "0.5"],
    "pre-submit": ["dear.json", "--project", "trailer"],
    "bind": ["nothing", "t-1"],
    "observe": ["nameless.json", "--provider", "qingbo"],
    "settle": ["nothing"],
    "release": ["nothing"],
    "resolve": ["nothing", "--charged"],
    "record": ["qingbo", "t-1", "0.7", "--project", "trailer"],
    "verify": [],
    "alerts test": ["env:KLING_PRICING_NOWHERE"],
    "decide": ["dear.json", "--project", "trailer"],
    "doctor": ["--tables", "broken"],
    "budget ask": ["long.json", *REQUIRED["project"], *REQUIRED["reason"]],
    "budget allow": [
        *("trailer", "--amount", "1", "--currency", "USD", "--budget", "trailer"),
        *("--until", "2020-01-01", *REQUIRED["reason"]),
    ],
    "budget decline": ["nothing", *REQUIRED["reason"]],
    "budget revoke": ["nothing", *REQUIRED["reason"]],
    "ledger init": ["sqlite:///spend.db", "--grant", "guard"],
    "dispute open": ["t-1", *REQUIRED["provider"], *REQUIRED["reason"]],
    "dispute resolve": ["1", *REQUIRED["provider"], *REQUIRED["reason"]],
    "key issue": ["--project", "trailer", "--name", "present"],
    "key revoke": ["nothing"],
    "write-off": ["t-1", *REQUIRED["provider"], *REQUIRED["reason"]],
    "month close": ["2199-11", *REQUIRED["provider"]],
    "statement check": ["broken.csv", *REQUIRED["provider"]],
    "statement map": ["broken.csv", "--yes", "--unit", "quota", *REQUIRED["provider"]],
    "reconcile": [*REQUIRED["provider"], *REQUIRED["since"], *REQUIRED["until"], "--statement", "strange.csv"],
}
"""Command -> arguments that can be read, and are refused or show a difference."""

REFUSE_NOTHING = {
    *(
        "tables list",
        "tables show",
        "tables schema",
        "tables new",
        "budget status",
        "budget schema",
        "history",
        "report",
        "sandbox",
        "demo",
        "dispute list",
        "month list",
        "budget log",
    ),
    *("alerts list", "alerts deliver", "alerts resume"),  # these budgets do not name any receivers
    *("budget set", "budget show", "budget log"),
    "in-doubt",  # it asks the provider, and lists
    *("ledger migrate", "ledger info"),  # refused on a server only
    *("budget freeze", "budget thaw"),  # an unknown budget is bad input
    "budget allowances",
    *("key list", "serve", "mcp", "reprice", "completion"),
    "ledger recover",  # it refuses a ledger that has lost entries, and this one has not
}


@pytest.fixture
def refusing(folder: Path) -> Path:
    """Files and a ledger that make every command refuse."""
    (folder / "long.json").write_text(json.dumps(video(duration=99)))
    (folder / "dear.json").write_text(json.dumps(video(duration=15, resolution="1080p", audio=True)))
    (folder / "nameless.json").write_text("{}")
    (folder / "other.yaml").write_text("budgets: [{name: other, cap: 1, currency: USD}]\n")
    (folder / "broken.yaml").write_text("budgets: [{name: a, cop: 1, currency: USD}]\n")
    (folder / "strange.csv").write_text(f"{STATEMENT}t-1,kling-v3,completed,1793880000000,357000\n")
    (folder / "broken.csv").write_text(f"{STATEMENT}t-1,kling-v3,completed,1793880000000,many\n")
    prices = folder / "broken" / "prices" / "acme" / "2026-11-01.yaml"
    prices.parent.mkdir(parents=True)
    prices.write_text(PRICES.replace("0.05", "-0.05"))
    ledger = "sqlite:///spend.db"
    assert run("budget", "open", "trailer", "--spent", "0.25", ledger=ledger).returncode == 0
    assert run("record", "qingbo", "t-1", "0.25", "--project", "trailer", ledger=ledger).returncode == 0
    assert run("key", "issue", "--project", "trailer", "--name", "present", ledger=ledger).returncode == 0
    with sqlite3.connect(folder / "spend.db") as db:
        db.execute("UPDATE bucket SET spent = spent + 1")
    db.close()
    return folder


@pytest.mark.parametrize("command", REFUSALS)
def test_a_refusal_exits_1_in_plain_words(refusing: Path, command: str) -> None:
    """The API, the guard or the ledger refuses, a file is invalid or something differs."""
    done = run(*command.split(), *REFUSALS[command], ledger="sqlite:///spend.db")
    assert done.returncode == REFUSED, done
    assert done.stdout + done.stderr != ""
    assert PYTHON.search(done.stdout + done.stderr) is None
    assert refusing.exists()


def test_every_command_refuses_something_or_nothing() -> None:
    """A new command needs a line in one of the two lists."""
    assert {" ".join(path) for path in COMMANDS} == {*REFUSALS, *REFUSE_NOTHING}


AS_JSON = [
    command
    for command in REFUSALS
    if any(parameter.name == "as_json" for parameter in COMMANDS[tuple(command.split())].params)
]


@pytest.mark.parametrize("command", AS_JSON)
def test_a_refusal_as_json_keeps_the_class_for_programs(refusing: Path, command: str) -> None:
    """`type` is a name for programs, and `message` is a sentence for people."""
    done = run(*command.split(), "--json", *REFUSALS[command], ledger="sqlite:///spend.db")
    assert done.returncode == REFUSED
    answer = json.loads(done.stdout.splitlines()[0])
    if "error" in answer:
        assert issubclass(getattr(errors, answer["error"]["type"]), KlingPricingError)
        assert PYTHON.search(answer["error"]["message"]) is None
    assert refusing.exists()


def test_every_error_has_an_exit_code() -> None:
    """A class without a code of its own has the code of its base."""
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, KlingPricingError)
    ]
    codes = {kind.__name__: exit_code(kind.__new__(kind)) for kind in kinds}
    assert {name for name, code in codes.items() if code == UNREADABLE} == {
        *("KlingPricingError", "TableError", "BudgetError", "LedgerUnavailableError", "StatementError"),
        *("ScenarioError", "SettingsError", "WebhookError", "AccessError"),
    }
    assert {*codes.values()} == {REFUSED, UNREADABLE}


@pytest.mark.parametrize(
    ("sentence", "shown"),
    [
        ("size not checked (unknown; pass it in `media`)", "size not checked (unknown; pass it in --media)"),
        ("choose whose prices apply with provider=...", "choose whose prices apply with --provider"),
        ("pass `allow_unknown=True` to ignore it", "pass --allow-unknown to ignore it"),
        ("say where its API is with base_url", "say where its API is with --base-url"),
        ("`task_id` is missing at the provider", "`task_id` is missing at the provider"),
    ],
)
def test_arguments_of_the_library_become_options(sentence: str, shown: str) -> None:
    """A sentence of the library names what can be typed; names that are not arguments stay."""
    assert with_options(sentence) == shown


def test_a_renamed_command_is_named() -> None:
    """`admit` is now `pre-submit`; a mistyped command gets the nearest one, and an unknown one gets all."""
    for words, remedy in (
        (["admit"], "No such command 'admit'; it is now 'pre-submit'"),
        (["quot"], "No such command 'quot'; did you mean 'quote'?"),
        (["budget", "staus"], "No such command 'staus'; did you mean 'status'?"),
        (["ledger", "delete"], "No such command 'delete'; use one of: info, init, migrate, recover"),
    ):
        done = run(*words)
        assert (done.returncode, done.stdout) == (UNREADABLE, "")
        assert done.stderr.splitlines()[-1] == f"Error: {remedy}"
