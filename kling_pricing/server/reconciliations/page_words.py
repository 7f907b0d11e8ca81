"""Remedies in the words of the pages: where a page does something, the remedy names it and not a command."""

from __future__ import annotations

import re

_AMOUNT = "-?[0-9]+(?:[.][0-9]+)?"
_WORDS = (
    (
        "run `kling-pricing resolve [0-9a-f]+ --not-charged`",
        "state on the page of the job that the provider did not charge for it",
    ),
    (
        f"run `kling-pricing settle [0-9a-f]+ --amount ({_AMOUNT}) --basis [a-z]+`",
        r"correct the amount to \1 on the page of the job",
    ),
    (
        f"correct the operator's entry with `kling-pricing settle [0-9a-f]+ --amount ({_AMOUNT}) [^`]+`",
        r"correct the amount to \1 on the page of the job",
    ),
    (
        "settle the other reservations at zero, each in its own ledger: `kling-pricing settle ID [^`]+`",
        "correct the amounts of the other reservations to 0 on the pages of the jobs, each in its own ledger",
    ),
    ("with `--pair ", "with `kling-pricing reconcile --pair "),
    (
        "or choose one with --mapping ",
        "and upload it as the mapping file, or choose a mapping of the columns ",
    ),
    ("choose one with --mapping ", "choose the mapping of the columns "),
    ("choose another mapping with --mapping", "choose another mapping of the columns"),
    ("pass `--replaces ([0-9a-f]+)`", r"upload it again, and give \1 as the statement that it corrects"),
    ("add --encoding utf-16-le", "give utf-16-le as its encoding"),
    ("give its encoding with --encoding", "give its encoding"),
    ("for example with --timezone ", "for example the month in the time zone "),
)
"""What the command line says, as a regular expression -> what the pages say."""

_FOUND = [(re.compile(pattern), words) for pattern, words in _WORDS]


def in_words_of_pages(text: str) -> str:
    """Returns a remedy or an error with the fields and pages of the server in place of options and commands.

    A command that no page replaces stays, such as `kling-pricing record`.
    """
    for pattern, words in _FOUND:
        text = pattern.sub(words, text)
    return text
