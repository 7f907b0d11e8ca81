"""Face `tasks_v2`: the newer task API, which refuses every parameter that its documentation does not list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kling_pricing.sandbox.exchange import Call, Reply
from kling_pricing.sandbox.faces import Desk
from kling_pricing.sandbox.faces.tasks import TasksFace
from kling_pricing.sandbox.jobs import Job
from kling_pricing.sandbox.payloads import json_object
from kling_pricing.sandbox.reading import PayloadFields, Reading, add_prompt, add_shots, invalid

_QUOTE_PATH = "/waveapi/quote"
_ROLES = ("first_frame", "last_frame", "reference")


class TasksV2Face(TasksFace):
    """The face of the newer task API."""

    NAME = "tasks_v2"
    CODES = {**TasksFace.CODES, "invalid": (400, "capability_violation")}

    def read(self, payload: Mapping[str, Any]) -> Reading:
        """Reads a payload."""
        reading = Reading()
        fields = PayloadFields(payload, reading)
        self.read_common(fields, reading)
        negative = fields.take("negative_prompt", str, "negative_prompt")
        fields.fact("n", int, "calls")
        fields.fact("resolution", str, "resolution", str.lower)
        fields.fact("generate_audio", bool, "audio")
        fields.fact("watermark", bool, "watermark")
        self._read_material(fields, reading)
        fields.word("keep_original_sound", "keep_original_sound", {"yes": True, "no": False})
        reading.facts.pop("keep_original_sound", None)
        fields.word("character_orientation", "orientation", {"image": "image", "video": "video"})
        fields.fact("multi_shot", bool, "multi_shot")
        fields.word("shot_type", "shot_type", {"customize": "customize", "intelligence": "intelligence"})
        self._read_shots(fields, reading)
        elements = [entry.texts("element_input_urls") for entry in self._elements(fields)]
        if elements:
            counts = [len(urls) for urls in elements]
            reading.facts |= {
                "elements": len(counts),
                "fewest_element_images": min(counts),
                "most_element_images": max(counts),
            }
        reading.facts["references"] = reading.facts["images"] + len(elements)
        fields.rest()
        reading.facts["negative_prompt_chars"] = len(negative or "")
        add_prompt(reading, payload.get("prompt"), len(payload.get("image_urls") or ()))
        return reading

    def task(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a status request."""
        body = super().task(job, desk)
        return body | {"billing_status": "settled"} if job.is_final else body

    def route(self, call: Call, desk: Desk) -> Reply | None:
        """Answers requests for the API's own quote of a job, which cost nothing."""
        if call.method != "POST" or call.path != _QUOTE_PATH:
            return super().route(call, desk)
        rated = desk.estimate(json_object(call.body), self.NAME)
        quoted = {"total_usd": rated.money, "unit": "second", "billed_quantity": rated.quantity}
        return Reply(200, {"code": 0, "message": "", "data": quoted | {"multipliers": {}}})

    def _read_material(self, fields: PayloadFields, reading: Reading) -> None:
        images = fields.texts("image_urls", "images")
        roles = []
        for entry in fields.objects("image_with_roles", "image_roles"):
            url, role = entry.take("url", str), entry.take("role", str)
            if url is None or role not in _ROLES:
                invalid("each entry of image_with_roles needs a url and a valid role")
            entry.rest()
            roles.append(role)
        frames = ("first_frame", "last_frame")
        roles += [name for name in frames if fields.take(f"{name}_image", str, name) is not None]
        videos = fields.texts("video_urls", "videos")
        reading.facts |= {
            "images": len(images) + len(roles),
            "first_frame": "first_frame" in roles,
            "last_frame": "last_frame" in roles,
            "start_images": len(images) + len(roles),
            "videos": len(videos),
            "reference": bool(videos),
        }
        reading.video_url = videos[0] if videos else ""

    def _read_shots(self, fields: PayloadFields, reading: Reading) -> None:
        shots = []
        for entry in fields.objects("multi_prompt", "shots"):
            index, text, seconds = (
                entry.take("index", int),
                entry.take("prompt", str),
                entry.take("duration", int),
            )
            if index is None or text is None or seconds is None:
                invalid("each entry of multi_prompt needs an index, a prompt and a duration")
            entry.rest()
            shots.append((index, text, seconds))
        add_shots(reading, shots)

    def _elements(self, fields: PayloadFields) -> list[PayloadFields]:
        elements = fields.objects("element_list", "elements")
        for entry in elements:
            entry.take("name", str)
            entry.take("description", str)
        return elements


FACE = TasksV2Face
