# SPDX-License-Identifier: MIT
"""compare.py SENT.datagrams FILE.avro...: is everything that tool_sender sent in the log, each exactly once? Prints the
numbers; exit 1 when anything is missing or there twice. Used by scripts/run --demo; reads with python3-avro."""

import collections
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lib import oracle  # noqa: E402  pylint: disable=wrong-import-position


def main():
    sent = [payload for payloads in oracle.read_datagrams(pathlib.Path(sys.argv[1])).values() for payload in payloads]
    recorded = collections.Counter(record.payload for record in oracle.read_with_python_avro(sys.argv[2:]))
    missing = sum(recorded[payload] == 0 for payload in sent)
    twice = sum(recorded[payload] > 1 for payload in sent)
    print(f"sent {len(sent):,}, recorded {len(sent) - missing:,}, missing {missing:,}, recorded twice {twice:,}")
    return 1 if missing or twice or not sent else 0


if __name__ == "__main__":
    sys.exit(main())
