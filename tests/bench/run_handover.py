# SPDX-License-Identifier: MIT
"""What a hand-over costs: a worker from nothing, a worker from a waiting spare, and descriptors in one message."""

import report

LABELS = {
    "spawn_to_ready": "worker: spawn, hand-over, READY",
    "spare_to_ready": "worker: hand-over to a waiting spare, READY",
    "spawn_true_to_exit": "a process that does nothing, start to end",
    "fds_1": "1 descriptor in one message",
    "fds_4": "4 descriptors",
    "fds_16": "16 descriptors",
    "fds_64": "64 descriptors",
    "fds_253": "253 descriptors",
}


def run(bench):
    figures = {name: (report.Figure(unit="us"), report.Figure(unit="us")) for name in LABELS}
    for _ in range(bench.choose(5, 1)):
        ran = bench.run_tool("bench_handover", "--repeats", bench.choose(60, 10), "--worker",
                             bench.build / "bin" / "holdfast-worker")
        for name, (p50, p99) in figures.items():
            p50.add(ran[name]["p50_ns"] / 1000)
            p99.add(ran[name]["p99_ns"] / 1000)
    table = bench.result.table("Hand-over", ["what", "p50", "p99"])
    for name, label in LABELS.items():
        table.add(label, *figures[name])
        bench.result.figures[name] = {"p50": figures[name][0], "p99": figures[name][1]}
