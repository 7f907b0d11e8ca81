"""Reads printed pages, with the programs of poppler."""

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.conftest import program

_PAGE = re.compile(r'<page width="([\d.]+)" height="([\d.]+)">(.*?)</page>', re.DOTALL)
_WORD = re.compile(r'<word xMin="([\d.-]+)" yMin="([\d.-]+)" xMax="([\d.-]+)" yMax="([\d.-]+)">(.*?)</word>')


class Word(NamedTuple):
    """A word on paper, with its box in points."""

    left: float
    top: float
    right: float
    bottom: float
    text: str

    def overlaps(self, other: "Word") -> bool:
        """Returns whether the boxes of two words share more than their edges."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        smaller = min(self.bottom - self.top, other.bottom - other.top)
        return width > 0.25 * smaller and height > 0.45 * smaller


class PaperPage(NamedTuple):
    """A printed page: its size in points, and its words."""

    width: float
    height: float
    words: list[Word]

    @property
    def text(self) -> str:
        """All words."""
        return " ".join(word.text for word in self.words)

    def misplaced(self) -> list[tuple[str, str]]:
        """Returns the words that are off the page, and pairs of words that are printed over each other."""
        found = [
            (word.text, "")
            for word in self.words
            if word.left < 0 or word.top < 0 or word.right > self.width or word.bottom > self.height
        ]
        words = sorted(self.words, key=lambda word: word.top)
        for place, word in enumerate(words):
            for other in words[place + 1 :]:
                if other.top > word.bottom:
                    break
                if word.overlaps(other):
                    found.append((word.text, other.text))
        return found


def pages_of(pdf: Path) -> list[PaperPage]:
    """Returns the pages of a PDF."""
    done = subprocess.run(
        [program("pdftotext"), "-bbox", str(pdf), "-"], capture_output=True, check=True, text=True
    )
    return [
        PaperPage(
            float(width),
            float(height),
            [
                Word(float(left), float(top), float(right), float(bottom), text)
                for left, top, right, bottom, text in _WORD.findall(content)
            ],
        )
        for width, height, content in _PAGE.findall(done.stdout)
    ]
