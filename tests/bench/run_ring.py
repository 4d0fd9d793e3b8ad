# SPDX-License-Identifier: MIT
"""Datagrams through the ring, mapped double and mirrored: written as the receiver does, copied out as the recorder
does."""

import report

SIZES = [64, 800, 1472, 9000, 65507]
MAPPINGS = ["double", "mirror"]
COUNTED = {"faults": "page faults", "waited": "waits", "preempted": "preemptions", "tlb_misses": "TLB misses"}
SPANS = {"write_one": "one span, one call", "write_two": "two spans, two calls",
         "write_vectors": "two spans, one call with vectors", "copy_one": "one memcpy", "copy_two": "two memcpys"}


def count(row, ran):
    """Per million datagrams; what the machine does not count says why."""
    for name in COUNTED:
        figure = row.setdefault(name, report.Figure(digits=2))
        if ran[name] is None:
            figure.why = ran["tlb_why"]
        else:
            figure.add(1e6 * ran[name] / ran["datagrams"])


def spans(bench):
    """What the double mapping saves at the wrap itself: handing over one span against two."""
    rows, unavailable = {}, ""
    for _ in range(bench.choose(5, 1)):
        for size in SIZES:
            ran = bench.run_tool("bench_spans", "--size", size, "--ms", bench.choose(100, 20), "--cpu",
                                 bench.pinning.under_test[0])
            unavailable = ran.get("unavailable", unavailable)
            for name in SPANS:
                for where in ("across", "within"):
                    figure = rows.setdefault((size, name, where), report.Figure(unit="ns"))
                    if name in ran:
                        figure.add(ran[name][where])
    table = bench.result.table("A span across the wrap, written into a memory file or copied",
                               ["size", *SPANS.values(), "two calls of one", "within: one call"])
    for size in SIZES:
        across = [rows[size, name, "across"] for name in SPANS]
        table.add(f"{size} B", *across, report.ratio(across[1], across[0]), rows[size, "write_one", "within"])
    if unavailable:
        table.notes.append(f"Double mapping is not possible here: {unavailable}")
    bench.result.figures["spans"] = {f"{size}/{name}/{where}": figure for (size, name, where), figure in rows.items()}


def run(bench):
    rows = {}
    asked = {name: report.Figure(unit="ns") for name in ("probe_ns", "probe_again_ns", "open_ns")}
    unavailable = ""
    for _ in range(bench.choose(5, 1)):
        for size in SIZES:
            for mapping in MAPPINGS:
                ran = bench.run_tool("bench_ring", "--mapping", mapping, "--size", size, "--ring", "1M", "--ms",
                                     bench.choose(200, 50), "--cpu", bench.pinning.under_test[0])
                row = rows.setdefault((size, mapping), {"rate": report.Figure(unit="M/s"),
                                                        "bytes": report.Figure(unit="GB/s")})
                if "unavailable" in ran:
                    unavailable = ran["unavailable"]
                    continue
                row["rate"].add(ran["datagrams"] / ran["ns"] * 1000)
                row["bytes"].add(ran["bytes"] / ran["ns"])
                row["crossing"] = 1e6 * ran["crossing"] / ran["datagrams"]
                row["mirrored"] = 100 * ran["mirrored_bytes"] / ran["bytes"]
                count(row, ran)
                if mapping == "double":
                    for name, figure in asked.items():
                        figure.add(ran[name])

    table = bench.result.table("Ring of 1 MiB, one thread writes and copies out",
                               ["size", "double", "", "mirror", "", "double of mirror", "mirror copies again",
                                "calls saved per million"])
    for size in SIZES:
        double, mirror = rows[size, "double"], rows[size, "mirror"]
        table.add(f"{size} B", double["rate"], double["bytes"], mirror["rate"], mirror["bytes"],
                  report.ratio(double["rate"], mirror["rate"]), f"{mirror['mirrored']:.2f} %",
                  report.number(mirror["crossing"]))
    counted = bench.result.table("The same: what it cost beside time, per million datagrams",
                                 ["size", "mapping", *COUNTED.values()])
    for (size, mapping), row in rows.items():
        counted.add(f"{size} B", mapping, *(row.get(name, report.Figure(why=unavailable)) for name in COUNTED))
    table.notes.append("Calls saved: batches across the wrap, which would need a second call or vector on a plain "
                       "ring.")
    table.notes.append(f"Double mapping is not possible here: {unavailable}" if unavailable else
                       f"Asking whether it is possible: {asked['probe_ns']} the first time, {asked['probe_again_ns']} "
                       f"again; attaching a ring: {asked['open_ns']}.")
    bench.result.figures = {"sizes": {f"{size}/{mapping}": row for (size, mapping), row in rows.items()}, "ask": asked}
    spans(bench)
