# SPDX-License-Identifier: MIT
"""libholdfast as a program meets it: installed, found by pkg-config, compiled against in C and C++, and linked either
way. It shows the functions of its header alone, and needs no library that a reader wouldn't have. Then it reads what a
daemon records, while it runs and when it is gone."""

import os
import re
import shutil

from lib import oracle
from lib.holdfast import Daemon, Sender, channel
from lib.place import ROOT, core, skip

HEADER = ROOT / "common" / "client" / "holdfast.h"
PROGRAM = """#include <holdfast.h>
#include <stdio.h>
int main(void)
{
    hf *handle;
    const char *const paths[] = {"/nonexistent"};
    if (hf_open_files(&handle, paths, 1) == 0)
        return 1;
    printf("%s: %s\\n", hf_version(), hf_file_problem());
    return 0;
}
"""


def release_only(place):
    if place.variant != "release":
        skip("the ordinary build's library is looked at")


def compiler(name):
    if not shutil.which(name):
        skip(f"no {name} here")
    return name


def declared():
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL)
    return set(re.findall(r"\b(hf_\w+)\(", text))


def shown(place, library, *options):
    lines = place.run("nm", "--defined-only", *options, library).stdout.splitlines()
    names = {line.split()[-1].split("@")[0] for line in lines if len(line.split()) == 3}
    return {name for name in names if not name.startswith("HOLDFAST_")}


def test_it_shows_its_header_and_nothing_else(place):
    release_only(place)
    assert len(declared()) > 20
    for library, option in (("libholdfast.so.0", "-D"), ("libholdfast.a", "-g")):
        names = shown(place, place.build / "lib" / library, option)
        assert names == declared(), f"{library}: {sorted(names ^ declared())}"


def test_it_needs_nothing_that_a_reader_lacks(place):
    release_only(place)
    dynamic = place.run("readelf", "-d", place.build / "lib" / "libholdfast.so.0").stdout
    assert "soname: [libholdfast.so.0]" in dynamic
    needed = set(re.findall(r"NEEDED.*\[(\S+)\]", dynamic))
    assert {"libc.so.6", "libisal.so.2"} <= needed, needed
    assert not [name for name in needed if not re.match(r"libc\.|libisal\.|ld-linux", name)], needed


def test_the_header_stands_alone(place):
    for command in (("gcc", "-std=c99", "-pedantic"), ("gcc", "-std=gnu17"), ("g++", "-std=c++17")):
        source = place.folder / ("alone.cc" if command[0] == "g++" else "alone.c")
        source.write_text("#include <holdfast.h>\n#include <holdfast.h>\n"
                          "int main(void) { return hf_version() == 0; }\n", encoding="utf-8")
        place.run(compiler(command[0]), *command[1:], "-Wall", "-Wextra", "-Werror", "-fsyntax-only",
                  f"-I{HEADER.parent}", source)


def test_installed_found_and_linked(place):
    release_only(place)
    root, prefix = place.folder / "root", place.folder / "prefix"
    make = ("make", "-C", ROOT, f"BUILD={place.folder / 'build'}", f"PREFIX={prefix}", f"DESTDIR={root}", "-s")
    place.run(*make, "install-library", timeout=150)
    there = root / str(prefix)[1:]
    assert sorted(path.name for path in (there / "lib").iterdir()) == \
        ["libholdfast.a", "libholdfast.so", "libholdfast.so.0", "pkgconfig"]
    assert os.readlink(there / "lib" / "libholdfast.so") == "libholdfast.so.0"
    flags = place.run("pkg-config", f"--define-variable=prefix={there}", f"--define-variable=libdir={there / 'lib'}",
                      "--cflags", "--libs", "holdfast",
                      env={**os.environ, "PKG_CONFIG_PATH": str(there / "lib" / "pkgconfig")}).stdout.split()
    assert f"-I{there}/include" in flags and "-lholdfast" in flags, flags
    for name, language in (("gcc", "c"), ("g++", "c++")):
        source = place.folder / "program"
        source.write_text(PROGRAM, encoding="utf-8")
        shared, static = place.folder / "shared", place.folder / "static"
        place.run(compiler(name), "-x", language, source, "-x", "none", "-Wall", "-Werror", "-o", shared, *flags)
        place.run(name, "-x", language, source, "-x", "none", "-Wall", "-Werror", "-o", static, flags[0],
                  there / "lib" / "libholdfast.a", "-lisal")
        wanted = re.search(r"^## (\d\S*)", (ROOT / "CHANGES.md").read_text(encoding="utf-8"), re.MULTILINE)[1]
        wanted += ": /nonexistent: No such file or directory\n"
        assert place.run(shared, env={**os.environ, "LD_LIBRARY_PATH": str(there / "lib")}).stdout == wanted
        assert place.run(static).stdout == wanted
    place.run(*make, "uninstall")
    assert not [path for path in there.rglob("*") if not path.is_dir()]


def test_the_examples_in_the_documents_compile(place):
    release_only(place)
    readme = re.search(r"```c\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    page = (ROOT / "man" / "holdfast.3").read_text(encoding="utf-8").split(".Sh EXAMPLES")[1]
    page = re.search(r"\.Bd -literal.*?\n(.*?)\.Ed", page, re.DOTALL)[1].replace("\\e", "\\")
    for number, text in enumerate((readme, page)):
        source = place.folder / f"example{number}.c"
        source.write_text(text, encoding="utf-8")
        place.run(compiler("gcc"), "-Wall", "-Wextra", "-Werror", f"-I{HEADER.parent}", "-o", source.with_suffix(""),
                  source, place.build / "lib" / "libholdfast.a", "-lisal")


def read_lines(text):
    """{number: (time, source, payload)}"""
    found = {}
    for line in text.splitlines():
        seq, time_ns, source, length, payload = (line + " ").split(" ")[:5]
        assert len(payload) == 2 * int(length)
        found[int(seq)] = int(time_ns), source, bytes.fromhex(payload)
    return found


@core
def test_a_range_of_time_is_copied(place):
    address = place.ipv4()
    daemon = Daemon(place, channel("engine", address, record={"segment_size": "1M"})).start()
    daemon.wait_state("engine", "RUNNING")
    sender = Sender(place, address, place.scaled(20000), rate=20000, sizes=(0, 1, 200, 1400))
    sender.wait()
    daemon.wait_counter("engine", "recorded", place.scaled(20000))
    sent = oracle.read_datagrams(sender.record)[0]
    copy_range = place.build / "examples" / "copy_range"
    folder = daemon.log_dir / "engine"
    live = place.run(copy_range, folder, "0", "9000000000")
    assert live.stderr == "", live.stderr
    assert [entry[2] for entry in read_lines(live.stdout).values()] == sent
    daemon.stop()
    all_lines = read_lines(place.run(copy_range, folder, "0", "9000000000").stdout)
    assert [entry[2] for entry in all_lines.values()] == sent
    times = [entry[0] for entry in all_lines.values()]
    begin, end = times[len(times) // 3] // 1000 * 1000, times[2 * len(times) // 3] // 1000 * 1000
    some = read_lines(place.run(copy_range, folder, f"{begin // 10**9}.{begin % 10**9:09}",
                                f"{end // 10**9}.{end % 10**9:09}").stdout)
    first = next(i for i, time_ns in enumerate(times) if time_ns >= begin - 1000)
    assert abs(list(some)[0] - first) <= 1, (list(some)[0], first)
    assert abs(len(some) - len(times) / 3) < 3, len(some)
    refused = place.run(copy_range, "/etc/passwd", "0", "1", expect=1)
    assert "/etc/passwd: " in refused.stderr
