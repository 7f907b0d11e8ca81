"""Face `kling_images`: image jobs of the official API, which are paid from packs of image units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kling_pricing.sandbox.faces import Desk
from kling_pricing.sandbox.faces.kling import KlingFace, read_options
from kling_pricing.sandbox.jobs import Job
from kling_pricing.sandbox.reading import PayloadFields, Reading, add_prompt, invalid

_SIDES = ("up", "down", "left", "right")
_NUMBERS = ("image_fidelity", "human_fidelity", *(f"{side}_expansion_ratio" for side in _SIDES))
_SINGLE = {
    "image": "first_frame",
    "scene_image": "scene_image",
    "style_image": "style_image",
    "element_frontal_image": "element_frontal_image",
}
_SERIES_DEFAULT = 4
"""The number of images in a series if the payload does not specify it."""
_SERIES_AUTO = 6
"""The number of images in a series if the API chooses it."""


class KlingImagesFace(KlingFace):
    """The face of the image endpoints."""

    NAME = "kling_images"
    PACK = "image"

    def read(self, payload: Mapping[str, Any]) -> Reading:
        """Reads a payload."""
        reading = Reading()
        facts = reading.facts
        fields = PayloadFields(payload, reading, empty_is_absent=True)
        reading.model = fields.take("model_name", str, "model")
        prompt = fields.take("prompt", str)
        negative = fields.take("negative_prompt", str, "negative_prompt")
        facts["negative_prompt_chars"] = len(negative or "")
        singles = [fields.take(name, str, given) for name, given in _SINGLE.items()]
        facts["first_frame"] = singles[0] is not None
        images = self._images(fields, "image_list", "images", "image")
        subjects = self._images(fields, "subject_image_list", "subjects", "subject_image")
        fields.take("image_reference", str, "image_reference")
        for name in _NUMBERS:
            fields.number(name, name)
        fields.fact("resolution", str, "resolution")
        fields.fact("n", int, "calls")
        kind = fields.take("result_type", str, "result_type")
        amount = fields.any("series_amount")
        if amount is not None:
            reading.inputs.add("series_amount")
        if kind == "series":
            facts["calls"] = _SERIES_AUTO if amount == "auto" else amount or _SERIES_DEFAULT
        if fields.fact("aspect_ratio", str, "aspect_ratio") is not None:
            facts["aspect_ratio_stated"] = True
        facts["elements"] = len(fields.objects("element_list", "elements"))
        read_options(fields, reading)
        fields.rest()
        facts |= {
            "images": images,
            "references": subjects,
            "start_images": images + subjects + sum(single is not None for single in singles),
        }
        add_prompt(reading, prompt, 0)
        return reading

    def _images(self, fields: PayloadFields, name: str, given: str, key: str) -> int:
        entries = fields.objects(name, given)
        for entry in entries:
            if entry.take(key, str) is None:
                invalid(f"each entry of {name} needs the field {key}")
            entry.rest()
        return len(entries)

    def result(self, job: Job, desk: Desk) -> dict[str, Any]:
        """Returns the result of a job; empty if it did not succeed or its result has been deleted."""
        if job.state != "succeeded" or not desk.has_result(job):
            return {}
        urls = [f"{desk.base}/_files/{job.id}.{index}.png" for index in range(job.details["calls"])]
        return {"images": [{"index": index, "url": url} for index, url in enumerate(urls)]}


FACE = KlingImagesFace
