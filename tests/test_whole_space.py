"""Every cell of the space is priced, or refused for a reason; the counts are derived by hand."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from kling_pricing import CapabilityError, PriceNotFoundError, check, quote
from tests.conftest import AT, video
from tests.test_quoting import QINGBO_2026_04_29

MODELS = ("kling-video-o1", "kling-v3-omni", "kling-v3", "kling-v2.6")
PRICES = {(model, resolution, tier): Decimal(price) for model, resolution, _, tier, price in QINGBO_2026_04_29}


def test_model_x_resolution_x_audio_x_video_reference_x_duration() -> None:
    """Of 816 cells 183 are priced, 26 are valid but unpriced, and 607 are refused by the API.

    The space: 4 models x 3 resolutions x 2 audio x 2 video reference x 17 durations (0..16) = 816.

    Priced, by model (durations: o1 and v2.6 take 5 and 10, so 2; omni and v3 take 3..15, so 13):
      v2.6: 720p silent, 1080p silent, 1080p audio                       3 x  2 =   6
      v3:   3 resolutions x (silent, audio)                              6 x 13 =  78
      omni: 720p and 1080p x (silent, audio, video), 4k silent           7 x 13 =  91
      o1:   720p and 1080p x (silent, video)                             4 x  2 =   8
                                                                    together      183
    Valid but unpriced: omni 4k with audio, omni 4k with a video         2 x 13 =  26
    Refused: 816 - 183 - 26 = 607.
    """
    seen = Counter[str]()
    for model, resolution, audio, reference, duration in product(
        MODELS, ("720p", "1080p", "4k"), (False, True), (False, True), range(17)
    ):
        payload = video(
            model,
            resolution=resolution,
            duration=duration,
            audio=audio or None,
            video_urls=["https://example.com/v.mp4"] if reference else None,
        )
        try:
            quoted = quote(payload, at=AT)
        except CapabilityError as error:
            assert error.violations
            seen["refused"] += 1
        except PriceNotFoundError:
            seen["unpriced"] += 1
        else:
            tier = "video_reference" if reference else "audio" if audio else "silent"
            assert quoted.total == PRICES[model, resolution, tier] * duration
            seen["priced"] += 1
    assert seen == {"priced": 183, "unpriced": 26, "refused": 607}


def test_model_x_action_x_inputs() -> None:
    """Of 576 cells 64 are priced and 512 are refused.

    The space: 4 models x 6 actions (none, and the five that can be named)
    x 0, 1 or 2 images x first frame x last frame x reference video = 4 x 6 x 24 = 576.

    Inputs that go together, as (images, first frame, last frame, video):
      none or generate, where the inputs decide:
          nothing (0,0,0,0); one image (1,0,0,0) or a first frame (0,1,0,0); both frames (0,1,1,0);
          two images (2,0,0,0); a video with 0, 1 or 2 images (n,0,0,1)
      image2video: (1,0,0,0), (0,1,0,0)    first_last_frame: (0,1,1,0)    reference: (1,0,0,0), (2,0,0,0)
      reference_video: (0,0,0,1), (1,0,0,1), (2,0,0,1)

      o1   takes all of it:                  8 + 8 + 2 + 1 + 2 + 3 = 24
      omni has no frames:                    6 + 6 + 1 + 0 + 2 + 3 = 18   (6: nothing, 1, 2 images; 3 videos)
      v3   has neither reference nor video:  4 + 4 + 2 + 1 + 0 + 0 = 11   (4: nothing, image, frame, frames)
      v2.6 the same:                                                 11
                                                     together        64
    """
    actions = (None, "generate", "image2video", "first_last_frame", "reference", "reference_video")
    seen = Counter[tuple[str, str]]()
    for model, action, images, first, last, reference in product(
        MODELS, actions, range(3), (False, True), (False, True), (False, True)
    ):
        payload = video(
            model,
            action=action,
            image_urls=["a", "b"][:images] or None,
            first_frame_image="f" if first else None,
            last_frame_image="l" if last else None,
            video_urls=["v"] if reference else None,
        )
        try:
            quoted = quote(payload, at=AT)
        except CapabilityError as error:
            assert error.violations
            seen["refused", model] += 1
        else:
            assert quoted.tier == ("video_reference" if reference else "silent")
            seen["priced", model] += 1
    priced = {model: count for (what, model), count in seen.items() if what == "priced"}
    assert priced == {"kling-video-o1": 24, "kling-v3-omni": 18, "kling-v3": 11, "kling-v2.6": 11}
    assert seen.total() == 576


FIRST = {"type": "first_frame", "url": "a"}
NEWER_MATERIALS: dict[str, list[dict[str, Any]]] = {
    "nothing": [],
    "first": [FIRST],
    "frames": [FIRST, {"type": "last_frame", "url": "b"}],
    "image": [{"type": "refer_image", "url": "c"}],
    "feature": [{"type": "feature_video", "url": "v"}],
    "base": [{"type": "base_video", "url": "v"}],
}
MEDIA = {"v": {"length_s": "7"}}

# Units per second of the official list of 2026-09-20, by model: resolution -> silent, audio, video input.
UNITS: dict[str, dict[str, tuple[str, ...]]] = {
    "kling-3.0-turbo": {"720p": ("", "0.8"), "1080p": ("", "1.0")},
    "kling-v3": {"720p": ("0.6", "0.9"), "1080p": ("0.8", "1.2"), "4k": ("3", "3")},
    "kling-v3-omni": {"720p": ("0.6", "0.8", "0.9"), "1080p": ("0.8", "1.0", "1.2"), "4k": ("3", "3", "3")},
    "kling-video-o1": {"720p": ("0.6", "", "0.9"), "1080p": ("0.8", "", "1.2")},
    "kling-v2-6": {"720p": ("0.3",), "1080p": ("0.5", "1.0")},
    "kling-v2-5-turbo": {"720p": ("0.3",), "1080p": ("0.5",)},
    "kling-v2-1-master": {"1080p": ("2.0",)},
    "kling-v2-1": {"720p": ("0.4",), "1080p": ("0.7",)},
    "kling-v2-master": {"720p": ("2.0",)},
    "kling-v1-6": {"720p": ("0.4",), "1080p": ("0.7",)},
    "kling-v1-5": {"720p": ("0.4",), "1080p": ("0.7",)},
    "kling-v1": {"720p": ("0.2",), "1080p": ("0.7",)},
}


def official(model: str, resolution: str, lane: int, seconds: int) -> Decimal:
    """Returns the price in USD: units per second x 0.14 x seconds; lane 0 is silent, 1 audio, 2 video input."""
    return Decimal(UNITS[model][resolution][lane]) * Decimal("0.14") * seconds


def test_the_newer_official_api() -> None:
    """Of 3456 cells 506 are priced and 2950 are refused.

    The space: 12 paths x 3 resolutions x 4 audio (absent, off, native, original) x 6 materials (nothing, a
    first frame, both frames, an image, a feature video, a base video) x 4 durations (3, 5, 10, 11) = 3456.
    The reference video is 7 s long.

    Priced, as materials x resolutions x audio x durations:
      text 3.0-turbo   nothing; 2 resolutions; no audio field; 3..15               1 x 2 x 1 x 4 =   8
      image 3.0-turbo  first                                                       1 x 2 x 1 x 4 =   8
      text 3.0         nothing; absent, off, native                                1 x 3 x 3 x 4 =  36
      image 3.0        first, frames                                               2 x 3 x 3 x 4 =  72
      omni 3.0         nothing, first, frames, image; all four audio               4 x 3 x 4 x 4 = 192
                       feature; absent, off                                        1 x 3 x 2 x 4 =  24
                       base; absent, off, original                                 1 x 3 x 3 x 4 =  36
      omni O1          nothing, frames, image; absent, off, original; 3..10        3 x 2 x 3 x 3 =  54
                       first; 5 and 10 s only                                      1 x 2 x 3 x 2 =  12
                       feature; absent, off                                        1 x 2 x 2 x 3 =  12
                       base; absent, off, original                                 1 x 2 x 3 x 3 =  18
      text 2.6         nothing; 720p absent, off; 1080p native too; 5, 10              (2 + 3) x 2 =  10
      image 2.6        first; the same                                                 (2 + 3) x 2 =  10
                       frames; 1080p absent, off                                             2 x 2 =   4
      text 2.5-turbo   nothing; no audio field; 5, 10                                  2 x 1 x 2   =   4
      image 2.5-turbo  first, and frames at 1080p                                    (2 + 1) x 2   =   6
      motion 3.0, 2.6  take none of these materials                                                    0
                                                                                      together       506
    """
    seen = Counter[str]()
    names = {"kling-3.0": "kling-v3", "kling-3.0-omni": "kling-v3-omni", "kling-o1": "kling-video-o1"}
    names |= {"kling-2.6": "kling-v2-6", "kling-2.5-turbo": "kling-v2-5-turbo"}
    paths = [
        *(
            f"{kind}/{name}"
            for kind in ("text-to-video", "image-to-video")
            for name in (*names, "kling-3.0-turbo")
        ),
        *("omni-video/kling-3.0-omni", "omni-video/kling-o1"),
        *("motion-control/kling-3.0", "motion-control/kling-2.6"),
    ]
    unknown = {
        f"{kind}/{name}"
        for kind in ("text-to-video", "image-to-video")
        for name in ("kling-3.0-omni", "kling-o1")
    }
    paths = [path for path in paths if path not in unknown]
    assert len(paths) == 12
    for path, resolution, audio, (kind, materials), duration in product(
        paths,
        ("720p", "1080p", "4k"),
        (None, "off", "native", "original"),
        NEWER_MATERIALS.items(),
        (3, 5, 10, 11),
    ):
        settings = {"resolution": resolution, "duration": duration, "audio": audio}
        payload: dict[str, Any] = {"settings": settings, "contents": materials}
        if path.startswith("text"):
            payload["prompt"] = "a"
        else:
            payload["contents"] = [{"type": "prompt", "text": "a"}, *materials]
        url = f"https://api-singapore.klingai.com/{path}"
        if check(payload, url=url, media=MEDIA, at=AT):
            seen["refused"] += 1
            continue
        seen["priced"] += 1
        seen[path] += 1
        name = path.rpartition("/")[2]
        lane = 2 if kind in {"feature", "base"} else int(audio == "native" or name == "kling-3.0-turbo")
        total = official(names.get(name, name), resolution, lane, 7 if kind == "base" else duration)
        assert quote(payload, url=url, media=MEDIA, at=AT).total == total
    assert seen == {
        "priced": 506,
        "refused": 2950,
        "text-to-video/kling-3.0-turbo": 8,
        "image-to-video/kling-3.0-turbo": 8,
        "text-to-video/kling-3.0": 36,
        "image-to-video/kling-3.0": 72,
        "omni-video/kling-3.0-omni": 252,
        "omni-video/kling-o1": 96,
        "text-to-video/kling-2.6": 10,
        "image-to-video/kling-2.6": 14,
        "text-to-video/kling-2.5-turbo": 4,
        "image-to-video/kling-2.5-turbo": 6,
    }


LEGACY_MATERIALS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "image": {"image": "a"},
    "frames": {"image": "a", "image_tail": "b"},
    "list": {"image_list": [{"image_url": "c"}]},
    "feature": {"video_list": [{"video_url": "v", "refer_type": "feature"}]},
    "base": {"video_list": [{"video_url": "v"}]},
}
RETIRED = {"kling-v2-1-master", "kling-v2-1", "kling-v2-master", "kling-v1-6", "kling-v1-5", "kling-v1"}


@pytest.mark.parametrize(("at", "unpriced"), [(datetime(2026, 7, 20, tzinfo=UTC), 0), (AT, 59)])
def test_the_legacy_official_api(at: datetime, unpriced: int) -> None:
    """Of 2640 cells 379 are valid and 2261 are refused; in November, 59 of the 379 have no price any more.

    The space: 11 models x 4 modes (absent, std, pro, 4k) x sound off or on x 6 materials (nothing, image, image
    and image_tail, image_list, a feature video, a base video) x 5 durations (3, 5, 6, 10, 15) = 2640.
    The reference video is 7 s long.

    Valid, as materials x modes x sound x durations:
      v3            nothing, image, frames                           3 x 4 x 2 x 5 = 120
      v3-omni       nothing, list                                    2 x 4 x 2 x 5 =  80
                    feature, base; sound off                         2 x 4 x 1 x 5 =  40
      video-o1      nothing, list, feature, base; off; no 4k; 3..10  4 x 3 x 1 x 4 =  48
      v2-6          nothing, image; 5, 10; pro with sound too        2 x (3 + 1) x 2 =  16
                    frames; pro, off                                             2 =   2
      v2-5-turbo    nothing, image; off                              2 x 3 x 1 x 2 =  12
                    frames; pro                                                  2 =   2
      v2-1-master   nothing, image; no mode; off                         2 x 1 x 2 =   4   (retired)
      v2-1          image; frames in pro                                 3 x 2 + 2 =   8   (retired)
      v2-master     as v2-1-master                                                     4   (retired)
      v1-6          nothing, image, list; frames in pro              3 x 3 x 2 + 2 =  20   (retired)
      v1-5          image; frames in pro                                 3 x 2 + 2 =   8   (retired)
      v1            nothing, image; frames with 5 s                  2 x 3 x 2 + 3 =  15   (retired)
                                                                        together    379   (59)
    """
    seen = Counter[str]()
    resolutions = {"std": "720p", "pro": "1080p", "4k": "4k"}
    defaults = {"kling-v3-omni": "1080p", "kling-video-o1": "1080p", "kling-v2-1-master": "1080p"}
    models = [model for model in UNITS if model != "kling-3.0-turbo"]
    for model, mode, sound, (kind, material), duration in product(
        models, (None, *resolutions), ("off", "on"), LEGACY_MATERIALS.items(), (3, 5, 6, 10, 15)
    ):
        payload = {"model_name": model, "prompt": "a", "mode": mode, "sound": sound, "duration": str(duration)}
        payload |= material
        if check(payload, media=MEDIA, at=at):
            seen["refused"] += 1
            continue
        try:
            quoted = quote(payload, media=MEDIA, at=at)
        except PriceNotFoundError:
            assert model in RETIRED
            seen["unpriced"] += 1
            continue
        seen["priced"] += 1
        resolution = resolutions[mode] if mode else defaults.get(model, "720p")
        lane = 2 if kind in {"feature", "base"} else int(sound == "on")
        assert quoted.total == official(model, resolution, lane, 7 if kind == "base" else duration)
    assert (seen["refused"], seen["unpriced"], seen["priced"]) == (2261, unpriced, 379 - unpriced)
