"""`compare-lists`: what changed between two lists and its cost, for people, programs and review comments."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_pricing.quoting.engine import quote_payload
from kling_pricing.quoting.intake import Intake
from kling_pricing.shot_lists.list_differences import PricedShot, compare_lists
from tests.commands import Done, run
from tests.conftest import AT, bundled_book, examples, video

OLD = "shot,model,duration,prompt\n1,kling-v3,5,a\n2,kling-v3,5,b\n3,kling-v3-omni,10,c\n"
NEW = "shot,model,duration,prompt\n1,kling-v3,5,a\n2,kling-v3,10,b\n4,kling-v3,3,d\n"

KEY = ("--map", "shot=key")


@pytest.fixture
def lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Writes two lists into the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.csv").write_text(OLD)
    (tmp_path / "new.csv").write_text(NEW)
    return tmp_path


def compared(*options: str) -> Done:
    """Compares the two lists."""
    return run("compare-lists", "old.csv", "new.csv", "--at", "2026-11-21", *options)


@pytest.mark.usefixtures("lists")
def test_the_changes_are_shown_with_their_cost() -> None:
    """Each changed, added and removed shot has a line with its amounts; the total follows."""
    done = compared("--map", "shot=key")
    assert done.stdout.splitlines() == [
        "old.csv -> new.csv, shots matched by column key",
        "  changed  new.csv:3: 0.357 USD -> 0.714 USD (+0.357 USD), duration 5 -> 10",
        "  removed  old.csv:4: 0.714 USD (-0.714 USD)",
        "  added    new.csv:4: 0.2142 USD (+0.2142 USD)",
        "total 1.428 -> 1.2852 USD (-0.1428, -10%)",
        "1 changed, 1 added, 1 removed, 1 unchanged",
    ]
    assert done.returncode == 0


@pytest.mark.usefixtures("lists")
def test_without_a_column_shots_are_matched_by_their_content() -> None:
    """Rows between equal rows are paired in their order."""
    done = compared("--json", "--map", "shot=")
    data = json.loads(done.stdout)
    assert data["matched_by"] is None
    assert data["counts"] == {"changed": 2, "added": 0, "removed": 0, "unchanged": 1}
    assert data["totals"] == [
        {"currency": "USD", "before": "1.428", "after": "1.2852", "difference": "-0.1428"}
    ]
    assert data["changes"][0]["cells"] == [{"column": "duration", "before": "5", "after": "10"}]


def test_markdown_obeys_nothing_in_a_list(lists: Path) -> None:
    """Texts from the lists stand in code spans: no mention, link, HTML or new cell comes from them."""
    text = "@team <b>x</b> `code` | [link](http://x) ${{ secrets.X }}"
    (lists / "new.csv").write_text(f'shot,model,duration,prompt\n1,kling-v3,5,"{text}"\n')
    (lists / "old.csv").write_text("shot,model,duration,prompt\n1,kling-v3,5,a\n")
    lines = compared("--markdown", *KEY).stdout.splitlines()
    assert lines[0] == "### Cost of `new.csv`: **0.357 -> 0.357 USD (0)**"
    (row,) = [line for line in lines if "changed |" in line]
    assert row.count("`") % 2 == 0
    outside = "".join(row.split("`")[::2])
    assert not set("@<[$") & set(outside)
    assert row.replace("\\|", "").count("|") == 7


def test_a_refused_or_dear_list_exits_1(lists: Path) -> None:
    """A refused shot, or too high an increase, exits 1; a list that cannot be read exits 2."""
    (lists / "new.csv").write_text(OLD + "4,kling-v3,15,d\n")
    assert compared("--max-increase", "1.071", *KEY).returncode == 0
    dear = compared("--max-increase", "1.07", *KEY)
    assert (dear.returncode, dear.stderr) == (1, "the total rises by more than 1.07\n")
    (lists / "new.csv").write_text(OLD + "4,kling-v3,99,d\n")
    refused = compared(*KEY)
    assert refused.returncode == 1
    assert "  refused  new.csv:5: duration must be 3 to 15 seconds for kling-v3, not 99" in refused.stdout
    assert "**1 shot refused:**" in compared("--markdown", *KEY).stdout
    (lists / "new.csv").write_text("shot,model\n1\n")
    assert compared(*KEY).returncode == 2
    assert compared("--json", "--markdown").returncode == 2


def test_a_column_must_identify_each_shot(lists: Path) -> None:
    """A missing or repeated text is refused with its row."""
    (lists / "new.csv").write_text(OLD + "1,kling-v3,5,again\n")
    repeated = compared("--match-by", "Shot", *KEY)
    assert "new.csv:5: column 'shot' has the same text as new.csv:2" in repeated.stderr
    (lists / "new.csv").write_text(OLD + ",kling-v3,5,again\n")
    missing = compared("--match-by", "Shot", *KEY)
    assert "new.csv:5: this shot has no text in column 'shot'" in missing.stderr
    unknown = compared("--match-by", "Shoot", *KEY)
    assert "old.csv: has no column 'shoot' to match by; did you mean 'shot'?" in unknown.stderr
    assert [done.returncode for done in (repeated, missing, unknown)] == [2, 2, 2]


QUOTES = {
    duration: quote_payload(video(duration=duration), Intake(at=AT, book=bundled_book()))
    for duration in (3, 5, 10)
}


def shots(durations: list[int], file: str) -> list[PricedShot]:
    """Returns a list of shots with these lengths."""
    return [
        PricedShot(f"{file}:{row}", file, row, {"duration": str(duration)}, QUOTES[duration])
        for row, duration in enumerate(durations, start=2)
    ]


LENGTHS = st.lists(st.sampled_from([3, 5, 10]), max_size=12)


@settings(max_examples=examples(50, long=2000))
@given(before=LENGTHS, after=LENGTHS)
def test_the_changes_add_up_to_the_difference(before: list[int], after: list[int]) -> None:
    """The differences of all changes are the difference of the totals, and each shot is counted once."""
    comparison = compare_lists(shots(before, "a"), shots(after, "b"), None)
    old, new = comparison.totals.get("USD", (Decimal(0), Decimal(0)))
    differences = [change.differences().get("USD", Decimal(0)) for change in comparison.changes]
    assert sum(differences, Decimal(0)) == new - old
    counts: dict[Any, int] = {kind: comparison.count(kind) for kind in ("changed", "added", "removed")}
    assert counts["changed"] + counts["removed"] + comparison.unchanged == len(before)
    assert counts["changed"] + counts["added"] + comparison.unchanged == len(after)


def test_long_lists_are_compared_quickly() -> None:
    """Lists too long to be aligned are matched by content alone, whatever the order."""
    before, after = shots([3, 5] * 1500, "a"), shots([10, *[5, 3] * 1500], "b")
    comparison = compare_lists(before, after, None)
    assert (comparison.unchanged, comparison.count("added"), comparison.count("changed")) == (3000, 1, 0)
