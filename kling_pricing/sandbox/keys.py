"""Checks the credentials of requests: a plain key, or a JSON Web Token (RFC 7519) signed by the caller."""

from __future__ import annotations

import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import Any

from kling_pricing.sandbox.exchange import DeclinedError


def check_key(key: str | None, secret: str | None, headers: Mapping[str, str]) -> None:
    """Checks the credentials of a request.

    Args:
        key: the expected key, or the expected issuer of tokens; None: every request is accepted.
        secret: the secret with which callers sign tokens (HS256); None: requests contain the key itself.
        headers: the headers, with names in lower case.

    Raises:
        DeclinedError: the key is missing or wrong, or the token is invalid or not valid at this time.
    """
    if key is None:
        return
    given = headers.get("authorization", "").removeprefix("Bearer ")
    if secret is None:
        if given != key:
            raise DeclinedError("no_key", "Authentication failed")
        return
    if not given:
        raise _declined("1001", "Authorization is empty")
    claims = _claims(given, secret)
    now_s = int(time.time())  # callers sign tokens with real times, not those of the sandbox's clock
    if claims.get("iss") != key:
        raise _declined("1002", "access key not found")
    if not isinstance(claims.get("exp"), int) or claims["exp"] <= now_s:
        raise _declined("1004", "Authorization has expired")
    if isinstance(claims.get("nbf"), int) and claims["nbf"] > now_s:
        raise _declined("1003", "Authorization is not yet valid")


def _claims(token: str, secret: str) -> Mapping[str, Any]:
    try:
        head, body, signature = token.split(".")
        claims = json.loads(urlsafe_b64decode(f"{body}==="))
        expected = urlsafe_b64encode(hmac.digest(secret.encode(), f"{head}.{body}".encode(), "sha256"))
    except ValueError:
        raise _declined("1002", "Authorization is invalid") from None
    if not hmac.compare_digest(signature.encode(), expected.rstrip(b"=")):
        raise _declined("1000", "signature is invalid")
    return claims if isinstance(claims, dict) else {}


def _declined(code: str, message: str) -> DeclinedError:
    return DeclinedError("no_key", message, code=code)
