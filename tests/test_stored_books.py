"""Price books without YAML: the compiled one in a wheel, and the cache of the user's own tables."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from decimal import Decimal
from hashlib import sha256
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

import pytest

import kling_pricing
from kling_pricing import KlingPricingError, PriceBook, TableError, load_price_book
from kling_pricing.quoting.composing import RequestDescription, quote_description
from kling_pricing.quoting.intake import Intake
from kling_pricing.tables import book_json
from kling_pricing.tables.book_json import book_from_json, book_to_json
from kling_pricing.tables.capabilities import MediaLimit
from kling_pricing.tables.loading.assembly import assembled_book
from kling_pricing.tables.loading.folders import table_files
from kling_pricing.tables.loading.stored_books import MAX_CACHED, sources_digest, stored_text
from tests.conftest import AT, PRICES, bundled, video

Folder = Callable[..., Path]
OWN = {
    "prices/acme/2026-11-01.yaml": PRICES
    + "model_periods: {kling-v3: {valid_until: 2027-01-01, why: the launch offer ends}}\n"
    + "notes: [{code: since_december, message: 'An accent: é', since: 2026-12-01}]\n"
    + "account_currency: EUR\n",
    "prices/acme/ours.yaml": "extends: acme/2026-11-01\ndiscount: 0.10\n"
    "sources: [{ref: our contract, checked: 2026-11-02, authority: official}]\n"
    "rates: {kling-v2-6: {720p: {silent: 0.0400}}}\n",
}
"""Tables with everything that the bundled ones lack: a contract, a dated note, a model's own period."""
RATE = "kling-v2-6", "720p", "silent"
EXACT = {str, int, bool, type(None), Decimal}


def from_yaml(folder: Path | None = None) -> PriceBook:
    """Returns the book as the YAML files give it."""
    return assembled_book(table_files(folder))


def differences(one: Any, other: Any, place: str = "book") -> Iterator[str]:
    """Yields the places at which two values differ in type, content or order."""
    if type(one) is not type(other):
        yield f"{place}: {type(one)} and {type(other)}"
    elif is_dataclass(one):
        for field in fields(one):
            if field.compare or field.init:
                yield from differences(
                    getattr(one, field.name), getattr(other, field.name), f"{place}.{field.name}"
                )
    elif isinstance(one, dict | MappingProxyType):
        yield from differences(tuple(one), tuple(other), f"keys of {place}")
        for key in one.keys() & other.keys():
            yield from differences(one[key], other[key], f"{place}[{key!r}]")
    elif isinstance(one, tuple):
        if len(one) != len(other):
            yield f"{place}: {len(one)} and {len(other)}"
        for index, pair in enumerate(zip(one, other, strict=False)):
            yield from differences(*pair, f"{place}[{index}]")
    elif one != other or str(one) != (str(other) if not isinstance(one, frozenset) else str(one)):
        yield f"{place}: {one!r} and {other!r}"


def outcome(description: RequestDescription, provider: str, book: PriceBook) -> tuple[Any, ...]:
    """Returns everything that a user sees of a quote or of its refusal."""
    try:
        quoted = quote_description(description, Intake(provider=provider, at=AT, book=book))
    except KlingPricingError as error:
        return type(error), str(error), getattr(error, "violations", None), getattr(error, "suggestions", None)
    return quoted.as_dict(), quoted.explain(), quoted.minimum, quoted.maximum, quoted.table.contract


@pytest.mark.parametrize("files", [{}, OWN], ids=["bundled", "own"])
def test_a_stored_book_is_the_same_value_by_value(folder: Folder, files: dict[str, str]) -> None:
    """Every part of every table and matrix has the same type, the same content and the same order."""
    book = from_yaml(folder(files) if files else None)
    text = book_to_json(book)
    stored = book_from_json(text)
    assert [*differences(book, stored)] == []
    assert stored == book
    assert book_to_json(stored) == text


def test_a_stored_book_gives_the_same_quotes_and_refusals(folder: Folder) -> None:
    """Of every provider, model and setting, prices, notes, explanations and violations are the same."""
    book = from_yaml(folder(OWN))
    stored = book_from_json(book_to_json(book))
    models = sorted({model for matrix in book.matrices.values() for model in matrix.models})
    seen = set()
    for provider, model, resolution, audio, duration_s in product(
        [*book.tables, *book.unpriced], models, ("720p", "4k"), (False, True), (5, 7)
    ):
        settings = {"resolution": resolution, "audio": audio, "duration_s": duration_s}
        description = RequestDescription(model, settings, None, None, {})
        result = outcome(description, provider, book)
        assert outcome(description, provider, stored) == result
        seen.add(type(result[0]))
    assert seen == {dict, type}


def test_every_class_that_a_book_can_hold_is_listed() -> None:
    """A new class in the tables fails here, even if no bundled table uses it."""
    seen: set[Any] = set()

    def walk(kind: Any) -> None:
        if kind in seen:
            return
        seen.add(kind)
        for argument in get_args(kind):
            walk(argument)
        hints = get_type_hints(kind) if isinstance(kind, type) and kind.__module__.startswith("kling") else {}
        taken = {field.name for field in fields(kind) if field.init} if is_dataclass(kind) else hints.keys()
        for name in hints.keys() & taken:
            walk(hints[name])

    walk(PriceBook)
    ours = {kind for kind in seen if isinstance(kind, type) and kind.__module__.startswith("kling_pricing")}
    assert {kind.__name__ for kind in ours} - {kind.__name__ for kind in book_json.CLASSES} <= {"Condition"}
    caches = {
        (kind, field.name)
        for kind in book_json.CLASSES
        if is_dataclass(kind)
        for field in fields(kind)
        if field.init and not field.compare
    }
    assert caches == {(MediaLimit, "unchecked")}


def test_a_value_of_an_unknown_type_is_refused(book: PriceBook) -> None:
    """A float would not be exact, so it is not written."""
    table = book.tables["qingbo"][0]
    wrong = PriceBook({"qingbo": (replace(table, currency=0.1),)}, book.matrices)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="cannot write a float"):
        book_to_json(wrong)


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty cache."""
    path = tmp_path_factory.mktemp("caches") / "cache"
    monkeypatch.setenv("KLING_PRICING_CACHE", str(path))
    return path


def only_file(cache: Path) -> Path:
    """Returns the only cached book."""
    (path,) = cache.iterdir()
    return path


@pytest.fixture(scope="module")
def text_of_own() -> str:
    """The text that is cached for the tables in `own`, wherever that folder is."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "prices/acme/2026-11-01.yaml")
        path.parent.mkdir(parents=True)
        path.write_text(PRICES)
        files = table_files(folder)
        return stored_text(str(sources_digest(files)), assembled_book(files))


@pytest.fixture
def cached(cache: Path, own: Path, text_of_own: str) -> Path:
    """The file that is cached for the tables in `own`."""
    cache.mkdir(0o700)
    path = cache / f"price-book-{sources_digest(table_files(own))}.json"
    path.write_text(text_of_own)
    path.chmod(0o600)
    return path


def doctored(path: Path) -> None:
    """Replaces a price in a cached book, and corrects the digest of its content."""
    head, _, text = path.read_text().partition('",\n"book":')
    text = text.removesuffix("}\n")
    assert '"0.05"' in text
    text = text.replace('"0.05"', '"0.01"')
    path.write_text(f'{head[:-64]}{sha256(text.encode()).hexdigest()}",\n"book":{text}}}\n')


def price(folder: Path) -> Decimal:
    """Returns the price per second in a folder of the test's provider."""
    return load_price_book(folder).tables["acme"][0].rates[RATE].unit_price  # type: ignore[index]


@pytest.fixture
def own(folder: Folder) -> Path:
    """A folder with a table of the user's own."""
    return folder({"prices/acme/2026-11-01.yaml": PRICES})


def test_own_tables_are_cached_in_a_private_folder(own: Path, cache: Path, text_of_own: str) -> None:
    """The second time, the book comes from the cache, which only the user can read or write."""
    assert price(own) == Decimal("0.05")
    path = only_file(cache)
    assert path.read_text() == text_of_own
    assert [stat.S_IMODE(place.stat().st_mode) for place in (cache, path)] == [0o700, 0o600]
    assert isinstance(json.loads(path.read_text())["book"], list)
    doctored(path)  # which shows that the cache is used
    assert price(own) == Decimal("0.01")


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text.replace('"0.05"', '"0.01"'),
        lambda text: text[:-100],
        lambda text: text[:50],
        lambda _: "",
        lambda text: text.replace('"sources":"', '"sources":"0'),
        lambda text: f'{text[:87]}{sha256(b"[1]").hexdigest()}",\n"book":[1]}}\n',
    ],
)
def test_an_edited_or_damaged_book_is_not_used(own: Path, cached: Path, edit: Callable[[str], str]) -> None:
    """A rate that is edited in the cache never reaches a quote: the YAML's price counts."""
    before = cached.read_text()
    cached.write_text(edit(before))
    assert cached.read_text() != before
    assert price(own) == Decimal("0.05")
    assert cached.read_text() == before


def _linked(path: Path) -> None:
    path.rename(path.parents[1] / "elsewhere")
    path.symlink_to(path.parents[1] / "elsewhere")


UNTRUSTED: dict[str, Callable[[Path], object]] = {
    "others can write the file": lambda path: path.chmod(0o602),
    "a group can write the file": lambda path: path.chmod(0o620),
    "others can write the folder": lambda path: path.parent.chmod(0o702),
    "the file is a symbolic link": _linked,
    "the folder is a symbolic link": lambda path: _linked(path.parent),
    "the file has a second name": lambda path: path.with_name("second").hardlink_to(path),
}
if os.geteuid() == 0:
    UNTRUSTED |= {
        "the file is another user's": lambda path: os.chown(path, 1, -1),
        "the folder is another user's": lambda path: os.chown(path.parent, 1, -1),
    }


@pytest.mark.parametrize("doubt", UNTRUSTED)
def test_a_book_that_others_may_have_written_is_not_used(own: Path, cached: Path, doubt: str) -> None:
    """The owner, the mode and the links of the folder and the file decide."""
    doctored(cached)
    UNTRUSTED[doubt](cached)
    assert price(own) == Decimal("0.05")


def test_an_edited_table_is_read_again(own: Path, cached: Path) -> None:
    """The price is always the one in the YAML file."""
    table = own / "prices/acme/2026-11-01.yaml"
    table.write_text(PRICES.replace("silent: 0.05", "silent: 0.06"))
    assert price(own) == Decimal("0.06")
    table.write_text(PRICES)
    assert price(own) == Decimal("0.05")
    assert len([*cached.parent.iterdir()]) == 2


def test_a_table_that_is_refused_is_refused_every_time(own: Path, cache: Path) -> None:
    """The errors are the same with a cache and without, and nothing is cached."""
    (own / "prices/acme/2026-11-01.yaml").write_text(PRICES.replace("0.05", "-0.05").replace("0.3", ".nan"))
    texts = []
    for _ in range(2):
        with pytest.raises(TableError) as caught:
            load_price_book(own)
        texts.append([str(problem) for problem in caught.value.problems])
    with pytest.raises(TableError) as caught:
        from_yaml(own)
    assert texts == 2 * [[str(problem) for problem in caught.value.problems]]
    assert not cache.exists()


def test_a_file_that_cannot_be_read_is_named(own: Path, cache: Path) -> None:
    """A table that vanishes while it is read, here because its link leads nowhere, is an error as before."""
    files = table_files(own)
    (own / "prices/acme/2026-11-01.yaml").unlink()
    assert sources_digest(files) is None
    with pytest.raises(TableError, match="cannot be read: No such file"):
        assembled_book(files)
    assert not cache.exists()


@pytest.mark.parametrize("place", ["off", "OFF", "/dev/null/cache", "/proc/cache"])
def test_without_a_cache_tables_are_read_from_yaml(
    own: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache that is turned off or cannot be written is silently not used."""
    monkeypatch.setenv("KLING_PRICING_CACHE", place)
    assert [price(own), price(own)] == 2 * [Decimal("0.05")]


def test_the_usual_folder_is_in_the_users_cache(own: Path, tmp_path: Path) -> None:
    """By default, books are cached where other programs cache, but not in another user's home."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    code = f"from kling_pricing import load_price_book; load_price_book({str(own)!r})"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    usual = home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "kling-pricing"
    assert len([*usual.iterdir()]) == 1
    if os.geteuid() == 0:
        shutil.rmtree(home)
        home.mkdir()
        os.chown(home, 1, -1)
        subprocess.run([sys.executable, "-c", code], env=environment, check=True)
        assert [*home.iterdir()] == []


def test_the_cache_keeps_a_few_books(own: Path, cache: Path) -> None:
    """Old books and what killed processes left are removed, and nothing else."""
    cache.mkdir(0o700)
    old = [cache / f"price-book-{number}.json" for number in range(MAX_CACHED + 3)]
    names = f".price-book-{16 * '1'}", f".price-book-{16 * '0'}", "mine"
    recent, unfinished, foreign = (cache / name for name in names)
    for age, path in enumerate([recent, *old, unfinished, foreign]):
        path.touch()
        os.utime(path, (time.time() - 300 * age,) * 2)
    folder = cache / "price-book-x.json"  # which cannot be removed like a file
    folder.mkdir()
    os.utime(folder, (time.time() - 3000,) * 2)
    price(own)
    kept = {*old[: MAX_CACHED - 1], recent, foreign}
    (new,) = {*cache.iterdir()} - kept - {folder}
    assert "0.05" in new.read_text()
    assert kept <= {*cache.iterdir()}


IMPORTED = """
import atexit, sys
from kling_pricing.cli import main
heavy = ["yaml", "pydantic", "rich", "sqlite3", "kling_pricing.quoting.composing"]
atexit.register(lambda: print(*[name for name in heavy if name in sys.modules], file=sys.stderr))
main()
"""


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [
        (["quote", "-"], ""),
        (["quote", "--json", "-"], ""),
        (["check", "-"], ""),
        (["quote", "--model", "kling-v3"], "kling_pricing.quoting.composing"),
        (["compare", "-"], "kling_pricing.quoting.composing"),  # says jobs in other words
        (["tables", "list"], "rich"),
        (["tables", "check"], "rich"),
        (["--version"], ""),
        (["pre-submit", "--help"], "yaml pydantic"),
    ],
)
def test_a_command_imports_only_what_it_uses(arguments: list[str], imported: str) -> None:
    """A command line starts quickly because YAML, pydantic and rich are imported where they are used."""
    load_price_book()  # after which the book is stored
    command = [sys.executable, "-c", IMPORTED, *arguments]
    request = json.dumps(video("kling-v3"))
    done = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == imported


PRICE_AND_YAML = """
import sys
from kling_pricing import quote
quoted = quote({"model": "kling-v3", "prompt": "x", "duration": 5}, provider="qingbo")
print(quoted.total, "yaml" in sys.modules)
"""
COMPILE = """
import sys
from kling_pricing.tables.loading.assembly import assembled_book
from kling_pricing.tables.loading.folders import bundled_folder, table_files
from kling_pricing.tables.loading.stored_books import COMPILED_NAME, sources_digest, stored_text
files = table_files()
text = stored_text(sources_digest(files, is_build=True), assembled_book(files))
(bundled_folder() / COMPILED_NAME).write_bytes(text.encode())
"""


@pytest.fixture
def installed(tmp_path: Path) -> Callable[[str], str]:
    """Returns a function that runs Python code with a copy of the package as a wheel installs it."""
    package = tmp_path / "site" / "kling_pricing"
    ignored = shutil.ignore_patterns("__pycache__", "pricing_tables")
    shutil.copytree(Path(str(kling_pricing.__file__)).parent, package, ignore=ignored)
    shutil.copytree(bundled(), package / "pricing_tables", ignore=shutil.ignore_patterns("*.json"))

    def run(code: str) -> str:
        environment = {**os.environ, "KLING_PRICING_CACHE": "off", "PYTHONPATH": str(package.parent)}
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    assert run(PRICE_AND_YAML) == "0.3570 True"
    run(COMPILE)
    assert run(PRICE_AND_YAML) == "0.3570 False"
    return run


def test_a_compiled_book_counts_only_beside_its_own_tables(
    installed: Callable[[str], str], tmp_path: Path
) -> None:
    """A rate that is edited in the installed YAML counts at once, and so does a file that is removed."""
    table = tmp_path / "site/kling_pricing/pricing_tables/prices/qingbo/2026-04-29.yaml"
    text = table.read_text(encoding="utf-8")
    table.write_text(text.replace("0.0714", "0.0814"), encoding="utf-8")
    assert installed(PRICE_AND_YAML) == "0.4070 True"
    table.write_text(text, encoding="utf-8")
    assert installed(PRICE_AND_YAML) == "0.3570 False"
    compiled = tmp_path / "site/kling_pricing/pricing_tables/book.json"
    compiled.write_text(compiled.read_text().replace('"0.0714"', '"0.0814"'))
    assert installed(PRICE_AND_YAML) == "0.3570 True"
    (table.parents[2] / "providers/uniall.yaml").unlink()
    assert installed("from kling_pricing import load_price_book; print([*load_price_book().unpriced])") == (
        "['octopusx']"
    )


def test_a_compiled_book_counts_only_for_its_own_code(installed: Callable[[str], str], tmp_path: Path) -> None:
    """Other code may read the same tables differently, and an upgrade changes it while a process runs."""
    touch = f"import pathlib; pathlib.Path({str(tmp_path)!r}, 'site/kling_pricing/tables/rates.py').touch()"
    assert installed(f"import kling_pricing\n{touch}\n{PRICE_AND_YAML}") == "0.3570 True"
    with (tmp_path / "site/kling_pricing/tables/rates.py").open("a") as code:
        code.write("# changed\n")
    assert installed(PRICE_AND_YAML) == "0.3570 True"
    installed(COMPILE)
    assert installed(PRICE_AND_YAML) == "0.3570 False"


def test_an_installed_wheel_has_a_compiled_book() -> None:
    """A wheel's book is compiled from the tables beside it, and quotes need no YAML; a checkout has none."""
    compiled = bundled("book.json")
    is_installed = bundled().parent == Path(str(kling_pricing.__file__)).parent
    assert compiled.exists() == is_installed
    if is_installed:
        files = table_files()
        assert compiled.read_text() == stored_text(str(sources_digest(files)), assembled_book(files))
        environment = {**os.environ, "KLING_PRICING_CACHE": "off"}
        command = [sys.executable, "-c", PRICE_AND_YAML]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "0.3570 False\n"
