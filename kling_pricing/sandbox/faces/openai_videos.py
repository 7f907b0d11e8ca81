"""Face `openai_videos`: OpenAI's video object, whose `model` has the billing spec; no field states a charge."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import islice
from math import gcd
from typing import Any

from kling_pricing.sandbox.clock import from_ms
from kling_pricing.sandbox.exchange import Call, DeclinedError, Reply
from kling_pricing.sandbox.faces import Desk, Face, StatementRow
from kling_pricing.sandbox.jobs import Job
from kling_pricing.sandbox.reading import PayloadFields, Reading, add_prompt, invalid

_SIZE = re.compile(r"([1-9][0-9]{0,5})[xX]([1-9][0-9]{0,5})")
_SOUND = {"enabled": True, "disabled": False}
_SCENES = ("motion_control", "avatar_i2v", "lip_sync", "template_effect")
_MS_PER_S = 1000
_PAGE_DEFAULT, _PAGE_MAX = 20, 100
_ORDERS = ("asc", "desc")
_VIDEO_PATH, _GENERATIONS_PATH = "/v1/videos/", "/v1/video/generations/"
_FLAT_WORDS = {"succeeded": "succeeded", "cancelled": "failed"}


class OpenaiVideosFace(Face):
    """The face of the API in OpenAI's shape, with settings in `metadata`."""

    NAME = "openai_videos"
    WORDS = {"processing": "in_progress", "succeeded": "completed"}
    COLUMNS = ("task_id", "model", "created_at", "seconds", "amount", "currency")
    CODES = {
        "invalid": (400, "invalid_request"),
        "unpriced": (400, "model_not_found"),
        "no_balance": (403, "insufficient_user_quota"),
        "moderation": (400, "content_policy_violation"),
        "rate": (429, "rate_limit_exceeded"),
        "concurrency": (429, "rate_limit_exceeded"),
        "no_key": (401, "invalid_api_key"),
        "not_found": (404, "not_found"),
        "task_not_found": (404, "not_found"),
        "internal": (500, "server_error"),
    }
    CODE_OF_STATUS = {401: "invalid_api_key", 404: "not_found", 429: "rate_limit_exceeded", 500: "server_error"}

    def new_id(self, number: int, seed: int) -> str:
        """Returns the id of a new task, by the number of its submission."""
        return f"video_{sha256(f'{seed}/{number}'.encode()).hexdigest()[:24]}"

    def read(self, payload: Mapping[str, Any]) -> Reading:
        """Reads a payload, which may come from a multipart form."""
        reading = Reading()
        fields = PayloadFields(payload, reading)
        reading.model = fields.take("model", str, "model")
        fields.take("prompt", str)
        lengths = [fields.seconds(name) for name in ("seconds", "duration")]
        size = fields.take("size", str)
        images = [image for name in ("image", "input_reference") if (image := fields.any(name)) is not None]
        images += fields.texts("images")
        metadata = fields.inside("metadata")
        fields.rest()
        lengths += [metadata.seconds(name) for name in ("seconds", "duration", "video_duration")]
        settings = metadata.inside("output_config")
        lengths.append(settings.seconds("duration"))
        given = [length for length in lengths if length is not None]
        if given:
            reading.facts |= {"duration_s": given[0], "duration_stated": True}
        self._read_settings(settings, reading, size)
        self._read_metadata(metadata, reading)
        if images:
            reading.inputs.add("images")
        reading.facts |= {"images": len(images), "start_images": len(images)}
        add_prompt(reading, payload.get("prompt"), len(images))
        return reading

    def _read_settings(self, settings: PayloadFields, reading: Reading, size: str | None) -> None:
        facts = reading.facts
        if size is not None:
            match = _SIZE.fullmatch(size)
            if match is None:
                invalid("size must have the form WIDTHxHEIGHT")
            width, height = int(match[1]), int(match[2])
            facts["resolution"] = f"{min(width, height)}p"
            facts["aspect_ratio"] = f"{width // gcd(width, height)}:{height // gcd(width, height)}"
            facts["aspect_ratio_stated"] = True
            reading.inputs |= {"resolution", "aspect_ratio"}
        settings.fact("resolution", str, "resolution", str.lower)
        if settings.fact("aspect_ratio", str, "aspect_ratio") is not None:
            facts["aspect_ratio_stated"] = True
        sound = settings.take("audio_generation", str, "audio")
        if sound is not None:
            if sound.lower() not in _SOUND:
                invalid("audio_generation must be Enabled or Disabled")
            facts["audio"] = _SOUND[sound.lower()]
        settings.rest()

    def _read_metadata(self, metadata: PayloadFields, reading: Reading) -> None:
        facts = reading.facts
        metadata.word("scene_type", "action", dict(zip(_SCENES, _SCENES, strict=True)))
        metadata.word("motion_level", "motion_level", {"std": "std", "pro": "pro"})
        off_peak = metadata.any("offpeak")
        if off_peak not in (None, True, False, "true", "false"):
            invalid("offpeak must be true or false")
        facts["off_peak"] = off_peak in (True, "true")
        if off_peak is not None:
            reading.inputs.add("off_peak")
        facts["last_frame"] = metadata.take("last_frame_url", str, "last_frame") is not None
        video = metadata.take("video_url", str, "videos")
        facts |= {"videos": int(video is not None), "reference": video is not None}
        reading.video_url = video or ""
        passed = [metadata.take(name, str, "passthrough") for name in ("file_infos", "ext_info")]
        facts["passthrough"] = passed != [None, None]
        metadata.rest()

    def created(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a submission."""
        return self.task(job, desk)

    def task(self, job: Job, desk: Desk) -> Any:
        """Returns OpenAI's video object."""
        stated = desk.states_charge(job)
        body: dict[str, Any] = {
            "id": job.id,
            "task_id": job.id,
            "object": "video",
            "model": billing_spec(job) if stated else job.details["written"],
            "status": self.word(job),
            "progress": 100 if job.state == "succeeded" else 0,
            "created_at": job.created_ms // _MS_PER_S,
        }
        if job.is_final:
            body["completed_at"] = job.updated_ms // _MS_PER_S
        if job.state == "succeeded" and stated:
            body["seconds"] = str(job.details["made_s"])
        if job.state == "succeeded" and desk.has_result(job):
            url = f"{desk.base}/_files/{job.id}.mp4"
            body |= {"video_url": url, "metadata": {"url": url}}
        if job.state == "failed":
            body["error"] = {"code": "task_failed", "message": job.details["reason"]}
        return body

    def error(self, status: int, code: str, message: str) -> Any:
        """Returns the body of an error."""
        kind = "server_error" if status >= 500 else "invalid_request_error"  # noqa: PLR2004 (HTTP)
        return {"error": {"message": message, "type": kind, "param": None, "code": code}}

    def route(self, call: Call, desk: Desk) -> Reply | None:
        """Answers requests for lists, downloads and deletions, and requests to the second status path."""
        if call.method == "GET" and call.path == _VIDEO_PATH.rstrip("/"):
            return self._listed(call, desk)
        if call.method == "GET" and call.path.startswith(_GENERATIONS_PATH):
            return self._flat(self._found(call.path.removeprefix(_GENERATIONS_PATH), desk), desk)
        if not call.path.startswith(_VIDEO_PATH):
            return None
        name, _, part = call.path.removeprefix(_VIDEO_PATH).partition("/")
        if call.method == "GET" and part == "content":
            job = self._found(name, desk)
            if job.state != "succeeded" or not desk.has_result(job):
                raise DeclinedError("not_found", "the video is not available")
            return Reply(302, b"", {"location": f"{desk.base}/_files/{job.id}.mp4"})
        if call.method == "DELETE" and not part:
            job = self._found(name, desk)
            if not job.is_final:
                invalid("only a completed or failed video can be deleted")
            desk.delete(job)
            return Reply(200, {"id": job.id, "object": "video.deleted", "deleted": True})
        return None

    def _found(self, name: str, desk: Desk) -> Job:
        if (job := desk.find(name)) is None:
            raise DeclinedError("not_found", "Task not found")
        return job

    def _flat(self, job: Job, desk: Desk) -> Reply:
        """Returns the response of the second status path, in which the task is inside an envelope."""
        task: dict[str, Any] = {
            "task_id": job.id,
            "status": _FLAT_WORDS.get(job.state, job.state),
            "format": "mp4",
        }
        if job.state == "succeeded":
            task |= {"url": f"{desk.base}/_files/{job.id}.mp4", "metadata": {"duration": job.details["made_s"]}}
        if job.state == "failed":
            task["error"] = {"code": "task_failed", "message": job.details["reason"]}
        return Reply(200, {"code": "success", "message": "", "data": task})

    def _listed(self, call: Call, desk: Desk) -> Reply:
        limit, order = call.query.get("limit", str(_PAGE_DEFAULT)), call.query.get("order", "desc")
        if not limit.isdecimal() or not 1 <= int(limit) <= _PAGE_MAX:
            invalid(f"limit must be a whole number from 1 to {_PAGE_MAX}")
        if order not in _ORDERS:
            invalid("order must be asc or desc")
        after = call.query.get("after")
        start = self._found(after, desk).number if after else 0
        most = int(limit) + 1
        if order == "desc":
            jobs = [*islice(desk.newest(_is_kept, before=start or None), most)]
        else:
            newer = desk.newest(lambda job: _is_kept(job) and job.number > start)
            jobs = [*reversed(deque(newer, maxlen=most))]
        data = [self.task(job, desk) for job in jobs[: int(limit)]]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {}
        return Reply(200, {"object": "list", "data": data, "has_more": len(jobs) > len(data), **ends})

    def statement(self, rows: Iterable[StatementRow], export: str) -> Any:
        """Returns the usage for each task, with the billing spec in the model name."""
        return [
            {
                "task_id": row.job.id,
                "model": billing_spec(row.job),
                "created_at": from_ms(row.at_ms).isoformat(),
                "seconds": row.job.details["made_s"],
                "amount": part.amount if part.source == "cash" else part.worth,
                "currency": part.currency,
            }
            for row in rows
            for part in row.parts
        ]


def _is_kept(job: Job) -> bool:
    return not job.details.get("deleted")


def billing_spec(job: Job) -> str:
    """Returns the model name of a job with the billed properties: resolution, reference video and sound."""
    details = job.details
    model = details["written"].lower()
    brand = model.partition("-")[0]
    if details["action"] == "motion_control":
        return f"{model}-motion-{details['motion_level'] or 'std'}-{details['resolution']}"
    if details["action"] == "avatar_i2v":
        return f"{brand}-avatar-{details['resolution']}"
    if details["action"] == "lip_sync":
        return f"{brand}-identify-face"
    reference = "ref" if details["reference"] else "noref"
    return f"{model}-{details['resolution']}-{reference}-{'audio' if details['audio'] else 'mute'}"


FACE = OpenaiVideosFace
