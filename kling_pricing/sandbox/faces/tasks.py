"""Face `tasks`: a task API with `POST /v1/tasks`, whose charges are whole amounts of quota."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kling_pricing.sandbox.exchange import Call, Reply
from kling_pricing.sandbox.faces import Desk, Face, StatementRow, stated_parts
from kling_pricing.sandbox.jobs import Job
from kling_pricing.sandbox.reading import PayloadFields, Reading, add_prompt, invalid

_MS_PER_S = 1000


class TasksFace(Face):
    """The face of the task API, with every parameter at the top level of the payload."""

    NAME = "tasks"
    WAITS = True
    WORDS = {"succeeded": "completed"}
    COLUMNS = ("task_id", "model", "status", "created_at", "cost")
    CODES = {
        "invalid": (400, "invalid_request"),
        "unpriced": (500, "price_not_configured"),
        "no_balance": (402, "insufficient_balance"),
        "moderation": (400, "content_policy_violation"),
        "rate": (429, "rate_limited"),
        "concurrency": (429, "quota_window_exceeded"),
        "no_key": (401, "unauthorized"),
        "not_found": (404, "task_not_found"),
        "task_not_found": (404, "task_not_found"),
        "not_cancellable": (400, "task_not_cancellable"),
        "internal": (500, "internal_error"),
    }
    CODE_OF_STATUS = {
        401: "unauthorized",
        402: "insufficient_balance",
        404: "not_found",
        408: "timeout",
        409: "conflict",
        429: "rate_limited",
        500: "internal_error",
        502: "upstream_unavailable",
        503: "upstream_unavailable",
    }

    def read(self, payload: Mapping[str, Any]) -> Reading:
        """Reads a payload."""
        reading = Reading()
        fields = PayloadFields(payload, reading)
        self.read_common(fields, reading)
        fields.fact("resolution", str, "resolution", str.lower)
        fields.fact("audio", bool, "audio")
        fields.fact("watermark", bool, "watermark")
        images = fields.texts("image_urls", "images")
        first = fields.take("first_frame_image", str, "first_frame")
        last = fields.take("last_frame_image", str, "last_frame")
        videos = fields.texts("video_urls", "videos")
        for entry in fields.objects("video_list", "videos"):
            video = entry.take("video_url", str)
            if video is None:
                invalid("each entry of video_list needs a video_url")
            videos.append(video)
            entry.take("refer_type", str)
            entry.take("keep_original_sound", str)
            entry.rest()
        fields.rest()
        reading.facts |= {
            "images": len(images),
            "first_frame": first is not None,
            "last_frame": last is not None,
            "start_images": len(images) + (first is not None),
            "videos": len(videos),
            "reference": bool(videos),
        }
        reading.video_url = videos[0] if videos else ""
        add_prompt(reading, payload.get("prompt"), len(images))
        return reading

    def read_common(self, fields: PayloadFields, reading: Reading) -> None:
        """Reads the parameters that every version of the task API has."""
        reading.model = fields.take("model", str, "model")
        fields.fact("action", str, "action")
        fields.take("prompt", str)
        if fields.fact("duration", int, "duration_s") is not None:
            reading.facts["duration_stated"] = True
        if fields.fact("aspect_ratio", str, "aspect_ratio") is not None:
            reading.facts["aspect_ratio_stated"] = True
        reading.callback_url = fields.take("callback_url", str, "callback_url") or ""
        fields.texts("callback_events", "callback_events")

    def created(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a submission."""
        if job.is_final:  # the caller waited for the result
            return self.task(job, desk)
        body = self._head(job) | {"created_at": job.created_ms, "progress": 0}
        return body | ({"pre_consumed_cost": self._cost(job)} if desk.states_charge(job) else {})

    def task(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a status request; its times are in seconds since 1970."""
        body = self._head(job) | {"created_at": job.created_ms // _MS_PER_S, "progress": self._progress(job)}
        if not job.is_final:
            return body
        body["completed_at"] = job.updated_ms // _MS_PER_S
        if desk.states_charge(job):
            body["cost"] = sum(int(part.amount) for part in stated_parts(job))
        if job.state == "succeeded":
            videos = [{"url": f"{desk.base}/_files/{job.id}.mp4"}] if desk.has_result(job) else []
            body["result"] = {"videos": videos}
        elif job.state == "failed":
            body["error"] = {"code": "task_failed", "message": job.details["reason"]}
        return body

    def cancelled(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a cancellation."""
        return self.task(job, desk) | {"refunded_quota": self._cost(job)}

    def error(self, status: int, code: str, message: str) -> Any:
        """Returns the body of an error."""
        return {"error": {"message": message, "code": code}}

    def statement(self, rows: Iterable[StatementRow], export: str) -> Any:
        """Returns the rows as a table whose columns are fields of a task."""
        return [
            {
                "task_id": row.job.id,
                "model": row.job.details["written"],
                "status": self.word(row.job),
                "created_at": row.at_ms // _MS_PER_S,
                "cost": sum(int(part.amount) for part in row.parts),
            }
            for row in rows
        ]

    def route(self, call: Call, desk: Desk) -> Reply | None:
        """Answers the free requests of the task API."""
        if call.method == "GET" and call.path == "/v1/models":
            models = [{"id": name, "object": "model"} for name in self.matrix.names]
            return Reply(200, {"object": "list", "data": models})
        return None

    def _head(self, job: Job) -> dict[str, Any]:
        return {
            "task_id": job.id,
            "model": job.details["written"],
            "action": job.details["action"],
            "status": self.word(job),
        }

    def _cost(self, job: Job) -> Any:
        parts = [part[2] for part in job.details["parts"]]
        return sum(map(int, parts)) if all(part.isdecimal() for part in parts) else parts[0]

    def _progress(self, job: Job) -> Any:
        return 100 if job.state == "succeeded" else "45%" if job.state == "processing" else 0


FACE = TasksFace
