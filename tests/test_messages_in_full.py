"""Error messages in full, from the first word to the last, of verbs that other tests match in part."""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetGuard,
    KlingPricingError,
    LedgerUnavailableError,
    PriceBook,
    TableError,
    load_price_book,
    quote,
    reprice,
)
from kling_pricing.guard import allow, issue_key, revoke_key
from kling_pricing.ledger import connect
from kling_pricing.ledger.administration import info, prepare, recover
from kling_pricing.ledger.errors import books_changed, no_opening
from kling_pricing.ledger.postgres.url import read_url
from kling_pricing.ledger.sqlite.places import links_problem
from kling_pricing.quoting.composing import RequestDescription, quote_description
from kling_pricing.quoting.intake import Intake
from kling_pricing.tables.loading.stored_books import cache_folder, cache_problem
from tests.conftest import AT, PRICES, Clock, OpenGuard, video
from tests.guards import CLIP, answer, bound


def refusal(call: Callable[[], Any]) -> str:
    """Returns the message of the error that a call raises."""
    with pytest.raises(KlingPricingError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize(
    ("model", "parts", "options", "message"),
    [
        (
            "kling-image-v3",
            {"settings": {"duration_s": 5}},
            {"provider": "kling"},
            (
                "requests for kling-image-v3 are in wire format kling_images, which does not accept a "
                "duration; "
                "leave out `duration`"
            ),
        ),
        (
            "kling-v2-6",
            {"action": "motion_control", "files": {"videos": ["https://e.com/v.mp4"]}},
            {"provider": "kling"},
            (
                "in wire format kling, motion control needs the orientation of the character; set "
                "`orientation` to "
                "image or video"
            ),
        ),
        (
            "kling-v9",
            {},
            {"url": "https://api-singapore.klingai.com/omni-video/kling-o1"},
            (
                "the path of the URL names kling-o1, not kling-v9; correct the URL or the model, or leave the "
                "URL "
                "out"
            ),
        ),
    ],
)
def test_a_description_that_is_not_possible_names_the_argument(
    model: str, parts: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    """The library names the arguments of Python, in place of the command's options."""
    described: dict[str, Any] = {"settings": {}, "action": None, "orientation": None, "files": {}} | parts
    assert message == refusal(
        lambda: quote_description(RequestDescription(model=model, **described), Intake(at=AT, **options))
    )


def test_a_reading_without_a_price_may_change_the_price(folder: Callable[..., Path]) -> None:
    """The note gives no amount if the table has no price for the request in the other wire format."""
    both = PRICES.replace("wire_formats: [tasks]", "wire_formats: [tasks, tasks_extra]").replace(
        "tiers:\n", "tiers:\n  - {tier: audio, when: {audio: true}}\n"
    )
    silent = "unpriced_rest: acme has not given us this price\n"
    book = load_price_book(folder({"prices/acme/2026-11-01.yaml": both + silent}))
    notes = quote(video(duration=5), book=book, provider="acme", at=AT).notes
    assert [note.message for note in notes if note.code == "other_reading"] == [
        (
            "the request was read as wire format tasks, but in tasks_extra, extra.enable_audio defaults to "
            "true, "
            "which may change the price; specify the wire format, or set audio"
        )
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "billing: {failed_tasks: refunded}",
            (
                "billing: {failed_tasks: refunded, "
                "statement_unit: {name: quota, per_currency_unit: 3, rounding: up}}"
            ),
            (
                "one unit must be a whole number of billionths of the currency; give a number that divides "
                "1000000000 evenly"
            ),
        ),
        (
            "720p: {silent: 0.05}",
            "720p: {silent: null}",
            (
                "1 value is not filled in yet (rates.kling-v2-6.720p.silent); enter each value, move "
                "combinations "
                "without a price to `unpriced`, or give one reason for all null rates in `unpriced_rest`"
            ),
        ),
    ],
)
def test_a_refused_price_file_says_what_to_give(
    folder: Callable[..., Path], old: str, new: str, message: str
) -> None:
    """The problem of the error is the whole sentence."""
    with pytest.raises(TableError) as caught:
        load_price_book(folder({"prices/acme/2026-11-01.yaml": PRICES.replace(old, new)}))
    assert [problem.problem for problem in caught.value.problems] == [message]


def test_the_folder_of_the_cache_follows_the_users_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable of our own comes first, then that of the desktop, then the home folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KLING_PRICING_CACHE", str(tmp_path / "own"))
    folders = [cache_folder()]
    monkeypatch.setenv("KLING_PRICING_CACHE", "OFF")
    folders.append(cache_folder())
    monkeypatch.delenv("KLING_PRICING_CACHE")
    folders.append(cache_folder())
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    folders.append(cache_folder())
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    folders.append(cache_folder())
    assert folders == [
        tmp_path / "own",
        None,
        tmp_path / "xdg" / "kling-pricing",
        None,
        tmp_path / "home" / ".cache" / "kling-pricing",
    ]


def test_a_cache_that_others_can_write_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is in words; a cache that is turned off has no problem."""
    shared = tmp_path / "shared"
    shared.mkdir()
    problems = []
    for mode, chosen in ((0o700, shared), (0o777, shared), (0o720, shared), (0o700, "off")):
        shared.chmod(mode)
        monkeypatch.setenv("KLING_PRICING_CACHE", str(chosen))
        problems.append(cache_problem())
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("KLING_PRICING_CACHE", str(file))
    problems.append(cache_problem())
    writable = "another user owns it or can write it"
    assert problems == [None, writable, writable, None, "not a directory"]


@pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
def test_verbs_of_the_guard_say_what_to_give(open_guard: OpenGuard) -> None:
    """Requests over a maximum, jobs from another account, and answers without a task."""
    free = Budget(name="free", match={"project": "free"}, cap=9, currency="USD")
    strict = {"match": {"project": "trailer"}, "cap": 9, "currency": "USD", "max_request": "0.3"}
    guard = open_guard(Budget(name="trailer", **strict), free)
    job = guard.admit(CLIP, project="free", key="k", account="first")
    assert [
        refusal(lambda: guard.ask(CLIP, project="trailer", reason="a retake")),
        refusal(lambda: guard.admit(CLIP, project="free", key="k", account="second")),
        refusal(lambda: guard.observe({"status": "running"}, provider="qingbo", wire_format="tasks")),
        refusal(lambda: guard.apply([free], remove=["trialer"])),
    ] == [
        (
            "the request costs more than budget trailer allows per request; only an allowance for one key "
            "lifts "
            "that limit, so give the key of the job"
        ),
        (
            f"key 'k' of project free has the unsent reservation {job.reservation_id} for account first; send "
            "it "
            "from that account, or release the reservation first"
        ),
        (
            "the response does not name a task; release the reservation as refused if the provider definitely "
            "refused the request; otherwise, leave the reservation in doubt"
        ),
        "unknown budget trialer in `remove`; did you mean 'trailer'?",
    ]
    guard.dispatch(job)
    assert guard.release_refused(job.reservation_id).reason == "refused by the provider"


def test_a_ledger_without_budgets_says_how_to_install_some(ledger: str) -> None:
    """An allowance needs budgets; the error names the command, in both stores."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    given: dict[str, Any] = {"amount": 1, "currency": "USD", "budgets": ["trailer"], "reason": "a retake"}
    assert refusal(lambda: allow(ledger, "trailer", until=soon, **given)) == (
        "the ledger has no budgets yet; install some with `kling-pricing budget apply FILE`"
    )


def test_repricing_says_which_arguments_it_needs(tmp_path: Path) -> None:
    """Exactly one of table and provider, and both ends of a period or neither."""
    url = f"sqlite:///{tmp_path}/spend.db"
    assert [
        refusal(lambda: reprice(url)),
        refusal(lambda: reprice(url, "qingbo/2026-04-29", provider="qingbo")),
        refusal(lambda: reprice(url, provider="qingbo", since=AT)),
        refusal(lambda: reprice(url, provider="qingbo", until=AT)),
    ] == [
        *["give either `table` or `provider`: the prices under which jobs are priced again"] * 2,
        *["give both `since` and `until`, or neither for last month"] * 2,
    ]


def test_an_alert_that_cannot_be_delivered_is_logged(
    ledger: str, book: PriceBook, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the budget; the verb that caused the alert returns as usual."""

    def on_alert(alert: Any) -> None:
        raise RuntimeError(alert.kind)

    budget = Budget(name="trailer", match={"project": "trailer"}, cap=1, currency="USD", alerts=["0.5"])
    with BudgetGuard(ledger, [budget], book=book, clock=clock, on_alert=on_alert) as guard:
        admission = guard.admit(CLIP, project="trailer")
        assert guard.reservation(admission).state == "reserved"
    logged = [
        (record.levelname, record.getMessage(), str(record.exc_info[1]))
        for record in caplog.records
        if record.exc_info and "on_alert" in record.getMessage()
    ]
    assert logged == [("ERROR", "on_alert failed for budget trailer", "threshold")]


@pytest.mark.parametrize("ledger", ["sqlite"], indirect=True)
def test_a_charge_without_a_value_is_logged(open_guard: OpenGuard, caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the task, the provider and the reservation, and what becomes of the money."""
    guard = open_guard()
    job = bound(guard)
    guard.observe(answer("completed", cost="0.2"), provider="qingbo")
    assert [text for text in caplog.messages if text.startswith("task ")] == [
        (
            f"task task-1 of qingbo (reservation {job.id}): cost is 0.2, which is not a whole number of units "
            "and may "
            "be an amount of money; the reservation stays in doubt until it is settled with an amount"
        )
    ]


def test_a_file_says_which_tasks_are_not_for_it(tmp_path: Path, postgres_url: str) -> None:
    """Roles are for servers, and recovery is for files."""
    url = f"sqlite:///{tmp_path}/spend.db"
    assert [
        refusal(lambda: prepare(url, create=True, grant="li")),
        refusal(lambda: recover(postgres_url)),
        prepare(url, create=True),
    ] == [
        "a ledger in a file has no roles; to grant access, let the user write to the file and its folder",
        (
            "only a ledger in a file can be recovered with this command; after a failover that lost data, see "
            "`Failures and data loss` in docs/guarding.md"
        ),
        f"ledger {tmp_path}/spend.db: ready; the first use creates the file",
    ]
    BudgetGuard(url, [Budget(name="all", cap=9, currency="USD")]).close()
    assert info(url).facts["server"] == "none (a SQLite file, for processes on one machine)"


def test_an_unknown_access_key_says_how_to_find_it(tmp_path: Path) -> None:
    """Without keys there is nothing to suggest; with keys, the nearest is named."""
    url = f"sqlite:///{tmp_path}/spend.db"
    BudgetGuard(url, [Budget(name="all", cap=9, currency="USD")]).close()
    lists = "`kling-pricing key list` lists the keys"
    assert refusal(lambda: revoke_key(url, "ci")) == (
        f"unknown access key ci; the ledger has no access keys; {lists}"
    )
    issue_key(url, project="trailer", name="ci-1")
    assert [
        refusal(lambda: revoke_key(url, "ci-2")),
        refusal(lambda: issue_key(url, project="trailer", name="ci-1")),
        refusal(lambda: issue_key(url, project="trailer", name="-ci")),
        refusal(lambda: issue_key(url, project="trailer", name="ci-2", role="all")),  # type: ignore[arg-type]
        refusal(lambda: issue_key(url, project="trailer", name="ci-2", labels={"project": "a"})),
        refusal(lambda: issue_key(url, project="trailer", name="ci-2", expires_at=AT - timedelta(days=900))),
        refusal(lambda: issue_key(url, project="", name="ci-2")),
    ] == [
        f"unknown access key ci-2; did you mean 'ci-1'?; {lists}",
        "an access key with the name ci-1 exists or existed in this ledger; choose another name",
        (
            "the name of an access key must be 1 to 64 letters, digits, dots, hyphens, underscores or @, and "
            "begin "
            "with a letter or a digit, got -ci"
        ),
        "role must be one of view, submit, manage, got all",
        "an access key cannot fix the label project; leave it out",
        (
            "the access key would expire at 2024-06-04T00:00:00+00:00, which is not in the future; give a "
            "later "
            "instant"
        ),
        "project must be text of 1 to 200 printable characters, got ''",
    ]


def test_the_name_of_an_unnamed_key_begins_with_its_project(tmp_path: Path) -> None:
    """Characters that a name cannot have are replaced, and none of them begins or ends the first part."""
    url = f"sqlite:///{tmp_path}/spend.db"
    BudgetGuard(url, [Budget(name="all", cap=9, currency="USD")]).close()
    projects = ("trailer", "._-@a b.c_d-e@f@-_.", "!!", None)
    names = [issue_key(url, project=project).key.name.rpartition("-") for project in projects]
    assert [(begin, len(digits)) for begin, _, digits in names] == [
        ("trailer", len(names[0][2])),
        ("a-b.c_d-e@f", len(names[0][2])),
        ("project", len(names[0][2])),
        ("all", len(names[0][2])),
    ]


def test_what_two_administrators_change_at_once_is_refused(open_guard: OpenGuard) -> None:
    """A plan is applied only to the budgets for which it was made."""
    guard = open_guard()
    plan = guard.plan([Budget(name="trailer", match={"project": "trailer"}, cap=5, currency="USD")])
    guard.set_cap("trailer", 6, reason="sooner")
    assert refusal(lambda: guard.apply(plan)) == (
        "nothing was changed: the current budgets have changed since the plan was made; make the plan again"
    )


def test_an_opening_balance_that_is_not_possible_says_what_to_do(open_guard: OpenGuard) -> None:
    """Rolling windows have none, and windows with one cannot be carried over."""
    month = {"match": {"project": "trailer"}, "cap": 10, "currency": "USD"}
    rolling = Budget(name="rolling", window={"rolling": "24h"}, **month)
    guard = open_guard(Budget(name="trailer", **month), rolling)
    guard.open_budget("trailer", 1)
    wider = Budget(name="trailer", carry_over=True, window="year", **month)
    assert [
        refusal(lambda: guard.open_budget("rolling", 1)),
        refusal(lambda: guard.open_budget("trailer", 1, labels={"user": "li"})),
        refusal(lambda: guard.apply([wider, rolling], allow_weaker=True)),
    ] == [
        (
            "budget rolling has a rolling window, which counts each amount from the time at which it was "
            "spent, so "
            "it has no opening balance; record each job with `kling-pricing record --at TIME`"
        ),
        "budget trailer has a single bucket; omit the labels",
        (
            "budget trailer began its window with an opening balance, which cannot be carried over; give the "
            "new "
            "budget another name, and record everything spent so far in its window with `kling-pricing budget "
            "open`"
        ),
    ]


def test_a_budget_in_observe_mode_records_what_it_waived(open_guard: OpenGuard) -> None:
    """The entry has what was left of the cap, or that the request was over the maximum per request."""
    observing = {"match": {"project": "trailer"}, "currency": "USD", "enforce": "observe"}
    guard = open_guard(
        Budget(name="small", cap="0.5", **observing),
        Budget(name="strict", cap=9, max_request="0.3", **observing),
        Budget(name="trailer", match={"project": "trailer"}, cap=9, currency="USD"),
    )
    guard.admit(CLIP, project="trailer")
    assert sorted((entry.budget, entry.detail) for entry in guard.journal() if entry.kind == "waive") == [
        ("small", "0.5 USD left"),
        ("strict", "maximum per request"),
    ]


def test_a_calendar_warns_from_90_days_before_its_end(
    tmp_path: Path, book: PriceBook, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names the ledger, the schedule, the end of the calendar and the command."""
    url = f"sqlite:///{tmp_path}/spend.db"
    monthly = Budget(name="all", cap=5, currency="USD", window="month")
    BudgetGuard(url, [monthly], book=book, clock=Clock()).close()
    with closing(connect(url, clock=Clock())) as store:
        (last,) = store.calendar_ends()
    for early in (timedelta(microseconds=1), timedelta(0)):
        BudgetGuard(url, book=book, clock=Clock(last.period.end - timedelta(days=90) - early)).close()
    assert [text for text in caplog.messages if "calendar" in text] == [
        (
            f"ledger {tmp_path}/spend.db: the calendar for month in UTC ends at {last.period.end.isoformat()}, "
            "and "
            "nothing is admitted after that; to extend the calendar, run `kling-pricing budget apply FILE` "
            "with the "
            "current budgets"
        )
    ]


def test_a_file_with_other_names_says_why_it_is_refused() -> None:
    """The error says how to find the names, and how to make backups."""
    assert links_problem(3) == (
        "its file has 3 names (hard links), and a ledger counts separately under each name; find the names "
        "with "
        "`find -samefile`, and remove all but one. `cp -l` and some backup programs create hard links; back up "
        'a ledger with `sqlite3 spend.db ".backup copy.db"` instead'
    )


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        (
            "spend.db",
            (
                "the ledger's file was moved, removed or replaced while in use; stop every program that uses "
                "the "
                "ledger, put the right file back, and start the programs again"
            ),
        ),
        (
            "spend.db-wal",
            (
                "spend.db-wal was removed or replaced while in use, so other programs may not see the changes "
                "that "
                "this program made; stop every program that uses the ledger, and start the programs again. "
                "Never "
                "delete this file, and open the ledger's file only with SQLite"
            ),
        ),
    ],
)
def test_a_file_that_is_removed_in_use_says_what_to_do(
    tmp_path: Path, book: PriceBook, clock: Clock, removed: str, message: str
) -> None:
    """The ledger's own file and the files beside it have different remedies."""
    with BudgetGuard(
        f"sqlite:///{tmp_path}/spend.db", [Budget(name="all", cap=9, currency="USD")], book=book, clock=clock
    ) as guard:
        guard.admit(CLIP, project="trailer")
        (tmp_path / removed).unlink()
        assert refusal(lambda: guard.admit(CLIP, project="trailer")) == (
            f"ledger {tmp_path}/spend.db: {message}; nothing was changed"
        )


def test_an_emptied_file_is_not_a_new_ledger(tmp_path: Path, book: PriceBook, clock: Clock) -> None:
    """The error names the file to remove if a new ledger is wanted."""
    opened = partial(
        BudgetGuard,
        f"sqlite:///{tmp_path}/spend.db",
        [Budget(name="all", cap=9, currency="USD")],
        book=book,
        clock=clock,
    )
    opened().close()
    (tmp_path / "spend.db").unlink()
    assert refusal(opened) == (
        f"ledger {tmp_path}/spend.db: there was a ledger here, but its file is empty or gone; put the file "
        "back, or remove spend.db.lock in the same folder to begin a new ledger; nothing was changed"
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "ssl_mode=disable",
            "the ledger's URL has an unknown option after the question mark; did you mean sslmode?",
        ),
        (
            "zzz=1",
            (
                "the ledger's URL has an unknown option after the question mark; use only options of libpq, "
                "such "
                "as sslmode"
            ),
        ),
    ],
)
def test_an_unknown_option_of_a_server_is_named(query: str, message: str) -> None:
    """The remedy is the nearest option, or where options come from."""
    assert refusal(lambda: read_url(f"postgresql://db/spend?{query}", {})) == message


def test_changed_books_and_rolling_windows_say_what_to_run() -> None:
    """Errors that only a race brings about are whole sentences, too."""
    assert [str(books_changed("qingbo")), str(no_opening("trailer"))] == [
        (
            "another command changed the books of qingbo in the meantime, and nothing was added; run the "
            "command "
            "again"
        ),
        (
            "budget trailer has a rolling window, which counts each amount from the time at which it was "
            "spent, so "
            "it has no opening balance; record each job with `kling-pricing record --at TIME`"
        ),
    ]


def test_a_guard_called_by_its_own_clock_refuses(tmp_path: Path, book: PriceBook) -> None:
    """The inner call is refused as soon as the outer verb has begun a transaction; the outer verb goes on."""
    refused: list[str] = []
    guards: list[BudgetGuard] = []

    def clock() -> datetime:
        if guards:
            (guard,) = guards
            guards.clear()
            try:
                guard.status()
            except LedgerUnavailableError as error:
                refused.append(str(error))
            else:
                guards.append(guard)
        return AT

    url = f"sqlite:///{tmp_path}/spend.db"
    with BudgetGuard(url, [Budget(name="all", cap=9, currency="USD")], book=book, clock=clock) as guard:
        guards.append(guard)
        assert guard.reservation(guard.admit(CLIP, project="trailer")).state == "reserved"
    assert refused == [
        (
            f"ledger {tmp_path}/spend.db: reentrant call during a transaction; do not call the guard from a "
            "signal "
            "handler, a finaliser or the guard's own `clock` function; nothing was changed"
        )
    ]
