"""The SQL that reads numbers as people and spreadsheet programs write them: `¥1,251.50`, `(5.00)`, `5 秒`.

A number in plain digits is passed on as it is, at no cost. Any other text is taken apart into its sign, its
unit and its digits, and is read only if it has one meaning; `1,251` has two, unless the file or its mapping
shows which separator divides thousands.
"""

from __future__ import annotations

from kling_pricing.reconcile.staging import literal, matches

_WIDE = "".join(chr(0xFF10 + digit) for digit in range(10))
_SIGNS = {
    0xFF0D: "-",
    0xFF0B: "+",
    0xFF0E: ".",
    0xFF0C: ",",
    0xFFE5: "¥",
    0xFF04: "$",
    0xFF08: "(",
    0xFF09: ")",
    0x2212: "-",
    0x2019: "'",
}
_WRITTEN = f"{_WIDE}{''.join(map(chr, _SIGNS))}", f"0123456789{''.join(_SIGNS.values())}"
_NAME = "[^-+0-9.,' ()]{0,8}"
_PARTS = (
    rf"^(?P<open>\(?) ?(?P<before>[-+]?) ?(?P<name>{_NAME}) ?(?P<after>[-+]?) ?"
    rf"(?P<digits>[0-9][0-9.,' ]*?) ?(?P<unit>{_NAME}) ?(?P<end>-?) ?(?P<close>\)?)$"
)
_GROUPS = ("open", "before", "name", "after", "digits", "unit", "end", "close")
_CHARACTERS = r"[-+0-9.,' ()\p{L}\p{Sc}$]*"
"""The characters of a number and its unit. `_NAME` does not list the letters, because DuckDB takes long to
prepare a pattern that lists them several times."""
_SPACE = r"[\s\p{Z}]"
_EDGES = r"^[\s\p{Z}\p{C}='\"]+|[\s\p{Z}\p{C}='\"]+$"

CURRENCY_NAMES = {
    "CNY": ("RMB", "元", "人民币", "人民幣", "CN¥", "¥", "CNH"),
    "USD": ("$", "US$", "美元", "美金"),
    "JPY": ("¥", "円", "日元"),
    "EUR": ("€", "欧元"),
    "GBP": ("£", "英镑"),
    **dict.fromkeys(("AUD", "CAD", "HKD", "NZD", "SGD", "TWD"), ("$",)),
}
"""Currency -> other names and signs with which people write it; a name may belong to several currencies."""

_SECONDS = ("s", "sec", "secs", "second", "seconds", "秒", "秒钟")
_SCALES = {
    **dict.fromkeys(_SECONDS, "1"),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds", "毫秒"), "0.001"),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "分", "分钟"), "60"),
}
"""Unit of a length -> its value in seconds."""

DURATION_UNITS = {"s": "1", "ms": "0.001", "min": "60"}
"""Unit that a mapping can give -> its value in seconds."""

_LENGTH = r"[0-9]{1,9}([.][0-9]{1,6})?"
_CLOCK = "[0-9]{1,2}:[0-5][0-9]:[0-5][0-9]"


def unit_name(text: str) -> str:
    """Returns the SQL of a currency's code, for a code or a name that only one currency has.

    Any other text stays.
    """
    names = [name for names in CURRENCY_NAMES.values() for name in names]
    whens = " ".join(
        f"WHEN {literal(name)} THEN {literal(currency)}"
        for currency, own in CURRENCY_NAMES.items()
        for name in own
        if names.count(name) == 1
    )
    code = f"upper(trim({text}))"
    return f"CASE {code} {whens} ELSE CASE WHEN {matches(code, '[A-Z]{3}')} THEN {code} ELSE {text} END END"


def is_plain_number(text: str, decimal: str | None) -> str:
    """Returns the SQL condition that a number has nothing but digits, a minus, and the decimal separator."""
    return matches(text, f"-?[0-9]+([{decimal}][0-9]+)?" if decimal else "-?[0-9]+")


def spaced(text: str, decimal: str | None) -> str:
    """Returns the SQL of a number's text without padding and wide characters; NULL: it is a plain number."""
    written = f"translate({text}, {literal(_WRITTEN[0])}, {literal(_WRITTEN[1])})"
    stripped = f"regexp_replace({written}, {literal(_EDGES)}, '', 'g')"
    return (
        f"CASE WHEN {text} <> '' AND NOT {is_plain_number(text, decimal)}"
        f" THEN regexp_replace({stripped}, {literal(_SPACE)}, ' ', 'g') END"
    )


def number_parts(text: str) -> str:
    """Returns the SQL of a number's parts, a struct of `_GROUPS`; each part is empty if it is not a number.

    Args:
        text: the SQL of its `spaced` text. Keep both in columns, because DuckDB computes an expression that
            occurs several times for every row, whatever conditions stand around it.
    """
    groups = ", ".join(map(literal, _GROUPS))
    known = f"CASE WHEN {matches(text, _CHARACTERS)} THEN {text} ELSE '' END"
    return f"CASE WHEN {text} IS NOT NULL THEN regexp_extract({known}, {literal(_PARTS)}, [{groups}]) END"


def figure(parts: str, decimal: str | None, thousands: str | None) -> str:
    """Returns the SQL of a number with a decimal point; NULL if its parts have no meaning or several.

    Args:
        parts: the SQL of its parts.
        decimal: the decimal separator; None: it is not known.
        thousands: the separator of thousands; None: it is not known.
    """
    digits, (open_, close) = f"{parts}.digits", (f"{parts}.open", f"{parts}.close")
    signs = f"{parts}.before || {parts}.after || {parts}.end || {open_}"
    sign = f"CASE WHEN {signs} IN ('-', '(') THEN '-' ELSE '' END"
    point = literal(decimal or ".")
    plain = f"replace({digits}, {point}, '.')"
    fraction = f"([{decimal}][0-9]+)?" if decimal else ""
    whens = [(matches(digits, f"[0-9]+{fraction}"), plain)]
    for separator in ",.' ":
        if separator != decimal:
            grouped = f"[1-9][0-9]{{0,2}}([{separator}][0-9]{{3}})"
            is_sure = separator in {thousands, "'", " "}
            sure = matches(digits, f"{grouped}+{fraction}" if is_sure else f"{grouped}{{2,}}{fraction}")
            if decimal and not is_sure:
                sure = f"({sure} OR {matches(digits, f'{grouped}+[{decimal}][0-9]+')})"
            ungrouped = f"replace({digits}, {literal(separator)}, '')"
            whens.append((sure if decimal or is_sure else "FALSE", f"replace({ungrouped}, {point}, '.')"))
    read = " ".join(f"WHEN {condition} THEN {value}" for condition, value in whens)
    is_number = (
        f"{digits} <> '' AND length({signs}) <= 1 AND ({open_} = '') = ({close} = '')"
        f" AND ({parts}.name = '' OR {parts}.unit = '')"
    )
    return f"CASE WHEN {is_number} THEN {sign} || CASE {read} END END"


def names_unit(parts: str, unit: str) -> str:
    """Returns the SQL condition that a number names no other unit than that of its row."""
    name = f"upper({parts}.name || {parts}.unit)"
    pairs = ", ".join(
        literal(f"{currency} {name}") for currency, names in CURRENCY_NAMES.items() for name in names
    )
    return f"({name} IN ('', upper({unit}), upper({unit} || 's')) OR {unit} || ' ' || {name} IN ({pairs}))"


def duration(text: str, parts: str, number: str, decimal: str | None, unit: str) -> str:
    """Returns the SQL of a length in seconds; NULL if the text is not a length.

    Args:
        text: the SQL of the text.
        parts: the SQL of its `number_parts`.
        number: the SQL of its `figure`.
        decimal: the decimal separator; None: it is not known.
        unit: the unit of lengths that do not name their own.
    """
    plain = f"replace({text}, {literal(decimal or '.')}, '.')"
    scales = " ".join(f"WHEN {literal(name)} THEN {scale}" for name, scale in _SCALES.items())
    scale = f"CASE lower({parts}.unit) WHEN '' THEN {DURATION_UNITS[unit]} {scales} END"
    clock = " + ".join(
        f"{seconds} * CAST(split_part({text}, ':', {place}) AS INTEGER)"
        for place, seconds in enumerate((3600, 60, 1), start=1)
    )
    return (
        f"CASE WHEN {text} = '' THEN NULL"
        f" WHEN {is_plain_number(text, decimal)}"
        f" THEN CASE WHEN {matches(plain, _LENGTH)} THEN {_seconds(plain, DURATION_UNITS[unit])} END"
        f" WHEN {matches(text, _CLOCK)} THEN {clock}"
        f" WHEN {matches(number, _LENGTH)} AND {parts}.name = '' THEN {_seconds(number, scale)} END"
    )


def _seconds(number: str, scale: str) -> str:
    """Returns the SQL of a number times a scale; no engine divides decimals exactly."""
    exact = f"CAST({number} AS DECIMAL(15, 6))"
    product = exact if scale == "1" else f"{exact} * CAST({scale} AS DECIMAL(5, 3))"
    return f"TRY_CAST({product} AS DECIMAL(12, 6))"
