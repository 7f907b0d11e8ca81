"""The command line: outputs and exit codes of the commands that need no ledger."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, load_price_book
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.money import format_decimal
from tests.commands import COMMAND, COMMANDS, INTERRUPTIBLE, run, run_process
from tests.conftest import PRICES, bundled, video

EXAMPLES = Path(__file__).parent.parent / "examples" / "requests"
AT = ["--at", "2026-11-21"]


def lines(payloads: list[Any]) -> str:
    """Returns payloads as JSON Lines."""
    return "".join(json.dumps(payload) + "\n" for payload in payloads)


def test_a_file_with_one_request_is_quoted_with_its_explanation() -> None:
    """The answer is the explanation, and the exit code is 0."""
    result = run_process("quote", EXAMPLES / "text_to_video.json", *AT)
    assert result.stdout.startswith("0.714 USD for kling-v3 (generate) at qingbo\n")
    assert (result.stderr, result.returncode) == ("", 0)


def test_a_quick_answer_needs_no_file() -> None:
    """Options can describe the model, the duration, the resolution and the audio."""
    result = run(
        "quote", "--model", "kling-v3", "--duration", "5", "--resolution", "1080p", "--audio", "--json", *AT
    )
    assert json.loads(result.stdout)["total"] == "0.714"
    assert result.returncode == 0


def test_json_prints_one_object_with_amounts_as_text() -> None:
    """The object has the documented keys, in order."""
    result = run("quote", "--json", EXAMPLES / "reference.json", *AT)
    data = json.loads(result.stdout)
    assert list(data) == [
        *(
            "provider",
            "model",
            "canonical_model",
            "table",
            "table_digest",
            "wire_format",
            "action",
            "resolution",
        ),
        *("tier", "unit", "unit_price", "quantity", "total", "currency", "lines", "notes"),
    ]
    assert (data["total"], data["quantity"], data["unit_price"]) == ("0.5712", "6", "0.0952")


def test_a_refused_request_prints_its_error_and_exits_1() -> None:
    """The JSON error has a type, a message, violations and suggestions."""
    result = run_process("quote", "--json", "-", *AT, stdin=json.dumps(video("kling-v2.6", audio=True)))
    error = json.loads(result.stdout)["error"]
    assert error["type"] == "CapabilityError"
    assert error["violations"] == [
        {
            "code": "audio_resolution",
            "field": "resolution",
            "value": "720p",
            "allowed": ["1080p"],
            "message": error["message"],
            "source": "Kling series page, model list: 720P silent, 1080P with optional audio",
        }
    ]
    assert error["suggestions"] == [{"resolution": "1080p"}, {"audio": False}]
    assert result.returncode == 1


def test_a_refused_request_is_explained_to_a_person() -> None:
    """Each violation has a line with its code and source; the valid alternatives follow."""
    result = run("quote", "-", *AT, stdin=json.dumps(video("kling-video-o1", audio=True, duration=4)))
    assert result.stdout == (
        "standard input: refused\n"
        "  kling-video-o1 does not accept audio; leave it out "
        "[field_not_taken, Kling series page, Available Models and Common Parameters]\n"
        "  duration must be 5 or 10 seconds for kling-video-o1, not 4 "
        "[duration_s_limit, Kling series page, Available Models and Common Parameters]\n"
        "  valid alternative: leave out audio, duration = 5\n"
        "  valid alternative: leave out audio, duration = 10\n"
    )
    assert result.returncode == 1


def test_an_unpriced_request_names_the_nearest_prices() -> None:
    """The JSON error lists the nearest published prices."""
    payload = video("kling-v3-omni", resolution="4k", audio=True)
    result = run("quote", "--json", "-", *AT, stdin=json.dumps(payload))
    error = json.loads(result.stdout)["error"]
    assert (error["type"], error["violations"], result.returncode) == ("PriceNotFoundError", [], 1)
    assert error["priced_instead"][0] == "kling-v3-omni 4k silent at 0.455345 USD per second"


MANY = [video(), video(duration=10), video("kling-v2.6", audio=True), video("kling-v3-omni")]


@pytest.mark.parametrize("form", [lines, json.dumps, lambda payloads: json.dumps(payloads, indent=2)])
def test_many_requests_are_quoted_in_order_with_totals(form: Callable[[list[Any]], str]) -> None:
    """JSON Lines and arrays give one object per request; a refused request does not stop the rest."""
    result = run("quote", "--json", "-", *AT, stdin=form(MANY))
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer.get("total", "refused") for answer in answers] == ["0.357", "0.714", "refused", "0.357"]
    assert result.stderr == "3 done, 1 refused\ntotal 1.428 USD\n"
    assert result.returncode == 1


def test_many_requests_are_shown_as_a_table_with_totals() -> None:
    """Each request has one line; the count and the total follow."""
    result = run("quote", EXAMPLES / "text_to_video.json", EXAMPLES / "reference.json", *AT)
    heading, first, second, done, total = result.stdout.splitlines()
    assert heading.split()[:2] == ["Total", "Model"]
    assert first.split()[:4] == ["0.714", "USD", "kling-v3", "generate"]
    assert second.split()[:4] == ["0.5712", "USD", "kling-v3-omni", "reference"]
    assert (done, total) == ("2 done", "total 1.2852 USD")


def test_bad_lines_are_reported_by_number_without_stopping(tmp_path: Path) -> None:
    """A line that is not JSON makes the exit code 2; the other lines are quoted."""
    path = tmp_path / "requests.jsonl"
    path.write_text(
        '{"model": \n\n' + lines([video()]) + "[1]\n" + lines([video(duration=99)]) + lines([video()])
    )
    result = run("quote", "--json", path, *AT)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [answer["place"] for answer in answers] == [f"{path}:{line}" for line in (1, 3, 4, 5, 6)]
    assert ["error" in answer for answer in answers] == [True, False, True, True, False]
    assert result.stderr == "2 done, 1 refused, 2 unreadable\ntotal 0.714 USD\n"
    assert result.returncode == 2


def test_a_bad_first_line_without_the_ending_is_still_a_line(tmp_path: Path) -> None:
    """JSON Lines are also recognised by their content."""
    path = tmp_path / "requests.txt"
    path.write_text('{"model": oops}\n' + lines([video()]))
    result = run("quote", "--json", path, *AT)
    assert ["error" in json.loads(line) for line in result.stdout.splitlines()] == [True, False]
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("content", "remedy"),
    [
        (None, "cannot be read: No such file or directory; give a file, or - for standard input"),
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("model: kling-v3\n", "not JSON"),
        ("key,model\nb-1,kling-v3\n", "if it is a shot list, give a file whose name ends in .csv or .tsv"),
    ],
)
def test_a_file_that_cannot_be_read_exits_2(tmp_path: Path, content: str | None, remedy: str) -> None:
    """The message names the file and the remedy."""
    path = tmp_path / "request.json"
    if content is not None:
        path.write_text(content)
    result = run("quote", path, *AT)
    assert str(path) in result.stderr
    assert remedy in result.stderr
    assert result.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ([], "give a FILE"),
        (["x.json", "--model", "kling-v3"], "give either a FILE, or --model"),
        (["--model", "kling-v3", "--at", "yesterday"], "is not an ISO 8601 date or time"),
        (["--model", "kling-v3", "--at", "2026-11-21T10:00:00"], "has no time zone"),
        (["--model", "kling-v3", "--tables", "nowhere"], "no such folder"),
        (["--model", "kling-v3", "--media", "nowhere.json"], "nowhere.json"),
        (
            ["--model", "kling-v3", "--duration", "5.5"],
            "is not a whole number of seconds; write a number such as 5",
        ),
        (["--duration", "5"], "give a FILE"),
        (["x.json", "--image", "1"], "give either a FILE, or --model"),
        (["--model", "kling-v3", "--image", "51"], "a count of images must be at most 50, got 51"),
        (["--model", "kling-v3", "--video-length", "5"], "--video-length applies only to videos"),
    ],
)
def test_bad_usage_exits_2_and_says_what_to_do(arguments: list[str], remedy: str) -> None:
    """The message goes to standard error."""
    result = run("quote", *arguments)
    assert remedy in result.stderr
    assert (result.stdout, result.returncode) == ("", 2)


def test_check_answers_whether_the_api_would_accept_a_request() -> None:
    """A valid request exits 0; a refused one exits 1 and lists every reason."""
    good = run("check", EXAMPLES / "first_frame.json")
    assert (good.stdout, good.returncode) == (f"{EXAMPLES / 'first_frame.json'}: valid\n", 0)
    bad = run("check", "--json", "-", stdin=json.dumps(video("kling-v2.6", audio=True, duration=7)))
    answer = json.loads(bad.stdout)
    assert (answer["valid"], bad.returncode) == (False, 1)
    assert [violation["code"] for violation in answer["violations"]] == ["duration_s_limit", "audio_resolution"]


def test_media_facts_come_from_a_file(tmp_path: Path) -> None:
    """A decimal number in the file stays exact."""
    media = tmp_path / "media.json"
    media.write_text('{"https://media.example.com/movement.mp4": {"length_s": 30.01}}')
    result = run("check", "--json", "--media", media, EXAMPLES / "video_reference.json")
    (violation,) = json.loads(result.stdout)["violations"]
    assert (violation["code"], violation["value"]) == ("video_length_s_limit", "30.01")


def test_the_users_tables_are_read_over_the_bundled_ones(tmp_path: Path) -> None:
    """The tables of the user's own provider can be listed, shown and quoted."""
    path = tmp_path / "prices" / "acme" / "2026-11-01.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PRICES)
    quoted = run("quote", "--model", "kling-v3", "--provider", "acme", "--tables", tmp_path, "--json", *AT)
    assert json.loads(quoted.stdout)["total"] == "0.5"
    listed = run("tables", "list", "--tables", tmp_path, "--json")
    assert [json.loads(line)["table"] for line in listed.stdout.splitlines()] == [
        "acme/2026-11-01",
        "kling/2026-07",
        "kling/2026-09-20",
        "qingbo/2026-04-29",
        "qingbo-ai/2026-06-19",
        "qingbo-ai/2026-09-04",
        "qingbo-ai/2026-09-07",
        "qingbo-ai/2026-09-19",
        "qingbo-ai/2026-09-24",
        "tencent-vod/2026",
        None,
        None,
    ]
    without_prices = [json.loads(line) for line in listed.stdout.splitlines()[-2:]]
    assert [(entry["provider"], entry["rate_count"]) for entry in without_prices] == [
        ("octopusx", 0),
        ("uniall", 0),
    ]
    shown = run("tables", "show", "acme/2026-11-01", "--tables", tmp_path, "--json")
    rates = json.loads(shown.stdout)["rates"]
    assert sum((Decimal(rate["unit_price"]) for rate in rates), Decimal(0)) == Decimal("1.62")


@pytest.mark.parametrize("form", ["", "--json"])
def test_an_answer_depends_on_the_tables_of_the_call(tmp_path: Path, form: str) -> None:
    """Two tables of the same name that differ only in their currency give different answers."""
    path = tmp_path / "prices" / "acme" / "2026-11-01.yaml"
    path.parent.mkdir(parents=True)
    for currency in ("EUR", "GBP"):
        path.write_text(PRICES.replace("currency: EUR", f"currency: {currency}"))
        options: list[str | Path] = ["--provider", "acme", "--tables", tmp_path, *AT, *([form] if form else [])]
        result = run("quote", "-", *options, stdin=lines([video(), video()]))
        assert [currency in line for line in result.stdout.splitlines()].count(True) == (2 if form else 3)
        assert result.stdout.count("EUR") + result.stdout.count("GBP") == result.stdout.count(currency)


def test_tables_are_listed_and_shown_for_people() -> None:
    """A pipe gets every cell in full, and an unknown table exits 2 with a suggestion."""
    assert "qingbo/2026-04-29" in run("tables", "list").stdout
    shown = run("tables", "show", "qingbo/2026-04-29").stdout
    assert "video_reference" in shown
    assert "for this model, QingBo's Kling series page lists prices with audio only at 720p and 1080p" in shown
    missing = run("tables", "show", "qingbo/2020-01-01")
    assert "unknown price table 'qingbo/2020-01-01'; did you mean 'qingbo/2026-04-29'?" in missing.stderr
    assert missing.returncode == 2


def test_tables_check_finds_the_mistake(tmp_path: Path) -> None:
    """Valid tables exit 0 with their counts; an invalid table exits 1 with its place."""
    good = run("tables", "check")
    assert good.stdout == "OK: 9 price tables, 288 rates, 9 capability matrices\n"
    path = tmp_path / "prices" / "acme" / "2026-11-01.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PRICES.replace("0.05", "-0.05"))
    bad = run("tables", "check", tmp_path)
    assert bad.stderr == f"{path}:14: rates.kling-v2-6.720p.silent: '-0.05' is negative; write zero or more\n"
    assert bad.returncode == 1


@pytest.mark.parametrize("kind", ["prices", "capabilities"])
def test_the_schemas_come_from_the_models(kind: str) -> None:
    """The JSON Schema lists every key and allows no other."""
    schema = json.loads(run("tables", "schema", kind).stdout)
    assert schema["additionalProperties"] is False
    assert "sources" in schema["required"]


def test_bulk_input_is_streamed() -> None:
    """The first answers are printed before the input ends, so memory does not grow with the input."""
    with subprocess.Popen(
        [*COMMAND, "quote", "--json", "-", *AT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = lines([video()]).encode()
        process.stdin.write(line * 200)
        process.stdin.flush()
        first = process.stdout.readline()
        assert json.loads(first)["total"] == "0.357"
        process.stdin.close()
        rest = process.stdout.readlines()
        assert len(rest) == 199


def test_each_line_is_answered_before_the_next_is_written() -> None:
    """A program can write one request, read the answer, and then write the next."""
    with subprocess.Popen(
        [*COMMAND, "quote", "--json", "-", *AT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in (1, 2, 3):
            process.stdin.write(lines([video()]))
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            assert (answer["place"], answer["total"]) == (f"standard input:{number}", "0.357")
        process.stdin.close()
        assert process.stdout.read() == ""


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_lines_of_any_length_are_counted(tmp_path: Path, ending: str) -> None:
    """Blank lines, lines longer than a block and a last line without an end keep their numbers."""
    payloads = [video(), video(prompt="x" * 200_000), None, video(), None, None, video()]
    path = tmp_path / "requests.jsonl"
    path.write_text(
        ending.join("" if payload is None else json.dumps(payload) for payload in payloads), newline=""
    )
    answers = [json.loads(line) for line in run("quote", "--json", path, *AT).stdout.splitlines()]
    assert [answer["place"] for answer in answers] == [f"{path}:{number}" for number in (1, 2, 4, 7)]
    assert ["error" in answer for answer in answers] == [False, True, False, False]


def test_answers_are_printed_while_a_long_array_is_answered(tmp_path: Path) -> None:
    """Every answer is printed once and in order, whatever the size of a batch."""
    path = tmp_path / "requests.json"
    path.write_text(json.dumps([video(duration=3 + number % 13) for number in range(1200)]))
    result = run("quote", path, *AT)
    heading, *rows, done, _ = result.stdout.splitlines()
    assert (heading.split()[0], done) == ("Total", "1200 done")
    assert [row.rpartition(" ")[2] for row in rows] == [f"{path}:{number}" for number in range(1, 1201)]
    assert [row.split()[6] for row in rows[:13]] == [str(duration) for duration in range(3, 16)]


def test_ctrl_c_keeps_the_answers_so_far() -> None:
    """An interrupted run prints the totals of its answers and exits 130."""
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "quote", "--json", "-", *AT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(lines([video()] * 200))
        process.stdin.flush()
        answers = [process.stdout.readline()]
        process.send_signal(signal.SIGINT)
        answers += process.stdout.readlines()
        errors = process.stderr.read()
        assert process.wait() == 130
    assert [json.loads(line)["total"] for line in answers] == ["0.357"] * len(answers)
    total = format_decimal(len(answers) * Decimal("0.357"))
    assert errors == f"interrupted; all results above are complete\n{len(answers)} done\ntotal {total} USD\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a pipe with a name")
@pytest.mark.parametrize("command", [["compare"], ["check"]])
def test_ctrl_c_exits_130_in_every_command(tmp_path: Path, command: list[str]) -> None:
    """A command that is still reading its input exits 130 without a traceback."""
    pipe = tmp_path / "request.json"
    os.mkfifo(pipe)
    whole = [sys.executable, "-c", INTERRUPTIBLE, *command, str(pipe)]
    with subprocess.Popen(whole, stderr=subprocess.PIPE, text=True) as process, pipe.open("w"):
        process.send_signal(signal.SIGINT)  # it is reading now
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.split()[0].startswith("interrupted")


def test_help_teaches() -> None:
    """Every command has a one-line summary, an example, exit codes and help for each option."""
    shown = {path: run(*path, "--help") for path in [(), ("tables",), ("budget",), *COMMANDS]}
    assert {result.returncode for result in shown.values()} == {0}
    assert [path for path in COMMANDS if "Exit codes:" not in shown[path].stdout] == []
    assert [path for path in shown if f"  {' '.join(('kling-pricing', *path))}" not in shown[path].stdout] == []
    assert [line for path in shown for line in shown[path].stdout.splitlines() if len(line) > 80] == []
    summaries = {path: COMMANDS[path].get_short_help_str(62) for path in shown if path in COMMANDS}
    assert [path for path, summary in summaries.items() if summary.endswith("...")] == []
    options = [
        (path, option.name)
        for path, command in COMMANDS.items()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert options == []


def test_unprintable_text_does_not_stop_the_rest() -> None:
    """A lone surrogate in one request is printed escaped, and the next request is answered."""
    result = run_process("quote", "-", *AT, stdin=lines([video(action="\ud800"), video()]))
    assert "\\ud800" in result.stdout
    assert "1 done, 1 refused" in result.stdout
    assert result.returncode == 1


@pytest.mark.parametrize(
    "content", ["[" * 200_000, '{"u": {"length_s": 5, "length_s": 6}}', '{"u": {"lenth_s": 5}}', "[]"]
)
def test_unreadable_media_facts_exit_2(tmp_path: Path, content: str) -> None:
    """The command exits before it answers any request."""
    media = tmp_path / "media.json"
    media.write_text(content)
    result = run("quote", "--model", "kling-v3", "--media", media)
    assert (result.stdout, result.returncode) == ("", 2)
    assert "media.json" in result.stderr


def test_files_are_answered_in_order(tmp_path: Path) -> None:
    """A file that cannot be read keeps its place among the answers."""
    result = run(
        "quote", "--json", tmp_path / "no.json", EXAMPLES / "reference.json", tmp_path / "nor.json", *AT
    )
    places = [json.loads(line)["place"] for line in result.stdout.splitlines()]
    assert places == [str(tmp_path / "no.json"), str(EXAMPLES / "reference.json"), str(tmp_path / "nor.json")]
    assert result.returncode == 2


def test_an_empty_array_is_reported_as_nothing_read() -> None:
    """An empty array is not an error, and the command does not stay silent."""
    result = run("quote", "-", stdin="[]")
    assert (result.stdout.splitlines()[-1], result.returncode) == ("nothing read", 0)


def test_json_text_inside_json_is_not_a_request() -> None:
    """A string is not parsed a second time."""
    result = run("quote", "--json", "-", stdin=json.dumps([json.dumps(video())]))
    assert "got text" in json.loads(result.stdout)["error"]["message"]
    assert result.returncode == 2


def test_a_full_disk_is_reported() -> None:
    """An answer that could not be written exits 2."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        command = [*COMMAND, "quote", "--model", "kling-v3"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert result.returncode == 2
    assert "No space left" in result.stderr


def test_compare_prints_one_object_per_row_with_amounts_as_text() -> None:
    """Each difference is to the original request in the same currency."""
    result = run("compare", "--json", EXAMPLES / "text_to_video.json", *AT)
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0
    assert answers[0] == {
        "changes": {"model": "kling-v2.6", "resolution": "720p", "audio": False},
        "provider": "qingbo-ai",
        "model": "kling-v2.6",
        "resolution": "720p",
        "audio": False,
        "wire_format": "tasks",
        "available": True,
        "table": "qingbo-ai/2026-09-24",
        "tier": "silent",
        "minimum": "0.189",
        "maximum": "0.189",
        "currency": "USD",
        "difference": "-0.525",
        "why_not": "",
    }
    given = {answer["provider"]: answer.get("difference") for answer in answers if not answer["changes"]}
    assert given == {"qingbo": "0", "qingbo-ai": "0.042", "kling": "0.126", "tencent-vod": "0"}
    assert list(answers[-1])[-2:] == ["available", "why_not"]


def test_compare_shows_a_table_for_each_currency() -> None:
    """Variants that are not available come last, with the reason."""
    result = run("compare", "-", *AT, stdin=json.dumps(video(duration=5, resolution="1080p", audio=True)))
    places = [
        result.stdout.index(title)
        for title in (
            "Prices in USD, compared with the original request at qingbo",
            "Prices in CNY, compared with the original request at tencent-vod",
            "Not available",
            "kling-video-o1 does not accept audio; leave it out",
        )
    ]
    assert places == sorted(places)
    assert (result.stderr, result.returncode) == ("", 0)


def test_compare_exits_1_when_the_request_itself_is_not_available() -> None:
    """A refused, unpriced or unknown request exits 1, and its available variants are shown."""
    refused = run("compare", "--json", "-", *AT, stdin=json.dumps(video("kling-v2.6", audio=True)))
    assert json.loads(refused.stdout.splitlines()[0])["changes"] == {"audio": False}
    unpriced = run("compare", EXAMPLES / "tasks_extra" / "text_to_video.json", *AT)
    assert "has no price for this request" in unpriced.stdout
    unknown = run("compare", "-", *AT, stdin=json.dumps(video("kling-v9")))
    assert "unknown model kling-v9" in unknown.stdout
    assert [result.returncode for result in (refused, unpriced, unknown)] == [1, 1, 1]


@pytest.mark.parametrize("content", ["", "{", "[]", "[{}, {}]", lines([video(), video()]), '"text"'])
def test_compare_reads_one_request(content: str) -> None:
    """Any other input exits 2."""
    result = run("compare", "-", *AT, stdin=content)
    assert (result.stdout, result.returncode) == ("", 2)
    assert "standard input: " in result.stderr


def test_tables_diff_shows_changed_rates_in_percent() -> None:
    """Percentages are rounded half up to two digits; rates can be added or removed."""
    result = run("tables", "diff", "qingbo-ai/2026-09-07", "qingbo-ai/2026-09-24", "--json")
    answer = json.loads(result.stdout)
    assert (result.returncode, answer["other"], answer["currencies"]) == (1, [], ["USD", "USD"])
    assert answer["rates"][-5:] == [
        *(
            {
                "model": model,
                "resolution": "4k",
                "tier": tier,
                "before": None,
                "after": "0.48213",
                "change_percent": None,
            }
            for model, tiers in (
                ("kling-v3", ("silent", "audio")),
                ("kling-v3-omni", ("silent", "audio", "video_reference")),
            )
            for tier in tiers
        ),
    ]
    assert answer["rates"][0] == {
        "model": "kling-v2-6",
        "resolution": "720p",
        "tier": "silent",
        "before": "0.0414",
        "after": "0.0378",
        "change_percent": "-8.70",
    }
    assert [rate["change_percent"] for rate in answer["rates"][1:-5]] == ["-10.40", "-10.40", "-1.98", "-2.01"]
    periods = run("tables", "diff", "qingbo-ai/2026-06-19", "qingbo-ai/2026-09-04", "--json")
    assert json.loads(periods.stdout)["other"] == [
        ("the validity periods of individual models differ; compare the files")
    ]
    shown = run("tables", "diff", "qingbo-ai/2026-09-24", "qingbo-ai/2026-09-07")
    assert ("+9.52%" in shown.stdout, "removed" in shown.stdout, shown.returncode) == (True, True, 1)
    assert "added" in run("tables", "diff", "qingbo-ai/2026-09-07", "qingbo-ai/2026-09-24").stdout


def test_tables_diff_never_compares_two_currencies() -> None:
    """Each price is shown in its own currency, without a percentage."""
    result = run("tables", "diff", "qingbo/2026-04-29", "tencent-vod/2026", "--json")
    answer = json.loads(result.stdout)
    assert {rate["change_percent"] for rate in answer["rates"]} == {None}
    assert answer["other"][0] == ("the currencies differ (USD and CNY), so no percentages are shown")
    shown = run("tables", "diff", "qingbo/2026-04-29", "tencent-vod/2026")
    assert "not compared" in shown.stdout
    assert result.returncode == shown.returncode == 1


def test_tables_diff_of_the_same_prices_exits_0() -> None:
    """Equal tables exit 0; an unknown table exits 2 with a suggestion."""
    same = run("tables", "diff", "qingbo/2026-04-29", "qingbo/2026-04-29")
    assert same.stdout == "qingbo/2026-04-29 and qingbo/2026-04-29 have the same prices\n"
    assert same.returncode == 0
    missing = run("tables", "diff", "qingbo/2026-04-29", "qingbo/2020-01-01")
    assert "unknown price table 'qingbo/2020-01-01'; did you mean 'qingbo/2026-04-29'?" in missing.stderr
    assert missing.returncode == 2


def test_tables_diff_sees_a_contracts_discount(tmp_path: Path) -> None:
    """Two tables with the same rates and different discounts differ."""
    path = tmp_path / "prices" / "acme" / "a.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(PRICES)
    path.with_name("ours.yaml").write_text(
        "extends: acme/a\nsources: [{ref: ours, checked: 2026-11-01, authority: official}]\ndiscount: 0.125\n"
    )
    result = run("tables", "diff", "acme/a", "acme/ours", "--tables", tmp_path)
    assert result.stdout == "the contract discount changes from none to 12.5%\n"
    assert result.returncode == 1


def test_the_endpoint_decides_the_format_and_the_provider() -> None:
    """Each command that reads requests takes --url, and a value that is not a URL exits 2."""
    request = json.dumps(video(duration=5))
    url = ["--url", "https://api.qingbo.ai/v1/tasks"]
    quoted = json.loads(run("quote", "-", "--json", *url, *AT, stdin=request).stdout)
    assert (quoted["wire_format"], quoted["provider"], quoted["total"]) == ("tasks_v2", "qingbo-ai", "0.378")
    assert run("check", "-", *url, stdin=request).returncode == 0
    compared = run("compare", "-", *url, *AT, stdin=request)
    assert "compared with the original request at qingbo-ai" in compared.stdout
    refused = run("quote", "-", "--url", "api.qingbo.ai", *AT, stdin=request)
    assert "url must be the http or https URL" in refused.stderr
    assert (refused.stdout, refused.returncode) == ("", 2)


def test_periods_of_single_models_are_shown_and_compared(tmp_path: Path) -> None:
    """`tables show` prints the periods, and `tables diff` reports that they differ."""
    (tmp_path / "prices" / "acme").mkdir(parents=True)
    narrowed = "model_periods: {kling-v3: {valid_from: 2026-12-01}}\n"
    earlier = PRICES.replace("valid_from: null", "valid_from: null\nvalid_until: 2026-11-01")
    later = PRICES.replace("valid_from: null", "valid_from: 2026-11-01") + narrowed
    (tmp_path / "prices" / "acme" / "a.yaml").write_text(earlier, encoding="utf-8")
    (tmp_path / "prices" / "acme" / "b.yaml").write_text(later, encoding="utf-8")
    shown = run("tables", "show", "acme/b", "--tables", tmp_path)
    assert "kling-v3 applies: from 2026-12-01" in shown.stdout
    data = json.loads(run("tables", "show", "acme/b", "--json", "--tables", tmp_path).stdout)
    assert data["model_periods"] == {
        "kling-v3": {"valid_from": "2026-12-01T00:00:00+00:00", "valid_until": None}
    }
    differs = run("tables", "diff", "acme/a", "acme/b", "--tables", tmp_path)
    assert "the validity periods of individual models differ" in differs.stdout
    assert differs.returncode == 1


def test_a_total_that_includes_a_range_is_a_maximum() -> None:
    """A range counts with its maximum, and the total is marked `at most`."""
    motion = json.loads((EXAMPLES / "tasks_v2" / "motion_control.json").read_text(encoding="utf-8"))
    clip = {"model_name": "kling-v3", "prompt": "a boat"}
    result = run("quote", "-", *AT, stdin=lines([motion, clip]))
    assert result.stdout.splitlines()[-1] == "total at most 3.822 USD"
    exact = run("quote", "-", *AT, stdin=lines([clip, clip]))
    assert exact.stdout.splitlines()[-1] == "total 0.84 USD"


def quick(*arguments: str) -> dict[str, Any]:
    """Returns a quote for a request that options describe."""
    done = run("quote", "--json", *arguments, *AT)
    assert done.returncode == 0, done
    quoted: dict[str, Any] = json.loads(done.stdout)
    return quoted


MOTION = "--model kling-v3 --image 1 --video 1 --video-length 5 --orientation image"


@pytest.mark.parametrize(
    ("arguments", "wire_format", "total", "action"),
    [
        ("--model kling-v3 --duration 5", "tasks", "0.357", "generate"),
        ("--model kling-v3 --duration 5 --provider qingbo", "tasks", "0.357", "generate"),
        ("--model kling-v3 --duration 5 --provider kling", "kling", "0.42", "generate"),
        ("--model KLING-V3 --duration 5 --provider Kling", "kling", "0.42", "generate"),
        ("--model kling-v3 --duration 5 --provider qingbo-ai", "tasks_v2", "0.378", "generate"),
        ("--model kling-v3 --duration 5 --provider tencent-vod", "tasks", "3", "generate"),
        (
            "--model kling-v3 --duration 5 --resolution 1080P --audio --provider kling",
            "kling",
            "0.84",
            "generate",
        ),
        (
            "--model kling-v3 --duration 5 --no-audio --wire-format tasks_extra",
            "tasks_extra",
            "0.357",
            "generate",
        ),
        ("--model kling-v3 --duration 5 --image 1 --provider kling", "kling", "0.42", "image2video"),
        ("--model kling-v3 --duration 5 --first-frame --last-frame", "tasks", "0.357", "first_last_frame"),
        (
            "--model kling-v3-omni --duration 5 --first-frame --last-frame --provider kling",
            *("kling", "0.56", "first_last_frame"),  # this API makes 1080p unless told otherwise
        ),
        (
            "--model kling-v3-omni --duration 5 --image 2 --video 1 --provider qingbo",
            *("tasks", "0.5355", "reference_video"),
        ),
        (
            f"{MOTION} --resolution 720p --provider kling",
            *("kling", "0.63", "motion_control"),
        ),
        ("--model Kling-V2.6 --duration 5 --provider kling", "kling", "0.21", "generate"),
        ("--model Kling-2.6 --duration 5 --provider qingbo", "tasks", "0.1955", "generate"),
        (
            "--model kling-v3-omni --action edit --video 1 --video-length 9.6 --provider qingbo-ai",
            *("tasks_v2", "1.0206", "edit"),  # the API wants duration 0: 9 whole seconds x 0.1134
        ),
        ("--model kling-3.0-turbo --duration 5 --provider kling", "kling_v2", "0.56", "generate"),
        ("--model kling-image-v3 --provider kling", "kling_images", "0.028", "generate"),
        ("--model kling-image-v2-1 --image 1 --provider kling", "kling_images", "0.028", "image2image"),
        ("--model kling-image-v2-1 --image 2 --provider kling", "kling_images", "0.056", "multi_image"),
        (
            "--model Kling-3.0-Turbo --duration 5 --first-frame --resolution 1080p --provider kling",
            *("kling_v2", "0.7", "image2video"),
        ),
        (
            "--model kling-3.0-omni --duration 5 --video 1 --video-length 7 --provider kling",
            *("kling_v2", "0.63", "reference_video"),
        ),
        (
            "--model kling-3.0 --orientation image --image 1 --video 1 --video-length 8 --provider kling",
            *("kling_v2", "1.008", "motion_control"),
        ),
        (
            "--model kling-v3 --resolution 1080p --audio --wire-format video_generations --provider kling",
            *("video_generations", "0.84", "generate"),
        ),
    ],
)
def test_a_quick_quote_is_written_for_the_providers_own_api(
    arguments: str, wire_format: str, total: str, action: str
) -> None:
    """The options mean the same at every provider, whatever its API names the fields."""
    quoted = quick(*arguments.split())
    assert (quoted["wire_format"], quoted["total"], quoted["action"]) == (wire_format, total, action)


@pytest.mark.parametrize(
    ("arguments", "action"),
    [
        ("--model kling-2.6 --duration 5 --first-frame --last-frame", "first_last_frame"),
        ("--model kling-3.0-omni --duration 5 --video 1", "reference_video"),
        ("--model kling-2.6 --action motion_control --image 1 --video 1 --video-length 5", "motion_control"),
    ],
)
def test_a_quick_quote_fills_in_fields_inside_other_fields(arguments: str, action: str) -> None:
    """In an API that has the second frame, the video and the action in `metadata`, they are written there."""
    quoted = quick(*arguments.split(), "--provider", "tencent-vod", "--wire-format", "openai_videos")
    assert (quoted["wire_format"], quoted["action"]) == ("openai_videos", action)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model kling-v3 --provider octopusx", "octopusx publishes no prices"),
        ("--model kling-9 --provider kling", "kling has no model 'kling-9'; use one of: "),
        ("--model kling-9", "unknown model kling-9"),
        (
            "--model kling-v3-turbo --provider qingbo-ai",
            "qingbo-ai has no model 'kling-v3-turbo'; use one of: kling-3.0-turbo, ",
        ),
        ("--model kling-v4 --provider kling", "kling has no model 'kling-v4': Kling 4.0 has been announced"),
        (
            "--model kling-v3 --action motion_control --image 1 --video 1 --provider kling",
            "motion control needs the orientation of the character; set --orientation to image or video",
        ),
        (
            "--model kling-3.0 --url https://api-singapore.klingai.com/omni-video/kling-o1",
            "the path of the URL names kling-o1, not kling-3.0; use /text-to-video/kling-3.0 or ",
        ),
        (
            "--model kling-v3 --action generate --image 1 --provider kling",
            "reads this request as image2video, not as",
        ),
        ("--model kling-v3 --action image2video", "`image2video` needs exactly one image"),
        (
            "--model kling-v3 --video 1 --wire-format video_generations",
            "does not accept a video",
        ),
        (
            "--model kling-v3 --orientation image",
            "tasks does not accept an orientation; leave it out",
        ),
        (
            "--model kling-v3 --orientation image --image 1 --video 1 --provider kling",
            "wire format kling has no default resolution for this request; give one with --resolution",
        ),
        (
            "--model kling-image-v3 --duration 5 --provider kling",
            "does not accept a duration; leave out --duration",
        ),
        (
            "--model kling-image-expand --image 1 --provider kling",
            "to a file, and also give the URL whose path is /v1/images/editing/expand with --url",
        ),
        ("--model kling-lip-sync --provider kling", "the URL whose path is /v1/videos/advanced-lip-sync"),
        ("--model kling-v3 --wire-format kling_services", "give the URL of its endpoint with --url"),
        (
            "--model kling-v3-pro-audio --no-audio --wire-format video_generations",
            "none of this model's names has these options",
        ),
    ],
)
def test_a_quick_quote_says_what_the_api_cannot_do(arguments: str, message: str) -> None:
    """A description that the provider's API cannot express is refused with the reason."""
    done = run("quote", *arguments.split(), *AT)
    assert (done.returncode, done.stderr) == (1, "")
    assert message in done.stdout


def test_a_quick_quote_uses_the_urls_that_it_is_given(tmp_path: Path) -> None:
    """Facts about a file from --media apply to the URL in the description."""
    url = "https://media.example.com/a.mp4"
    media = tmp_path / "media.json"
    media.write_text(json.dumps({url: {"length_s": "31"}}))
    options = ("--model", "kling-v3-omni", "--video", url, "--media", str(media), "--provider", "qingbo")
    done = run("quote", *options, *AT)
    assert done.returncode == 1
    assert "video_urls[0]: length must be 2 to 30 seconds, not 31 seconds" in done.stdout


CONTRACT = """\
extends: acme/2026-11-01
sources: [{ref: contract, checked: 2026-11-20, authority: official}]
discount: 0.1
rates: {kling-v3: {720p: {silent: 0.04}}}
"""


def test_contracts_are_listed_shown_and_counted(tmp_path: Path) -> None:
    """A contract stands below the table that it extends, with its discount and its own rates."""
    prices = tmp_path / "prices" / "acme"
    prices.mkdir(parents=True)
    (prices / "2026-11-01.yaml").write_text(PRICES)
    (prices / "ours.yaml").write_text(CONTRACT)
    listed = run("tables", "list", "--tables", tmp_path).stdout
    assert "contract: 10% discount, 1 own rate" in " ".join(listed.split())
    summaries = [
        json.loads(line) for line in run("tables", "list", "--tables", tmp_path, "--json").stdout.splitlines()
    ]
    assert [(entry["table"], entry["contract"]) for entry in summaries[:2]] == [
        ("acme/2026-11-01", None),
        ("acme/ours", {"discount_percent": "10", "own_rates": ["kling-v3 720p silent"]}),
    ]
    shown = run("tables", "show", "acme/ours", "--tables", tmp_path).stdout
    assert "acme/ours is a contract: 10% discount, 1 own rate" in shown
    checked = run("tables", "check", tmp_path).stdout
    assert checked.startswith("OK: 10 price tables, 1 contract, 298 rates, 9 capability matrices\n")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("unit_value: 0.4\n", "a different unit value"),
        ("allow_paths: [/v1/chat]\n", "the published prices"),
        ("unit_value: 0.4\nrates: {kling-v3: {720p: {silent: 2}}}\n", "a different unit value, 1 own rate"),
    ],
)
def test_a_contract_is_described_by_what_it_changes(tmp_path: Path, change: str, text: str) -> None:
    """A contract need not have a discount."""
    prices = tmp_path / "prices" / "acme"
    prices.mkdir(parents=True)
    units = PRICES.replace("currency: EUR", "currency: EUR\nunit: {name: unit, value: 0.5}")
    (prices / "2026-11-01.yaml").write_text(units)
    (prices / "ours.yaml").write_text("".join(CONTRACT.splitlines(keepends=True)[:2]) + change)
    shown = run("tables", "show", "acme/ours", "--tables", tmp_path).stdout
    assert f"acme/ours is a contract: {text}\n" in shown
    assert "discount" not in shown


def test_tables_check_lists_every_problem(tmp_path: Path) -> None:
    """All problems come in one run, one a line, and the last line counts them."""
    prices = tmp_path / "prices" / "acme" / "a.yaml"
    prices.parent.mkdir(parents=True)
    prices.write_text(PRICES.replace("0.05", "-1").replace("EUR", "euro"))
    done = run("tables", "check", tmp_path)
    *problems, count = done.stderr.splitlines()
    assert (done.returncode, done.stdout, count) == (1, "", "2 problems in all")
    assert [problem.partition(": ")[0] for problem in problems] == [f"{prices}:3", f"{prices}:14"]


@pytest.mark.parametrize("provider", ["octopusx", "uniall", "newcomer"])
def test_a_new_table_has_every_combination_to_fill_in(tmp_path: Path, provider: str) -> None:
    """The file is refused with one list until it is filled in, and then it prices requests."""
    wire_format = "openai_videos" if provider == "octopusx" else "video_generations"
    written = run("tables", "new", provider, "--wire-format", wire_format, "--out", tmp_path)
    (path,) = (tmp_path / "prices" / provider).glob("*.yaml")
    assert written.stdout.startswith(f"{path}: ")
    text = path.read_text()
    refused = run("tables", "check", tmp_path)
    (problem,) = refused.stderr.splitlines()
    assert f"{text.count(': null')} values are not filled in yet (" in problem
    assert "currency, sources[0].ref, sources[0].checked, rates.kling-v" in problem
    again = run("tables", "new", provider, "--wire-format", wire_format, "--out", tmp_path)
    assert (again.returncode, "already exists" in again.stderr, path.read_text()) == (2, True, text)
    filled = text.replace("currency: null", "currency: USD").replace("checked: null", "checked: 2026-11-30")
    path.write_text(filled.replace("ref: null", "ref: our bill").replace("null", "0.1"))
    assert run("tables", "check", tmp_path).stderr == ""
    model = "kling-v3-omni" if provider == "octopusx" else "kling-v3"
    options = ("--provider", provider, "--duration", "5", "--resolution", "720p", "--no-audio")
    done = run("quote", "--json", "--model", model, *options, "--tables", tmp_path)
    assert json.loads(done.stdout)["total"] == "0.5"


@pytest.mark.parametrize("wire_format", ["kling_images", "kling_services", "kling", "tasks"])
def test_a_new_table_has_the_tiers_of_its_own_models(tmp_path: Path, wire_format: str) -> None:
    """A table that also prices other services lends only what concerns the wire format, and that is enough."""
    run("tables", "new", "acme", "--wire-format", wire_format, "--currency", "USD", "--out", tmp_path)
    (path,) = (tmp_path / "prices" / "acme").glob("*.yaml")
    text = path.read_text()
    head, _, rates = text.partition("rates:")
    named = set(re.findall(r'"(kling-[^"]+)"', head))
    assert all(f"  {name}:\n" in rates for name in named)
    used = set(re.findall(r"(\w+): null", rates))
    assert set(re.findall(r"{tier: (\w+)", head)) == used
    path.write_text(
        text.replace("ref: null, checked: null", "ref: x, checked: 2026-11-30").replace("null", "1")
    )
    assert run("tables", "check", tmp_path).stderr == ""


@pytest.mark.parametrize(
    ("provider", "wire_format", "priced", "model", "host"),
    [
        ("octopusx", "openai_videos", "kling-v3-omni", "Kling-3.0-Omni", "octopusx.ai"),
        ("uniall", "video_generations", "kling-v3", "kling-v3-std-silent", "api.uniall.example"),
    ],
)
def test_one_price_of_a_new_table_is_enough_to_quote_and_settle(
    tmp_path: Path, provider: str, wire_format: str, priced: str, model: str, host: str
) -> None:
    """The rest has a reason; a host that nobody has published is asked for, and then its jobs are guarded."""
    run("tables", "new", provider, "--wire-format", wire_format, "--currency", "USD", "--out", tmp_path)
    (path,) = (tmp_path / "prices" / provider).glob("*.yaml")
    text = path.read_text().replace("checked: null", "checked: 2026-11-30").replace("ref: null", "ref: bill")
    before, name, after = text.replace("# unpriced_rest:", "unpriced_rest:").partition(f"  {priced}:\n")
    path.write_text(before + name + after.replace("silent: null", "silent: 0.08", 1))
    checked = run("tables", "check", tmp_path).stdout
    names_host = f"note: {provider}/{path.stem} does not name a host" in checked
    assert (checked.startswith("OK: "), names_host) == (True, provider == "uniall")
    rest = f"{provider} has not given us this price"
    assert rest in run("tables", "show", f"{provider}/{path.stem}", "--tables", tmp_path).stdout
    options = ("--provider", provider, "--model", priced, "--duration", "5", "--no-audio", "--tables", tmp_path)
    quoted = run("quote", "--json", "--resolution", "720p", *options)
    assert json.loads(quoted.stdout)["total"] == "0.4"
    assert rest in run("quote", "--resolution", "1080p", *options).stdout
    payload: dict[str, Any] = {"model": model, "prompt": "a boat", "duration": 5}
    if provider == "octopusx":
        payload["metadata"] = {"output_config": {"resolution": "720P", "audio_generation": "Disabled"}}
    answers = iter([{"id": "task-1", "status": "queued"}, {"id": "task-1", "status": "completed"}])
    inner = httpx.MockTransport(lambda _: httpx.Response(200, json=next(answers)))
    budgets = [Budget(name="all", cap=1, currency="USD")]
    ledger, book = f"sqlite:///{tmp_path}/spend.db", load_price_book(tmp_path)
    with BudgetGuard(ledger, budgets, book=book) as guard:
        hooked = GuardedTransport(inner, guard, project="p", hosts={host: provider}, sends_once=True)
        with httpx.Client(transport=hooked, base_url=f"https://{host}") as client:
            endpoint = "/v1/videos" if provider == "octopusx" else "/v1/video/generations"
            client.post(endpoint, json=payload)
            client.get("/v1/videos/task-1")
        assert [(entry.state, entry.billed) for entry in guard.history()] == [("settled", Decimal("0.4"))]


@pytest.mark.parametrize("option", ["--tables", "--out"])
def test_a_new_table_follows_ones_own_capability_files(tmp_path: Path, option: str) -> None:
    """The combinations are those of the user's own file, whatever is unfinished beside it."""
    text = bundled("capabilities", "video_generations.yaml").read_text(encoding="utf-8")
    own, out = tmp_path / "own", tmp_path / "out"
    folder = own if option == "--tables" else out
    (folder / "capabilities").mkdir(parents=True)
    limited = text.replace("resolution: [720p, 1080p]", "resolution: [720p]")
    (folder / "capabilities" / "video_generations.yaml").write_text(limited, encoding="utf-8")
    (folder / "prices" / "acme").mkdir(parents=True)
    (folder / "prices" / "acme" / "a.yaml").write_text("provider: acme\ncurrency: null\n", encoding="utf-8")
    (folder / "providers").mkdir()
    provider = bundled("providers", "uniall.yaml").read_text(encoding="utf-8")
    named = provider.replace("hosts: []", "hosts: [api.uniall.example]")
    (folder / "providers" / "uniall.yaml").write_text(named, encoding="utf-8")
    options = ("--tables", own) if option == "--tables" else ()
    done = run("tables", "new", "uniall", "--wire-format", "video_generations", "--out", out, *options)
    (path,) = (out / "prices" / "uniall").glob("*.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "hosts: [api.uniall.example]" in path.read_text()
    assert ("720p: {" in path.read_text(), "1080p: {" in path.read_text()) == (True, False)
    (folder / "capabilities" / "video_generations.yaml").write_text("wire_format: 1\n", encoding="utf-8")
    refused = run("tables", "new", "other", "--wire-format", "video_generations", "--out", out, *options)
    assert (refused.returncode, "capabilities/video_generations.yaml" in refused.stderr) == (2, True)


def test_a_new_table_may_give_its_currency(tmp_path: Path) -> None:
    """The currency is the one value that an option can fill in."""
    run("tables", "new", "acme", "--wire-format", "tasks", "--currency", "EUR", "--out", tmp_path)
    (path,) = (tmp_path / "prices" / "acme").glob("*.yaml")
    assert "currency: EUR\n" in path.read_text()
    bad = run("tables", "new", "Acme Inc", "--wire-format", "tasks", "--out", tmp_path)
    assert (bad.returncode, "provider must be made of lower-case letters" in bad.stderr) == (2, True)
