"""Face `kling_v2`: the official API in its newer shape, with models in the paths and `billing` in the tasks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kling_pricing.money import format_decimal
from kling_pricing.sandbox.exchange import Call, DeclinedError, Reply
from kling_pricing.sandbox.faces import Desk, Face, StatementRow, stated_parts
from kling_pricing.sandbox.faces.kling import (
    CODES_BY_STATUS,
    DOCUMENTED_CODES,
    EXPORT_COLUMNS,
    enveloped,
    exported,
    official_error,
    official_export,
    official_id,
    read_options,
)
from kling_pricing.sandbox.jobs import Job
from kling_pricing.sandbox.payloads import json_object
from kling_pricing.sandbox.reading import PayloadFields, Reading, add_prompt, add_shots, invalid

_SHOT = re.compile(r"\s*shot\s+([0-9]{1,3})\s*,\s*([0-9]{1,6})\s*,([^;]*)(?:;|$)", re.IGNORECASE)
_MAX_IDS = 20
_EXPORTS = ("/account/billing/package", "/account/billing/balance")
_PAGE_DEFAULT, _PAGE_MAX = 100, 500
_MONTH_MS = 30 * 24 * 3600 * 1000

_PRESENT = {
    "first_frame": "first_frame",
    "last_frame": "last_frame",
    "image": "motion_image",
    "video": "motion_video",
}
_COUNTED = {
    "refer_image": "images",
    "feature_video": "videos",
    "base_video": "videos",
    "element": "elements",
    "voice": "voices",
}
_NEEDED = {"prompt": ("text",), "element": ("element_id", "id"), "voice": ("voice_id", "id")}
_USES = {"base_video": "base", "feature_video": "feature"}
_RESOLUTIONS = {"720p": "720p", "1080p": "1080p", "4k": "4k"}


class KlingV2Face(Face):
    """The face of the newer video endpoints, and of the queries for tasks."""

    NAME = "kling_v2"
    SIGNS = True
    WORDS = {"queued": "submitted", "cancelled": "failed"}
    COLUMNS = EXPORT_COLUMNS
    CODES = DOCUMENTED_CODES
    CODE_OF_STATUS = CODES_BY_STATUS

    def new_id(self, number: int, seed: int) -> str:
        """Returns the id of a new task, by the number of its submission."""
        return official_id(number, seed)

    def error(self, status: int, code: str, message: str) -> Any:
        """Returns the body of an error."""
        return official_error(code, message)

    def read(self, payload: Mapping[str, Any]) -> Reading:
        """Reads a payload."""
        reading = Reading()
        fields = PayloadFields(payload, reading, empty_is_absent=True)
        prompt = fields.take("prompt", str)
        if prompt is not None:
            reading.facts["top_level_prompt"] = True
        settings = fields.inside("settings")
        self._read_settings(settings, reading)
        options = fields.inside("options")
        read_options(options, reading)
        options.rest()
        prompt = self._read_contents(fields, reading) or prompt
        fields.rest()
        add_prompt(reading, prompt, 0)
        reading.facts |= {"image_markers": 0, "dangling_image_markers": 0}
        if prompt is not None and reading.facts.get("multi_shot") is not False:
            add_shots(reading, _written_shots(prompt))
        return reading

    def _read_settings(self, settings: PayloadFields, reading: Reading) -> None:
        facts = reading.facts
        settings.word("resolution", "resolution", _RESOLUTIONS)
        if settings.fact("duration", int, "duration_s") is not None:
            facts["duration_stated"] = True
        sound = settings.word("audio", "audio", {"native": True, "original": False, "off": False})
        facts["original_sound"] = sound == "original"
        if settings.fact("aspect_ratio", str, "aspect_ratio") is not None:
            facts["aspect_ratio_stated"] = True
        settings.fact("multi_shot", bool, "multi_shot")
        settings.word("character_orientation", "orientation", {"image": "image", "video": "video"})
        settings.rest()

    def _read_contents(self, fields: PayloadFields, reading: Reading) -> str | None:
        """Reads `contents`, and returns the prompt in it; None: it has no prompt."""
        prompt, facts, uses, voices, seen = None, reading.facts, set(), [], set()
        for entry in fields.objects("contents"):
            kind = entry.take("type", str)
            if kind not in {"prompt", *_PRESENT, *_COUNTED}:
                invalid("contents has an entry of an unknown type")
            values = [entry.take(name, str) for name in _NEEDED.get(kind, ("url",))]
            if None in values:
                invalid(f"an entry of type {kind} needs {_NEEDED.get(kind, ('url',))[values.index(None)]}")
            name = values[-1] if kind in {"element", "voice"} else entry.take("id", str)
            entry.rest()
            if values[0].startswith("data:"):
                invalid("base64 text must not begin with data:")
            if (kind in seen and kind not in _COUNTED) or (name is not None and name in seen):
                invalid("contents has a duplicate entry")
            seen |= {kind} | ({name} if name else set())
            if kind == "prompt":
                prompt, facts["contents_prompt"] = values[0], True
                continue
            fact = _PRESENT.get(kind) or _COUNTED[kind]
            facts[fact] = True if kind in _PRESENT else facts.get(fact, 0) + 1
            reading.inputs.add(fact)
            if kind in _USES:
                uses.add(_USES[kind])
            if kind in _USES or kind == "video":
                reading.video_url = values[0]
            if kind == "voice":
                voices.append(name)
        frames = facts.get("first_frame", 0) + facts.get("last_frame", 0)
        facts["video_use"] = " ".join(sorted(uses))
        facts["references"] = facts.get("images", 0) + facts.get("elements", 0) + frames
        facts["start_images"] = facts.get("images", 0) + facts.get("first_frame", 0)
        facts["reference"] = bool(facts.get("videos"))
        facts["voice_control"] = any(f"@{name}" in (prompt or "") for name in voices)
        return prompt

    def created(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a submission."""
        return enveloped(self._head(job), job)

    def task(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a query for one task: a list with the task."""
        return enveloped([self.callback(job, desk)], job)

    def callback(self, job: Job, desk: Desk) -> Any:
        """Returns a task, which is also the body of a callback."""
        outputs = []
        if job.state == "succeeded" and desk.has_result(job):
            url = f"{desk.base}/_files/{job.id}.mp4"
            output = {"type": "video", "id": f"v{job.id}", "url": url, "watermark_url": ""}
            outputs.append(output | {"duration": f"{job.details['made_s']}.041"})
        billing = billed(job) if job.is_final and desk.states_charge(job) else []
        message = job.details["reason"] if job.state == "failed" else ""
        return self._head(job) | {"message": message, "outputs": outputs, "billing": billing}

    def _head(self, job: Job) -> dict[str, Any]:
        return {
            "id": job.id,
            "status": self.word(job),
            "create_time": job.created_ms,
            "update_time": job.updated_ms,
            "external_id": job.external_id,
        }

    def route(self, call: Call, desk: Desk) -> Reply | None:
        """Answers queries for tasks by their ids, requests for lists of tasks, and exports of deductions."""
        if call.method == "POST" and call.path in _EXPORTS:
            return self._exported(call, desk)
        if call.path != "/tasks":
            return None
        if call.method == "GET":
            return self._queried(call, desk)
        return self._listed(call, desk) if call.method == "POST" else None

    def _exported(self, call: Call, desk: Desk) -> Reply:
        """Returns a page of deductions for the tasks that were created in a period."""
        wanted = json_object(call.body)
        limit = wanted.get("limit", _PAGE_MAX)
        if type(limit) is not int or not 1 <= limit <= _PAGE_MAX:
            invalid(f"limit must be a whole number from 1 to {_PAGE_MAX}")
        skipped = 0
        if cursor := wanted.get("cursor"):
            skipped, since, until = _cursor(cursor)
        elif wanted.get("start_time") in (None, ""):
            invalid("start_time is required")
        else:
            since = _instant(wanted["start_time"], 0)
            until = _instant(wanted.get("end_time"), desk.now_ms)
        rows = (row for row in desk.rows(0, 2**62) if since <= row.job.created_ms <= until)
        lines = official_export(rows, call.path.rpartition("/")[2])
        page = lines[skipped : skipped + limit]
        has_more = len(lines) > skipped + limit
        following = f"{skipped + limit}.{since}.{until}" if has_more else ""
        return Reply(200, exported(page, following, has_more=has_more))

    def _queried(self, call: Call, desk: Desk) -> Reply:
        """Returns the tasks with these ids; unknown ids are left out."""
        names = [name for name in ("task_ids", "external_task_ids") if call.query.get(name)]
        if len(names) != 1 or set(call.query) - {"task_ids", "external_task_ids"}:
            invalid("give either task_ids or external_task_ids")
        ids = [name for name in call.query[names[0]].split(",") if name]
        if len(ids) > _MAX_IDS:
            invalid(f"at most {_MAX_IDS} ids are allowed")
        found = [desk.find(name, external=names[0].startswith("external")) for name in ids]
        return Reply(200, enveloped([self.callback(job, desk) for job in found if job is not None]))

    def _listed(self, call: Call, desk: Desk) -> Reply:
        """Returns a page of tasks, the newest first."""
        wanted = json_object(call.body)
        limit = wanted.get("limit", _PAGE_DEFAULT)
        if type(limit) is not int or not 1 <= limit <= _PAGE_MAX:
            invalid(f"limit must be a whole number from 1 to {_PAGE_MAX}")
        until = _instant(wanted.get("end_time"), desk.now_ms)
        since = _instant(wanted.get("start_time"), until - _MONTH_MS)
        before = None
        if cursor := wanted.get("cursor"):
            before, since, until = _cursor(cursor)
        allowed: dict[str, set[Any]] = {}
        for entry in wanted.get("filters") or ():
            if not isinstance(entry, Mapping) or entry.get("key") not in {"status", "product_type"}:
                invalid("the key of a filter must be status or product_type")
            allowed.setdefault(entry["key"], set()).update(entry.get("values") or ())

        def fits(job: Job) -> bool:
            states, kinds = allowed.get("status"), allowed.get("product_type")
            return (states is None or self.word(job) in states) and (
                kinds is None or job.details["pack"] in kinds
            )

        page: list[Job] = []
        has_more = False
        for job in desk.newest(fits, before=before, since_ms=since, until_ms=until):
            if len(page) == limit:
                has_more = True
                break
            page.append(job)
        cursor = f"{page[-1].number}.{since}.{until}" if has_more else ""
        result = {"result": [self.callback(job, desk) for job in page], "count": len(page)}
        return Reply(200, enveloped(result | {"next_cursor": cursor, "has_more": has_more}))

    def statement(self, rows: Iterable[StatementRow], export: str) -> Any:
        """Returns an export of deductions; see `official_export`."""
        return official_export(rows, export)

    def export_answer(self, lines: Any) -> Any:
        """Returns the response of the official export with these lines."""
        return exported(lines, "", has_more=False)


def billed(job: Job) -> list[dict[str, str]]:
    """Returns the list `billing` of a job; if there is no charge, its only entry has the amount 0."""
    if not job.details["charged"]:
        return [{"charge_type": "unit", "package_type": job.details["pack"], "amount": "0"}]
    entries = []
    for part in stated_parts(job):
        entry = {"charge_type": "unit", "package_type": part.unit, "amount": format_decimal(part.amount)}
        if part.source != "pack":
            entry = {
                "charge_type": "cash",
                "cash_type": "balance" if part.source == "cash" else "test_balance",
                "amount": format_decimal(part.amount),
                "list_price": format_decimal(part.list_price),
                "currency": part.unit,
            }
        entries.append(entry)
    return entries


def _written_shots(prompt: str) -> list[tuple[int | None, str, int]]:
    """Returns the shots of a prompt; empty if a part of it does not have the form `shot n, seconds, text;`."""
    shots: list[tuple[int | None, str, int]] = []
    place = 0
    while match := _SHOT.match(prompt, place):
        shots.append((int(match[1]), match[3].strip(), int(match[2])))
        if match.end() == place:
            break
        place = match.end()
    return shots if not prompt[place:].strip() else []


def _instant(value: Any, default: int) -> int:
    """Reads a time in milliseconds since 1970, which may be a number or a string."""
    if value in (None, ""):
        return default
    if (type(value) is int and value >= 0) or (isinstance(value, str) and value.isdecimal()):
        return int(value)
    raise DeclinedError("invalid", "start_time and end_time must be times in milliseconds since 1970")


def _cursor(text: Any) -> tuple[int, int, int]:
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):  # noqa: PLR2004 (number, since, until)
        invalid("the cursor is not valid")
    number, since, until = map(int, parts)
    return number, since, until


FACE = KlingV2Face
