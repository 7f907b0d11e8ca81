"""Statements that are uploaded to the server: reconciled in the background, within bounds, and acted on."""

from __future__ import annotations

import csv
import io
import os
import signal
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import xlsxwriter

from kling_pricing import PriceBook
from kling_pricing.guard import issue_key
from kling_pricing.reconcile import close_month, reconcile
from kling_pricing.server.reconciliations.run_queue import RunQueue
from kling_pricing.server.reconciliations.run_requests import RunRequest
from tests.api_servers import client, eventually
from tests.page_scenes import OWN, PageScene, page_scene
from tests.server_runs import command_running
from tests.studio import SINCE, UNTIL, month

MIB = 2**20
FORM = {"provider": "qingbo", "month": "2026-11"}
UPSTREAM = {"qingbo": {"url": "http://127.0.0.1:9"}}
HEADER = b"task_id,model,status,created_at,cost\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the scene, which has the statement and the ledger."""
    return tmp_path_factory.mktemp("reconciliations")


@pytest.fixture(scope="module")
def scene(folder: Path, book: PriceBook) -> Iterator[PageScene]:
    """Yields a server with a filled ledger."""
    with page_scene(folder, book) as found:
        yield found


@pytest.fixture(scope="module")
def api(scene: PageScene) -> Iterator[httpx.Client]:
    """Yields a client of the API that may do everything."""
    with client(scene.server.url, scene.key(name="finance")) as opened:
        yield opened


def statement_of(folder: Path) -> bytes:
    """Returns the statement of the month without the row that cannot be read."""
    lines = (folder / "qingbo-2026-11.csv").read_bytes().splitlines(keepends=True)
    return b"".join(line for line in lines if not line.startswith(b"task_bad"))


def upload(api: httpx.Client, content: bytes, name: str = "november.csv", **fields: str) -> httpx.Response:
    """Uploads one statement."""
    return api.post("/statements", data=FORM | fields, files={"statements": (name, content)})


def ended(api: httpx.Client, run_id: str) -> dict[str, Any]:
    """Waits until a reconciliation is not working any more, and returns it."""

    def finished() -> dict[str, Any] | None:
        found: dict[str, Any] = api.get(f"/reconciliations/{run_id}").json()
        return None if found["state"] == "working" else found

    until = time.monotonic() + 60  # workers start slowly on a busy machine
    while (found := finished()) is None:
        assert time.monotonic() < until, "it did not end in time"
        time.sleep(0.05)
    return found


def act(api: httpx.Client, run: dict[str, Any], action: str) -> dict[str, Any]:
    """Takes an action, and returns the reconciliation after it."""
    body = {"plan": run["result"]["plan"], "reason": f"{action} in a test"}
    answer = api.post(f"/reconciliations/{run['id']}/{action}", json=body)
    assert answer.status_code == 202, answer.text
    return ended(api, run["id"])


def test_the_result_is_that_of_the_library(
    scene: PageScene, api: httpx.Client, folder: Path, book: PriceBook
) -> None:
    """The API has the amounts of `reconcile`, the reports are complete, and the ledger is as it was."""
    entries = len(scene.guard.journal())
    answer = upload(api, statement_of(folder), invoice_total="50", invoice_currency="USD", invoice_id="R-1")
    assert (answer.status_code, answer.json()["state"]) == (202, "working")
    run = ended(api, answer.json()["id"])
    assert [step["text"] for step in run["steps"]] == ["The statement is reconciled. Nothing was changed."]
    path = folder / "november.csv"
    path.write_bytes(statement_of(folder))
    with reconcile(
        scene.server.ledger, path, provider="qingbo", since=SINCE, until=UNTIL, book=book
    ) as expected:
        (total,), result = expected.totals("all"), run["result"]
        (shown,) = result["totals"]
        assert [shown["expected"], shown["billed"]] == [f"{total.expected:f}", f"{total.billed:f}"]
        assert result["exceptions"] == expected.exceptions == len(result["lines"])
        assert [each["pay"] for each in result["payable"]] == [f"{each.pay:f}" for each in expected.payable()]
    assert result["gaps"] != []
    assert "invoice" in result["gaps"][0]
    assert {"report.html", "report.xlsx", "focus.csv", "lines.parquet", "manifest.json"} <= {*result["reports"]}
    reports = f"/reconciliations/{run['id']}/reports"
    listed = api.get(f"{reports}/manifest.json").json()["files"]
    (digest,) = [each["sha256"] for each in listed if each["name"] == "lines.csv"]
    assert sha256(api.get(f"{reports}/lines.csv").content).hexdigest() == digest
    for name in ("request.json", "..%2frequest.json", "%2e%2e%2frequest.json", "none"):
        assert api.get(f"{reports}/{name}").status_code == 404
    assert len(scene.guard.journal()) == entries
    assert api.get("/statements/qingbo").json()["statements"] == []


def test_a_statement_is_remembered_settled_and_its_month_closed(tmp_path: Path, book: PriceBook) -> None:
    """Each action needs the newest plan, keeps who and why, and shows the state after it."""
    with page_scene(tmp_path, book) as scene:
        scene.clock.pass_by(days=2)
        october = SINCE - timedelta(days=7)
        scene.guard.record("qingbo", "earlier", Decimal("0.714"), labels={"project": OWN}, at=october)
        with client(scene.server.url, scene.key(name="finance")) as api:
            run = ended(api, upload(api, statement_of(tmp_path)).json()["id"])
            assert (run["result"]["gaps"], run["result"]["is_over"]) == ([], True)
            before = run
            closed = act(api, run, "close")
            assert closed["state"] == "failed"
            assert "add the statement to the books first" in closed["steps"][-1]["text"]
            run = act(api, run, "settle")
            assert run["steps"][-1]["text"].startswith(f"Settled {before['result']['to_settle']}, ")
            assert run["result"]["to_settle"] == 0
            stale = api.post(
                f"/reconciliations/{run['id']}/settle",
                json={"plan": before["result"]["plan"], "reason": "twice"},
            )
            assert stale.status_code == 409
            (kept,) = api.get("/statements/qingbo").json()["statements"]
            assert (kept["name"], kept["actor"]) == ("november.csv", "finance")
            assert kept["reason"] == "settle in a test"
            job = next(job for job in scene.guard.history() if job.basis == "statement")
            assert job.state == "settled"
            refused = act(api, run, "close")
            assert refused["state"] == "failed"
            assert "have amounts in 2026-10, and this month is still open" in refused["steps"][-1]["text"]
            close_month(scene.server.ledger, "2026-10", provider="qingbo", clock=scene.clock)
            run = act(api, run, "close")
            assert run["steps"][-1]["text"] == "The books of qingbo are closed up to and including 2026-11."
            (_, month_closed) = api.get("/statements/qingbo").json()["closed"]
            assert (month_closed["month"], month_closed["actor"]) == ("2026-11", "finance")
            scene.guard.verify()


def test_a_plan_of_another_ledger_changes_nothing(scene: PageScene, api: httpx.Client, folder: Path) -> None:
    """If the ledger has changed since the plan, the action fails and changes nothing."""
    run = ended(api, upload(api, statement_of(folder)).json()["id"])
    lost = next(job for job in scene.guard.history() if job.in_doubt and job.project == OWN)
    scene.guard.resolve(lost.id, "not_charged", reason="seen in the console")
    run = act(api, run, "remember")
    assert run["state"] == "failed"
    assert "have changed since the plan, so nothing was changed" in run["steps"][-1]["text"]
    assert api.get("/statements/qingbo").json()["statements"] == []


def zip_bomb() -> bytes:
    """Returns a small workbook that unpacks to 200 MiB."""
    plain = io.BytesIO()
    with xlsxwriter.Workbook(plain) as book:
        book.add_worksheet().write_row(0, 0, ["task_id", "cost"])
    bomb = io.BytesIO()
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.namelist():
            if entry.startswith("xl/worksheets/"):
                with target.open(entry, "w", force_zip64=True) as sheet:
                    for _ in range(200):
                        sheet.write(b" " * MIB)
            else:
                target.writestr(entry, source.read(entry))
    return bomb.getvalue()


def test_odd_statements_are_refused_by_name(api: httpx.Client, folder: Path) -> None:
    """An empty file, a zip bomb, another encoding, another provider and a mapping's path end with a reason."""
    chinese = "任务,费用\nt-1,1\n".encode("gb18030")
    cases: dict[str, tuple[str, bytes, dict[str, str]]] = {
        "empty": ("empty.csv", b"", {}),
        "bomb": ("bomb.xlsx", zip_bomb(), {}),
        "encoding": ("chinese.csv", chinese, {}),
        "provider": ("other.csv", statement_of(folder), {"provider": "kling", "mapping": "qingbo-tasks"}),
        "path": ("path.csv", HEADER, {"mapping": "/etc/passwd"}),
        "codec": ("codec.csv", HEADER, {"encoding": "klingon"}),
        "account": ("account.csv", HEADER, {"account": "nobody"}),
    }
    begun = {}
    for case, (name, content, fields) in cases.items():
        answer = upload(api, content, name, **fields)
        assert answer.status_code == 202, answer.text
        begun[case] = answer.json()["id"]
    texts = {case: ended(api, run_id) for case, run_id in begun.items()}
    shown = {case: (run["state"], run["steps"][-1]["text"]) for case, run in texts.items()}
    for case in ("empty", "bomb", "encoding", "path", "codec", "account"):
        assert shown[case][0] == "failed", shown
    for case in ("empty", "bomb", "encoding"):
        assert shown[case][1].startswith(cases[case][0]), shown
    assert "no bundled mapping has this name" in shown["path"][1]
    assert "klingon" in shown["codec"][1]
    assert "nobody" in shown["account"][1]
    assert str(folder) not in str(shown)
    assert shown["provider"][0] == "done"
    result = texts["provider"]["result"]
    assert result["totals"][0]["expected"] == "0"
    assert {each["name"] for each in result["categories"]} == {"Unreadable row"}
    assert result["gaps"][0] == "nothing was compared, because no row of the period can be read"
    assert result["exceptions"] == len(result["lines"]) == result["totals"][0]["lines"]


def test_an_upload_that_cannot_be_used_begins_nothing(api: httpx.Client, folder: Path) -> None:
    """A wrong field, file or form is refused at once with a problem, and leaves no file behind."""
    count = len(api.get("/reconciliations").json()["items"])
    one = {"statements": ("a.csv", HEADER)}
    refused: list[tuple[int, str, dict[str, str], Any]] = [
        (422, "nobody", {"provider": "nobody"}, one),
        (400, "month", {"month": "2026-13"}, one),
        (400, "month", {"month": "../../x"}, one),
        (400, "invoice", {"invoice_total": "5"}, one),
        (400, "invoice_total", {"invoice_total": "5e999999", "invoice_currency": "USD"}, one),
        (400, "colour", {"colour": "blue"}, one),
        (400, "at least one file", {}, {"mapping_file": ("m.yaml", b"x: 1")}),
        (400, "a file must be in one of the fields", {}, {"files": ("a.csv", HEADER)}),
        (400, "a dot", {}, {"statements": (".hidden", HEADER)}),
        (400, "printable", {}, {"statements": ("x" * 201, HEADER)}),
        (400, "two files", {}, [("statements", ("a.csv", HEADER)), ("statements", ("b/a.csv", HEADER))]),
        (400, "too many files", {}, [("statements", (f"{n}.csv", HEADER)) for n in range(21)]),
        (400, "leave one", {"mapping": "qingbo-tasks"}, {**one, "mapping_file": ("m.yaml", b"x: 1")}),
        (400, "too long", {"account": "x" * 5000}, one),
    ]
    for status, word, fields, files in refused:
        answer = api.post("/statements", data=FORM | fields, files=files)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert word in answer.json()["detail"], answer.text
    cut_off = api.post(
        "/statements", content=b"--x\r\n", headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert cut_off.status_code == 400
    for content_type in ("text/csv", "multipart/form-data", "application/json"):
        answer = api.post("/statements", content=b"{}", headers={"content-type": content_type})
        assert answer.status_code == 400, answer.text
    assert len(api.get("/reconciliations").json()["items"]) == count
    work = folder / "spend.db-work"
    assert [path.name for path in work.iterdir() if path.name.startswith(".incoming")] == []
    assert work.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("project", "role"), [(OWN, "manage"), (None, "submit"), (None, "view")])
def test_rights_over_the_api(scene: PageScene, project: str | None, role: Any) -> None:
    """A key of one project reaches nothing; without the role `manage`, a key uploads and changes nothing."""
    with client(scene.server.url, scene.key(project, role)) as other:
        run_id = "0" * 32
        answers = [
            other.get("/reconciliations"),
            other.get(f"/reconciliations/{run_id}"),
            other.get(f"/reconciliations/{run_id}/reports/report.html"),
            other.post("/statements", content=b""),
            other.post(f"/reconciliations/{run_id}/settle", json={"plan": "x", "reason": "y"}),
        ]
    expected = [403] * 5 if project else [200, 404, 404, 400, 403]
    assert [answer.status_code for answer in answers] == expected


def resident_mib() -> int:
    """Returns the memory of this process, which has the server in a thread."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // MIB


def multipart(size_mib: int) -> Iterator[bytes]:
    """Yields an upload with a file of zeros, in parts."""
    for name, text in FORM.items():
        yield f'--x\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode()
    yield b'--x\r\ncontent-disposition: form-data; name="statements"; filename="large.csv"\r\n\r\n'
    for _ in range(size_mib):
        yield bytes(MIB)
    yield b"\r\n--x--\r\n"


def test_200_mb_pass_in_parts_or_are_refused(tmp_path: Path, book: PriceBook) -> None:
    """A large upload takes no memory of the server; above the limit it is refused, and leaves nothing."""
    headers = {"content-type": "multipart/form-data; boundary=x"}
    limits = {"statement_mb": 201}
    with page_scene(tmp_path, book, limits=limits) as scene, client(scene.server.url, scene.key()) as api:
        before = resident_mib()
        answer = api.post("/statements", content=multipart(200), headers=headers)
        assert answer.status_code == 202
        assert resident_mib() - before < 50
        run = ended(api, answer.json()["id"])
        assert (run["state"], run["steps"][-1]["text"][:9]) == ("failed", "large.csv")
        with suppress(httpx.WriteError):  # the server may close the connection before the body is sent
            assert api.post("/statements", content=multipart(250), headers=headers).status_code == 413
        stated = {**headers, "content-length": str(250 * MIB)}
        with suppress(httpx.WriteError):
            assert api.post("/statements", content=multipart(250), headers=stated).status_code == 413
        assert len(api.get("/reconciliations").json()["items"]) == 1
        assert eventually(lambda: not [*(tmp_path / "spend.db-work").glob(".incoming-*")])


def test_time_and_age_end_a_reconciliation(tmp_path: Path, book: PriceBook) -> None:
    """A reconciliation that takes too long is ended and says so; after its time, its files are removed."""
    settings = {"reconcile_timeout_s": 1, "work_kept_s": 3600}
    with page_scene(tmp_path, book, **settings) as scene, client(scene.server.url, scene.key()) as api:
        rows = b"".join(b"t-%d,kling-v3,completed,1794000000,357000\n" % number for number in range(300_000))
        run = ended(api, upload(api, HEADER + rows).json()["id"])
        assert (run["state"], run["result"]) == ("failed", None)
        assert run["steps"][-1]["text"].startswith("it took longer than 1 s, so it was ended")
        home = tmp_path / "spend.db-work" / run["id"]
        assert [path.name for path in home.glob("kling-pricing-workspace-*")] == []
        assert scene.server.served is not None
        scene.server.served.state.runs.sweep()
        assert home.is_dir()
        scene.clock.pass_by(hours=2)
        scene.server.served.state.runs.sweep()
        assert not home.exists()
        assert api.get(f"/reconciliations/{run['id']}").status_code == 404


def is_alive(pid: int) -> bool:
    """Returns whether a process is running, and has not only ended without being waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def workers() -> list[int]:
    """Returns the ids of the worker processes of the servers in this process."""
    children = [
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
    ]
    return [pid for pid in children if b"run_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_worker_stays_for_the_next_step_and_is_replaced(tmp_path: Path, book: PriceBook) -> None:
    """One process carries out one step after the other; if something ends it, the next step has another one."""
    with page_scene(tmp_path, book) as scene, client(scene.server.url, scene.key()) as api:
        before = {*workers()}

        def failed() -> set[int]:
            run = ended(api, upload(api, b"", "empty.csv").json()["id"])
            assert run["steps"][-1]["text"].startswith("empty.csv"), run
            return {*workers()} - before

        (first,) = failed()
        assert failed() == {first}
        os.kill(first, signal.SIGKILL)
        assert eventually(lambda: not is_alive(first))
        (second,) = failed()
        assert second != first
    assert not is_alive(second)


def test_a_worker_without_work_ends(tmp_path: Path, book: PriceBook) -> None:
    """After a time without a step, no worker takes memory; the next step is carried out all the same."""
    with page_scene(tmp_path, book) as scene:
        assert scene.server.served is not None
        before = {*workers()}
        runs = RunQueue(scene.server.served.state.settings, scene.clock, idle_s=0)
        request = RunRequest(provider="qingbo", month="2026-11")
        for _ in range(2):
            with runs.incoming() as uploaded:
                (uploaded / "statements").mkdir()
                (uploaded / "statements" / "empty.csv").write_bytes(b"")
                run_id = runs.add(uploaded, request, ["empty.csv"], None, "finance")
            eventually(lambda: (run := runs.run(run_id)) is not None and not run.is_working)  # noqa: B023
            assert eventually(lambda: {*workers()} == before)
        runs.close()


def test_a_killed_server_leaves_nothing_behind(tmp_path: Path, book: PriceBook) -> None:
    """The worker ends with its server; the next server shows the run as lost, and removes its files."""
    filled = month(tmp_path, book, 12)
    key = issue_key(filled.ledger, project=None, role="view").text
    rows = b"".join(b"t-%d,kling-v3,completed,1794000000,357000\n" % number for number in range(200_000))
    with (
        command_running(filled.ledger, tmp_path, UPSTREAM) as (server, process),
        client(server.url, key) as api,
    ):
        run_id = upload(api, HEADER + rows).json()["id"]
        home = tmp_path / "spend.db-work" / run_id
        eventually(lambda: [*home.glob("kling-pricing-workspace-*")])
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        workers = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
        assert len(workers) == 1
        (tmp_path / "spend.db-work" / f".incoming-{'0' * 32}-x").mkdir()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert eventually(lambda: not is_alive(workers[0]))
    with command_running(filled.ledger, tmp_path, UPSTREAM) as (server, _), client(server.url, key) as api:
        run = api.get(f"/reconciliations/{run_id}").json()
        assert (run["state"], run["progress"], run["result"]) == ("lost", None, None)
        assert "upload the statement again" in run["steps"][-1]["text"]
        assert eventually(lambda: not (home / "upload").exists())
        assert [*home.glob("kling-pricing-workspace-*")] == []
        assert [*home.parent.glob(".incoming-*")] == []
        assert [path.name for path in home.parent.glob("process-*")] == []


def test_without_the_extra_the_server_says_which_one(
    scene: PageScene, api: httpx.Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If DuckDB is not installed, an upload is refused, and the page shows the command that installs it."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    answer = upload(api, statement_of(folder))
    assert answer.status_code == 400
    assert "pip install 'kling-pricing[reports]'" in answer.json()["detail"]
    page = scene.visitor().get("/month").text
    assert "pip install &#39;kling-pricing[reports]&#39;" in page


def test_the_statement_is_the_uploaded_file(api: httpx.Client, folder: Path) -> None:
    """Two files of one statement are reconciled together, and are named as they were uploaded."""
    head, *rows = statement_of(folder).splitlines(keepends=True)
    files = [
        ("statements", ("第一.csv", head + b"".join(rows[::2]))),
        ("statements", ("C:\\temp\\second half.csv", head + b"".join(rows[1::2]))),
    ]
    answer = api.post("/statements", data=FORM, files=files)
    run = ended(api, answer.json()["id"])
    assert run["files"] == ["第一.csv", "second half.csv"]
    assert {*run["result"]["statements"]} == {*run["files"]}
    text = api.get(f"/reconciliations/{run['id']}/reports/lines.csv").content.decode("utf-8-sig")
    assert len([*csv.reader(io.StringIO(text))]) > len(rows) // 2
