"""Measures the sandbox: submissions per second of processor time, and memory use over many jobs.

    python benchmarks/sandbox.py [--jobs 100000]

The sandbox runs in a separate process, and only this process's processor time is measured.
The sandbox's clock runs fast, so that jobs end, are charged and appear on the statement while others arrive.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

PAYLOADS = {
    "/qingbo/v1/tasks": {"model": "kling-v3", "prompt": "a paper boat", "resolution": "1080p", "audio": True},
    "/kling/v1/videos/text2video": {"model_name": "kling-v3", "prompt": "a paper boat", "mode": "pro"},
    "/kling/omni-video/kling-3.0-omni": {"contents": [{"type": "prompt", "text": "a paper boat"}]},
    "/octopusx/v1/videos": {"model": "Kling-3.0-Omni", "prompt": "a paper boat", "seconds": "5"},
}
"""Path -> the payload of a submission; the benchmark uses them in turn."""

OK = 200
PARTS = 10
"""The number of measurements of the memory use."""


def main() -> None:
    """Runs the benchmark and prints the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--port", type=int, default=8971)
    options = parser.parse_args()
    command = [sys.executable, "-m", "kling_pricing", "sandbox", "--port", str(options.port), "--speed", "60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 (our own command)
        try:
            measure(server.pid, options.port, options.jobs)
        finally:
            server.terminate()
            print(server.communicate()[0].rpartition("\n\n")[2])


def measure(process: int, port: int, jobs: int) -> None:
    """Submits the jobs, and prints the speed and the memory use."""
    connection = connected(port)
    bodies = [(path, json.dumps(payload)) for path, payload in PAYLOADS.items()]
    for part in range(PARTS):
        began_ns, began_ticks = time.perf_counter_ns(), ticks(process)
        count = jobs // PARTS
        for number in range(count):
            path, body = bodies[number % len(bodies)]
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
            assert response.status == OK, answer
        wall_ms = (time.perf_counter_ns() - began_ns) // 10**6
        core_ms = (ticks(process) - began_ticks) * 1000 // os.sysconf("SC_CLK_TCK")
        print(
            f"{(part + 1) * count:>7} jobs: {count * 1000 // max(wall_ms, 1):>5} per second, "
            f"{count * 1000 // max(core_ms, 1):>5} per second of processor time, {memory_mb(process)} MB"
        )


def connected(port: int) -> HTTPConnection:
    """Returns a connection to the sandbox as soon as the sandbox listens."""
    connection = HTTPConnection("127.0.0.1", port)
    until = time.monotonic() + 60
    while True:
        try:
            connection.connect()
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return connection


def ticks(process: int) -> int:
    """Returns the processor time of a process, in clock ticks."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def memory_mb(process: int) -> int:
    """Returns the resident memory of a process, in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


if __name__ == "__main__":
    main()
