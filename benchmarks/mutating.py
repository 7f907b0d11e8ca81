"""Measures how many mutants of the code that decides about money the tests notice.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' coverage mutmut && .venv/bin/python benchmarks/mutating.py

A mutant is the code with one small change that mutmut makes, for example `<` for `<=`.
The tests should notice it, which means that at least one of them fails.
Every mutant takes seconds, so by default a sample is drawn from each folder with a seed; `--each 0` takes all.

Only tests that reach the changed line are run; coverage.py finds out which, once for every file of tests.
The tests take turns by file, the quick ones first, until together they have taken `--seconds` without a mutant.
A test that noticed a mutant is run again without it: a test that fails then, too, has noticed nothing.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from difflib import unified_diff
from itertools import zip_longest
from pathlib import Path
from queue import SimpleQueue

import coverage
import libcst
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import Mutation, create_mutations, deep_replace

ROOT = Path(__file__).parent.parent
FOLDERS = ("quoting", "tables", "guard", "ledger")
SECONDS_OF_A_START = 60
"""How long pytest and the fixtures may take to start on a busy machine."""
OTHER_TESTS = {"test_power_cuts", "test_sandbox_clients", "test_docs", "test_architecture"}
"""Files whose tests are long or run the code in other processes only."""

_durations: dict[str, float] = {}


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Lets coverage.py record which lines a test reaches; this module is a plugin of pytest, too."""
    measured = coverage.Coverage.current()
    if measured is None:
        return (yield)
    measured.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        measured.switch_context("")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Adds up how long a test takes, in seconds; a test that fails is not used."""
    so_far = _durations.get(report.nodeid, 0.0)
    _durations[report.nodeid] = float("inf") if report.failed else so_far + report.duration


def pytest_sessionfinish() -> None:
    """Writes how long the tests took."""
    if path := os.environ.get("MUTATING_DURATIONS"):
        Path(path).write_text(json.dumps(_durations))


@dataclass(frozen=True)
class Mutant:
    """The code with one change."""

    name: str
    """Its file and its number in that file, for example `guard/state.py#12`."""
    path: Path
    """Its file, relative to the repository."""
    lines: range
    """The lines of the changed expression."""
    function_lines: range
    """The lines of the function around it."""
    module: libcst.Module = field(repr=False)
    mutation: Mutation = field(repr=False)

    @property
    def code(self) -> str:
        """The file with the change."""
        changed = deep_replace(self.module, self.mutation.original_node, self.mutation.mutated_node)
        assert isinstance(changed, libcst.Module)
        return changed.code

    @property
    def diff(self) -> str:
        """The changed lines."""
        original = (ROOT / self.path).read_text().splitlines()
        lines = list(unified_diff(original, self.code.splitlines(), n=0, lineterm=""))
        return "\n".join(f"    {line}" for line in lines[2:] if not line.startswith("@@"))


def mutants_of(path: Path) -> list[Mutant]:
    """Returns all mutants that mutmut makes of a file: it leaves out docstrings, types and decorators."""
    source = (ROOT / path).read_text()
    module, mutations, *_ = create_mutations(str(path), source)
    positions = MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    found: list[Mutant] = []
    for mutation in mutations:
        function = mutation.contained_by_top_level_function
        if not isinstance(function, libcst.FunctionDef):
            continue
        around = positions[function]
        place = positions.get(mutation.original_node, around)
        found.append(
            Mutant(
                name=f"{path.relative_to('kling_pricing')}#{len(found) + 1}",
                path=path,
                lines=range(place.start.line, place.end.line + 1),
                function_lines=range(around.start.line + 1, around.end.line + 1),
                module=module,
                mutation=mutation,
            )
        )
    return found


def sample(each: int, seed: int) -> tuple[list[Mutant], dict[str, int]]:
    """Draws so many mutants of each folder, or returns all of them, with how many each folder has."""
    drawn: list[Mutant] = []
    counts = {}
    for folder in FOLDERS:
        files = sorted((ROOT / "kling_pricing" / folder).rglob("*.py"))
        found = [mutant for file in files for mutant in mutants_of(file.relative_to(ROOT))]
        counts[folder] = len(found)
        draw = random.Random(f"{seed} {folder}")  # noqa: S311 (it is a sample)
        drawn += draw.sample(found, each) if 0 < each < len(found) else found
    return drawn, counts


class Tree:
    """A copy of the repository that runs tests, with a PostgreSQL server of its own."""

    def __init__(self, folder: Path, postgres: str) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns(".git", "build", ".venv", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, folder, ignore=ignored, dirs_exist_ok=True)
        paths = [str(folder), str(folder / "benchmarks")]
        self._environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
        self._environment |= {"KLING_PRICING_TEST_POSTGRES": postgres, "PYTHONDONTWRITEBYTECODE": "1"}
        self._environment["KLING_PRICING_CACHE"] = str(folder / "build" / "cache")
        self._runner: subprocess.Popen[str] | None = None

    def run(self, command: list[str], seconds: float, **environment: str) -> tuple[int | None, str]:
        """Runs a command of Python; returns its exit code, or None if the time was up, and its output."""
        with subprocess.Popen(  # noqa: S603 (it is our own command)
            [sys.executable, "-m", *command],
            cwd=self.folder,
            env=self._environment | environment,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                return None, ""
            return process.returncode, output

    def start(self, tests: Iterable[str]) -> None:
        """Starts the runner, unless it runs; it imports the files of the tests, before there is a mutant."""
        if self._runner is not None:
            return
        files = sorted({test.partition("::")[0] for test in tests})
        self._runner = subprocess.Popen(  # noqa: S603 (it is our own command)
            [sys.executable, "-m", "mutant_runner", *files],
            cwd=self.folder,
            env=self._environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._runner.stdout is not None
        self._runner.stdout.readline()

    def test(self, tests: list[str], seconds: float, *options: str, path: str = "") -> tuple[int | None, str]:
        """Runs tests in the runner, perhaps with the mutant that is in a file; returns the same as `run`."""
        assert self._runner is not None
        assert self._runner.stdin is not None
        assert self._runner.stdout is not None
        job = {"tests": tests, "seconds": seconds, "options": options, "path": path}
        print(json.dumps(job), file=self._runner.stdin, flush=True)
        answer = json.loads(self._runner.stdout.readline())
        return answer["code"], answer["output"]

    def close(self) -> None:
        """Ends the runner."""
        if self._runner is not None:
            self._runner.communicate()

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """Puts a mutant in place of the original."""
        path = self.folder / mutant.path
        original = path.read_text()
        path.write_text(mutant.code)
        try:
            yield
        finally:
            path.write_text(original)


class Reached:
    """The lines that each test reaches, and how long it takes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tests: dict[Path, dict[int, set[str]]] = {}
        self.durations: dict[str, float] = {}

    def measure(self, trees: "SimpleQueue[Tree]", workers: int) -> None:
        """Runs every file of tests that was not measured before, and reads what was measured."""
        self._folder.mkdir(parents=True, exist_ok=True)
        names = [path.stem for path in sorted((ROOT / "tests").glob("test_*.py"))]
        missing = [n for n in names if n not in OTHER_TESTS and not (self._folder / f"{n}.json").exists()]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda name: self._measure(name, trees), missing))
        for path in self._folder.glob("*.json"):
            self._read(path)

    def _measure(self, name: str, trees: "SimpleQueue[Tree]") -> None:
        """Runs one file of tests."""
        tree = trees.get()
        included = ",".join(f"kling_pricing/{folder}/*" for folder in FOLDERS)
        command = ["coverage", "run", f"--data-file={self._folder / name}.coverage", f"--include={included}"]
        command += ["-m", "pytest", "-q", "-n", "0", "-p", "mutating", "-p", "no:cacheprovider"]
        durations = str(self._folder / f"{name}.json")
        tree.run([*command, "--simulations", "3", f"tests/{name}.py"], 600, MUTATING_DURATIONS=durations)
        trees.put(tree)

    def _read(self, path: Path) -> None:
        self.durations |= json.loads(path.read_text())
        data = coverage.CoverageData(str(path.with_suffix(".coverage")))
        data.read()
        for file in data.measured_files():
            relative = Path(file[file.rindex("/kling_pricing/") + 1 :])
            lines = self._tests.setdefault(relative, {})
            for line, tests in data.contexts_by_lineno(file).items():
                lines.setdefault(line, set()).update(tests)

    def tests_of(self, mutant: Mutant, seconds: float) -> list[str]:
        """Returns tests that reach a mutant and take so many seconds; files take turns, quick tests first."""
        lines = self._tests.get(mutant.path, {})
        reaching: set[str] = set()
        for place in (mutant.lines, mutant.function_lines):
            reaching = reaching or {test for line in place for test in lines.get(line, ()) if test}
        if "postgres" not in str(mutant.path):  # these take longer, and seldom see more
            reaching = {test for test in reaching if "postgres" not in test} or reaching
        usable = sorted((self.durations.get(test, float("inf")), test) for test in reaching)
        by_file: dict[str, list[tuple[float, str]]] = {}
        for duration, test in usable:
            by_file.setdefault(test.partition("::")[0], []).append((duration, test))
        chosen, total = [], 0.0
        for turn in zip_longest(*by_file.values()):
            for duration, test in sorted(pair for pair in turn if pair):
                if total + duration <= seconds:
                    chosen.append(test)
                    total += duration
        return chosen


@dataclass
class Outcome:
    """How the tests took a mutant."""

    mutant: Mutant
    noticed: bool
    by: str
    """The test that noticed it, or why it counts as noticed or not."""


def outcome_of(mutant: Mutant, tree: Tree, reached: Reached, seconds: float) -> Outcome:
    """Runs the tests of a mutant."""
    tests = reached.tests_of(mutant, seconds)
    if not tests:
        return Outcome(mutant, noticed=False, by="no test reaches it")
    tree.start(reached.durations)
    limit = SECONDS_OF_A_START + 5 * sum(reached.durations[test] for test in tests)
    with tree.mutated(mutant):
        code, output = tree.test(tests, limit, "-x", path=str(mutant.path))
    if code == 0:
        return Outcome(mutant, noticed=False, by=f"{len(tests)} tests pass")
    if failed := re.search(r"^(?:FAILED|ERROR) (tests/\S+::.+?)(?: - .*)?$", output, re.MULTILINE):
        return Outcome(mutant, noticed=True, by=failed[1])
    without, _ = tree.test(tests, limit)
    return Outcome(mutant, noticed=without == 0, by=f"the tests {'hang' if code is None else 'cannot start'}")


def unreliable(outcomes: list[Outcome], tree: Tree) -> set[str]:
    """Returns the tests that noticed a mutant and fail without it, too."""
    tests = sorted({outcome.by for outcome in outcomes if outcome.noticed and "::" in outcome.by})
    _, output = tree.test(tests, 3600)
    return {test for test in tests if re.search(rf"^(FAILED|ERROR) {re.escape(test)}", output, re.MULTILINE)}


def main() -> None:
    """Draws the mutants, runs their tests, and prints the score and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=40, metavar="N", help="mutants of each folder; 0: all")
    parser.add_argument("--seed", type=int, default=19, help="the seed of the sample")
    parser.add_argument("--seconds", type=float, default=60, help="the time of a mutant's tests without it")
    parser.add_argument("--mutant", action="append", default=[], metavar="NAME", help="only this mutant")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many run at once")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "mutating", help="a folder for the copies"
    )
    options = parser.parse_args()
    os.chdir(ROOT)  # mutmut reads its settings there
    sys.path.insert(0, str(ROOT))
    from tests.servers import folder_for_servers, running  # noqa: PLC0415 (it needs the path)

    mutants, counts = sample(0 if options.mutant else options.each, options.seed)
    if options.mutant:
        mutants = [mutant for mutant in mutants if mutant.name in options.mutant]
    print(
        f"{sum(counts.values())} mutants {counts}, {len(mutants)} of them run, seed {options.seed}", flush=True
    )
    trees: SimpleQueue[Tree] = SimpleQueue()
    lock = threading.Lock()
    with ExitStack() as stack:
        servers = stack.enter_context(folder_for_servers())
        for number in range(options.workers):
            server = stack.enter_context(running(servers / str(number), "fsync=off"))
            tree = Tree(options.work / f"tree-{number}", server.url)
            stack.callback(tree.close)
            trees.put(tree)
        reached = Reached(options.work / "reached")
        reached.measure(trees, options.workers)

        def tried(mutant: Mutant) -> Outcome:
            tree = trees.get()
            try:
                outcome = outcome_of(mutant, tree, reached, options.seconds)
            finally:
                trees.put(tree)
            with lock:
                print("noticed " if outcome.noticed else "SURVIVES", mutant.name, outcome.by, flush=True)
            return outcome

        with ThreadPoolExecutor(options.workers) as pool:
            outcomes = list(pool.map(tried, sorted(mutants, key=lambda mutant: mutant.lines.start)))
        doubtful = unreliable(outcomes, trees.get())
    survivors = [o for o in outcomes if not o.noticed or o.by in doubtful]
    for outcome in sorted(survivors, key=lambda o: o.mutant.name):
        print(f"\n{outcome.mutant.name} ({outcome.by})\n{outcome.mutant.diff}")
    print()
    for folder in FOLDERS:
        total = sum(o.mutant.path.parts[1] == folder for o in outcomes)
        lost = sum(o.mutant.path.parts[1] == folder for o in survivors)
        print(f"{folder}: {total - lost} of {total}")
    print(f"noticed: {len(outcomes) - len(survivors)} of {len(outcomes)}")


if __name__ == "__main__":
    main()
