"""Get the cost of a request before you send it, and correct the request if the API would refuse it.

Run it with::

    .venv/bin/python examples/quote_before_submit.py
"""

from kling_pricing import CapabilityError, quote

request = {"model": "kling-v2.6", "prompt": "The lighthouse lamp turns slowly", "duration": 5, "audio": True}

try:
    q = quote(request)
except CapabilityError as error:
    for violation in error.violations:
        print(f"refused: {violation.message}")
    request |= error.suggestions[0]
    print(f"instead: {dict(error.suggestions[0])}")
    q = quote(request)

print(f"{q.total} {q.currency}")
