"""Face `video_generations`: a gateway whose model names set resolution and sound; it states no charges."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from itertools import groupby
from typing import Any

from kling_pricing.money import multiply
from kling_pricing.sandbox.exchange import Call, DeclinedError, Reply
from kling_pricing.sandbox.faces import Desk, Face, StatementRow
from kling_pricing.sandbox.jobs import Job
from kling_pricing.sandbox.reading import PayloadFields, Reading, add_prompt, invalid

_MS_PER_S = 1000
_PATH = "/v1/video/generations/"
_QUOTA_PER_CURRENCY_UNIT = 500_000
_LOG_WORDS = {"queued": "SUBMITTED", "processing": "IN_PROGRESS", "succeeded": "SUCCESS"}
_PROGRESS = {"queued": "0%", "processing": "50%"}
_CONSUME, _REFUND = 2, 6


class VideoGenerationsFace(Face):
    """The face of the gateway, which also uses the response envelope of common gateway software."""

    NAME = "video_generations"
    WORDS = {"processing": "in_progress", "succeeded": "completed", "cancelled": "failed"}
    COLUMNS = ("id", "user_id", "created_at", "type", "content", "model_name", "quota", "other")
    CODES = {
        "invalid": (400, "invalid_request"),
        "unpriced": (503, "model_not_found"),
        "no_balance": (403, "insufficient_user_quota"),
        "moderation": (400, "content_policy_violation"),
        "rate": (429, "rate_limit_exceeded"),
        "concurrency": (429, "rate_limit_exceeded"),
        "no_key": (401, "invalid_api_key"),
        "not_found": (404, "task_not_exist"),
        "task_not_found": (404, "task_not_exist"),
        "internal": (500, "internal_error"),
    }
    CODE_OF_STATUS = {
        401: "invalid_api_key",
        404: "task_not_exist",
        429: "rate_limit_exceeded",
        500: "internal_error",
    }

    def read(self, payload: Mapping[str, Any]) -> Reading:
        """Reads a payload."""
        reading = Reading()
        fields = PayloadFields(payload, reading)
        reading.model = fields.take("model", str, "model")
        fields.take("prompt", str)
        first = fields.take("image", str, "first_frame")
        last = fields.take("last_image", str, "last_frame")
        if fields.fact("aspect_ratio", str, "aspect_ratio") is not None:
            reading.facts["aspect_ratio_stated"] = True
        if (seconds := fields.seconds("duration")) is not None:
            reading.facts |= {"duration_s": seconds, "duration_stated": True}
        extra = fields.inside("extra_body")
        fields.rest()
        self._read_extra(extra, reading)
        reading.facts |= {
            "first_frame": first is not None,
            "last_frame": last is not None,
            "start_images": int(first is not None),
        }
        add_prompt(reading, payload.get("prompt"), 0)
        return reading

    def _read_extra(self, extra: PayloadFields, reading: Reading) -> None:
        if (scale := extra.number("cfg_scale", "cfg_scale")) is not None:
            reading.facts["cfg_scale"] = scale
        extra.fact("shot_type", str, "shot_type")
        negative = extra.take("negative_prompt", str, "negative_prompt")
        shots = [
            entry.take("prompt", str) or invalid("a shot needs a prompt")
            for entry in extra.objects("multi_prompt", "shots")
        ]
        elements = len(extra.objects("element_list", "elements"))
        extra.rest()
        reading.facts |= {
            "negative_prompt_chars": len(negative or ""),
            "shots": len(shots),
            "longest_shot_chars": max(map(len, shots), default=0),
            "elements": elements,
        }

    def created(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a submission."""
        return self.task(job, desk)

    def task(self, job: Job, desk: Desk) -> Any:
        """Returns the video object."""
        body: dict[str, Any] = {
            "id": job.id,
            "task_id": job.id,
            "object": "video",
            "model": job.details["written"],
            "status": self.word(job),
            "progress": 100 if job.state == "succeeded" else 0,
            "created_at": job.created_ms // _MS_PER_S,
        }
        if job.state == "succeeded":
            if desk.states_charge(job):
                body["seconds"] = str(job.details["made_s"])
            if desk.has_result(job):
                body["metadata"] = {"url": f"{desk.base}/_files/{job.id}.mp4"}
        if job.state == "failed":
            body["error"] = {"code": "task_failed", "message": job.details["reason"]}
        return body

    def error(self, status: int, code: str, message: str) -> Any:
        """Returns the body of an error."""
        return {"error": {"message": message, "code": code}}

    def route(self, call: Call, desk: Desk) -> Reply | None:
        """Answers requests to the second status path, whose response has an envelope."""
        if call.method != "GET" or not call.path.startswith(_PATH):
            return None
        job = desk.find(call.path.removeprefix(_PATH))
        if job is None:
            raise DeclinedError("not_found", "task not exist")
        task = {
            "task_id": job.id,
            "status": _LOG_WORDS.get(job.state, "FAILURE"),
            "progress": _PROGRESS.get(job.state, "100%"),
            "fail_reason": job.details["reason"] if job.state == "failed" else "",
            "submit_time": job.created_ms // _MS_PER_S,
            "start_time": job.start_ms // _MS_PER_S,
            "finish_time": job.end_ms // _MS_PER_S if job.is_final else 0,
        }
        return Reply(200, {"code": "success", "message": "", "data": task})

    def statement(self, rows: Iterable[StatementRow], export: str) -> Any:
        """Returns the rows of the usage log, in quota; a correction is one row with the difference."""
        lines: list[dict[str, Any]] = []
        taken: dict[str, int] = {}
        for (task_id, at_ms), group in groupby(rows, lambda row: (row.job.id, row.at_ms)):
            charges = [*group]
            amounts = [_quota(row) for row in charges]
            if min(amounts) < 0 < max(amounts):
                amounts = [sum(amounts)]
            for amount in amounts:
                before = taken.get(task_id, 0)
                taken[task_id] = before + amount
                other: dict[str, Any] = {"task_id": task_id}
                if amount < 0 < taken[task_id]:
                    other |= {"actual_quota": taken[task_id], "pre_consumed_quota": before}
                elif amount < 0:
                    other["reason"] = "refund"
                line = {
                    "id": len(lines) + 1,
                    "user_id": 1,
                    "created_at": at_ms // _MS_PER_S,
                    "type": _REFUND if amount < 0 else _CONSUME,
                    "content": "",
                    "model_name": charges[0].job.details["written"],
                    "quota": abs(amount),
                    "other": json.dumps(other),
                }
                lines.append(line)
        return lines

    def export_answer(self, lines: Any) -> Any:
        """Returns the response of the usage log's API with these lines."""
        return {"success": True, "message": "", "data": {"items": lines, "total": len(lines)}}


def _quota(row: StatementRow) -> int:
    worth = sum((part.worth for part in row.parts), Decimal(0))
    return int(multiply(worth, _QUOTA_PER_CURRENCY_UNIT).quantize(Decimal(1), ROUND_HALF_UP))


FACE = VideoGenerationsFace
