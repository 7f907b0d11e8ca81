"""The placeholder files that the sandbox serves as results: the smallest files of each type."""

from __future__ import annotations

from base64 import b64decode

from kling_pricing.sandbox.exchange import Reply
from kling_pricing.sandbox.faces import Desk

_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""An image of one pixel."""
_WAV = b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x80\x3e\0\0\2\0\x10\0data\0\0\0\0"

_FILES = {
    "mp4": ("video/mp4", b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"),
    "png": ("image/png", b64decode(_PNG)),
    "mp3": ("audio/mpeg", b"ID3\4\0\0\0\0\0\0"),
    "wav": ("audio/wav", _WAV),
}


def served_file(name: str, desk: Desk) -> Reply:
    """Returns a result file; its name is the task's id followed by an extension that gives its type."""
    job = desk.find(name.partition(".")[0])
    if job is None or job.state != "succeeded" or not desk.has_result(job):
        return Reply(404, b"", {"content-type": "text/plain"})
    content_type, content = _FILES.get(name.rpartition(".")[2], _FILES["mp4"])
    return Reply(200, content, {"content-type": content_type})
