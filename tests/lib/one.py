# SPDX-License-Identifier: MIT
"""Runs one system test in this process: one.py FILE TEST FOLDER. Exit 0 passed, 77 skipped (the last line says why),
1 failed. tests/run.py starts it; by hand it is the way to run one test under strace or with a debugger."""

import importlib.util
import pathlib
import signal
import sys
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib.place import Place, Skip  # noqa: E402  pylint: disable=wrong-import-position

SKIPPED = 77


class Interrupted(BaseException):
    """The runner's deadline has passed: leave in good order."""


def interrupt(_number, _frame):
    raise Interrupted("the test took longer than it may")


def load(path):
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main():
    path, name, folder = sys.argv[1:4]
    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and so would children
    place = Place(folder)
    failure, skipped = None, None
    try:
        getattr(load(path), name)(place)
    except Skip as reason:
        skipped = str(reason)
    except BaseException:  # pylint: disable=broad-except
        failure = traceback.format_exc()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    closing = place.close()
    reports = place.sanitizer_reports()
    if failure or closing or reports:
        print(failure or "--- the test itself went through")
        for error in closing:
            print(f"--- while ending the test: {error}")
        for report in reports:
            print(f"--- sanitizer report in {report}")
        print(place.log_tails())
        return 1
    if skipped:
        print(skipped)
        return SKIPPED
    return 0


if __name__ == "__main__":
    sys.exit(main())
