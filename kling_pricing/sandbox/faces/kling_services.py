"""Face `kling_services`: further services of the official API, some of which return their result at once."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kling_pricing.money import divide
from kling_pricing.sandbox.faces import Desk
from kling_pricing.sandbox.faces.kling import KlingFace, deduction, enveloped, read_options
from kling_pricing.sandbox.jobs import Job
from kling_pricing.sandbox.reading import PayloadFields, Reading, add_prompt, invalid

_MS_PER_S = 1000
_TEXTS = (
    *("audio_id", "sound_file", "session_id", "video_id", "video_url", "voice_id", "voice_language"),
    *("voice_name", "voice_url", "sound_effect_prompt", "bgm_prompt", "image"),
)
_NUMBERS = ("voice_speed",)
_FACE_TIMES = ("sound_start_time", "sound_end_time", "sound_insert_time")
_SOUNDS = ("text_to_audio", "video_to_audio")
_FACE_REST = ("face_id", "audio_id", "sound_file", "sound_volume", "original_audio_volume")


class KlingServicesFace(KlingFace):
    """The face of the services."""

    NAME = "kling_services"

    def read(self, payload: Mapping[str, Any]) -> Reading:
        """Reads a payload."""
        reading = Reading()
        fields = PayloadFields(payload, reading, empty_is_absent=True)
        prompt, text = fields.take("prompt", str), fields.take("text", str, "text")
        fields.word("mode", "resolution", {"std": "720p", "pro": "1080p"})
        given = {name: fields.take(name, str, name) for name in _TEXTS}
        for name in _NUMBERS:
            fields.number(name, name)
        if (length := fields.number("duration", "sound_length")) is not None:
            reading.facts["sound_length_s"] = length
        fields.take("asmr_mode", bool, "asmr_mode")
        for face in fields.objects("face_choose", "face_choose"):
            start, end, insert = (face.take(name, int) for name in _FACE_TIMES)
            for name in _FACE_REST:
                face.any(name)
            face.rest()
            if start is None or end is None or insert is None:
                invalid(f"each entry of face_choose needs the times {', '.join(_FACE_TIMES)} in milliseconds")
            reading.facts["video_length_s"] = divide(Decimal(end - start), _MS_PER_S)
        read_options(fields, reading)
        fields.rest()
        reading.video_url = given["sound_file"] or given["audio_id"] or ""
        add_prompt(reading, prompt, 0)
        if text is not None:
            reading.facts["prompt_chars"] = len(text)
        return reading

    def created(self, job: Job, desk: Desk) -> Any:
        """Returns the body of the response to a submission; without a status path, it contains the result."""
        if not job.is_final or self._has_status(job):
            return super().created(job, desk)
        if job.details["action"] == "avatar_tts":
            return self.task(job, desk)
        charge = deduction(job) if desk.states_charge(job) else {}
        body = enveloped({"session_id": job.id, **charge}, job)
        return body | {"request_id": job.id}

    def _has_status(self, job: Job) -> bool:
        return any(entry.path == job.path and entry.status is not None for entry in self.matrix.submissions)

    def result(self, job: Job, desk: Desk) -> dict[str, Any]:
        """Returns the result of a job; empty if it did not succeed or its result has been deleted."""
        if job.state != "succeeded" or not desk.has_result(job):
            return {}
        url, length = f"{desk.base}/_files/{job.id}", f"{job.details['made_s']}.041"
        if job.details["action"] == "custom_voice":
            return {"voices": [{"voice_id": job.id, "trial_url": f"{url}.mp3", "owned_by": "sandbox"}]}
        video = {"id": f"v{job.id}", "url": f"{url}.mp4", "duration": length}
        if job.details["action"] == "avatar_tts":
            return {"audios": [{"id": f"a{job.id}", "url": f"{url}.mp3", "duration": length}]}
        if job.details["action"] not in _SOUNDS:
            return {"videos": [video]}
        urls = {"url_mp3": f"{url}.mp3", "url_wav": f"{url}.wav"}
        sound = {"id": f"a{job.id}", **urls, "duration_mp3": length, "duration_wav": length}
        return {"audios": [sound]} | ({"videos": [video]} if job.details["action"] == "video_to_audio" else {})


FACE = KlingServicesFace
