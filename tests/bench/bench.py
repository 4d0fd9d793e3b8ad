#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Measures holdfast beside its limits and its peers. Every figure is the median of repeated runs (lowest–highest);
holdfast and peers take turns inside one run, so that ratios hold on a noisy machine. Results go to
<build>/bench/<name>.json as well. Start it with `make bench` or `make bench BENCH=name`."""

import argparse
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import machine  # noqa: E402
import report  # noqa: E402
from lib.place import Place  # noqa: E402

NAMES = ["rate", "relay_cost", "relay_latency", "append", "ring", "takeover", "handover", "scale", "read", "handout", "publish"]


class Bench:
    """What a bench module gets: its folders, addresses, programs, and the traffic generator."""

    def __init__(self, options, folder, disk):
        self.quick = options.quick
        self.build = pathlib.Path(options.build).resolve()
        self.output = self.build / "bench"
        self.folder = folder
        self.disk = disk
        self.place = Place(folder)
        self.pinning = machine.Pinning()
        self.result = report.Result()
        self._unique = 0
        self._tag = 0

    def choose(self, full, quick):
        return quick if self.quick else full

    def say(self, text):
        if sys.stderr.isatty() or os.environ.get("BENCH_PROGRESS"):
            print(f"  {text}", file=sys.stderr, flush=True)

    def tool(self, name):
        return self.output / name

    def unique(self, name):
        self._unique += 1
        return f"{name}-{self._unique}"

    def disk_folder(self, name):
        """A folder of its own on a real file system; whoever asked removes it, and the bench's end at the latest."""
        path = self.disk / self.unique(name)
        path.mkdir(parents=True)
        return path

    def address(self, host, port):
        """A loopback address that only this run uses: its slot is in it."""
        return f"127.{80 + host}.{self.place.slot}.1:{port}"

    def run_tool(self, name, *arguments, deadline=120):
        result = subprocess.run([str(self.tool(name)), *map(str, arguments)], capture_output=True, text=True,
                                check=False, timeout=deadline)
        assert result.returncode == 0, f"{name} {' '.join(map(str, arguments))}: {result.stderr.strip()}"
        return json.loads(result.stdout)

    def traffic(self, to, on=(), also=(), **options):
        """One run of the load. options: rate, count, size, segments, latency, idle_ms, coalesce_us."""
        self._tag += 1
        arguments = []
        for name, addresses in (("--to", to), ("--on", on), ("--also", also)):
            for address in addresses:
                arguments += [name, address]
        for name, value in options.items():
            arguments += ["--" + name.replace("_", "-"), int(value)]
        seconds = options["count"] / options["rate"]
        return self.run_tool("bench_traffic", *arguments, "--tag", self._tag, "--send-cpu", self.pinning.sender,
                             "--receive-cpu", self.pinning.sink, "--deadline-s", int(seconds * 2 + 5),
                             deadline=seconds * 3 + 30)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", default=os.environ.get("BUILD", str(ROOT / "build")), help="the build folder")
    parser.add_argument("--quick", action="store_true", default=os.environ.get("QUICK", "") not in ("", "0"),
                        help="a smoke test of all benches in a few minutes: its figures mean little (also QUICK=1)")
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown, ready for the README")
    parser.add_argument("--from-json", action="store_true", help="print what the last run wrote; measure nothing")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(NAMES)}; default: all")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"there is no bench {unknown[0]}; there are {', '.join(NAMES)}")
    return options


def print_table(table, markdown):
    print(table.markdown() if markdown else table.text())
    print(flush=True)


def run_bench(name, options, about):
    """Run one bench in folders of its own. Returns whether it came to its end."""
    output = pathlib.Path(options.build).resolve() / "bench"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    disk = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=output))
    bench = Bench(options, folder, disk)
    started = time.monotonic()
    error = None
    try:
        importlib.import_module(f"run_{name}").run(bench)
    except Exception as failure:  # pylint: disable=broad-except
        error = f"{type(failure).__name__}: {failure}"
        tails = bench.place.log_tails(15)
        print(f"bench {name} failed: {error}\n{tails}", file=sys.stderr)
    finally:
        bench.place.close()
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(disk, ignore_errors=True)
    seconds = time.monotonic() - started
    for table in bench.result.tables:
        print_table(table, options.markdown)
    (output / f"{name}.json").write_text(json.dumps(
        {"bench": name, "environment": about, "seconds": round(seconds, 1), "error": error,
         "figures": report.figures_json(bench.result.figures),
         "tables": [table.json() for table in bench.result.tables],
         "files": [str(path) for path in bench.result.files]}, indent=1, ensure_ascii=False))
    print(f"{name}: {seconds:.0f} s\n", file=sys.stderr, flush=True)
    return error is None


def print_saved(names, options):
    for name in names:
        path = pathlib.Path(options.build) / "bench" / f"{name}.json"
        if not path.exists():
            print(f"{path} is missing: run this bench first", file=sys.stderr)
            return 1
        saved = json.loads(path.read_text())
        print("\n".join(machine.describe(saved["environment"])) + "\n")
        for entry in saved["tables"]:
            table = report.Table(entry["title"], entry["columns"], entry["notes"])
            table.rows = entry["rows"]
            print_table(table, options.markdown)
    return 0


def main():
    options = arguments()
    names = options.names or NAMES
    if options.from_json:
        return print_saved(names, options)
    build = pathlib.Path(options.build).resolve()
    os.environ["HOLDFAST_TEST_BUILD"] = str(build)
    if not (build / "bench" / "bench_traffic").exists():
        print(f"{build}/bench has no programs: build them with `make all bench-tools`", file=sys.stderr)
        return 2
    about = machine.environment(options.quick)
    print("\n".join(machine.describe(about)))
    print("median of repeated runs (lowest–highest)" + ("; QUICK: a smoke test, not a measurement" if options.quick
                                                        else "") + "\n", flush=True)
    machine.touch_memory((2 if options.quick else 8) << 30)
    good = [run_bench(name, options, about) for name in names]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
