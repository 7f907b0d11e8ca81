"""Measures how many mutants of the code that decides about money the tests notice.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' coverage mutmut && .venv/bin/python benchmarks/mutating.py

A mutant is the code with one small change that mutmut makes, for example `<` for `<=`.
The tests should notice it, which means that at least one of them fails.
All mutants would take days, so by default a sample is drawn from each folder with a seed; `--each 0` takes all.

First, coverage.py measures which lines each test reaches, one file of tests after the other.
The result is kept in the folder `--work`; the next run measures only files of tests that have changed since.
Then each mutant is tried with tests that reach its lines, the quick ones first, until one fails or until they
have taken `--seconds`.
A test that fails is run again alone, without the mutant and with it.
It has noticed the mutant only if it passes without it and fails with it again.

`equivalent_mutants.toml` lists mutants that no test can notice, each with the reason. They count separately.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from difflib import unified_diff
from functools import cached_property, lru_cache
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from queue import SimpleQueue

import coverage
import libcst
from libcst.metadata import MetadataWrapper, PositionProvider
from mutant_runner import Answer, Job
from mutmut.mutation.file_mutation import Mutation, create_mutations, deep_replace

ROOT = Path(__file__).parent.parent
FOLDERS = ("quoting", "tables", "guard", "ledger")
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.toml")
OTHER_TESTS = {
    "test_architecture",  # reads files
    "test_docs",  # runs commands in other processes
    "test_power_cuts",  # takes minutes
    "test_reports_focus",  # reads files that reports write
    "test_sandbox_clients",  # starts clients in other processes
}
"""Files of tests that are not tried."""
ROUNDS_S = (2.0, 10.0)
"""How long the tests of the first rounds take; a further round takes the rest."""


@dataclass
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

    @cached_property
    def code(self) -> str:
        """The file with the change."""
        changed = deep_replace(self.module, self.mutation.original_node, self.mutation.mutated_node)
        assert isinstance(changed, libcst.Module)
        code: str = changed.code
        return code

    @cached_property
    def diff(self) -> str:
        """The changed lines, with a sign in front of each and without the indentation."""
        before, after = self.module.code.splitlines(), self.code.splitlines()
        lines = list(unified_diff(before, after, n=0, lineterm=""))
        return "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines[2:] if not line.startswith("@@"))

    @property
    def module_name(self) -> str:
        """The name of the changed module."""
        return ".".join(self.path.with_suffix("").parts).removesuffix(".__init__")


@lru_cache(maxsize=8)
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


@dataclass(frozen=True)
class Place:
    """Where a mutant is found."""

    path: Path
    """Its file, relative to the repository."""
    number: int
    """Its number in the file, from 0."""
    diff: str = ""
    """Its changed lines, if they are known; they find it after other lines of the file have changed."""

    @property
    def name(self) -> str:
        """The name of the mutant."""
        return f"{self.path.relative_to('kling_pricing')}#{self.number + 1}"

    def mutant(self) -> Mutant | None:
        """Returns the mutant; None if the code no longer has it."""
        mutants = mutants_of(self.path)
        if not self.diff:
            return mutants[self.number]
        near = sorted(range(len(mutants)), key=lambda number: abs(number - self.number))
        return next((mutants[number] for number in near if mutants[number].diff == self.diff), None)


def sample(each: int, seed: int, kept: Path) -> list[Place]:
    """Draws so many mutants of each folder, or returns all of them, and prints how many each folder has.

    Args:
        each: how many; 0: all.
        seed: the seed.
        kept: the file that keeps how many mutants each file has, because counting them takes long.
    """
    known: dict[str, int] = json.loads(kept.read_text()) if kept.exists() else {}
    drawn: list[Place] = []
    for folder in FOLDERS:
        places: list[Place] = []
        for file in sorted((ROOT / "kling_pricing" / folder).rglob("*.py")):
            digest = sha256(file.read_bytes()).hexdigest()
            path = file.relative_to(ROOT)
            if digest not in known:
                known[digest] = len(mutants_of(path))
            places += [Place(path, number) for number in range(known[digest])]
        draw = random.Random(f"{seed} {folder}")  # noqa: S311 (it is a sample)
        chosen = draw.sample(places, each) if 0 < each < len(places) else places
        drawn += sorted(chosen, key=lambda place: (place.path, place.number))
        print(f"{folder}: {len(chosen)} of {len(places)} mutants", flush=True)
    kept.write_text(json.dumps(known))
    return drawn


class Copy:
    """A copy of the repository, and the processes that run its tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns(".git", "build", ".venv", "__pycache__", ".*_cache", ".hypothesis")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(ROOT, folder, ignore=ignored)
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        paths = os.pathsep.join([str(folder), str(folder / "benchmarks")])
        self._environment = os.environ | {"PYTHONPATH": paths, "TMPDIR": str(self.temporary)}
        self._environment["KLING_PRICING_CACHE"] = str(self.temporary / "cache")
        self._environment["PYTHONPYCACHEPREFIX"] = str(folder.parent / "bytecode")
        self._lock = threading.Lock()
        self._started = 0

    def runners(self, files: Iterable[str], postgres: Sequence[str], lines: str = "") -> list["Runner"]:
        """Starts a runner for each PostgreSQL server; returns none if the tests cannot be collected.

        Args:
            files: the files of tests.
            postgres: the URLs of the servers.
            lines: the file into which coverage.py writes the lines that collecting the tests reaches.
        """
        ours, theirs = [], []
        for _ in postgres:
            (jobs_out, jobs_in), (answers_out, answers_in) = os.pipe(), os.pipe()
            ours.append((answers_out, jobs_in))
            theirs.append((jobs_out, answers_in))
        self._started += 1
        with (self.temporary / f"runner-{self._started}.log").open("w") as log:
            process = subprocess.Popen(  # noqa: S603 (it is our own command)
                [sys.executable, "-m", "mutant_runner", json.dumps(theirs), lines, *files],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[end for ends in theirs for end in ends],
            )
        for ends in theirs:
            os.close(ends[0])
            os.close(ends[1])
        runners = [Runner(self, process, ends, url) for ends, url in zip(ours, postgres, strict=True)]
        if all(runner.tests for runner in runners):
            return runners
        for runner in runners:
            runner.close()
        return []

    def run_anew(self, files: Iterable[str], job: Job, mutant: Mutant, postgres: str) -> Answer:
        """Runs a job in a new interpreter that imports the mutant."""
        path = self.folder / mutant.path
        with self._lock:
            original = path.read_text()
            path.write_text(mutant.code)
            try:
                for runner in self.runners(files, [postgres]):
                    answer = runner.run(job)
                    runner.close()
                    return answer
                return Answer({}, ["the tests cannot be collected"])
            finally:
                path.write_text(original)


class Runner:
    """A process that has collected the tests and runs jobs, with a PostgreSQL server of its own."""

    def __init__(
        self, copy: Copy, process: "subprocess.Popen[bytes]", ends: tuple[int, int], postgres: str
    ) -> None:
        self.postgres = postgres
        self._process = process
        self._answers, self._jobs = os.fdopen(ends[0]), os.fdopen(ends[1], "w")
        self._mutant = copy.temporary / f"mutant-{ends[0]}.py"
        self.tests: list[str] = json.loads(self._answers.readline() or "[]")
        """The tests that it has collected; empty if there was an error."""

    def run(self, job: Job, mutant: Mutant | None = None) -> Answer:
        """Runs a job, perhaps with a mutant."""
        job.postgres = self.postgres
        if mutant is not None:
            self._mutant.write_text(mutant.code)
            job.module, job.mutant = mutant.module_name, str(self._mutant)
            job.forget = mutant.path.parts[1] == "tables"
        print(json.dumps(asdict(job)), file=self._jobs, flush=True)
        return Answer(**json.loads(self._answers.readline()))

    def close(self) -> None:
        """Ends the process."""
        self._jobs.close()
        self._answers.close()
        self._process.wait()


class Reached:
    """The lines that each test reaches, and how long it takes."""

    def __init__(self, folder: Path, files: list[str]) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self.files = files
        self._digests = {file: sha256((ROOT / file).read_bytes()).hexdigest()[:12] for file in self.files}
        self.durations: dict[str, float] = {}
        """How long each test takes, in seconds; a test that fails or takes more than a minute has none."""
        self._lines: dict[Path, dict[int, set[str]]] = {}
        self._reading = threading.Lock()

    @property
    def collecting(self) -> Path:
        """The file with the lines that collecting the tests reaches."""
        return self._folder / "collecting.coverage"

    def measure(self, runners: "SimpleQueue[Runner]", workers: int) -> None:
        """Runs every file of tests that has changed since it was measured, and reads what was measured."""
        missing = [file for file in self.files if not self._place(file).exists()]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda file: self._measure(file, runners), missing))
        for file in self.files:
            self.durations |= json.loads(self._place(file).read_text())

    def _place(self, file: str) -> Path:
        """Returns where the durations of the tests of a file are kept; the lines stand beside them."""
        return self._folder / f"{Path(file).stem}-{self._digests[file]}.json"

    def _measure(self, file: str, runners: "SimpleQueue[Runner]") -> None:
        """Runs one file of tests; if a test takes too long, once more without it."""
        runner = runners.get()
        began = time.monotonic()
        place = self._place(file)
        tests = [test for test in runner.tests if test.partition("::")[0] == file]
        durations: dict[str, float] = {}
        left_out = []
        for _ in range(4):
            included = [f"kling_pricing/{folder}/*" for folder in FOLDERS]
            lines = str(place.with_suffix(".coverage"))
            answer = runner.run(Job(tests, [60] * len(tests), lines=lines, included=included, forget=True))
            durations = {t: s for t, s in answer.durations_s.items() if t not in answer.failed}
            left_out += answer.failed
            if not answer.has_ended:
                left_out.append("its lines, because its process did not end")
            if not answer.stopped:
                break
            left_out.append(answer.stopped)
            tests.remove(answer.stopped)
        place.write_text(json.dumps(durations))
        runners.put(runner)
        message = f"{file}: {len(durations)} tests in {time.monotonic() - began:.0f} s"
        print(message, *(f"without {test}" for test in left_out), sep="\n    ", flush=True)

    def _tests_by_line(self, path: Path) -> dict[int, set[str]]:
        """Returns the tests that reach each line of a file; the empty name stands for their collection."""
        with self._reading:
            if path not in self._lines:
                self._lines[path] = self._read(path)
            return self._lines[path]

    def _read(self, path: Path) -> dict[int, set[str]]:
        lines: dict[int, set[str]] = {}
        places = [self._place(file).with_suffix(".coverage") for file in self.files]
        for place in (*places, self.collecting):
            if not place.exists():
                continue
            data = coverage.CoverageData(str(place))
            data.read()
            measured = next((f for f in data.measured_files() if f.endswith(f"/{path}")), None)
            for line, tests in (data.contexts_by_lineno(measured) if measured else {}).items():
                names = tests if place == self.collecting else [test for test in tests if test]
                lines.setdefault(line, set()).update(names)
        return lines

    def tests_of(self, mutant: Mutant, seconds: float) -> list[str]:
        """Returns tests that reach a mutant and take so many seconds; files take turns, quick tests first.

        If only the collection reaches it, tests count that reach its file. After these tests come others of the
        same files, because they use what a shared fixture has made.
        """
        lines = self._tests_by_line(mutant.path)
        reaching: set[str] = set()
        for place in (mutant.lines, mutant.function_lines, lines):
            reaching = reaching or {test for line in place for test in lines.get(line, ()) if test}
        files = {test.partition("::")[0] for test in reaching}
        others = {test for test in self.durations if test.partition("::")[0] in files} - reaching
        chosen: list[str] = []
        total = 0.0
        for tests in (reaching, others):
            by_file: dict[str, list[tuple[float, str]]] = {}
            for duration, test in sorted((self.durations[t], t) for t in tests if t in self.durations):
                by_file.setdefault(test.partition("::")[0], []).append((duration, test))
            for turn in zip_longest(*by_file.values()):
                for duration, test in sorted(pair for pair in turn if pair):
                    if total + duration <= seconds:
                        chosen.append(test)
                        total += duration
        return chosen

    def is_reached_by_collecting_only(self, mutant: Mutant) -> bool:
        """Tells whether only the collection of the tests reaches a mutant, and no test."""
        lines = self._tests_by_line(mutant.path)
        return {test for line in mutant.lines for test in lines.get(line, ())} == {""}

    def job(self, tests: list[str]) -> Job:
        """Returns the job of running tests, with the tests of each file together."""
        durations: dict[str, float] = {}
        for test in tests:
            file = test.partition("::")[0]
            durations[file] = durations.get(file, 0) + self.durations[test]
        tests = sorted(tests, key=lambda test: (durations[test.partition("::")[0]], test.partition("::")[0]))
        return Job(tests, [15 + 10 * self.durations[test] for test in tests])

    def rounds(self, tests: list[str]) -> Iterator[list[str]]:
        """Divides tests into rounds, the first of them short."""
        limits = [*ROUNDS_S, float("inf")]
        chosen: list[str] = []
        total = 0.0
        for test in tests:
            if chosen and total + self.durations[test] > limits[0]:
                yield chosen
                chosen, total = [], 0.0
                limits = limits[1:]
            chosen.append(test)
            total += self.durations[test]
        if chosen:
            yield chosen


def files_of_tests() -> list[str]:
    """Returns the files whose tests are tried."""
    names = sorted(path.stem for path in (ROOT / "tests").glob("test_*.py"))
    return [f"tests/{name}.py" for name in names if name not in OTHER_TESTS]


@dataclass
class Outcome:
    """How the tests took a mutant."""

    name: str
    diff: str
    noticed: bool
    by: str
    """The test that noticed it, or why it counts as noticed or not."""


def outcome_of(mutant: Mutant, runner: Runner, copy: Copy, reached: Reached, seconds: float) -> Outcome:
    """Tries a mutant."""
    tests = reached.tests_of(mutant, seconds)
    flaky: list[str] = []
    anew = False
    for tried in reached.rounds(tests):
        answer = runner.run(reached.job(tried), mutant)
        if not answer.replaced:
            anew = True
            break
        if not (suspects := [*answer.failed, *filter(None, [answer.stopped])]):
            continue
        alone = reached.job(suspects)
        if _fails(runner.run(alone)) or not _fails(runner.run(reached.job(suspects), mutant)):
            flaky += suspects
            continue
        return Outcome(mutant.name, mutant.diff, noticed=True, by=suspects[0])
    if tests and (anew or reached.is_reached_by_collecting_only(mutant)):
        job = reached.job([test for tried in reached.rounds(tests) for test in tried])
        files = sorted({test.partition("::")[0] for test in tests})
        answer = copy.run_anew(files, job, mutant, runner.postgres)
        if (suspects := [*answer.failed, *filter(None, [answer.stopped])]) and (
            "::" not in suspects[0] or not _fails(runner.run(reached.job(suspects)))
        ):
            return Outcome(mutant.name, mutant.diff, noticed=True, by=suspects[0])
    by = f"{len(tests)} tests pass" if tests else "no test reaches it"
    return Outcome(
        mutant.name, mutant.diff, noticed=False, by=by + "".join(f", {test} varies" for test in flaky)
    )


def _fails(answer: Answer) -> bool:
    return bool(answer.failed or answer.stopped)


def equivalent_mutants() -> dict[tuple[str, str], str]:
    """Returns the reasons of the mutants that no test can notice, by file and changed lines."""
    entries = tomllib.loads(EQUIVALENT.read_text())["mutant"]
    return {(entry["file"], entry["change"].strip()): entry["reason"] for entry in entries}


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=40, metavar="N", help="mutants of each folder; 0: all")
    parser.add_argument("--seed", type=int, default=19, help="the seed of the sample")
    parser.add_argument("--seconds", type=float, default=60, help="the time of a mutant's tests without it")
    parser.add_argument("--mutant", action="append", default=[], metavar="NAME", help="only this mutant")
    parser.add_argument("--tests", action="extend", nargs="+", metavar="FILE", help="only these files of tests")
    parser.add_argument(
        "--again",
        action="store_true",
        help="the sample of the last run with this seed; mutants that it noticed count as noticed",
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many run at once")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "mutating", help="a folder for copies and results"
    )
    return parser.parse_args()


class Trial:
    """One run of this benchmark."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._record: Path = options.work / f"outcomes-{options.seed}.json"
        self._runners: SimpleQueue[Runner] = SimpleQueue()
        self._parsing, self._writing = threading.Lock(), threading.Lock()
        self._outcomes: list[Outcome] = []
        self._places = self._find()

    def _find(self) -> list[Place]:
        """Returns the mutants to try, and takes over the outcomes of the last run."""
        options, named = self._options, self._options.mutant
        if named:
            path, number = zip(*(name.split("#") for name in named), strict=True)
            return [Place(Path("kling_pricing", p), int(n) - 1) for p, n in zip(path, number, strict=True)]
        if not options.again:
            return sample(options.each, options.seed, options.work / "counts.json")
        recorded = [Outcome(**outcome) for outcome in json.loads(self._record.read_text())]
        self._outcomes = [outcome for outcome in recorded if outcome.noticed]
        survivors = [(outcome.name.split("#"), outcome.diff) for outcome in recorded if not outcome.noticed]
        return [Place(Path("kling_pricing", path), int(number) - 1, diff) for (path, number), diff in survivors]

    def run(self, urls: Sequence[str]) -> list[Outcome]:
        """Tries the mutants, with one runner for each URL of a PostgreSQL server."""
        options = self._options
        self._copy = Copy(options.work / "copy")
        self._reached = Reached(options.work / "reached", options.tests or files_of_tests())
        lines = "" if self._reached.collecting.exists() else str(self._reached.collecting)
        runners = self._copy.runners(self._reached.files, urls, lines)
        if not runners:
            raise SystemExit(f"the tests cannot be collected; see {self._copy.temporary}/runner-1.log")
        for runner in runners:
            self._runners.put(runner)
        self._reached.measure(self._runners, len(runners))
        with ThreadPoolExecutor(len(runners)) as pool:
            list(pool.map(self._try, self._places))
        for runner in runners:
            runner.close()
        return self._outcomes

    def _try(self, place: Place) -> None:
        """Tries a mutant, and writes and prints the outcome."""
        began = time.monotonic()
        with self._parsing:
            mutant = place.mutant()
            if mutant is None:  # the code no longer has it
                return
            _ = mutant.diff
        runner = self._runners.get()
        try:
            outcome = outcome_of(mutant, runner, self._copy, self._reached, self._options.seconds)
        finally:
            self._runners.put(runner)
        with self._writing:
            self._outcomes.append(outcome)
            if not self._options.mutant:
                self._record.write_text(json.dumps([asdict(outcome) for outcome in self._outcomes], indent=1))
            word = "noticed " if outcome.noticed else "SURVIVES"
            print(f"{word} {place.name} {outcome.by} ({time.monotonic() - began:.0f} s)", flush=True)


def show(outcomes: Sequence[Outcome]) -> None:
    """Prints the survivors and the score."""
    equivalent = equivalent_mutants()
    survivors = [outcome for outcome in outcomes if not outcome.noticed]
    for outcome in sorted(survivors, key=lambda outcome: outcome.name):
        reason = equivalent.get((outcome.name.partition("#")[0], outcome.diff))
        why = f"equivalent: {reason}" if reason else outcome.by
        print(f"\n{outcome.name} ({why})\n{outcome.diff}")
    print(f"\n{'':10}{'sample':>8}{'noticed':>9}{'equivalent':>12}{'survivors':>11}")
    for folder in (*FOLDERS, ""):
        total = sum(outcome.name.startswith(folder) for outcome in outcomes)
        lost = [outcome for outcome in survivors if outcome.name.startswith(folder)]
        same = sum((outcome.name.partition("#")[0], outcome.diff) in equivalent for outcome in lost)
        print(f"{folder or 'all':10}{total:>8}{total - len(lost):>9}{same:>12}{len(lost) - same:>11}")


def main() -> None:
    """Draws the mutants, runs their tests, and prints the score and the survivors."""
    options = arguments()
    os.chdir(ROOT)  # mutmut reads its settings there
    sys.path.insert(0, str(ROOT))
    from tests.servers import folder_for_servers, running  # noqa: PLC0415 (it needs the path)

    options.work.mkdir(parents=True, exist_ok=True)
    trial = Trial(options)
    with folder_for_servers() as folder, ExitStack() as stack:
        urls = [
            stack.enter_context(running(folder / str(number), "fsync=off")).url
            for number in range(options.workers)
        ]
        outcomes = trial.run(urls)
    show(outcomes)


if __name__ == "__main__":
    main()
