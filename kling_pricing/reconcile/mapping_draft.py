"""Drafts the mapping of a statement that no known mapping fits, from its columns and its first rows."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from kling_pricing.errors import KlingPricingError, StatementError
from kling_pricing.reconcile.files import reader
from kling_pricing.reconcile.files.encodings import known_encoding
from kling_pricing.reconcile.files.file_reader import DATE_CELL, FileReader, Layout
from kling_pricing.reconcile.id_forms import TOTALS
from kling_pricing.reconcile.mapping_values import ISO, UNIX
from kling_pricing.reconcile.staging import literal
from kling_pricing.reconcile.totals_rows import bare_text, bare_word
from kling_pricing.reconcile.workspace import Workspace

_SAMPLED = 200
"""The number of rows that a draft looks at."""
_FEW = 4
"""A total stands below so many rows or more, unless all of them are totals."""
_NAMES: Mapping[str, Sequence[str]] = {
    "task_id": (
        *("taskid", "task", "jobid", "job", "generationid", "videoid", "任务id", "任务编号", "任务号"),
        *("任务", "id", "requestid"),
    ),
    "amount": (
        *("deductionamount", "billedamount", "chargedamount", "amount", "cost", "charge", "fee", "price"),
        *(
            "quota",
            "credits",
            "points",
            "扣费金额",
            "消费金额",
            "金额",
            "费用",
            "扣费",
            "点数",
            "积分",
            "betrag",
        ),
    ),
    "unit_column": ("currency", "unit", "币种", "货币", "单位", "währung"),
    "billed_at": (
        *("billedat", "chargedat", "deductiontime", "billingtime", "chargetime", "扣费时间", "计费时间"),
        *("createdat", "createtime", "submittedat", "time", "timestamp", "date", "day", "创建时间", "时间"),
        *("日期", "datum"),
    ),
    "model": ("model", "modelname", "模型", "模型名称", "modell"),
    "resolution": ("resolution", "quality", "分辨率", "清晰度"),
    "duration_s": (
        *("durations", "durationsec", "durationseconds", "duration", "seconds", "videoduration", "length"),
        *("durationms", "时长", "秒数", "视频时长", "dauer"),
    ),
    "tasks": ("tasks", "taskcount", "jobs", "count", "requests", "calls", "任务数", "次数", "数量", "anzahl"),
    "tier": ("tier", "档位"),
    "project": ("project", "projectname", "项目", "projekt"),
    "account": ("account", "accountname", "accountid", "账号", "账户", "konto"),
}
"""Answer -> names of columns, the likeliest first, without spaces, capitals and punctuation."""
_PATTERNS = (
    *("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y"),
    *("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y"),
    *("%Y年%m月%d日 %H:%M:%S", "%Y年%m月%d日 %H:%M", "%Y年%m月%d日"),
)
_ISO_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9:.,]+ ?(?P<zone>Z|UTC|[+-][0-9]{2}:?[0-9]{2})?)?")
_CURRENCIES: Mapping[str, Sequence[str]] = {"$": ("USD",), "¥": ("CNY", "JPY"), "€": ("EUR",), "£": ("GBP",)}
"""Sign -> the currencies that it usually means."""
_SIGNS = {"\uff04": "$", "\uffe5": "¥", "\uffe1": "£"}
"""Wide sign -> the sign."""
_SIGN = f"[{''.join([*_CURRENCIES, *_SIGNS])}]"
_FRACTION = re.compile(r"[.,]([0-9]+)[^0-9]*$")


class MappingAnswers(NamedTuple):
    """The answers from which a mapping is written; None: not known.

    Attributes:
        task_id: the column with the provider's id of the task.
        amount: the column with the amount.
        unit: the unit of all amounts: a currency, or a unit of the provider's own.
        unit_column: the column with the unit of each amount.
        decimals: the most digits after the decimal separator.
        billed_at: the column with the time of the charge.
        time_format: the format of the times, as in `TimeEntry`.
        offset: the offset from UTC of times that do not state one, such as `+08:00`.
        model: the column with the model.
        resolution: the column with the resolution.
        duration_s: the column with the length of the video.
        duration_unit: the unit of the lengths: s, ms or min.
        thousands: the separator of thousands.
        totals: the marks of totals, each a column and its text; an empty text: the column is empty.
        sums: whether the rows are sums of tasks, such as one row per day and model, instead of tasks.
        timezone: of sums: the IANA name of the time zone of the days in `billed_at`.
        tasks: of sums: the column with the number of tasks.
        tier: of sums: the column with the tier.
        project: of sums: the column with the project.
        account: of sums: the column with the account at the provider.
    """

    task_id: str | None = None
    amount: str | None = None
    unit: str | None = None
    unit_column: str | None = None
    decimals: int | None = None
    billed_at: str | None = None
    time_format: str | None = None
    offset: str | None = None
    model: str | None = None
    resolution: str | None = None
    duration_s: str | None = None
    duration_unit: str | None = None
    thousands: str | None = None
    totals: tuple[tuple[str, str], ...] = ()
    sums: bool = False
    timezone: str | None = None
    tasks: str | None = None
    tier: str | None = None
    project: str | None = None
    account: str | None = None


class MappingDraft(NamedTuple):
    """The columns of a statement, and the answers that its names and first rows suggest.

    Attributes:
        file: the name of the file.
        columns: the names of the columns.
        examples: column -> texts of its first rows, without repetitions.
        sheet: the sheet that has the columns; None: the only one.
        rows: the path of the list that has the rows; None: the file needs none.
        suggested: the answers that the file suggests.
    """

    file: str
    columns: Sequence[str]
    examples: Mapping[str, Sequence[str]]
    sheet: str | None
    rows: str | None
    suggested: MappingAnswers

    def times(self, column: str) -> tuple[str | None, bool]:
        """Returns the only format that fits the times of a column, and whether all of them state an offset."""
        texts = [text for text in self.examples.get(column, ()) if text and bare_word(text) not in TOTALS]
        if texts and all(text.startswith(DATE_CELL) for text in texts):
            return ISO, False
        iso = [_ISO_TIME.fullmatch(text) for text in texts]
        if texts and all(iso):
            return ISO, all(match and match["zone"] for match in iso)
        if texts and all(re.fullmatch("[0-9]{9,16}", text) for text in texts):
            return UNIX, True
        fitting = [pattern for pattern in _PATTERNS if texts and all(_fits(text, pattern) for text in texts)]
        return fitting[0] if len(fitting) == 1 else None, False

    def sign(self, column: str | None) -> tuple[str, Sequence[str]]:
        """Returns the only currency sign of a column, and its currencies; an empty sign: none, or several."""
        texts = self.examples.get(column or "", ())
        signs = {_SIGNS.get(sign, sign) for text in texts for sign in re.findall(_SIGN, text)}
        sign = signs.pop() if len(signs) == 1 else ""
        return sign, _CURRENCIES.get(sign, ())

    def decimals(self, column: str) -> int:
        """Returns the most digits after a separator in the amounts of a column."""
        matches = (_FRACTION.search(text) for text in self.examples.get(column, ()))
        return max((len(match[1]) for match in matches if match), default=0)

    def yaml(self, name: str, answers: MappingAnswers, *, checked: date, names_of: Sequence[str] = ()) -> str:
        """Returns the text of the mapping.

        Args:
            name: the name of the mapping.
            answers: the answers.
            checked: the day on which the file was looked at.
            names_of: the wire formats whose names of models the statement uses.

        Raises:
            KlingPricingError: an answer is missing, or names a column that the file does not have.
        """
        self._check(answers)
        rows = "one sum of tasks" if answers.sums else "one charge"
        about = f"statement with the columns of {self.file}, {rows} per row"
        head = [
            f"statement: {_text(name)}",
            f"about: {_text(about)}",
            f"sources:\n  - {{ref: {_text(self.file)}, checked: {checked:%Y-%m-%d}, authority: secondary}}",
        ]
        if self.rows:
            head.append(f"rows: [{_text(self.rows)}]")
        if self.sheet:
            head.append(f"sheet: {_text(self.sheet)}")
        if answers.thousands:
            head.append(f"thousands: {_text(answers.thousands)}")
            head += [f"decimal: {_text(',')}"] if answers.thousands == "." else []
        if answers.totals:
            head.append("totals:")
            head += [f"  - {{column: {_text(column)}, {_mark(text)}}}" for column, text in answers.totals]
        unit = f"unit: {answers.unit}"
        if answers.unit_column:
            unit = f"unit_column: {_text(answers.unit_column)}"
        amount = f"amount: {{column: {_text(answers.amount)}, {unit}, decimals: {answers.decimals}}}"
        if answers.sums:
            lines = [amount, *_sum_columns(answers, names_of)]
            return "\n".join([*head, "aggregates:", *(f"  {line}" for line in lines), ""])
        columns = [f"task_id: {{column: {_text(answers.task_id)}}}", amount]
        if answers.billed_at:
            written = f"format: {_text(answers.time_format)}"
            if answers.offset:
                written += f", offset: {_text(answers.offset)}"
            columns.append(f"billed_at: {{column: {_text(answers.billed_at)}, {written}}}")
        columns += [
            f"{key}: {{column: {_text(value)}, optional: true{more}}}"
            for key, value, more in (
                ("model", answers.model, f", names_of: [{', '.join(names_of)}]" if names_of else ""),
                ("resolution", answers.resolution, ""),
                ("duration_s", answers.duration_s, f", unit: {answers.duration_unit or 's'}"),
            )
            if value
        ]
        return "\n".join([*head, "columns:", *(f"  {line}" for line in columns), ""])

    def _check(self, answers: MappingAnswers) -> None:
        needed = {
            "task_id": "" if answers.sums else answers.task_id,
            "amount": answers.amount,
            "unit or unit_column": answers.unit or answers.unit_column,
            "decimals": answers.decimals,
            "time_format": answers.time_format if answers.billed_at else "",
        }
        if lacking := [name for name, value in needed.items() if value is None]:
            raise KlingPricingError(f"the mapping needs {', '.join(lacking)}; give a value for each")
        keys = (answers.billed_at, answers.model, answers.resolution)
        named: tuple[str | None, ...] = (answers.amount, answers.unit_column, *keys)
        of_kind: tuple[str | None, ...] = (answers.task_id, answers.duration_s)
        if answers.sums:
            of_kind = (answers.tier, answers.project, answers.account)
            named = (*named, answers.tasks)
            if not any((*keys, *of_kind)):
                raise KlingPricingError(
                    "sums need a column that says which tasks they add up; give the day, the model, the "
                    "resolution, the tier, the project or the account"
                )
        for column in (*named, *of_kind, *(column for column, _ in answers.totals)):
            if column:
                self.check_column(column)

    def check_column(self, column: str) -> None:
        """Refuses the name of a column that the file does not have.

        Raises:
            StatementError: the file does not have the column; the message lists its columns.
        """
        if column not in self.columns:
            raise StatementError(
                f"does not have this column; it has {', '.join(self.columns)}", file=self.file, column=column
            )


def draft_mapping(statement: str | os.PathLike[str], *, encoding: str | None = None) -> MappingDraft:
    """Looks at a statement, and suggests the meaning of its columns.

    Args:
        statement: the file.
        encoding: the encoding of a text file that does not state its own; None: UTF-8.

    Raises:
        StatementError: the file cannot be read.
    """
    path = Path(statement)
    if encoding is not None and not known_encoding(encoding):
        raise StatementError(f"unknown encoding {encoding!r}; give a name such as gb18030, utf-16-le or cp1252")
    workspace = Workspace()
    try:
        file = reader(path, workspace, lambda _size: None, encoding)
        layout, header = likeliest_layout(file)
        file.layout = layout
        columns = [*filter(None, header)]
        if not columns:
            raise file.error("has no columns; the first row must contain the column names")
        examples = _examples(file, columns, workspace)
        task, amount = (_likeliest(columns, _NAMES[name]) for name in ("task_id", "amount"))
        totals = _totals(file, columns, workspace, task, amount)
    except OSError as error:
        raise StatementError(f"cannot be read: {error.strerror or error}", file=path.name) from None
    finally:
        workspace.close()
    rows = layout.rows[0] if layout.rows else None
    draft = MappingDraft(path.name, columns, examples, layout.sheet, rows, MappingAnswers())
    return draft._replace(suggested=_suggested(draft)._replace(totals=totals))


def likeliest_layout(file: FileReader) -> tuple[Layout, Sequence[str]]:
    """Returns the layout of a file, and its header, in which most columns have a known meaning."""
    return max(file.layouts(Layout()), key=lambda candidate: _recognised(candidate[1]))


def _recognised(header: Sequence[str]) -> tuple[int, int]:
    """Returns how many answers the names of a header suggest, and its number of columns."""
    return sum(_likeliest(header, names) is not None for names in _NAMES.values()), len([*filter(None, header)])


def _likeliest(columns: Iterable[str], names: Sequence[str]) -> str | None:
    """Returns the column that has the likeliest of some names; None: no column has any."""
    simple: dict[str, str] = {}
    for ignored in (r"[\W_]+", r"[\W_]*[(\uff08].*|[\W_]+"):  # the second time, `cost (USD)` is a cost
        for column in columns:
            simple.setdefault(re.sub(ignored, "", column.rpartition(".")[2].lower()), column)
    return next((simple[name] for name in names if name in simple), None)


def _examples(file: FileReader, columns: Sequence[str], workspace: Workspace) -> dict[str, list[str]]:
    source = file.careful_source(columns, ())
    present = [name for name in columns if name in source.texts]
    texts = ", ".join(source.texts[name] for name in present)
    rows = workspace.rows(f"SELECT {texts} FROM {source.relation} LIMIT {_SAMPLED}")
    listed = list(islice(rows, _SAMPLED))
    return {
        name: [*dict.fromkeys(text for row in listed if (text := row[place] or "") != "")]
        for place, name in enumerate(present)
    }


def _totals(
    file: FileReader, columns: Sequence[str], workspace: Workspace, task: str | None, amount: str | None
) -> tuple[tuple[str, str], ...]:
    """Returns the marks of totals in all rows of a file, as in `MappingAnswers`.

    A word of a total in the column with the task needs no mark. If the last row has an amount and no task, and
    few rows are like it, it is a total.
    """
    source = file.careful_source(columns, ())
    texts = {name: f"trim(ifnull({source.texts[name]}, ''))" for name in columns if name in source.texts}
    words = ", ".join(map(literal, TOTALS))
    marks = []
    for name, text in texts.items():
        found = workspace.all(
            f"SELECT DISTINCT {text} FROM {source.relation} WHERE {bare_text(text)} IN ({words}) ORDER BY 1"
        )
        marks += [(name, word) for (word,) in found if name != task]
    if marks or task not in texts or amount not in texts:
        return tuple(marks)
    rows = workspace.all(
        f"SELECT {texts[task]} = '', count(*) OVER () FROM (SELECT *, row_number() OVER () AS place"
        f" FROM {source.relation}) WHERE {texts[amount]} <> '' ORDER BY place DESC LIMIT 1"
    )
    empty = workspace.one(
        f"SELECT count(*) FROM {source.relation} WHERE {texts[task]} = '' AND {texts[amount]} <> ''"
    )
    is_total = any(is_empty and empty * _FEW <= read for is_empty, read in rows)
    return ((task, ""),) if is_total else ()


def _mark(text: str) -> str:
    return f"texts: [{_text(text)}]" if text else "empty: true"


def _sum_columns(answers: MappingAnswers, names_of: Sequence[str]) -> list[str]:
    """Returns the columns of sums after the amount."""
    lines = []
    if answers.tasks:
        lines.append(f"tasks: {{column: {_text(answers.tasks)}}}")
    if answers.billed_at:
        zone = _text(answers.timezone or "UTC")
        lines.append(
            f"day: {{column: {_text(answers.billed_at)}, format: {_text(answers.time_format)}, "
            f"timezone: {zone}}}"
        )
    more = {"model": f", names_of: [{', '.join(names_of)}]" if names_of else ""}
    names = {key: getattr(answers, key) for key in ("model", "resolution", "tier", "project", "account")}
    return lines + [f"{k}: {{column: {_text(name)}{more.get(k, '')}}}" for k, name in names.items() if name]


def _suggested(draft: MappingDraft) -> MappingAnswers:
    found: dict[str, Any] = {key: _likeliest(draft.columns, names) for key, names in _NAMES.items()}
    answers = MappingAnswers()._replace(**found)
    if answers.amount:
        answers = answers._replace(decimals=draft.decimals(answers.amount))
    if answers.billed_at:
        answers = answers._replace(time_format=draft.times(answers.billed_at)[0])
    if answers.duration_s:
        answers = answers._replace(duration_unit="ms" if answers.duration_s.lower().endswith("ms") else "s")
    return answers


def _fits(text: str, pattern: str) -> bool:
    with suppress(ValueError):
        datetime.strptime(text, pattern)  # noqa: DTZ007 (only to test the pattern)
        return True
    return False


def _text(text: str | None) -> str:
    """Returns a text as a quoted scalar of YAML."""
    return json.dumps(text, ensure_ascii=False)
