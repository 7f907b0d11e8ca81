"""Face `kling`: the official API in its legacy shape, whose responses contain `code` and `data`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Any

from kling_pricing.money import add, format_decimal
from kling_pricing.sandbox.accounts import Part
from kling_pricing.sandbox.exchange import Call, DeclinedError, Reply
from kling_pricing.sandbox.faces import Desk, Face, StatementRow, stated_parts
from kling_pricing.sandbox.faces.tasks_extra import add_camera, add_masks
from kling_pricing.sandbox.jobs import Job
from kling_pricing.sandbox.reading import PayloadFields, Reading, add_prompt, add_shots, cites_voice, invalid

_MODES = {"std": "720p", "pro": "1080p", "4k": "4k"}
_FIRST_ID = 86 * 10**16
_PAGE_DEFAULT, _PAGE_MAX = 30, 500
_PAGES_MAX = 1000
_ZERO = Decimal(0)

DOCUMENTED_CODES = {
    "invalid": (400, "1201"),
    "unpriced": (400, "1201"),
    "no_balance": (429, "1102"),
    "moderation": (400, "1301"),
    "rate": (429, "1302"),
    "concurrency": (429, "1303"),
    "no_key": (401, "1000"),
    "not_found": (404, "1203"),
    "task_not_found": (400, "1201"),
    "exists": (400, "1201"),
    "internal": (500, "5000"),
}
EXPORT_COLUMNS = ("task_id", "model_name", "deduction_time", "deduction_amount", "package_id", "product_type")
CODES_BY_STATUS = {
    400: "1201",
    401: "1000",
    403: "1103",
    404: "1203",
    429: "1302",
    500: "5000",
    503: "5001",
    504: "5002",
}
_CONCURRENCY = "1303"
_COSTS_PATH = "/account/costs"
_PACK_KINDS = ("video", "image")
_ENDLESS = "100000"
"""The remaining units that responses state for a pack that never runs out."""
_YEAR_MS = 365 * 24 * 3600 * 1000


def official_id(number: int, seed: int) -> str:
    """Returns a task id of 18 digits, which a spreadsheet program would round."""
    step = int(sha256(f"{seed}/{number}".encode()).hexdigest()[:4], 16)
    return str(_FIRST_ID + number * 65537 + step)


def official_error(code: str, message: str) -> Any:
    """Returns the body of an error; an error about concurrency has no `data`."""
    body: dict[str, Any] = {"code": int(code) if code.isdecimal() else code, "message": message}
    body["request_id"] = sha256(message.encode()).hexdigest()[:16]
    if code != _CONCURRENCY:
        body["data"] = None
    return body


def enveloped(data: Any, job: Job | None = None) -> dict[str, Any]:
    """Returns the body of a successful response with this data."""
    name = "list" if job is None else job.id
    return {
        "code": 0,
        "message": "SUCCEED",
        "request_id": sha256(name.encode()).hexdigest()[:16],
        "data": data,
    }


def amounts_by_source(parts: Iterable[Part]) -> dict[str, Decimal]:
    """Returns source -> the sum of the amounts paid from it."""
    sums: dict[str, Decimal] = {}
    for part in parts:
        sums[part.source] = add(sums.get(part.source, _ZERO), part.amount)
    return sums


def deduction(job: Job) -> dict[str, Any]:
    """Returns the fields in which the legacy API states the charge for a job.

    If the account pays in money, the units are 0. If the test balance pays, the quota is also 0.
    """
    parts = stated_parts(job)
    sums = amounts_by_source(parts)
    fields: dict[str, Any] = {"final_unit_deduction": format_decimal(sums.get("pack", _ZERO))}
    if "cash" in sums or "test_balance" in sums:
        listed = _ZERO
        for part in parts:
            listed = add(listed, part.list_price)
        fields["final_balance_deduction"] = {
            "quota": format_decimal(sums.get("cash", _ZERO)),
            "list_price": format_decimal(listed),
        }
    return fields


class KlingFace(Face):
    """The face of the legacy video endpoints."""

    NAME = "kling"
    SIGNS = True
    WORDS = {"queued": "submitted", "succeeded": "succeed", "cancelled": "failed"}
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
        """Reads a payload with the fields of any endpoint; the rules of the model are checked later."""
        reading = Reading()
        fields = PayloadFields(payload, reading, empty_is_absent=True)
        self._read_model(fields, reading)
        prompt = fields.take("prompt", str)
        negative = fields.take("negative_prompt", str, "negative_prompt")
        reading.facts["negative_prompt_chars"] = len(negative or "")
        if fields.word("mode", "resolution", _MODES) is not None:
            reading.facts["resolution_stated"] = True
        if (duration := fields.seconds("duration", text_only=True)) is not None:
            reading.facts |= {"duration_s": duration, "duration_stated": True}
        fields.word("sound", "audio", {"on": True, "off": False})
        if fields.fact("aspect_ratio", str, "aspect_ratio") is not None:
            reading.facts["aspect_ratio_stated"] = True
        if (scale := fields.number("cfg_scale", "cfg_scale")) is not None:
            reading.facts |= {"cfg_scale": scale, "cfg_scale_stated": True}
        add_camera(fields, reading, is_zero_kept=False)
        add_masks(fields, reading, "mask")
        images = self._read_material(fields, reading)
        voices = len(fields.objects("voice_list", "voices"))
        reading.facts |= {"voices": voices, "voice_control": cites_voice(prompt or "", voices)}
        self._read_shots(fields, reading)
        fields.word("keep_original_sound", "keep_original_sound", {"yes": True, "no": False})
        for name, given in (("session_id", "edit_session"), ("video_id", "extended_video")):
            if fields.take(name, str, given) is not None:
                reading.facts[given] = True
        fields.fact("edit_mode", str, "edit_mode")
        read_options(fields, reading)
        fields.rest()
        add_prompt(reading, prompt, images)
        return reading

    def _read_model(self, fields: PayloadFields, reading: Reading) -> None:
        named, old = fields.take("model_name", str), fields.take("model", str)
        if "model" in self.ignored:
            old = None
        if named and old and named.lower() != old.lower():
            invalid("model and model_name differ")
        reading.model = named or old
        if reading.model is not None:
            reading.inputs.add("model")

    def _read_material(self, fields: PayloadFields, reading: Reading) -> int:
        """Reads images and videos, and returns the number of entries in `image_list`."""
        facts = reading.facts
        for name, fact in (
            ("image", "first_frame"),
            ("image_tail", "last_frame"),
            ("image_url", "motion_image"),
        ):
            value = fields.take(name, str, fact)
            facts[fact] = value is not None
            _refuse_data_uri(value)
        motion = fields.take("video_url", str, "motion_video")
        facts["motion_video"] = motion is not None
        fields.word("character_orientation", "orientation", {"image": "image", "video": "video"})
        kinds = []
        for entry in fields.objects("image_list", "images"):
            image = entry.take("image_url", str) or entry.take("image", str)
            if image is None:
                invalid("each entry of image_list needs an image_url")
            _refuse_data_uri(image)
            kinds.append(entry.take("type", str))
            entry.rest()
        videos, uses = [], set()
        for entry in fields.objects("video_list", "videos"):
            videos.append(entry.take("video_url", str) or invalid("each entry of video_list needs a video_url"))
            uses.add(entry.take("refer_type", str) or "base")
            entry.take("keep_original_sound", str)
            entry.rest()
        elements = len(fields.objects("element_list", "elements"))
        facts["first_frame"] = facts["first_frame"] or "first_frame" in kinds
        facts["last_frame"] = facts["last_frame"] or "end_frame" in kinds
        facts |= {
            "images": kinds.count(None),
            "start_images": kinds.count(None) + facts["first_frame"],
            "videos": len(videos),
            "video_use": " ".join(sorted(uses)),
            "elements": elements,
            "references": len(kinds) + elements,
            "reference": bool(videos),
        }
        reading.video_url = motion or (videos[0] if videos else "")
        return len(kinds)

    def _read_shots(self, fields: PayloadFields, reading: Reading) -> None:
        """Reads the shots, which have no effect unless `multi_shot` is true or the string "true"."""
        flag = fields.any("multi_shot")
        if flag not in (None, True, False, "true", "false"):
            invalid("multi_shot must be true or false")
        shot_type = fields.take("shot_type", str)
        shots = []
        for entry in fields.objects("multi_prompt"):
            index, text = entry.take("index", int), entry.take("prompt", str)
            seconds = entry.seconds("duration", "", text_only=True)
            if text is None or seconds is None:
                invalid("each entry of multi_prompt needs a prompt and a duration")
            entry.rest()
            shots.append((index, text, seconds))
        if flag not in (True, "true"):
            return
        reading.facts["multi_shot"] = True
        reading.inputs.add("multi_shot")
        if shot_type is not None:
            reading.facts["shot_type"] = shot_type
            reading.inputs.add("shot_type")
        if shots:
            reading.inputs.add("shots")
        add_shots(reading, shots)

    def created(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a submission, which does not state the charge."""
        return enveloped(self._head(job), job)

    def task(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a status request."""
        return enveloped(self._data(job, desk), job)

    def callback(self, job: Job, desk: Desk) -> Any:
        """Returns the body of a callback: the task without the envelope of a response."""
        return self._data(job, desk)

    def _head(self, job: Job) -> dict[str, Any]:
        return {
            "task_id": job.id,
            "task_status": self.word(job),
            "task_info": {"external_task_id": job.external_id} if job.external_id else {},
            "created_at": job.created_ms,
            "updated_at": job.updated_ms,
        }

    def _data(self, job: Job, desk: Desk) -> dict[str, Any]:
        data = self._head(job) | {"task_status_msg": job.details["reason"] if job.state == "failed" else ""}
        if job.is_final:
            if desk.states_charge(job):
                data |= deduction(job)
            data["task_result"] = self.result(job, desk)
        return data

    def result(self, job: Job, desk: Desk) -> dict[str, Any]:
        """Returns the result of a job; empty if it did not succeed or its result has been deleted."""
        if job.state != "succeeded" or not desk.has_result(job):
            return {}
        video = {"id": f"v{job.id}", "url": f"{desk.base}/_files/{job.id}.mp4"}
        return {"videos": [video | {"duration": f"{job.details['made_s']}.041"}]}

    def route(self, call: Call, desk: Desk) -> Reply | None:
        """Answers queries for the packs, for one task by the caller's own id, or for all tasks of a path."""
        if call.method == "GET" and call.path == _COSTS_PATH:
            return Reply(200, enveloped(_packs(desk)))
        if call.method != "GET" or call.path not in {entry.path for entry in self.matrix.submissions}:
            return None
        if external_id := call.query.get("external_task_id"):
            if (found := desk.find(external_id, external=True)) is None:
                raise DeclinedError("task_not_found", "Task not found")
            return Reply(200, self.task(found, desk))
        page = _within(call.query.get("pageNum", "1"), _PAGES_MAX, "pageNum")
        size = _within(call.query.get("pageSize", str(_PAGE_DEFAULT)), _PAGE_MAX, "pageSize")
        data = []
        for place, job in enumerate(desk.newest(lambda job: job.path == call.path)):
            if place >= page * size:
                break
            if place >= (page - 1) * size:
                data.append(self._data(job, desk))
        return Reply(200, enveloped(data))

    def free(self, call: Call) -> Any:
        """Returns the body of the response to a request that costs nothing."""
        return enveloped({})

    def statement(self, rows: Iterable[StatementRow], export: str) -> Any:
        """Returns an export of deductions; see `official_export`."""
        return official_export(rows, export)

    def export_answer(self, lines: Any) -> Any:
        """Returns the response of the official export with these lines."""
        return exported(lines, "", has_more=False)


def exported(lines: Any, cursor: str, *, has_more: bool) -> Any:
    """Returns the response of an official export; the cursor is next to `result`, not in it."""
    result = {"result": {"detail": lines, "count": len(lines)}}
    return enveloped(result | {"next_cursor": cursor, "has_more": has_more})


def _packs(desk: Desk) -> dict[str, Any]:
    """Returns the packs of the account, each with its remaining units."""
    packs, left = [], desk.as_dict()["left"]
    for kind in _PACK_KINDS:
        units = Decimal(left.get(kind, _ENDLESS))
        pack: dict[str, Any] = {
            "resource_pack_name": f"{kind} units",
            "resource_pack_id": f"p-{kind}",
            "resource_pack_type": "decreasing_total",
            "total_quantity": max(units, Decimal(_ENDLESS)),
            "remaining_quantity": units,
            "status": "online" if units else "runOut",
        }
        times = {"purchase_time": 0, "effective_time": 0, "invalid_time": _YEAR_MS}
        packs.append(pack | {name: desk.now_ms + after_ms for name, after_ms in times.items()})
    return {"code": 0, "msg": "SUCCESS", "resource_pack_subscribe_infos": packs}


def _refuse_data_uri(value: str | None) -> None:
    if value is not None and value.startswith("data:"):
        invalid("base64 text must not begin with data:")


def _within(text: str, maximum: int, name: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= maximum:
        raise DeclinedError("invalid", f"{name} must be a whole number from 1 to {maximum}")
    return int(text)


def read_options(fields: PayloadFields, reading: Reading) -> None:
    """Reads the options that every endpoint has: callback URL, the caller's own task id, and watermark."""
    reading.callback_url = fields.take("callback_url", str, "callback_url") or ""
    reading.external_id = fields.take("external_task_id", str, "external_task_id") or ""
    watermark = fields.inside("watermark_info")
    watermark.fact("enabled", bool, "watermark")
    watermark.rest()


def official_export(rows: Iterable[StatementRow], export: str) -> list[dict[str, Any]]:
    """Returns the lines of the official export of `package` or `balance` deductions, one per part."""
    sources = {"package": {"pack"}, "balance": {"cash", "test_balance"}}
    wanted = sources[export if export in sources else "package"]
    return [_export_row(row, part) for row in rows for part in row.parts if part.source in wanted]


def _export_row(row: StatementRow, part: Part) -> dict[str, Any]:
    details = row.job.details
    line = {
        "task_id": row.job.id,
        "api_key_name": "sandbox",
        "product_function": details["product"],
        "model_name": details["written"],
    }
    if details["pack"] == "video":
        line |= {
            "resolution": details["resolution"],
            "duration": f"{details['made_s']}.041",
            "refer_video_input": bool(details["videos"]),
            "video_sound": "native" if details["audio"] else "original" if details["original_sound"] else "off",
            "voice_control": details["voice_control"],
        }
    line |= {"deduction_time": str(row.at_ms), "deduction_amount": part.amount}
    if part.source == "pack":
        return line | {"package_id": f"p-{part.unit}", "product_type": part.unit}
    cash = "balance" if part.source == "cash" else "test_balance"
    return line | {"cash_type": cash, "list_price": part.list_price, "currency": part.unit}


FACE = KlingFace
