"""The details of a submission that are stored with its job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kling_pricing.money import format_decimal
from kling_pricing.sandbox.faces import Face
from kling_pricing.sandbox.plans import Plan
from kling_pricing.sandbox.rating import Rated
from kling_pricing.sandbox.reading import Reading
from kling_pricing.sandbox.served_paths import SubmissionPath


def kept_of(
    facts: Mapping[str, Any], reading: Reading, rated: Rated, plan: Plan, face: Face, path: SubmissionPath
) -> dict[str, Any]:
    """Returns the details of a submission that are stored with its job; the prompt is not stored."""
    written = reading.model or path.model or facts["model"]
    made_s = facts.get("sound_length_s") or facts.get("duration_s") or facts.get("video_length_s") or 0
    return {
        "written": written,
        "model": facts["model"],
        "action": facts.get("action"),
        "resolution": facts.get("resolution"),
        "made_s": int(made_s),
        "audio": bool(facts.get("audio")),
        "reference": bool(facts.get("reference")),
        "videos": facts.get("videos", 0),
        "original_sound": facts.get("original_sound", False),
        "voice_control": facts.get("voice_control", False),
        "calls": facts.get("calls", 1),
        "motion_level": facts.get("motion_level", ""),
        "product": (facts.get("action") or "generate").replace("_", " ").title(),
        "pack": face.PACK,
        "tier": rated.rate.cell.tier,
        "failed_tasks": rated.table.billing.failed_tasks,
        "outcome": plan.outcome,
        "reason": plan.reason,
        "charged_failure": plan.charged_failure,
        "states_charge": plan.states_charge,
        "stated_factor": format_decimal(plan.stated_factor),
        "statement": list(plan.statement),
        "charged": False,
    }
