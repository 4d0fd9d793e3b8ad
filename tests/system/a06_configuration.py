# SPDX-License-Identifier: MIT
"""A configuration that is wrong starts nothing: holdfastd says every fault with its line, and exits with 2. One that is
right goes round: what --print-config prints reads back to the same. (The unit test test_config has each rule with its
exact words; here the program itself is asked.)"""

import os
import re

from lib.holdfast import Daemon, Sender, channel
from lib.place import ROOT, core

GOOD = channel("engine", "127.0.0.1:26000", relays={"display": "127.0.0.1:26001"})


def check(place, text, *arguments, expect=None):
    path = place.folder / "test.conf"
    path.write_text(text)
    return place.run(place.program("holdfastd"), "--config", path, *(arguments or ("--check",)), expect=expect)


def faults(place, text):
    """The lines that are complained about, with the words."""
    result = check(place, text)
    assert result.returncode == 2, f"exit {result.returncode} for:\n{text}\n{result.stderr}"
    prefix = re.escape(str(place.folder / "test.conf"))
    found = [(int(match.group(1)), match.group(2)) for match in
             re.finditer(rf"^{prefix}:(\d+): (.+)$", result.stderr, re.MULTILINE)]
    assert found, f"no FILE:LINE: in {result.stderr!r}"
    return found


def expect_faults(place, cases):
    """cases: (what, text, line, words that must be in the message)."""
    wrong = []
    for what, text, line, words in cases:
        try:
            found = faults(place, text)
        except AssertionError as error:
            wrong.append(f"{what}: {error}")
            continue
        if not any(at == line and all(word in message for word in words) for at, message in found):
            wrong.append(f"{what}: expected line {line} with {words}, got {found}")
    assert not wrong, "\n".join(wrong)


def one_channel(*lines):
    """A channel whose further lines begin on line 3 of the file."""
    return "\n".join(['channel "engine" {', '  listen = "127.0.0.1:26000"', *lines, "}"])


RELAY = 'relay "display" { to = "127.0.0.1:26001" }'


@core
def test_a_good_configuration_passes_and_prints_the_same_twice(place):
    check(place, GOOD, expect=0)
    printed = check(place, GOOD, "--print-config", expect=0).stdout
    assert "engine" in printed and "127.0.0.1:26001" in printed
    assert check(place, printed, "--print-config", expect=0).stdout == printed
    check(place, printed, expect=0)


def test_what_this_machine_lacks_is_told(place):
    where = place.folder / "sealed"
    where.mkdir(mode=0o500)
    text = "\n".join([f'log_dir = "{where}"', 'channel "engine" {', '  listen = "239.77.0.1:26000"',
                      '  interface = "nosuch0"', '  record { }', "}"])
    result = check(place, text, expect=0)
    assert "warning" in result.stderr and "nosuch0" in result.stderr and "engine" in result.stderr, result.stderr
    if os.geteuid() != 0:
        assert str(where) in result.stderr, result.stderr
    result = check(place, text.replace(str(where), str(place.folder / "file" / "log")), expect=0)
    assert str(place.folder / "file") in result.stderr, result.stderr
    for log_dir, words in (("file", "Not a directory"), ("file/log", "Not a directory"), ("a/b/c", "only the last folder")):
        (place.folder / "file").write_text("")
        (place.folder / "file").chmod(0o755)
        result = check(place, text.replace(str(where), str(place.folder / log_dir)), expect=0)
        assert f'warning: log_dir = "{place.folder / log_dir}"' in result.stderr and words in result.stderr, result.stderr
    for log_dir in ("not-yet", "not-yet/", "./"):
        result = check(place, text.replace(str(where), f"{place.folder}/{log_dir}"), expect=0)
        assert "log_dir" not in result.stderr, result.stderr
    result = check(place, text + '\ncontrol { group = "no-such-group" }\n', expect=2)
    assert "no-such-group" in result.stderr and "groupadd" in result.stderr, result.stderr
    assert result.stderr.count("no-such-group") == 1, result.stderr
    result = check(place, text + '\nread { group = "no-such-readers" socket = "/dev/null" }\n', expect=2)
    assert 'read { group = "no-such-readers" }: there is no such group' in result.stderr, result.stderr
    assert 'read { socket = "/dev/null" }: it exists and is no socket' in result.stderr, result.stderr
    check(place, text + '\nread { group = "no-such-readers" socket = "/dev/null" enabled = false }\n', expect=0)
    (place.folder / "test.conf").write_text(GOOD + '\ncontrol { group = "daemon" }\n')
    if os.geteuid() == 0:
        place.folder.chmod(0o755)
        result = place.run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", place.program("holdfastd"),
                           "--config", place.folder / "test.conf", "--check")
        assert 'group = "daemon" }: this user is no member' in result.stderr, result.stderr
        assert "daemon" not in check(place, GOOD + '\ncontrol { group = "daemon" }\n', expect=0).stderr


def test_what_a_channel_needs_and_this_machine_lacks_is_told_with_its_place(place):
    result = check(place, one_channel("cpus = {1000, 1001}", 'relay "display" { to = "239.1.1.1:26001" interface = "nosuch0" }')
                   .replace("127.0.0.1:26000", "203.0.113.77:26000"), expect=0)
    for words in ('channel "engine": relay "display": there is no interface "nosuch0" now',
                  'channel "engine": listen = "203.0.113.77:26000": no interface of this machine has this address',
                  'channel "engine": cpus: this machine has CPUs 0 to '):
        assert result.stderr.count(words) == 1, result.stderr
    result = check(place, f'log_dir = "{place.folder}/a/b/c"\n' + one_channel("record { }"), expect=0)
    assert "No such file or directory: nothing can be recorded there" in result.stderr, result.stderr
    assert not check(place, one_channel("cpus = {0, 1000}", RELAY), expect=0).stderr


def test_the_configurations_that_come_along_pass_and_go_round(place):
    for name in ("holdfast.conf", "quickstart.conf"):
        path = ROOT / "conf" / name
        place.run(place.program("holdfastd"), "--config", path, "--check")
        printed = place.run(place.program("holdfastd"), "--config", path, "--print-config").stdout
        assert check(place, printed, "--print-config", expect=0).stdout == printed, name


def test_values_that_make_no_sense(place):
    def setting(line, *words):
        return (line, one_channel(line, RELAY), 3, words)
    expect_faults(place, [
        setting('ring_size = "many"', "ring_size"),
        setting('ring_size = "1K"', "ring_size"),
        setting("max_datagram = 0", "max_datagram"),
        setting("max_datagram = 65508", "max_datagram", "65507"),
        setting('max_datagram = "abc"', "max_datagram"),
        setting('receive_buffer = "-1M"', "receive_buffer"),
        setting('mapping = "triple"', "mapping"),
        setting('busy_poll = "1h"', "busy_poll"),
        setting("realtime_priority = 100", "realtime_priority"),
        setting('source = "10.0.0.7"', "source"),
        setting('interface = "lo"', "interface"),
        setting('volume = "11"', "volume"),
        ("hang_timeout", 'hang_timeout = "100ms"\n' + GOOD, 1, ("hang_timeout",)),
        ("spare_workers", "spare_workers = 65\n" + GOOD, 1, ("spare_workers",)),
        ("mode", 'control { mode = "worldwide" }\n' + GOOD, 1, ("mode",)),
        ("socket's slash", 'control { socket = "/run/holdfast/" }\n' + GOOD, 1, ("socket", "ends with /")),
        ("socket", f'control {{ socket = "/{"x" * 120}" }}\n' + GOOD, 1, ("socket",)),
    ])


def test_a_key_in_the_wrong_section_is_told_where_it_belongs(place):
    expect_faults(place, [
        ("of record", one_channel('on_full = "wait"', RELAY), 3, ("unknown key", "it belongs in record { }")),
        ("of the file", one_channel('log_dir = "/x"', RELAY), 3, ("unknown key", "it belongs in the file itself")),
        ("a section", "record { }\n" + GOOD, 1, ("unknown key", "it belongs in channel { }")),
    ])
    assert not any("belongs" in message for _, message in faults(place, one_channel('nonsense = "x"', RELAY)))


def test_an_interface_by_its_number_is_the_same_as_by_name(place):
    """lo is number 1 everywhere."""
    text = one_channel(RELAY).replace("127.0.0.1:26000", "[fe80::1%1]:26000")
    printed = check(place, text, "--print-config", expect=0).stdout
    assert '"lo"' in printed or "%lo" in printed, printed
    assert check(place, text.replace("\n}", '\n  interface = "lo"\n}'), "--print-config", expect=0).stdout == printed
    assert "names another" in faults(place, text.replace("\n}", '\n  interface = "eth7"\n}'))[0][1]


def test_addresses_that_can_not_be(place):
    def listen(address, *words):
        return (address, one_channel(RELAY).replace("127.0.0.1:26000", address), 2, words)
    expect_faults(place, [
        listen("127.0.0.1:65536", "listen", "port", "between 1 and 65535"),
        listen("127.0.0.1:0", "listen", "between 1 and 65535"),
        listen("[::1]:http", "listen", "between 1 and 65535"),
        listen("127.0.0.1", "listen", "not an address with port"),
        ("broadcast", one_channel('source = "255.255.255.255"', 'interface = "lo"', RELAY).replace(
            "127.0.0.1:26000", "239.77.0.1:26000"), 3, ("source", "nobody sends from that")),
        ("no listen", f'channel "engine" {{\n  {RELAY}\n}}', 1, ("listen",)),
        ("no port", f'channel "engine" {{\n  listen = "127.0.0.1"\n  {RELAY}\n}}', 2, ("listen",)),
        ("a name", f'channel "engine" {{\n  listen = "localhost:26000"\n  {RELAY}\n}}', 2, ("listen",)),
        ("port 0", f'channel "engine" {{\n  listen = "127.0.0.1:0"\n  {RELAY}\n}}', 2, ("listen",)),
        ("same address twice", GOOD + GOOD.replace("engine", "other").replace(":26001", ":26002"),
         GOOD.count("\n") + 2, ("127.0.0.1:26000",)),
        ("relay to itself", one_channel('relay "loop" { to = "127.0.0.1:26000" }'), 3, ("listen",)),
        ("twice the same destination", one_channel(RELAY, RELAY.replace("display", "other")), 4, ("127.0.0.1:26001",)),
        ("ttl", one_channel('relay "display" { to = "239.1.1.1:6000"  ttl = 256 }'), 3, ("ttl",)),
        ("no to", one_channel('relay "display" { ttl = 1 }'), 3, ("to",)),
    ])


def test_sections_that_can_not_be(place):
    expect_faults(place, [
        ("nothing to do", 'channel "engine" {\n  listen = "127.0.0.1:26000"\n}', 1, ("record",)),
        ("no channel", "spare_workers = 1\n", 1, ("channel",)),
        ("same name twice", GOOD + GOOD.replace(":26000", ":26003"), GOOD.count("\n") + 1, ("engine",)),
        ("bad name", GOOD.replace('"engine"', '"an engine"'), 1, ("an engine",)),
        ("same destination name twice", one_channel(RELAY, RELAY.replace(":26001", ":26002")), 4, ("display",)),
        ("decimate without a rule", one_channel('decimate "slow" { to = "127.0.0.1:26001" }'), 3, ("keep_every",)),
        ("decimate with two rules",
         one_channel('decimate "slow" { to = "127.0.0.1:26001"  keep_every = 5  max_rate = 5 }'), 3, ("max_rate",)),
        ("keep_every = 0", one_channel('decimate "slow" { to = "127.0.0.1:26001"  keep_every = 0 }'), 3,
         ("keep_every",)),
        ("small segments", one_channel('record { segment_size = "1K" }'), 3, ("segment_size",)),
        ("no unit", one_channel('record { segment_time = "90" }'), 3, ("segment_time",)),
        ("too much free", one_channel('record { keep_free = "101%" }'), 3, ("keep_free",)),
        ("on_full", one_channel('record { on_full = "panic" }'), 3, ("on_full",)),
        ("keeps too little", one_channel('record { segment_size = "256M"  keep_at_most = "300M" }'), 3,
         ("keep_at_most",)),
        ("unknown section", one_channel("transmit { }", RELAY), 3, ("transmit",)),
    ])


@core
def test_all_faults_are_told_at_once(place):
    found = faults(place, one_channel("max_datagram = 0", 'ring_size = "x"', "colour = 3",
                                      'relay "display" { to = "nowhere" }'))
    assert [line for line, _ in found] == [3, 4, 5, 6], found


@core
def test_a_bad_configuration_starts_nothing(place):
    daemon = Daemon(place, one_channel("max_datagram = 0", "record { }"))
    daemon.start(wait=False)
    assert daemon.process.wait(20) == 2
    assert not daemon.socket.exists() and not daemon.log_dir.exists()
    assert "READY=1" not in daemon.notifications.poll()


def test_usage_errors_and_version(place):
    program = place.program("holdfastd")
    assert re.search(r"\d+\.\d+", place.run(program, "--version").stdout)
    assert "--config" in place.run(program, "--help").stdout
    for wrong in (["--frobnicate"], ["--config"], ["surplus"]):
        result = place.run(program, *wrong, expect=2)
        assert result.stderr.strip(), f"{wrong}: no word of explanation"
    missing = place.run(program, "--config", place.folder / "none.conf", "--check", expect=2)
    assert "none.conf" in missing.stderr


@core
def test_too_few_descriptors_start_nothing(place):
    """The number that is asked for is enough; with less it does not begin, but is told of by --check only."""
    listens = [place.ipv4() for _ in range(8)]
    daemon = Daemon(place, *[channel(f"c{number}", listen, relays={"display": place.ipv4()}, record={"segment_size": "1M"})
                             for number, listen in enumerate(listens)])
    holdfastd = (place.program("holdfastd"), "--config", daemon.config)
    told = place.run("prlimit", "--nofile=70:70", *holdfastd, "--check").stderr
    needed = int(re.search(r"warning: this configuration needs (\d+) open files, and the limit is 70 here", told).group(1))
    for limit in (70, needed - 1):
        refused = place.run("prlimit", f"--nofile={limit}:{limit}", *holdfastd, expect=2).stderr
        assert f"needs {needed} open files, and the limit is {limit}: set LimitNOFILE={needed}" in refused, refused
    assert "open files" not in place.run("prlimit", f"--nofile=70:{needed}", *holdfastd, "--check").stderr
    daemon.start(wrapper=("prlimit", f"--nofile=70:{needed}"))
    for number in range(8):
        daemon.wait_state(f"c{number}", "RUNNING")
    daemon.ctl("upgrade")
    daemon.disconnect()
    for number, listen in enumerate(listens):
        daemon.wait_state(f"c{number}", "RUNNING")
        Sender(place, listen, 2000, name=f"sent{number}", rate=5000, sizes=(800,)).wait()  # over a segment's end
        daemon.wait_drained(f"c{number}", 2000)
        daemon.ctl("restart", f"c{number}")
    daemon.stop()
