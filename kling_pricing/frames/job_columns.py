"""`quote` and `check` for data frames."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from kling_pricing.display import did_you_mean, not_installed, shown
from kling_pricing.errors import KlingPricingError, TableError
from kling_pricing.findings import Violation
from kling_pricing.hooks.error_responses import error_code
from kling_pricing.quoting.engine import check_payload, quote_payload
from kling_pricing.quoting.intake import Intake
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.media import MediaLike

try:
    from kling_pricing.frames.native_frames import Kind, NativeFrame, native_frame
    from kling_pricing.frames.row_payloads import payload_of
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        not_installed("a data frame", f"{missing.name}", "frames"), name=missing.name
    ) from missing

FrameT = TypeVar("FrameT")

_QUOTE_COLUMNS: Mapping[str, Kind] = {
    **dict.fromkeys(("total", "minimum", "maximum", "list_total"), "decimal"),
    **dict.fromkeys(("currency", "provider", "model", "resolution", "tier"), "text"),
    **dict.fromkeys(("quantity", "unit_price"), "decimal"),
    **dict.fromkeys(("unit", "table", "error", "code"), "text"),
}
_CHECK_COLUMNS: Mapping[str, Kind] = {
    "valid": "boolean",
    "violations": "number",
    "error": "text",
    "code": "text",
}


def quote(
    frame: FrameT,
    *,
    columns: Iterable[str] | Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
    provider: str | None = None,
    wire_format: str | None = None,
    at: datetime | None = None,
    book: PriceBook | None = None,
    media: MediaLike | None = None,
    allow_unknown: bool = False,
    url: str | None = None,
) -> FrameT:
    """Returns the exact price of every row of a data frame, as a frame with the same rows.

    Args:
        frame: a pandas, Polars or PyArrow frame; it is not changed. A null or NaN means that a request leaves
            the field out. A name with dots is a field inside objects: `extra.mode`.
        columns: the columns that are fields, or column -> field; by default, every column is the field of its
            name.
        constants: field -> value, for the fields that are the same in every row.
        provider: the provider that bills; as for `kling_pricing.quote`, as are the following.
        wire_format: the API that the requests are written for.
        at: the instant whose prices apply to every row, with a time zone; by default, now.
        book: the price tables.
        media: URL -> facts about the file at that URL.
        allow_unknown: whether to ignore fields that the API does not document.
        url: the endpoint that receives the requests.

    Returns:
        A frame of the same kind, with the same rows in the same order and, in pandas, the same index. Its
        columns are `total`, `minimum`, `maximum`, `list_total`, `currency`, `provider`, `model`, `resolution`,
        `tier`, `quantity`, `unit_price`, `unit`, `table`, `error` and `code`. Amounts are exact decimals with 9
        decimal places, or 18 if an amount needs more. A refused row has an `error` with the reason, its `code`,
        and no amounts. A range has no `total`.

    Raises:
        KlingPricingError: the frame or an option cannot be used, such as an unknown provider. A row is never
            the reason.
        TableError: a table cannot be loaded.
    """
    intake = _intake(provider, wire_format, at, book, media, allow_unknown, url)

    def priced(payload: Mapping[str, Any]) -> dict[str, Any]:
        quoted = quote_payload(payload, intake)
        minimum, maximum = quoted.minimum, quoted.maximum
        return {
            "total": maximum if minimum == maximum else None,
            "minimum": minimum,
            "maximum": maximum,
            "list_total": quoted.list_total,
            "currency": quoted.currency,
            "provider": quoted.provider,
            "model": quoted.canonical_model,
            "resolution": quoted.resolution,
            "tier": quoted.tier,
            "quantity": quoted.quantity,
            "unit_price": quoted.unit_price,
            "unit": quoted.unit,
            "table": quoted.table.id,
        }

    return _answered(frame, columns, constants, priced, _QUOTE_COLUMNS)


def check(
    frame: FrameT,
    *,
    columns: Iterable[str] | Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
    provider: str | None = None,
    wire_format: str | None = None,
    at: datetime | None = None,
    book: PriceBook | None = None,
    media: MediaLike | None = None,
    allow_unknown: bool = False,
    url: str | None = None,
) -> FrameT:
    """Returns whether the API would accept every row of a data frame, as a frame with the same rows.

    Takes the arguments of `quote`.

    Returns:
        A frame of the same kind, with the same rows in the same order and, in pandas, the same index. Its
        columns are `valid`, `violations` (their number), `error` (every reason) and `code` (of the first one).

    Raises:
        KlingPricingError: the frame or an option cannot be used. A row is never the reason.
        TableError: a table cannot be loaded.
    """
    intake = _intake(provider, wire_format, at, book, media, allow_unknown, url)

    def checked(payload: Mapping[str, Any]) -> dict[str, Any]:
        violations = check_payload(payload, intake)
        return {"valid": not violations, "violations": len(violations)} | _reasons(violations)

    return _answered(frame, columns, constants, checked, _CHECK_COLUMNS)


def _intake(*options: Any) -> Intake:
    """Returns the intake for all rows, after it has refused the options that would refuse every row."""
    intake = Intake(*options)
    if intake.provider is not None:
        intake.book.tables_of(intake.provider)
    if intake.wire_format is not None:
        wire_format_named(intake.wire_format)
    if intake.url is not None:
        intake.book.endpoint(intake.url)
    return intake


def _answered(
    frame: FrameT,
    columns: Iterable[str] | Mapping[str, str] | None,
    constants: Mapping[str, Any] | None,
    answer: Callable[[Mapping[str, Any]], dict[str, Any]],
    names: Mapping[str, Kind],
) -> FrameT:
    """Returns the answers for all rows; equal rows are answered once."""
    native = native_frame(frame)
    fields = _fields(native, columns, constants or {})
    groups = native.groups([*fields])
    answers = []
    for row in native.rows(groups.first_rows, [*fields]):
        try:
            found = answer(
                payload_of({fields[column]: value for column, value in row.items()}, constants or {})
            )
        except TableError:
            raise
        except KlingPricingError as error:
            found = _refusal(error, names)
        answers.append(found)
    table = {name: [found.get(name) for found in answers] for name in names}
    result: FrameT = native.spread(table, names, groups)
    return result


def _fields(
    native: NativeFrame, columns: Iterable[str] | Mapping[str, str] | None, constants: Mapping[str, Any]
) -> dict[str, str]:
    """Returns column -> field.

    Raises:
        KlingPricingError: a column does not exist, or two values would be the same field.
    """
    if isinstance(columns, str):
        raise KlingPricingError(f"columns must be a list of names or a mapping, got the text {shown(columns)}")
    if columns is None:
        fields = {name: name for name in native.columns}
    elif isinstance(columns, Mapping):
        fields = dict(columns)
    else:
        fields = {name: name for name in columns}
    for column in fields:
        if column not in native.columns:
            raise KlingPricingError(
                f"columns: the frame has no column {shown(column)}; {did_you_mean(str(column), native.columns)}"
            )
    targets: list[Any] = [*fields.values(), *constants]
    for target in targets:
        if not isinstance(target, str) or not all(target.split(".")):
            raise KlingPricingError(f"{shown(target)} is not a field; write a name such as extra.mode")
        inside = [other for other in targets if other == target or str(other).startswith(f"{target}.")]
        if len(inside) > 1:
            raise KlingPricingError(f"the field {target} is given twice, by {', '.join(inside)}; give it once")
    if not targets:
        raise KlingPricingError("the frame has no columns, so its rows are not requests; name their fields")
    return fields


def _refusal(error: KlingPricingError, names: Mapping[str, Kind]) -> dict[str, Any]:
    violations: tuple[Violation, ...] = getattr(error, "violations", ())
    code = "invalid_value" if type(error) is KlingPricingError else error_code(type(error))
    reasons = _reasons([*violations]) if violations else {"error": str(error), "code": code}
    return reasons | ({"valid": False, "violations": len(violations)} if "valid" in names else {})


def _reasons(violations: list[Violation]) -> dict[str, Any]:
    if not violations:
        return {"error": None, "code": None}
    return {
        "error": "; ".join(violation.message for violation in violations),
        "code": violations[0].code,
    }
