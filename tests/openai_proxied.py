"""Creates and polls videos with the unmodified OpenAI SDK for Python through the server's proxy.

The SDK knows the base URL of the proxy and access keys; nothing else is changed. `openai_proxied.mjs` makes the
same calls in Node::

    python openai_proxied.py BASE_URL KEY_OF_TRAILER KEY_OF_LOST KEY_OF_THROTTLED
"""

import json
import sys
import warnings
from collections.abc import Callable
from typing import Any

import openai

JOB: dict[str, Any] = {"model": "Kling-2.5", "prompt": "a paper boat", "seconds": "10", "size": "1920x1080"}


def outcome(call: Callable[[], Any]) -> str:
    """Returns the result of a call in one or two words."""
    try:
        video = call()
    except openai.APIStatusError as error:
        return f"{type(error).__name__} {error.status_code} {error.code or ''}".strip()
    except openai.APIConnectionError as error:
        return type(error).__name__
    return f"{video.id} {video.status}"


def main(base_url: str, *keys: str) -> None:
    """Makes calls that are accepted, polled, not valid, capped, refused, lost, and throttled twice."""
    warnings.simplefilter("ignore", DeprecationWarning)  # the SDK deprecates its own videos API
    trailer, lost, throttled = (
        openai.OpenAI(base_url=base_url, api_key=key, max_retries=2).videos for key in keys
    )
    outcomes = [outcome(lambda: trailer.create(**JOB))]
    task_id = outcomes[0].split()[0]
    outcomes.append(outcome(lambda: trailer.retrieve(task_id)))
    outcomes.append(outcome(lambda: trailer.create(**{**JOB, "model": "Kling-9"})))
    outcomes.append(outcome(lambda: trailer.create(**JOB)))
    outcomes.append(outcome(lambda: trailer.create(**JOB)))
    outcomes.append(outcome(lambda: lost.create(**JOB)))
    outcomes.append(outcome(lambda: throttled.create(**JOB)))
    outcomes.append(outcome(lambda: lost.retrieve(task_id)))
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main(*sys.argv[1:])
