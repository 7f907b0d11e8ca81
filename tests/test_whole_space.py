"""Every cell of the space is priced, or refused for a reason; the counts are derived by hand."""

from collections import Counter
from decimal import Decimal
from itertools import product

from kling_pricing import CapabilityError, PriceNotFoundError, quote
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
