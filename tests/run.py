#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs holdfast's tests: the unit tests (Check programs in <build>/tests) and the system tests (tests/system/*.py, one
process and one temporary folder per test). Prints one line per test and at last "N passed, N failed". Exit 1 when any
test failed or when there was none to run."""

import argparse
import ast
import collections
import concurrent.futures
import ctypes
import itertools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests"))

from lib.place import PR_SET_CHILD_SUBREAPER, children_of, is_alive, kill  # noqa: E402  pylint: disable=C0413

UNIT_DEADLINE = 300
SYSTEM_DEADLINE = 180
SKIPPED = 77
# One process, one thread: the thread sanitizer has nothing to find in them, and takes ten minutes for some.
WITHOUT_THREADS = {"test_archive_every_call", "test_archive_interrupted", "test_archive_lost_end", "test_avro_log_beyond",
                   "test_avro_log_damage", "test_avro_log_window", "test_power_cut", "test_segment_walk"}
SLOWER = {"asan": 4, "ubsan": 2, "tsan": 5, "cov": 2}

Outcome = collections.namedtuple("Outcome", "name passed failed skipped seconds text")
SystemTest = collections.namedtuple("SystemTest", "file name marks")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only-unit", action="store_true", help="leave the system tests out")
    parser.add_argument("--only-system", action="store_true", help="leave the unit tests out")
    parser.add_argument("--core", action="store_true", help="only the system tests marked core")
    parser.add_argument("--quick", action="store_true", help="leave out the system tests marked slow")
    parser.add_argument("--variant", default="release", help="which build: release, asan, ubsan, tsan, cov, hooks")
    parser.add_argument("--build", default=os.environ.get("BUILD", str(ROOT / "build")), help="the build folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="tests at the same time")
    parser.add_argument("--keep", action="store_true", help="keep the folders of failed tests")
    parser.add_argument("--repeat", type=int, default=1, help="run each test that often")
    parser.add_argument("names", nargs="*", help="run only tests whose name contains one of these")
    return parser.parse_args()


# ---- what there is ----

def system_tests(path):
    """The test functions of a file and their marks, without importing it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield SystemTest(path, node.name, {mark.id for mark in node.decorator_list if isinstance(mark, ast.Name)})


def chosen(names, name):
    return not names or any(wanted in name for wanted in names)


def title(test):
    return f"{test.file.stem}.{test.name.removeprefix('test_')}"


def find_tests(options, build):
    unit, system = [], []
    if not options.only_system:
        unit = [path for path in sorted((build / "tests").glob("test_*"))
                if os.access(path, os.X_OK) and path.is_file() and chosen(options.names, path.name)
                and not (options.variant == "tsan" and path.name in WITHOUT_THREADS)]
    if not options.only_unit:
        for path in sorted((ROOT / "tests/system").glob("[a-z]*.py")):
            for test in system_tests(path):
                named = chosen(options.names, f"{path.stem}.{test.name}") or chosen(options.names, title(test))
                left_out = (options.core and "core" not in test.marks) or (options.quick and "slow" in test.marks)
                if named and not left_out:
                    system.append(test)
    return unit, system


# ---- one process ----

def environment(options, build, folder):
    result = dict(os.environ)
    for name in ("NOTIFY_SOCKET", "JOURNAL_STREAM", "HOLDFAST_SOCKET", "LISTEN_FDS", "LISTEN_PID", "WATCHDOG_USEC"):
        result.pop(name, None)
    log = folder / "sanitizer"
    symbolizer = shutil.which("llvm-symbolizer") or shutil.which("llvm-symbolizer-14")
    more = f":external_symbolizer_path={symbolizer}" if symbolizer else ""
    result.update({
        "HOLDFAST_TEST_BUILD": str(build),
        "HOLDFAST_TEST_SOURCE": str(ROOT),
        "HOLDFAST_TEST_VARIANT": options.variant,
        "TMPDIR": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "ASAN_OPTIONS": f"detect_leaks=1:abort_on_error=1:disable_coredump=1:log_path={log}{more}",
        "UBSAN_OPTIONS": f"print_stacktrace=1:abort_on_error=1:disable_coredump=1:log_path={log}{more}",
        # A worker leaves without joining its threads: one of them may be inside a call that waits for a disk.
        "TSAN_OPTIONS": f"report_thread_leaks=0:halt_on_error=1:exitcode=66:second_deadlock_stack=1:log_path={log}{more}",
    })
    return result


def end_tree(pid):
    """SIGKILL for what this test started, and for nothing else."""
    for child in children_of(pid):
        kill(child)
    kill(pid)


def run_process(command, folder, env, deadline):
    """(exit status or None when it took too long, output)."""
    output = folder / "output"
    with open(output, "wb") as stream:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=env,
                                   cwd=folder)
        try:
            status = process.wait(deadline)
        except subprocess.TimeoutExpired:
            status = None
            process.send_signal(signal.SIGTERM)  # a system test tidies up and shows its logs
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                pass
            end_tree(process.pid)
            process.wait()
    return status, output.read_text(errors="replace")


def leave(folder, keep):
    if keep:
        return f"\n(kept: {folder})"
    shutil.rmtree(folder, ignore_errors=True)
    return ""


def sanitizer_files(folder):
    return "".join(path.read_text(errors="replace")[:8000] for path in sorted(folder.glob("sanitizer.*")))


CHECK_SUMMARY = re.compile(r"^\d+%: Checks: (\d+), Failures: (\d+), Errors: (\d+)", re.MULTILINE)
SKIPPED_CHECK = re.compile(r"^skipped: (.*)$", re.MULTILINE)


def run_unit(options, build, path):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-"))
    env = environment(options, build, folder)
    env["CK_TIMEOUT_MULTIPLIER"] = str(2 * SLOWER.get(options.variant, 1))
    started = time.monotonic()
    status, output = run_process([str(path)], folder, env, UNIT_DEADLINE * SLOWER.get(options.variant, 1))
    seconds = time.monotonic() - started
    summaries = CHECK_SUMMARY.findall(output)
    checks = sum(int(found[0]) for found in summaries)
    failed = sum(int(found[1]) + int(found[2]) for found in summaries)
    reports = sanitizer_files(folder)
    if status is None:
        output += f"\n--- not finished after {seconds:.0f} s"
    if (status != 0 or reports or checks == 0) and failed == 0:
        failed, checks = failed + 1, max(checks, 1)
    skips = SKIPPED_CHECK.findall(output)  # the framework takes them for passed
    text = output + reports if failed else "\n".join(f"skipped: {why}" for why in skips)
    text += leave(folder, options.keep and failed > 0)
    return Outcome(path.name, checks - failed - len(skips), failed, len(skips), seconds, text)


def run_system(options, build, test):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="holdfast-"))
    name = title(test)
    command = [sys.executable, str(ROOT / "tests/lib/one.py"), str(test.file), test.name, str(folder)]
    started = time.monotonic()
    status, output = run_process(command, folder, environment(options, build, folder),
                                 SYSTEM_DEADLINE * SLOWER.get(options.variant, 1))
    seconds = time.monotonic() - started
    if status == SKIPPED:
        why = (output.strip().splitlines() or ["no reason given"])[-1]
        return Outcome(name, 0, 0, 1, seconds, why + leave(folder, False))
    failed = status != 0
    if status is None:
        output += f"\n--- not finished after {seconds:.0f} s"
    return Outcome(name, not failed, failed, 0, seconds, (output if failed else "") + leave(folder, options.keep and failed))


# ---- all of them ----

def shortened(lines, most=150):
    """A system test begins with what went wrong, a unit test ends with it."""
    if len(lines) <= most:
        return lines
    return lines[:most // 2] + [f"... {len(lines) - most} lines ..."] + lines[-(most - most // 2):]


def report(outcome):
    took = f"{outcome.seconds:.1f} s"
    if outcome.skipped and not outcome.passed + outcome.failed:
        print(f"  skipped  {outcome.name}: {outcome.text.strip()}", flush=True)
        return
    word = "FAILED " if outcome.failed else "ok     "
    checks = f", {outcome.passed + outcome.failed} checks" if outcome.passed + outcome.failed > 1 else ""
    checks += f", {outcome.skipped} skipped" if outcome.skipped else ""
    print(f"  {word}  {outcome.name} ({took}{checks})", flush=True)
    if outcome.text.strip():
        print("\n".join("    | " + line for line in shortened(outcome.text.strip().splitlines())), flush=True)


def reap_strangers(known):
    """Processes that outlived their test have become our children: end them, so that nothing stays behind."""
    for pid in children_of(os.getpid()):
        if pid not in known and is_alive(pid):
            kill(pid)


def one_after_the_other(options, build, test):
    """As a future that is done: taken from a generator, so that nothing else runs beside it."""
    outcome = concurrent.futures.Future()
    outcome.set_result(run_system(options, build, test))
    return outcome


def main():
    options = arguments()
    build = pathlib.Path(options.build).resolve()
    if options.variant != "release":
        build /= options.variant
    unit, system = find_tests(options, build)
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    passed = failed = skipped = 0
    with concurrent.futures.ThreadPoolExecutor(max(1, options.jobs)) as pool:
        pending = [pool.submit(run_unit, options, build, path) for path in unit * options.repeat]
        pending += [pool.submit(run_system, options, build, test) for test in system * options.repeat
                    if "alone" not in test.marks]
        alone = (one_after_the_other(options, build, test) for test in system * options.repeat if "alone" in test.marks)
        try:
            for future in itertools.chain(concurrent.futures.as_completed(pending), alone):
                outcome = future.result()
                report(outcome)
                passed += outcome.passed
                failed += outcome.failed
                skipped += outcome.skipped
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            reap_strangers(())
            raise
    reap_strangers(())
    if passed + failed + skipped == 0:
        print(f"no test found in {build}/tests and tests/system: build them first (make tests)")
    print(f"{passed} passed, {failed} failed" + (f", {skipped} skipped" if skipped else ""))
    return 1 if failed or passed + skipped == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
