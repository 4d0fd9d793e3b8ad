/* SPDX-License-Identifier: MIT */
/* The story: an operator gets a configuration wrong. For every rule there is one message, with the
 * line it is about and compared to its last character; whatever else is wrong in the file is said
 * at the same time. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/config_file.h"
#include "tests/lib/unit.h"

struct wrong {
    const char *text;
    const char *errors;
};

static void expect_all_wrong(const struct wrong *cases, size_t count)
{
    for (size_t i = 0; i < count; i++)
        config_expect_errors(cases[i].text, cases[i].errors);
}
/* 100 bytes: with it and a short name behind, there is no room for a longer one. */
#define FOLDER_10               "/folders/a"
#define FOLDER_50               FOLDER_10 FOLDER_10 FOLDER_10 FOLDER_10 FOLDER_10
#define LONG_FOLDER             FOLDER_50 FOLDER_50
#define EXPECT_ALL_WRONG(cases) expect_all_wrong(cases, sizeof(cases) / sizeof *(cases))

START_TEST(grammar)
{
    static const struct wrong cases[] = {
        {"", "1: there is no channel: add at least one channel \"NAME\" { ... }"},
        {"\n}", "2: unexpected \"}\": expected a key"},
        {"log_dir =\n", "2: the file ends too early: expected a value"},
        {"log_dir = = x", "1: unexpected \"=\": expected a value"},
        {"log_dir }", "1: unexpected \"}\": expected = or {"},
        {"channel a b {", "1: unexpected \"b\": expected {"},
        {"\nlog_dir = \"/var\n\n",
         "2: the text that begins here does not end in its line: close it with \""},
        {"\nlog_dir = '/var\n\n",
         "2: the text that begins here does not end in its line: close it with '"},
        {"log_dir = \"/var",
         "1: the text that begins here does not end in its line: close it with \""},
        {"channel a {\n listen = \"1.2.3.4:5\n interface = \"lo\"\n}\n",
         "2: the text that begins here does not end in its line: close it with \""},
        {"log_dir = \"/var\";\nspare_workers = 1 ;hang_timeout = 2s;\n" MINIMAL,
         "1: unexpected \";\": a value needs nothing behind it, remove it\n"
         "2: unexpected \";\": a value needs nothing behind it, remove it\n"
         "2: hang_timeout = \"2s;\": not a duration: write a whole number with us, ms, s, m, h or "
         "d behind it, like \"10s\""},
        {"log_dir: \"/var\"\nspare_workers:1\nhang_timeout:\n" MINIMAL,
         "1: log_dir: write = instead of :\n2: spare_workers: write = instead of :\n"
         "3: hang_timeout: write = instead of :"},
        {"/* a\n\n", "1: the comment that begins here never ends: close it with */"},
        {"log_dir = *", "1: unexpected *: put values with special characters in quotes"},
        {"log_dir = + 3", "1: unexpected +: put values with special characters in quotes"},
        {"channel a { cpus = {1 2} }", "1: unexpected \"2\": expected , or }"},
        {"channel a { cpus = {=} }", "1: unexpected \"=\": expected a value or }"},
        {"log_dir = \"${HOME}\"", "1: environment variables are not substituted here: write the "
                                  "value itself, or \\$ for a dollar sign"},
        {"log_dir = ${HOME}", "1: environment variables are not substituted here: write the value "
                              "itself, or \\$ for a dollar sign"},
        {"log_dir = \"\\999\"\n", "1: bad escape sequence '\\999': put values with special "
                                  "characters in quotes and write \\ as \\\\"},
    };
    EXPECT_ALL_WRONG(cases);
}
END_TEST

/* A missing brace is told where it is missing, not where it is noticed. */
START_TEST(missing_braces)
{
    static const struct wrong cases[] = {
        {"channel a {\n\n",
         "1: channel \"a\": the } that closes this section is missing (noticed in line 3)"},
        {"channel a {\nlisten = 1.2.3.4:5\n\nchannel b {\nlisten = 1.2.3.4:6\n}\n",
         "1: channel \"a\": the } that closes this section is missing (noticed in line 4)"},
        {"channel a {\n    listen = 1.2.3.4:5\n    record {\n        sync = 1s\n}\n\n"
         "channel b {\n    listen = 1.2.3.4:6\n}\n",
         "3: record: the } that closes this section is missing (noticed in line 7)"},
        {"channel a {\n    listen = 1.2.3.4:5\n    relay b {\n        to = 1.2.3.4:6\n}\n",
         "3: relay \"b\": the } that closes this section is missing (noticed in line 6)"},
        {"control {\n mode = 0600\nchannel b {\nlisten = 1.2.3.4:6\n}\n",
         "1: control: the } that closes this section is missing (noticed in line 3)"},
        {"channel a\n    listen = 1.2.3.4:5\n}\n",
         "1: channel: the { that opens this section is missing"},
        {"channel a {\nlisten = 1.2.3.4:5\nrecord\nsync = 1s\n}\n}\n",
         "3: record: the { that opens this section is missing"},
        {"channel a {\nlisten = 1.2.3.4:5\nrecord\n}\n",
         "3: record: the { that opens this section is missing"},
        {"channel a {\nlisten = 1.2.3.4:5\ncontrol { mode = 0600 }\nrecord { }\n}\n",
         "3: unknown key \"control\": channel takes listen, interface, source, receive_buffer, "
         "max_datagram, ring_size, mapping, ring_pages, receive_offload, busy_poll, batch_delay, "
         "expect, cpus, "
         "realtime_priority, relay, decimate, record, publishers; it belongs in the file itself"},
    };
    EXPECT_ALL_WRONG(cases);
    settings_free(
        config_expect_settings("channel\n\"a\"\n{\nlisten = 1.2.3.4:5\nrecord\n{\n}\n}\n"));
}
END_TEST

START_TEST(unknown_and_misplaced_keys)
{
    static const struct wrong cases[] = {
        {"foo = 1\n" MINIMAL
         "bar = {1, 2}\nbaz { x = 1 y { } }\nqux \"t\" { }\nquux \"v\" log_dir = ok\n",
         "1: unknown key \"foo\": the file takes log_dir, spare_workers, hang_timeout, control, "
         "read, restart, channel\n"
         "3: unknown key \"bar\": the file takes log_dir, spare_workers, hang_timeout, control, "
         "read, restart, channel\n"
         "4: unknown key \"baz\": the file takes log_dir, spare_workers, hang_timeout, control, "
         "read, restart, channel\n"
         "5: unknown key \"qux\": the file takes log_dir, spare_workers, hang_timeout, control, "
         "read, restart, channel\n"
         "6: unknown key \"quux\": the file takes log_dir, spare_workers, hang_timeout, control, "
         "read, restart, channel\n"},
        {"read { path = 1 }\n" MINIMAL,
         "1: unknown key \"path\": read takes socket, mode, group, tcp, enabled, connections, "
         "connections_per_user, requests_per_second, requests_per_connection, queue, "
         "lent_per_user, sending_per_user, idle_timeout, request_timeout, grace"},
        {"control { mod = 1 }\n" MINIMAL,
         "1: unknown key \"mod\": control takes socket, mode, group"},
        {"restart { delay = 1 }\n" MINIMAL, "1: unknown key \"delay\": restart takes "
                                            "healthy_after, first_delay, max_delay, give_up_after"},
        {"channel a { listen = 1.2.3.4:5 ttl = 1 record { } }\n",
         "1: unknown key \"ttl\": channel takes listen, interface, source, receive_buffer, "
         "max_datagram, ring_size, "
         "mapping, ring_pages, receive_offload, busy_poll, batch_delay, expect, cpus, "
         "realtime_priority, "
         "relay, decimate, "
         "record, publishers; it belongs in relay { } or decimate { }"},
        {"channel a { listen = 1.2.3.4:5\nrelay b { to = 1.2.3.4:6 keep_every = 2 } }\n",
         "2: unknown key \"keep_every\": relay takes to, interface, ttl, loop; it belongs in "
         "decimate { }"},
        {"channel a { listen = 1.2.3.4:5\ndecimate b { to = 1.2.3.4:6 keep_every = 2 rate = 1 } "
         "}\n",
         "2: unknown key \"rate\": decimate takes to, interface, ttl, loop, keep_every, max_rate"},
        {"channel a { listen = 1.2.3.4:5\nrecord { size = 1 } }\n",
         "2: unknown key \"size\": record takes segment_size, segment_time, sync, gather, "
         "sync_every, "
         "keep_for, "
         "keep_at_most, keep_free, "
         "on_full"},
        {"control|mode = 1\n" MINIMAL,
         "1: unknown key \"control|mode\": the file takes log_dir, spare_workers, "
         "hang_timeout, control, read, restart, channel"},
        {"include(\"/etc/passwd\")\n" MINIMAL,
         "1: include: functions such as include() are not offered: remove it"},
        {"control = 1\n" MINIMAL,
         "1: control: this is a section, not a key: write { ... } behind it instead of ="},
        {"log_dir { }\n" MINIMAL,
         "1: log_dir: this is a key, not a section: write = and a value behind it"},
        {"log_dir \"/x\"\n" MINIMAL, "1: log_dir: = is missing between it and its value"},
        {"log_dir = {\"/x\"}\n" MINIMAL,
         "1: log_dir: it takes one value, not a list: leave out the braces"},
        {"log_dir += \"/x\"\n" MINIMAL,
         "1: log_dir: nothing can be appended: write = instead of +="},
        {"control \"x\" { }\n" MINIMAL,
         "1: control: this section has no name: write { directly behind it"},
        {MINIMAL "channel { listen = 1.2.3.4:5 }\n",
         "2: channel: it needs a name: write one in quotes before the {"},
    };
    EXPECT_ALL_WRONG(cases);
}
END_TEST

START_TEST(doubles)
{
    static const struct wrong cases[] = {
        {"log_dir = a\n\nlog_dir = b\n" MINIMAL,
         "3: log_dir is set twice, first in line 1: keep one of them"},
        {"channel a { listen = 1.2.3.4:5\ncpus = {1}\ncpus = {2} record { } }\n",
         "3: cpus is set twice, first in line 2: keep one of them"},
        {"control { }\ncontrol { }\n" MINIMAL,
         "2: section control is there twice, first in line 1: join them"},
        {"channel a { listen = 1.2.3.4:5\nrecord { }\nrecord { } }\n",
         "3: section record is there twice, first in line 2: join them"},
        {MINIMAL "channel 'a' { listen = 1.2.3.4:5 }\n",
         "2: channel \"a\" is there twice, first in line 1: rename one of them"},
        {"channel a { listen = 1.2.3.4:5\nrelay b { to = 1.2.3.4:6 }\nrelay b { to = 1.2.3.4:7 } "
         "}\n",
         "3: relay \"b\" is there twice, first in line 2: rename one of them"},
        {"channel a { listen = 1.2.3.4:5\ndecimate b { to = 1.2.3.4:6 max_rate = 1 }\nrelay b { to "
         "= 1.2.3.4:7 } }\n",
         "2: decimate \"b\": a relay of this channel has the same name, in line 3: rename one of "
         "them"},
    };
    EXPECT_ALL_WRONG(cases);
    settings_free(
        config_expect_settings("channel a { listen = 1.2.3.4:5 relay x { to = 1.2.3.4:1 } }\n"
                               "channel b { listen = 1.2.3.4:6 relay x { to = 1.2.3.4:1 } }\n"));
}
END_TEST

START_TEST(values_of_the_daemon)
{
    static const struct wrong cases[] = {
        {"log_dir = \"\"\n" MINIMAL, "1: log_dir = \"\": it must not be empty"},
        {"spare_workers = 65\n" MINIMAL, "1: spare_workers = \"65\": it must be between 0 and 64"},
        {"spare_workers = -1\n" MINIMAL, "1: spare_workers = \"-1\": not a whole number"},
        {"spare_workers = 0x10\n" MINIMAL, "1: spare_workers = \"0x10\": not a whole number"},
        {"spare_workers = 99999999999999999999\n" MINIMAL,
         "1: spare_workers = \"99999999999999999999\": the number is too large"},
        {"hang_timeout = 499ms\n" MINIMAL,
         "1: hang_timeout = \"499ms\": it must be between 500ms and 1h"},
        {"hang_timeout = 2\n" MINIMAL, "1: hang_timeout = \"2\": not a duration: write a whole "
                                       "number with us, ms, s, m, h or d behind it, like "
                                       "\"10s\""},
        {"control { mode = 0888 }\n" MINIMAL,
         "1: mode = \"0888\": not a file mode: write three or four octal digits, like \"0660\""},
        {"control { mode = 7777 }\n" MINIMAL,
         "1: mode = \"7777\": not a file mode: it must be between 0000 and 0777"},
        {"control { socket = "
         "\"/run/a23456789012345678901234567890123456789012345678901234567890123456789012345678901"
         "2345678901234567890123\" }\n" MINIMAL,
         "1: socket = "
         "\"/run/a234567890123456789012345678901234567890123456789012345678901234567890123456789012"
         "345678901234567890123\": it is longer than 107 bytes: choose a shorter one"},
        {"read {\nconnections = 0\nconnections_per_user = x\nrequests_per_second = 9\n"
         "requests_per_connection = 3\nqueue = 0\nlent_per_user = 0\nsending_per_user = 1K\n"
         "idle_timeout = 1ms\nrequest_timeout = 5\ngrace = 1h\n}\n" MINIMAL,
         "2: connections = \"0\": it must be between 1 and 32768\n"
         "3: connections_per_user = \"x\": not a whole number\n"
         "4: requests_per_second = \"9\": it must be between 10 and 10000000, or 0\n"
         "5: requests_per_connection = \"3\": it must be between 16 and 9223372036854775807, or 0\n"
         "6: queue = \"0\": it must be between 1 and 1000000\n"
         "7: lent_per_user = \"0\": it must be between 1 and 1000000\n"
         "8: sending_per_user = \"1K\": it must be between 64K and 9223372036854775807, or 0\n"
         "9: idle_timeout = \"1ms\": it must be between 1s and 1d, or 0\n"
         "10: request_timeout = \"5\": not a duration: write a whole number with us, ms, s, m, h "
         "or d behind it, like \"10s\"\n"
         "11: grace = \"1h\": it must be between 0 and 10s"},
        {"read { connections = 10\nconnections_per_user = 11 }\n" MINIMAL,
         "2: connections_per_user = 11: more than connections = 10: lower one or raise the other"},
        {"read { connections_per_user = 5000 }\n" MINIMAL,
         "1: connections_per_user = 5000: more than connections = 4096: lower one or raise the "
         "other"},
        {"read { enabled = maybe }\n" MINIMAL, "1: enabled = \"maybe\": write true or false"},
        {"read { mode = 9 socket = \"\" }\n" MINIMAL,
         "1: socket = \"\": it must not be empty\n1: mode = \"9\": not a file mode: write three or "
         "four octal digits, like \"0660\""},
        {"\nread {\nsocket = /a/b\n}\ncontrol { socket = /a/b }\n" MINIMAL,
         "3: read { socket = \"/a/b\" }: that is the control socket: give one of them another "
         "path, or write read { enabled = false }"},
        {"\ncontrol { socket = /a/read.sock }\n" MINIMAL,
         "2: read { socket = \"/a/read.sock\" }: that is the control socket: give one of them "
         "another path, or write read { enabled = false }"},
        {"\ncontrol {\nsocket = " LONG_FOLDER "/c }\n" MINIMAL,
         "3: socket = \"" LONG_FOLDER "/c\": there is no room in its path for read.sock, the "
         "readers' socket beside it: add read { socket = \"PATH\" }, or read { enabled = false }"},
        {"restart { healthy_after = 0 }\n" MINIMAL,
         "1: healthy_after = \"0\": it must be between 1ms and 1d"},
        {"restart {\nfirst_delay = 11s }\n" MINIMAL,
         "2: first_delay = \"11s\" is longer than max_delay = \"10s\": lower one or raise the "
         "other"},
        {"restart {\nmax_delay = 9ms }\n" MINIMAL,
         "1: first_delay = \"10ms\" is longer than max_delay = \"9ms\": lower one or raise the "
         "other"},
        {"restart { give_up_after = many }\n" MINIMAL,
         "1: give_up_after = \"many\": not a whole number"},
    };
    EXPECT_ALL_WRONG(cases);
}
END_TEST

#define CHANNEL(keys) "channel a {\n listen = 127.0.0.1:1\n " keys "\n record { }\n}\n"

START_TEST(values_of_a_channel)
{
    static const struct wrong cases[] = {
        {"channel \"a b\" { listen = 1.2.3.4:5 record { } }",
         "1: channel \"a b\": not a name: use 1 to 47 letters, digits, _ and -, beginning with a "
         "letter or digit"},
        {"channel a {\n record { } }",
         "1: channel \"a\" has no listen: add listen = \"ADDRESS:PORT\""},
        {"channel a { listen = localhost:1 record { } }",
         "1: listen = \"localhost:1\": not an address with port: write 10.0.0.7:26000 or "
         "[::1]:26000; host names are "
         "not looked up"},
        {"channel a { listen = \"[::ffff:1.2.3.4]:1\" record { } }",
         "1: listen = \"[::ffff:1.2.3.4]:1\": an IPv4 address in IPv6 form: write it as IPv4"},
        {CHANNEL("max_datagram = abc"), "3: max_datagram = \"abc\": not a whole number"},
        {CHANNEL("max_datagram = 0"), "3: max_datagram = \"0\": it must be between 1 and 65507"},
        {CHANNEL("max_datagram = 65508"),
         "3: max_datagram = \"65508\": it must be between 1 and 65507"},
        {CHANNEL("receive_buffer = 1X"), "3: receive_buffer = \"1X\": not a size: write a whole "
                                         "number with K, M or G behind it, like \"32M\""},
        {CHANNEL("receive_buffer = 1G"),
         "3: receive_buffer = \"1G\": it must be between 4K and 1023M"},
        {CHANNEL("ring_size = 63K"), "3: ring_size = \"63K\": it must be between 64K and 64G"},
        {CHANNEL("max_datagram = 65507\n ring_size = 511K"),
         "4: ring_size = \"511K\": too small for eight datagrams of max_datagram: make it at least "
         "512K"},
        {CHANNEL("receive_offload = on\n ring_size = 256K"),
         "4: ring_size = \"256K\": too small for receive_offload, whose runs take 64K each: make "
         "it at least 512K"},
        {CHANNEL("mapping = twice"),
         "3: mapping = \"twice\": choose one of \"auto\", \"double\", \"mirror\""},
        {CHANNEL("ring_pages = 2M"), "3: ring_pages = \"2M\": choose one of \"normal\", \"huge\""},
        {CHANNEL("receive_offload = 1"), "3: receive_offload = \"1\": write true or false"},
        {CHANNEL("busy_poll = 11ms"), "3: busy_poll = \"11ms\": it must be between 0 and 10ms"},
        {CHANNEL("busy_poll = 1500ns"),
         "3: busy_poll = \"1500ns\": it must be a whole number of microseconds, like \"50us\""},
        {CHANNEL("cpus = {1, x, 1024}"),
         "3: cpus = \"x\": not a CPU's number: write a list like {2, 3}\n"
         "3: cpus = \"1024\": it must be between 0 and 1023"},
        {CHANNEL("realtime_priority = 100"),
         "3: realtime_priority = \"100\": it must be between 0 and 99"},
        {CHANNEL("interface = sixteen-letters-"),
         "3: interface = \"sixteen-letters-\": no interface can have this name: 1 to 15 characters "
         "without space, /, : "
         "and %; `ip link` lists them"},
        {CHANNEL("interface = lo"),
         "3: interface = \"lo\": 127.0.0.1:1 is no multicast group, only groups take an "
         "interface: remove it"},
        {CHANNEL("source = 1.2.3.4"),
         "3: source = \"1.2.3.4\": listen is no multicast group, only a group can be "
         "joined by source: remove it"},
        {"channel a { listen = [ff05::1]:1\n source = 1.2.3.4 record { } }",
         "2: source = \"1.2.3.4\": listen is IPv6: give an address of the same kind"},
        {"channel a { listen = 239.1.1.1:1\n source = 239.1.1.2 record { } }",
         "2: source = \"239.1.1.2\": this is a group: give the sender's own address"},
        {"channel a { listen = 239.1.1.1:1\n source = 1.2.3.4:5 record { } }",
         "2: source = \"1.2.3.4:5\": not an address: write 10.0.0.7 or fe80::1%eth0, without a "
         "port and no host name"},
        {"channel a { listen = [fe80::1]:1 record { } }",
         "1: listen = \"[fe80::1]:1\": a link-local address needs to know its link: write %NAME of "
         "the interface "
         "behind the address"},
        {"channel a { listen = [::1%lo]:1 record { } }",
         "1: listen = \"[::1%lo]:1\": only link-local addresses take an interface after %: remove "
         "it"},
        {"channel a { listen = [ff02::1]:1 record { } }",
         "1: listen = \"[ff02::1]:1\": a link-local address needs to know its link: add interface "
         "= \"NAME\""},
        {"channel a { listen = [ff02::1%lo]:1\n interface = eth0 record { } }",
         "2: interface = \"eth0\": listen = \"[ff02::1%lo]:1\" names another interface: keep one "
         "of them"},
        {"\nchannel a { listen = 1.2.3.4:5 }",
         "2: channel \"a\" does nothing with its data: add a relay, decimate or record section"},
    };
    EXPECT_ALL_WRONG(cases);
}
END_TEST

#define RECORD(keys) "channel a { listen = 127.0.0.1:1\n record { " keys " } }\n"

START_TEST(values_of_a_record)
{
    static const struct wrong cases[] = {
        {RECORD("segment_size = 1023K"),
         "2: segment_size = \"1023K\": it must be between 1M and 1024G"},
        {RECORD("segment_time = 999ms"),
         "2: segment_time = \"999ms\": it must be between 1s and 365d, or 0"},
        {RECORD("sync = 1us"), "2: sync = \"1us\": it must be between 1ms and 1h, or 0"},
        {RECORD("sync_every = 1000000001"),
         "2: sync_every = \"1000000001\": it must be between 0 and 1000000000"},
        {RECORD("sync_every = 1s"), "2: sync_every = \"1s\": not a whole number"},
        {RECORD("sync_every = -1"), "2: sync_every = \"-1\": not a whole number"},
        {RECORD("gather = 101ms"), "2: gather = \"101ms\": it must be between 0 and 100ms"},
        {RECORD("keep_for = 7"),
         "2: keep_for = \"7\": not a duration: write a whole number with us, ms, s, m, h or d "
         "behind it, like \"10s\""},
        {RECORD("keep_for = 1ms"), "2: keep_for = \"1ms\": it must be between 1s and 36500d, or 0"},
        {RECORD("keep_at_most = 511M"), "2: keep_at_most = \"511M\": less than two segments of "
                                        "segment_size = \"256M\": keep more or make segments "
                                        "smaller"},
        {RECORD("keep_free = 5"),
         "2: keep_free = \"5\": not a percentage: write 0% to 100%, like \"5%\" or \"2.5%\""},
        {RECORD("keep_free = 101%"),
         "2: keep_free = \"101%\": not a percentage: write 0% to 100%, like \"5%\" or \"2.5%\""},
        {RECORD("on_full = stop"), "2: on_full = \"stop\": choose one of \"lap\", \"wait\""},
    };
    EXPECT_ALL_WRONG(cases);
    settings_free(
        config_expect_settings(RECORD("keep_for = \"\" keep_at_most = \"\" keep_free = \"\"")));
}
END_TEST

#define RELAY(keys) "channel a { listen = 127.0.0.1:1\n relay b { " keys " } }\n"
#define DECIMATE(keys)                                                                             \
    "channel a { listen = 127.0.0.1:1\n decimate b { to = 1.2.3.4:5\n " keys " } }\n"

START_TEST(values_of_a_destination)
{
    static const struct wrong cases[] = {
        {RELAY(""), "2: relay \"b\" has no to: add to = \"ADDRESS:PORT\""},
        {RELAY("to = 1.2.3.4"),
         "2: to = \"1.2.3.4\": not an address with port: write 10.0.0.7:26000 or [::1]:26000; "
         "host names are not looked up"},
        {"channel a { listen = 127.0.0.1:1\n relay \"-\" { to = 1.2.3.4:5 } }\n",
         "2: relay \"-\": not a name: use 1 to 47 letters, digits, _ and -, beginning with a "
         "letter or digit"},
        {RELAY("to = 239.1.1.1:5\n ttl = 256"), "3: ttl = \"256\": it must be between 0 and 255"},
        {RELAY("to = 239.1.1.1:5\n loop = maybe"), "3: loop = \"maybe\": write true or false"},
        {RELAY("to = 1.2.3.4:5\n interface = lo"),
         "3: interface = \"lo\": 1.2.3.4:5 is no multicast group, only groups take an interface: "
         "remove it"},
        {RELAY("to = [ff02::1]:5"), "2: to = \"[ff02::1]:5\": a link-local address needs to know "
                                    "its link: add interface = \"NAME\""},
        {RELAY("to = 255.255.255.255:5"),
         "2: to: broadcast is not supported: send to a multicast group instead"},
        {RELAY("to = 0.0.0.0:5"),
         "2: to: this address means \"any\" and nobody can be reached at it: name one"},
        {RELAY("to = [::]:5"),
         "2: to: this address means \"any\" and nobody can be reached at it: name one"},
        {DECIMATE(""), "2: decimate \"b\" has no rule: add keep_every = N or max_rate = N"},
        {DECIMATE("keep_every = 1 max_rate = 1"),
         "2: decimate \"b\" has both keep_every and max_rate: keep one of them"},
        {DECIMATE("keep_every = 0"), "3: keep_every = \"0\": it must be between 1 and 1000000000"},
        {DECIMATE("max_rate = 0"), "3: max_rate = \"0\": it must be between 1 and 1000000000"},
        {"channel a { listen = 127.0.0.1:1\n relay b { to = 1.2.3.4:5 }\n relay c { to = 1.2.3.4:5 "
         "} }\n",
         "3: to = \"1.2.3.4:5\": relay \"b\" of this channel goes to the same address: remove one "
         "of them"},
        {"channel a { listen = 127.0.0.1:1\n relay b { to = 239.1.1.1:5 interface = lo }\n"
         " decimate c { to = 239.1.1.1:5 max_rate = 1 } }\n",
         "3: to = \"239.1.1.1:5\": relay \"b\" of this channel goes to the same address: remove "
         "one of them"},
    };
    EXPECT_ALL_WRONG(cases);
    settings_free(config_expect_settings(
        "channel a { listen = 127.0.0.1:1 relay b { to = 239.1.1.1:5 interface = eth0 }\n"
        " relay c { to = 239.1.1.1:5 interface = eth1 } }\n"));
}
END_TEST

START_TEST(two_channels_on_one_address)
{
    static const struct wrong cases[] = {
        {MINIMAL "channel b { listen = 127.0.0.1:26000 record { } }\n",
         "2: listen = \"127.0.0.1:26000\": channel \"a\" receives there too, see line 1: give one "
         "of them another port "
         "or address"},
        {MINIMAL "channel b {\n listen = 0.0.0.0:26000 record { } }\n",
         "3: listen = \"0.0.0.0:26000\": channel \"a\" receives there too, see line 1: give one of "
         "them "
         "another port or "
         "address"},
        {"channel a { listen = [::]:1 record { } }\nchannel b { listen = [ff05::1]:1 record { } "
         "}\n",
         "2: listen = \"[ff05::1]:1\": channel \"a\" receives there too, see line 1: give one of "
         "them another port or "
         "address"},
        {"channel a { listen = 239.1.1.1:1 record { } }\n"
         "channel b { listen = 239.1.1.1:1 interface = lo record { } }\n",
         "2: listen = \"239.1.1.1:1\": channel \"a\" receives there too, see line 1: give one of "
         "them another port or "
         "address"},
        {"channel a { listen = 239.1.1.1:1 source = 1.2.3.4 record { } }\n"
         "channel b { listen = 239.1.1.1:1 source = 1.2.3.4 record { } }\n",
         "2: listen = \"239.1.1.1:1\": channel \"a\" receives there too, see line 1: give one of "
         "them another port or "
         "address"},
    };
    EXPECT_ALL_WRONG(cases);
}
END_TEST

START_TEST(loops)
{
    static const struct wrong cases[] = {
        {"channel a { listen = 127.0.0.1:1\n relay x { to = 127.0.0.1:1 } }\n",
         "2: to = \"127.0.0.1:1\": this is where channel \"a\" itself listens, it would receive "
         "what it sends: choose "
         "another address"},
        {"channel a { listen = [::]:1\n decimate x { to = [::1]:1 max_rate = 1 } }\n",
         "2: to = \"[::1]:1\": this is where channel \"a\" itself listens, it would receive what "
         "it sends: choose "
         "another address"},
        {"channel a { listen = 239.1.1.1:1\n relay x { to = 239.1.1.1:1 interface = lo } }\n",
         "2: to = \"239.1.1.1:1\": this is where channel \"a\" itself listens, it would receive "
         "what it sends: choose "
         "another address"},
        {"channel a { listen = 127.0.0.1:1\n relay x { to = 127.0.0.1:2 } }\n"
         "channel b { listen = 127.0.0.1:2\n relay x { to = 127.0.0.1:1 } }\n",
         "4: to = \"127.0.0.1:1\": this closes a loop of channels, a -> b -> a: break it at one of "
         "them"},
        {"channel z { listen = 127.0.0.1:9\n relay x { to = 127.0.0.1:1 } }\n"
         "channel a { listen = 127.0.0.1:1\n relay x { to = 127.0.0.1:2 } }\n"
         "channel b { listen = 0.0.0.0:2\n relay x { to = 239.1.1.1:3 } }\n"
         "channel c { listen = 239.1.1.1:3\n relay w { to = 1.2.3.4:5 }\n relay x { to = "
         "127.0.0.1:1 } }\n",
         "9: to = \"127.0.0.1:1\": this closes a loop of channels, a -> b -> c -> a: break it at "
         "one of them"},
    };
    EXPECT_ALL_WRONG(cases);
}
END_TEST

START_TEST(more_destinations_than_one_message_can_carry)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    fputs("channel a { listen = 127.0.0.1:1\n", to);
    for (int i = 0; i < CHANNEL_DESTINATIONS_MAX; i++)
        fprintf(to, "relay r%d { to = 1.2.3.4:%d }\n", i, 1000 + i);
    fflush(to);
    char *most = strdup(text);
    most = realloc(most, size + 3);
    strcat(most, "}\n");
    settings_free(config_expect_settings(most));
    fputs("decimate d { to = 1.2.3.4:1 max_rate = 1 }\n}\n", to);
    fclose(to);
    config_expect_errors(
        text,
        "1: channel \"a\" has 241 relays and decimates: at most 240 are possible, let one of them "
        "go to "
        "a multicast group instead");
    free(most);
    free(text);
}
END_TEST

/* A file with everything wrong gets every message, in the order of its lines. */
START_TEST(all_errors_at_once)
{
    config_expect_errors(
        "lgo_dir = x\n"
        "spare_workers = 65\n"
        "control { mode = 8 socket = \"\" }\n"
        "restart { first_delay = 1m }\n"
        "channel a {\n"
        "  listen = 127.0.0.1:1\n"
        "  max_datagram = abc\n"
        "  relay x { to = 127.0.0.1:1 ttl = 1000 tll = 1 }\n"
        "}\n"
        "channel \"b/c\" {\n"
        "  listen = 127.0.0.1:1 listen = 127.0.0.1:2\n"
        "}\n",
        "1: unknown key \"lgo_dir\": the file takes log_dir, spare_workers, hang_timeout, control, "
        "read, restart, "
        "channel\n"
        "2: spare_workers = \"65\": it must be between 0 and 64\n"
        "3: socket = \"\": it must not be empty\n"
        "3: mode = \"8\": not a file mode: write three or four octal digits, like \"0660\"\n"
        "4: first_delay = \"1m\" is longer than max_delay = \"10s\": lower one or raise the other\n"
        "7: max_datagram = \"abc\": not a whole number\n"
        "8: unknown key \"tll\": relay takes to, interface, ttl, loop\n"
        "8: ttl = \"1000\": it must be between 0 and 255\n"
        "8: to = \"127.0.0.1:1\": this is where channel \"a\" itself listens, it would receive "
        "what it sends: "
        "choose another address\n"
        "10: channel \"b/c\": not a name: use 1 to 47 letters, digits, _ and -, beginning with a "
        "letter or "
        "digit\n"
        "10: channel \"b/c\" does nothing with its data: add a relay, decimate or record section\n"
        "11: listen is set twice, first in line 11: keep one of them\n"
        "11: listen = \"127.0.0.1:1\": channel \"a\" receives there too, see line 6: give one "
        "of them another "
        "port or address\n");
}
END_TEST

START_TEST(an_error_stays_one_line_whatever_the_file_contains)
{
    config_expect_errors("\"a\rb\x1b[31m\" = 1\n" MINIMAL,
                         "1: unknown key \"a?b?[31m\": the file takes log_dir, spare_workers, "
                         "hang_timeout, control, read, restart, "
                         "channel\n");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config_errors");
    TCase *cases = tcase_create("config_errors");
    /* Unchecked: in the parent, so that it cleans up also after a failed test. */
    tcase_add_unchecked_fixture(cases, config_file_make, config_file_remove);
    tcase_set_timeout(cases, 60);
    tcase_add_test(cases, grammar);
    tcase_add_test(cases, missing_braces);
    tcase_add_test(cases, unknown_and_misplaced_keys);
    tcase_add_test(cases, doubles);
    tcase_add_test(cases, values_of_the_daemon);
    tcase_add_test(cases, values_of_a_channel);
    tcase_add_test(cases, values_of_a_record);
    tcase_add_test(cases, values_of_a_destination);
    tcase_add_test(cases, two_channels_on_one_address);
    tcase_add_test(cases, loops);
    tcase_add_test(cases, more_destinations_than_one_message_can_carry);
    tcase_add_test(cases, all_errors_at_once);
    tcase_add_test(cases, an_error_stays_one_line_whatever_the_file_contains);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
