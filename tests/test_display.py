"""Words in sentences: choices, and the known word that was probably meant."""

import pytest

from kling_pricing.display import did_you_mean, joined_with_or, nearest


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("duraton", "duration"),
        ("DURATION", "duration"),
        ("fileinfos", "FileInfos"),
        ("FILEINFO", "FileInfos"),
        ("x" * 100_000, None),
        ("colour", None),
        ("", None),
    ],
)
def test_the_nearest_known_word_is_found_whatever_its_case(word: str, meant: str | None) -> None:
    """Case is ignored on both sides, and the known word keeps its own."""
    assert nearest(word, ["model", "duration", "FileInfos"]) == meant


def test_did_you_mean_names_the_nearest_word_or_all_of_them() -> None:
    """If no word is close, all known words are listed in their order."""
    assert did_you_mean("Modle", ["seed", "model"]) == "did you mean 'model'?"
    assert did_you_mean("zzz", iter(["seed", "model"])) == "use one of: seed, model"


@pytest.mark.parametrize(
    ("words", "text"), [(["a"], "a"), (("a", "b"), "a or b"), ({"a": 1, "b": 2, "c": 3}, "a, b or c")]
)
def test_words_are_joined_as_a_choice(words: list[str], text: str) -> None:
    """One word stands alone, and the last of several follows `or`."""
    assert joined_with_or(words) == text
