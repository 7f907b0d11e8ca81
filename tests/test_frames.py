"""Prices in data frames: pandas, Polars and PyArrow give the results of `quote` and `check`, row by row."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_pricing import KlingPricingError, PriceNotFoundError, WireFormatError, check, frames, quote
from tests.conftest import AT, examples, video

Rows = list[dict[str, Any]]
EXAMPLES = Path(__file__).parent.parent / "examples" / "requests"

MAKERS: dict[str, Callable[[Rows], Any]] = {
    "pandas": pd.DataFrame,
    "pandas with objects": lambda rows: pd.DataFrame(rows).astype(object),
    "pandas on PyArrow": lambda rows: pa.Table.from_pylist(rows).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda rows: pl.DataFrame(rows, infer_schema_length=None),
    "pyarrow": pa.Table.from_pylist,
}
"""Kind of frame -> a function that makes one from rows, whose missing values are None."""


def read(frame: Any) -> Rows:
    """Returns a frame as rows whose missing values are None."""
    if isinstance(frame, pl.DataFrame):
        return frame.to_dicts()
    if isinstance(frame, pa.Table):
        return [dict(row) for row in frame.to_pylist()]
    rows = [dict(zip(frame.columns, values, strict=True)) for values in frame.itertuples(index=False)]
    return [{name: None if pd.isna(value) else value for name, value in row.items()} for row in rows]


CLIPS: Rows = [
    video(duration=5, resolution="1080p", audio=True),
    video(duration=10, resolution="720p", audio=False),
    video(duration=None, resolution=None, audio=None),
    video(duration=99, resolution="1080p", audio=True),
    video("no-such-model", duration=5, resolution="720p", audio=False),
    video(duration=5, resolution="1080p", audio=True),
]
FULL: Rows = [
    {name: clip.get(name) for name in ("model", "prompt", "duration", "resolution", "audio")} for clip in CLIPS
]


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest) -> Callable[[Rows], Any]:
    """Returns a function that makes a frame from rows, once for each kind of frame."""
    return MAKERS[request.param]


def expected(clip: dict[str, Any]) -> Decimal | None:
    """Returns the price of a payload, row by row; None if it is refused."""
    try:
        return quote({name: value for name, value in clip.items() if value is not None}, at=AT).total
    except KlingPricingError:
        return None


def test_each_row_has_the_price_that_quote_gives(make: Callable[[Rows], Any]) -> None:
    """Totals are exact decimals in the order of the rows; refused rows have a reason and no amount."""
    frame = make(FULL)
    priced = frames.quote(frame, at=AT)
    assert type(priced) is type(frame)
    rows = read(priced)
    assert [row["total"] for row in rows] == [expected(clip) for clip in FULL]
    assert {type(row["total"]) for row in rows} == {Decimal, type(None)}
    assert rows[0] == {
        **dict.fromkeys(("total", "minimum", "maximum"), Decimal("0.714")),
        **dict.fromkeys(("list_total", "error", "code")),
        "currency": "USD",
        "provider": "qingbo",
        "model": "kling-v3",
        "resolution": "1080p",
        "tier": "audio",
        "quantity": 5,
        "unit_price": Decimal("0.1428"),
        "unit": "second",
        "table": "qingbo/2026-04-29",
    }
    assert (rows[3]["error"], rows[3]["code"]) == (
        "duration must be 3 to 15 seconds for kling-v3, not 99",
        "duration_s_limit",
    )
    assert rows[4]["code"] == "unknown_model"
    assert {rows[number][name] for number in (3, 4) for name in ("total", "minimum", "maximum")} == {None}


def test_each_row_has_the_violations_that_check_gives(make: Callable[[Rows], Any]) -> None:
    """A row is valid exactly if the API would accept it; otherwise it has every reason."""
    rows = read(frames.check(make(FULL), at=AT))
    found = [check({name: value for name, value in clip.items() if value is not None}, at=AT) for clip in FULL]
    assert [row["valid"] for row in rows] == [not violations for violations in found]
    assert [row["violations"] for row in rows] == [len(violations) for violations in found]
    assert rows[3]["code"] == "duration_s_limit"
    assert rows[0]["error"] is None


def test_lists_and_objects_are_fields(make: Callable[[Rows], Any]) -> None:
    """Lists of URLs, and fields inside objects by names with dots, are read as in JSON."""
    images = [["https://a.example/1.png"], ["https://a.example/1.png", "https://a.example/2.png"], None]
    rows = [{"model": "kling-v3-omni", "prompt": "a", "image_urls": urls} for urls in images]
    found = read(frames.quote(make(rows), at=AT))
    clips = [{name: value for name, value in row.items() if value is not None} for row in rows]
    assert [row["total"] for row in found] == [quote(clip, at=AT).total for clip in clips]
    nested = [{"model": "kling-v3", "prompt": "a", "extra.mode": mode} for mode in ("std", "pro")]
    found = read(frames.quote(make(nested), at=AT))
    assert [row["total"] for row in found] == [
        quote({"model": "kling-v3", "prompt": "a", "extra": {"mode": mode}}, at=AT).total
        for mode in ("std", "pro")
    ]


def test_a_number_with_a_fraction_is_not_rounded(make: Callable[[Rows], Any]) -> None:
    """Whole numbers that a frame keeps as floats are whole; any other float is refused."""
    rows = [{"model": "kling-v3", "prompt": "a", "duration": length} for length in (5.0, 5.5, None)]
    found = read(frames.quote(make(rows), at=AT))
    assert [row["total"] for row in found] == [Decimal("0.357"), None, Decimal("0.357")]
    assert found[1]["error"] == "duration must be a whole number, got 5.5"


def test_a_range_has_no_total(make: Callable[[Rows], Any]) -> None:
    """If a fact is unknown, the row has the lowest and the highest price."""
    clip = json.loads((EXAMPLES / "tasks_v2" / "motion_control.json").read_text())
    (row,) = read(frames.quote(make([clip]), at=AT, wire_format="tasks_v2"))
    quoted = quote(clip, at=AT, wire_format="tasks_v2")
    assert quoted.minimum < quoted.maximum
    assert (row["total"], row["minimum"], row["maximum"]) == (None, quoted.minimum, quoted.maximum)


def test_columns_constants_and_names(make: Callable[[Rows], Any]) -> None:
    """Only the chosen columns are fields, under the given names, and constants are in every row."""
    rows = [{"shot": "042", "seconds": length} for length in (5, 10)]
    constants = {"model": "kling-v3", "prompt": "a", "resolution": "1080p"}
    found = read(frames.quote(make(rows), columns={"seconds": "duration"}, constants=constants, at=AT))
    assert [row["total"] for row in found] == [Decimal("0.476"), Decimal("0.952")]
    unchosen = read(frames.quote(make(rows), constants=constants, at=AT))
    assert {row["total"] for row in unchosen} == {None}
    assert "shot" in unchosen[0]["error"]


@pytest.mark.parametrize(
    ("options", "kind", "part"),
    [
        ({"columns": ["duratoin"]}, KlingPricingError, "no column duratoin; did you mean 'duration'?"),
        ({"columns": "duration"}, KlingPricingError, "must be a list of names"),
        ({"columns": {"duration": "a..b"}}, KlingPricingError, "is not a field"),
        ({"columns": {"duration": 5}}, KlingPricingError, "is not a field"),
        ({"columns": {"duration": "a", "model": "a"}}, KlingPricingError, "the field a is given twice"),
        ({"constants": {"duration": 5}}, KlingPricingError, "the field duration is given twice"),
        ({"columns": []}, KlingPricingError, "name their fields"),
        ({"provider": "nobody"}, PriceNotFoundError, "unknown provider 'nobody'"),
        ({"wire_format": "morse"}, WireFormatError, "unknown wire format 'morse'"),
        ({"url": "nowhere"}, KlingPricingError, "http or https URL"),
        ({"at": "now"}, KlingPricingError, "at must be a datetime"),
    ],
)
def test_bad_options_are_refused_at_once(options: Any, kind: type[Exception], part: str) -> None:
    """What would refuse every row raises an error, and names the remedy."""
    frame = pd.DataFrame(FULL)
    for function in (frames.quote, frames.check):
        with pytest.raises(kind, match=part.replace("?", r"\?").replace(".", r"\.")):
            function(frame, **options)


@pytest.mark.parametrize(
    ("frame", "part"),
    [
        (FULL, "must be a data frame of pandas, Polars or PyArrow, got list"),
        (pl.DataFrame(FULL).lazy(), r"frame is lazy; call `collect\(\)`"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "a"),
        (pd.DataFrame([[1]], columns=[5]), "must be text"),
    ],
)
def test_other_objects_are_refused(frame: Any, part: str) -> None:
    """An error says what the function takes."""
    with pytest.raises(KlingPricingError, match=part):
        frames.quote(frame)


def test_frames_without_rows_keep_their_columns(make: Callable[[Rows], Any]) -> None:
    """No rows give no rows, with all columns of results."""
    frame = make(FULL)
    none = frame[:0] if not isinstance(frame, pa.Table) else frame.slice(0, 0)
    priced = frames.quote(none, at=AT)
    assert len(priced) == 0
    names = priced.column_names if isinstance(priced, pa.Table) else [*priced.columns]
    assert names[:3] == ["total", "minimum", "maximum"]


def test_constants_alone_are_requests() -> None:
    """If no column is a field, every row is the request that the constants give."""
    constants = {"model": "kling-v3", "prompt": "a", "duration": 5}
    for frame in (pd.DataFrame({"shot": [1, 2]}), pl.DataFrame({"shot": [1, 2]}), pa.table({"shot": [1, 2]})):
        found = read(frames.quote(frame, columns=[], constants=constants, at=AT))
        assert [row["total"] for row in found] == [Decimal("0.357")] * 2


def test_categories_are_text() -> None:
    """Columns of categories, which data people use for repeated names, are read as their values."""
    rows = [row | {"audio": bool(row["audio"])} for row in FULL]
    frame = pd.DataFrame(rows).astype({"model": "category", "resolution": "category"})
    polars = pl.DataFrame(rows).with_columns(pl.col("model", "resolution").cast(pl.Categorical))
    arrow = pa.Table.from_pylist(rows)
    encoded = arrow.set_column(0, "model", arrow["model"].dictionary_encode())
    totals = [expected(row) for row in rows]
    for each in (frame, polars, encoded):
        assert [row["total"] for row in read(frames.quote(each, at=AT))] == totals


def test_the_index_of_pandas_is_kept() -> None:
    """Results align with the rows, also if the index has gaps, repeats or several levels."""
    frame = pd.DataFrame(FULL)
    for index in (
        pd.Index([9, 9, 3, 1, 0, 7]),
        pd.Index(list("fedcba"), name="shot"),
        pd.MultiIndex.from_product([["a", "b"], [1, 2, 3]]),
    ):
        frame.index = index
        priced = frames.quote(frame, at=AT)
        assert priced.index.equals(index)
        assert frame.assign(cost=priced["total"])["cost"].iloc[0] == Decimal("0.714")


def test_decimals_are_those_of_each_library() -> None:
    """128-bit decimals with the nine places of published prices; sums stay exact."""
    rows = FULL[:2] * 50
    total = 50 * (Decimal("0.714") + Decimal("0.714"))
    arrow = frames.quote(pa.Table.from_pylist(rows), at=AT)
    assert arrow.schema.field("total").type == pa.decimal128(38, 9)
    polars = frames.quote(pl.DataFrame(rows), at=AT)
    assert polars.schema["total"] == pl.Decimal(38, 9)
    assert polars["total"].sum() == total
    pandas = frames.quote(pd.DataFrame(rows), at=AT)
    assert pandas["total"].dtype == pd.ArrowDtype(pa.decimal128(38, 9))
    assert pandas["total"].sum() == total


def test_pandas_without_pyarrow_has_decimals() -> None:
    """Amounts are then objects of Python, just as exact."""
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import pandas as pd\n"
        "from decimal import Decimal\n"
        "from datetime import UTC, datetime\n"
        "from kling_pricing import frames\n"
        "rows = [{'model': 'kling-v3', 'prompt': 'a', 'duration': length} for length in (5, 99)]\n"
        "priced = frames.quote(pd.DataFrame(rows), at=datetime(2026, 11, 21, tzinfo=UTC))\n"
        "print(repr(priced['total'].tolist()), priced['total'].dtype)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[Decimal('0.3570'), None] object\n", done.stderr


def test_the_extra_is_named_if_it_is_missing() -> None:
    """Without narwhals, the error says what to install; the library itself works."""
    code = "import sys; sys.modules['narwhals'] = None\nimport kling_pricing\nimport kling_pricing.frames\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'kling-pricing[frames]'" in done.stderr.splitlines()[-1]


def test_the_library_loads_no_data_frames() -> None:
    """`import kling_pricing`, a quote and a guard bring in none of these libraries."""
    heavy = ["narwhals", "pandas", "polars", "pyarrow", "numpy", "mcp", "kling_pricing.frames", "duckdb"]
    code = (
        "import sys, kling_pricing\n"
        "kling_pricing.quote({'model': 'kling-v3', 'prompt': 'a', 'duration': 5})\n"
        f"kling_pricing.BudgetGuard\nprint([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_values_that_python_calls_equal_stay_apart() -> None:
    """In a column of objects, `true`, 1 and 1.0 are different values, as in JSON."""
    values = [True, 1, "true", np.True_]
    frame = pd.DataFrame({"audio": pd.Series(values, dtype=object)})
    constants = {"model": "kling-v3", "prompt": "a", "duration": 5}
    rows = read(frames.quote(frame, constants=constants, at=AT))
    assert [row["total"] is None for row in rows] == [False, True, True, False]


def test_missing_values_of_every_kind_are_left_out() -> None:
    """None, NaN, NA and NaT all mean that the request leaves the field out."""
    frame = pd.DataFrame({"resolution": pd.Series([None, float("nan"), pd.NA, pd.NaT, "720p"], dtype=object)})
    constants = {"model": "kling-v3", "prompt": "a", "duration": 5}
    assert {row["total"] for row in read(frames.quote(frame, constants=constants, at=AT))} == {Decimal("0.357")}
    floats = pl.DataFrame({"duration": [5.0, float("nan"), None]})
    rest = {"model": "kling-v3", "prompt": "a"}
    assert {row["total"] for row in read(frames.quote(floats, constants=rest, at=AT))} == {Decimal("0.357")}


VALUES = {
    "model": st.sampled_from(["kling-v3", "kling-v2.6", "kling-v3-omni", "nothing"]),
    "duration": st.sampled_from([None, 3, 5, 10, 99]),
    "resolution": st.sampled_from([None, "720p", "1080p", "4k", "8k"]),
    "audio": st.sampled_from([None, True, False]),
    "image_urls": st.sampled_from([None, [], ["https://a.example/1.png"]]),
}


@settings(max_examples=examples(50))
@given(st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=30))
def test_every_frame_agrees_with_quote(rows: Rows) -> None:
    """For random rows, each library gives the total of each row, and the sum is the sum of the quotes."""
    rows = [{**row, "prompt": "a"} for row in rows]
    totals = [expected(row) for row in rows]
    for make in (MAKERS["pandas"], MAKERS["polars"], MAKERS["pyarrow"]):
        assert [row["total"] for row in read(frames.quote(make(rows), at=AT))] == totals


def test_many_rows_have_the_sum_of_their_distinct_jobs() -> None:
    """96,000 rows with 48 distinct jobs cost exactly 2,000 times as much as these jobs."""
    distinct = [
        video(duration=length, resolution=resolution, audio=audio)
        for length in range(3, 15)
        for resolution in ("720p", "1080p")
        for audio in (True, False)
    ]
    rows = [distinct[number % len(distinct)] for number in range(48 * 2000)]
    total = 2000 * sum(quote(clip, at=AT).total for clip in distinct)
    assert frames.quote(pl.DataFrame(rows), at=AT)["total"].sum() == total
