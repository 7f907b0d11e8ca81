"""Reads the URL of a ledger on a PostgreSQL server.

Error messages contain no part of the URL except known names and short values of limits, because a mistyped URL
may contain its password anywhere.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Conninfo

from kling_pricing.display import nearest
from kling_pricing.errors import LedgerUnavailableError

_ENCODED = "%[0-9A-Fa-f]{2}"
_USER = rf"(?:[\w.~$-]|{_ENCODED})*"
_PASSWORD = rf"(?:[^\s%@/?#\[\]]|{_ENCODED})*"
_HOST = rf"(?:(?:[\w.-]|{_ENCODED})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?"
_DATABASE = rf"(?:[^\s%@:/?#]|{_ENCODED})*"
_URL = re.compile(
    rf"postgres(?:ql)?://(?:{_USER}(?::{_PASSWORD})?@)?(?:{_HOST}(?:,{_HOST})*)(?:/{_DATABASE})?"
    r"(?:\?(?P<options>[^#]*))?"
)
_WHOLE = re.compile(r"[0-9A-Za-z_.+-]{0,10}")
_INVALID = (
    "the ledger's URL is invalid; write it like postgresql://user:password@host:5432/database, and encode "
    "special characters in the user name and the password (@ as %40, / as %2F, : as %3A, ? as %3F, # as %23, "
    "% as %25)"
)


class ServerUrl(NamedTuple):
    """The parts of a ledger's URL.

    Attributes:
        parameters: the connection options of libpq.
        limits: the whole numbers of `pool_size`, `wait_s` and `answer_s`.
    """

    parameters: dict[str, str]
    limits: dict[str, int]


def read_url(url: str, limits: dict[str, int]) -> ServerUrl:
    """Splits a URL into the options of libpq and the limits, which are our own options.

    Args:
        url: the URL.
        limits: the names of the limits, with their defaults.

    Raises:
        LedgerUnavailableError: the URL is invalid, or an option in it is unknown or invalid.
    """
    match = _URL.fullmatch(url)
    if match is None:
        raise LedgerUnavailableError(_INVALID)
    try:
        options = dict(parse_qsl(match["options"] or "", keep_blank_values=True, strict_parsing=True))
    except ValueError:
        if match["options"]:
            raise LedgerUnavailableError(_INVALID) from None
        options = {}
    found = {name: _number(name, options.pop(name, str(default))) for name, default in limits.items()}
    known = [*limits, *(option.keyword.decode() for option in Conninfo.get_defaults()), "ssl"]
    for name in options:
        if name not in known:
            close = nearest(name, known)
            remedy = f"did you mean {close}?" if close else "use only options of libpq, such as sslmode"
            raise LedgerUnavailableError(
                f"the ledger's URL has an unknown option after the question mark; {remedy}"
            )
    query = urlencode(options, quote_via=quote)
    try:
        parameters = conninfo_to_dict(url.partition("?")[0] + (f"?{query}" if query else ""))
    except (psycopg.Error, ValueError):
        raise LedgerUnavailableError(_INVALID) from None
    return ServerUrl({name: str(value) for name, value in parameters.items()}, found)


def _number(name: str, value: str) -> int:
    if value.isascii() and value.isdigit() and 0 < len(value) < 10 and int(value):  # noqa: PLR2004 (decades of seconds)
        return int(value)
    got = f", got {value!r}" if _WHOLE.fullmatch(value) else ""
    raise LedgerUnavailableError(f"{name} in the ledger's URL must be a whole number of at least 1{got}")
