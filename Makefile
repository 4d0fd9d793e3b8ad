# SPDX-License-Identifier: MIT
# holdfast. `make help` lists the targets. Everything is built below $(BUILD); nothing is written beside the sources.

BUILD   ?= build
VARIANT ?= release
PREFIX  ?= /usr/local
DESTDIR ?=
ifeq ($(origin CC),default)
CC = gcc
endif
PYTHON  ?= /usr/bin/python3
JOBS    ?= $(shell nproc)

SBINDIR    = $(PREFIX)/sbin
BINDIR     = $(PREFIX)/bin
LIBEXECDIR = $(PREFIX)/libexec/holdfast
LIBDIR    ?= $(PREFIX)/lib
INCLUDEDIR ?= $(PREFIX)/include
SYSCONFDIR ?= $(if $(filter /usr,$(PREFIX)),/etc,$(PREFIX)/etc)
MANDIR     = $(PREFIX)/share/man
DOCDIR     = $(PREFIX)/share/doc/holdfast
UNITDIR   ?= $(if $(filter /usr,$(PREFIX)),/usr/lib/systemd/system,$(PREFIX)/lib/systemd/system)

VERSION := $(shell sed -n 's/^\#\# \([0-9][0-9.]*\).*/\1/p' CHANGES.md 2>/dev/null | head -n 1)

WARNINGS = -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
           -Wpointer-arith -Wcast-qual -Wwrite-strings -Wformat=2 -Wundef -Wvla -Wnull-dereference -Wno-cast-qual
HARDEN   = -fno-omit-frame-pointer -fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE -D_FORTIFY_SOURCE=2
OPTIMISE = -O2 -g
LINK_HARDEN = -pie -Wl,-z,relro,-z,now -Wl,-z,noexecstack

# ---- variants: the same sources, built for another purpose ----
ifeq ($(VARIANT),asan)
OPTIMISE = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
HARDEN   = -fPIE
else ifeq ($(VARIANT),ubsan)
OPTIMISE = -O1 -g -fsanitize=undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
HARDEN   = -fPIE
else ifeq ($(VARIANT),tsan)
OPTIMISE = -O1 -g -fsanitize=thread -fno-omit-frame-pointer
HARDEN   = -fPIE
WARNINGS += -Wno-tsan
else ifeq ($(VARIANT),cov)
OPTIMISE = -O0 -g --coverage
HARDEN   = -fPIE
else ifeq ($(VARIANT),hooks)
OPTIMISE = -O2 -g -DHOLDFAST_TEST_HOOKS
endif
# Sanitizers hide from the compiler what it knows about values; these warnings then cry wolf. The release build has them.
ifneq ($(filter asan ubsan tsan cov,$(VARIANT)),)
WARNINGS += -Wno-format-truncation -Wno-null-dereference -Wno-maybe-uninitialized -Wno-stringop-overflow
endif

ifeq ($(VARIANT),release)
OUT = $(BUILD)
else
OUT = $(BUILD)/$(VARIANT)
endif

CPPFLAGS_ALL = -D_GNU_SOURCE -I. -DHOLDFAST_VERSION='"$(or $(VERSION),0)"' -DHOLDFAST_LIBEXECDIR='"$(LIBEXECDIR)"' \
               -DHOLDFAST_SYSCONFDIR='"$(SYSCONFDIR)"' $(CPPFLAGS)
CFLAGS_ALL   = -std=gnu17 $(OPTIMISE) $(WARNINGS) $(HARDEN) -pthread $(CFLAGS)
LDFLAGS_ALL  = $(OPTIMISE) $(LINK_HARDEN) -pthread $(LDFLAGS)

pkg_libs = $(shell pkg-config --libs $(1))
LIBS_COMMON     = $(call pkg_libs,jansson libisal)
LIBS_SUPERVISOR = $(call pkg_libs,libconfuse libsystemd) $(LIBS_COMMON)
LIBS_WORKER     = $(call pkg_libs,libisal)
LIBS_CLIENT     = $(call pkg_libs,libisal)
LIBS_CTL        = $(call pkg_libs,avro-c) $(LIBS_COMMON)
LIBS_TEST       = $(call pkg_libs,check avro-c) $(LIBS_SUPERVISOR)

# make V=1 shows the commands
Q = $(if $(V),,@)
say = $(if $(V),,@echo "  $(1)  $(2)")

objects = $(patsubst %.c,$(OUT)/obj/%.o,$(1))
COMMON_OBJ     := $(call objects,$(wildcard common/*.c))
CLIENT_OBJ     := $(call objects,$(wildcard common/client/*.c))
SUPERVISOR_OBJ := $(call objects,$(filter-out supervisor/main.c supervisor/ctl/%,$(wildcard supervisor/*.c supervisor/*/*.c)))
WORKER_OBJ     := $(call objects,$(filter-out worker/main.c,$(wildcard worker/*.c worker/*/*.c)))
CTL_OBJ        := $(call objects,$(filter-out supervisor/ctl/main.c,$(wildcard supervisor/ctl/*.c)))

# In folders like those of what they test; a test's name says enough without its folder, and so does its program's.
UNIT_SOURCES := $(wildcard tests/unit/test_*.c tests/unit/*/test_*.c)
UNIT_TESTS  := $(patsubst %.c,$(OUT)/tests/%,$(notdir $(UNIT_SOURCES)))
TEST_TOOLS  := $(patsubst tests/lib/%.c,$(OUT)/tests/%,$(wildcard tests/lib/tool_*.c))
TESTLIB_OBJ := $(call objects,$(filter-out tests/lib/tool_%.c,$(wildcard tests/lib/*.c)))
BENCH_TOOLS := $(patsubst tests/bench/%.c,$(OUT)/bench/%,$(wildcard tests/bench/bench_*.c))
BENCH_OBJ   := $(call objects,$(filter-out tests/bench/bench_%.c,$(wildcard tests/bench/*.c)))
# What the benches compare with; without them, those rows say "not installed".
BENCH_LIBS   = $(shell pkg-config --libs sqlite3 2>/dev/null) $(shell pkg-config --libs lmdb 2>/dev/null) \
               $(shell pkg-config --libs liburing 2>/dev/null)
FUZZERS     := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

HOUSE    = $(wildcard $(foreach part,common supervisor worker,$(part)/*.[ch] $(part)/*/*.[ch] $(part)/*.def))
# The library for programs that read: it is also linked into holdfastctl, as objects.
SONAME    = libholdfast.so.0
LIBRARIES = $(OUT)/lib/$(SONAME) $(OUT)/lib/libholdfast.so $(OUT)/lib/libholdfast.a $(OUT)/lib/holdfast.pc
EXAMPLES := $(patsubst common/client/examples/%.c,$(OUT)/examples/%,$(wildcard common/client/examples/*.c))
PROGRAMS = $(OUT)/bin/holdfastd $(OUT)/bin/holdfast-worker $(OUT)/bin/holdfastctl

.PHONY: all programs tests test-tools bench-tools check check-unit floors asan ubsan tsan hooks cov lint format \
        fuzz bench install install-library uninstall clean help
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

all: programs ## build the three programs into build/bin, and the library into build/lib
programs: $(OUT)/floors $(PROGRAMS) $(LIBRARIES)
tests: $(UNIT_TESTS) $(TEST_TOOLS) $(EXAMPLES)
test-tools: $(TEST_TOOLS)
bench-tools: $(BENCH_TOOLS)

$(OUT)/obj/%.o: %.c $(OUT)/flags
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(PIC) -MMD -MP -c -o $@ $<

# These go into the shared library, too. Nobody puts another function in front of ours.
SHARED = -fPIC -fno-semantic-interposition
$(COMMON_OBJ) $(CLIENT_OBJ): PIC = $(SHARED)

# Not to be removed as intermediate files: the next build would compile them again.
.PRECIOUS: $(OUT)/obj/%.o

# A file that breaks the order of the house fails the build. Calls are looked at later, by `make floors`.
# The folders, too: they change when a file goes away.
$(OUT)/floors: scripts/check-floors $(HOUSE) $(sort $(dir $(HOUSE)))
	@mkdir -p $(@D)
	$(Q)if [ -x /usr/bin/python3 ]; then scripts/check-floors --sources; \
	  else echo "the order of the house is not checked: no /usr/bin/python3"; fi
	@touch $@

# Rebuild when the flags change, and only then.
$(OUT)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(subst ','\'',$(CPPFLAGS_ALL)) $(CFLAGS_ALL) $(SHARED) $(LDFLAGS_ALL)' | cmp -s - $@ || \
	 echo '$(CC) $(subst ','\'',$(CPPFLAGS_ALL)) $(CFLAGS_ALL) $(SHARED) $(LDFLAGS_ALL)' > $@
.PHONY: FORCE

archive = @mkdir -p $(@D); rm -f $@; ar rcs $@ $^
$(OUT)/libcommon.a: $(COMMON_OBJ)
	$(archive)
$(OUT)/libclient.a: $(CLIENT_OBJ)
	$(archive)
$(OUT)/libsupervisor.a: $(SUPERVISOR_OBJ)
	$(archive)
$(OUT)/libworker.a: $(WORKER_OBJ)
	$(archive)
$(OUT)/libctl.a: $(CTL_OBJ)
	$(archive)
$(OUT)/libtest.a: $(TESTLIB_OBJ)
	$(archive)
$(OUT)/libbench.a: $(BENCH_OBJ)
	$(archive)

link = @mkdir -p $(@D)
$(OUT)/bin/holdfastd: $(OUT)/obj/supervisor/main.o $(OUT)/libsupervisor.a $(OUT)/libcommon.a
	$(link)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_SUPERVISOR)
$(OUT)/bin/holdfast-worker: $(OUT)/obj/worker/main.o $(OUT)/libworker.a $(OUT)/libclient.a $(OUT)/libcommon.a
	$(link)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_WORKER)
$(OUT)/bin/holdfastctl: $(OUT)/obj/supervisor/ctl/main.o $(OUT)/libctl.a $(OUT)/libclient.a $(OUT)/libcommon.a
	$(link)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_CTL)

# ---- the library ----

# Sanitizers leave their own names to the program.
LIB_DEFS = $(if $(filter asan ubsan tsan cov,$(VARIANT)),,-Wl,-z,defs)
$(OUT)/lib/$(SONAME): $(CLIENT_OBJ) $(OUT)/libcommon.a common/client/holdfast.map
	$(link)
	$(call say,LD,$@)
	$(Q)$(CC) $(OPTIMISE) -shared -pthread $(LDFLAGS) -Wl,-soname,$(SONAME) -Wl,--version-script,common/client/holdfast.map \
	  -Wl,-z,relro,-z,now -Wl,-z,noexecstack -Wl,--as-needed $(LIB_DEFS) -o $@ $(CLIENT_OBJ) $(OUT)/libcommon.a $(LIBS_CLIENT)
$(OUT)/lib/libholdfast.so: $(OUT)/lib/$(SONAME)
	$(Q)ln -sf $(SONAME) $@

# One object with all that it needs of common/; its own names are its own, as in the shared library.
$(OUT)/lib/libholdfast.a: $(CLIENT_OBJ) $(OUT)/libcommon.a
	$(link)
	$(call say,AR,$@)
	$(Q)$(CC) -r -nostdlib -o $(@:.a=.o) $^
	$(Q)objcopy --wildcard --keep-global-symbol='hf_*' $(@:.a=.o)
	$(Q)rm -f $@ && ar rcs $@ $(@:.a=.o) && rm -f $(@:.a=.o)

$(OUT)/lib/holdfast.pc: common/client/holdfast.pc.in $(OUT)/flags CHANGES.md
	$(link)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@VERSION@|$(or $(VERSION),0)|' $< > $@

$(OUT)/examples/%: common/client/examples/%.c common/client/holdfast.h $(OUT)/lib/libholdfast.a
	$(link)
	$(call say,CC,$@)
	$(Q)$(CC) $(CFLAGS_ALL) -Icommon/client -o $@ $< $(LINK_HARDEN) $(LDFLAGS) $(OUT)/lib/libholdfast.a $(LIBS_CLIENT)

TEST_ARCHIVES = $(OUT)/libtest.a $(OUT)/libctl.a $(OUT)/libsupervisor.a $(OUT)/libworker.a $(OUT)/libclient.a $(OUT)/libcommon.a
unit_test = $(OUT)/tests/$(basename $(notdir $(1))): $(call objects,$(1)) $(TEST_ARCHIVES)
$(foreach source,$(UNIT_SOURCES),$(eval $(call unit_test,$(source))))
$(UNIT_TESTS):
	$(link)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_TEST) -lm
$(OUT)/tests/tool_%: $(OUT)/obj/tests/lib/tool_%.o $(TEST_ARCHIVES)
	$(link)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(LIBS_TEST) -lm
BENCH_ARCHIVES = $(OUT)/libbench.a $(OUT)/libworker.a $(OUT)/libclient.a $(OUT)/libcommon.a
$(OUT)/bench/%: $(OUT)/obj/tests/bench/%.o $(BENCH_ARCHIVES)
	$(link)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS_ALL) -o $@ $^ $(call pkg_libs,avro-c) $(LIBS_WORKER) $(LIBS_COMMON) $(BENCH_LIBS)

check: all floors ## unit and system tests on the ordinary build, and the floors of the source tree
	$(MAKE) VARIANT=release tests
	$(MAKE) VARIANT=hooks programs
	$(PYTHON) tests/run.py --jobs $(JOBS)

check-unit: tests ## unit tests of the chosen VARIANT only
	$(PYTHON) tests/run.py --only-unit --variant $(VARIANT) --jobs $(JOBS)

floors: programs ## does every file include and call only what its floor may? do log lines name their channel?
	scripts/check-floors
	scripts/check-log

asan ubsan tsan: ## unit tests and the core system tests under this sanitizer
	$(MAKE) VARIANT=$@ programs tests
	$(PYTHON) tests/run.py --variant $@ --core --jobs $(JOBS)

hooks: ## programs with test hooks (build/hooks/bin), never installed
	$(MAKE) VARIANT=hooks programs

# These decide what a successor finds: nearly every line of them is run by a test.
COVERED = common/ring.c common/ring_map.c common/inflight.c

cov: ## line coverage of the tests, as text; fails below 95 % of the ring's lines
	$(MAKE) VARIANT=cov programs tests
	$(PYTHON) tests/run.py --variant cov --jobs $(JOBS)
	lcov --quiet --capture --directory $(BUILD)/cov --output-file $(BUILD)/cov/coverage.info
	lcov --quiet --remove $(BUILD)/cov/coverage.info '/usr/*' '*/tests/*' --output-file $(BUILD)/cov/coverage.info
	lcov --list $(BUILD)/cov/coverage.info
	scripts/check-coverage $(BUILD)/cov 95 $(COVERED)

SOURCES = $(wildcard common/*.[ch] common/client/*.[ch] common/client/examples/*.c supervisor/*.[ch] supervisor/*/*.[ch] worker/*.[ch] worker/*/*.[ch])
lint: ## clang-tidy, cppcheck, shellcheck, mandoc
	scripts/lint

format: ## clang-format over the sources
	clang-format -i $(SOURCES) $(wildcard tests/*/*.[ch] tests/unit/*/*.[ch])

$(BUILD)/fuzz/%: tests/fuzz/%.c $(wildcard common/*.[ch] tests/fuzz/*.h)
	@mkdir -p $(@D)
	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -I. -std=gnu17 -o $@ $< common/*.c $(LIBS_COMMON) -pthread

# These have the gate in a thread beside them.
GATE_PARTS = $(wildcard common/*.c worker/gate/*.c) $(filter-out worker/main.c,$(wildcard worker/*.c))
$(BUILD)/fuzz/fuzz_gate_%: tests/fuzz/fuzz_gate_%.c $(GATE_PARTS) $(wildcard common/*.h worker/*.h worker/gate/*.h)
	@mkdir -p $(@D)
	clang -g -O1 -fsanitize=fuzzer,address,undefined -D_GNU_SOURCE -I. -std=gnu17 -o $@ $< $(GATE_PARTS) $(LIBS_COMMON) -pthread

fuzz: $(FUZZERS) ## run every fuzzer for FUZZ_SECONDS (default 30)
	for fuzzer in $(FUZZERS); do $$fuzzer -max_total_time=$(or $(FUZZ_SECONDS),30) -rss_limit_mb=1024 || exit 1; done

bench: all ## measure: all benches, or BENCH=name; QUICK=1 for a smoke test, MARKDOWN=1 for Markdown
	$(MAKE) VARIANT=release bench-tools test-tools
	$(PYTHON) tests/bench/bench.py --build $(BUILD) $(if $(filter-out 0,$(QUICK)),--quick) $(if $(MARKDOWN),--markdown) $(BENCH)

install-library: $(LIBRARIES) ## libholdfast alone, with its header and pkg-config file
	install -D -m 755 $(OUT)/lib/$(SONAME) $(DESTDIR)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(DESTDIR)$(LIBDIR)/libholdfast.so
	install -D -m 644 $(OUT)/lib/libholdfast.a $(DESTDIR)$(LIBDIR)/libholdfast.a
	install -D -m 644 $(OUT)/lib/holdfast.pc $(DESTDIR)$(LIBDIR)/pkgconfig/holdfast.pc
	install -D -m 644 common/client/holdfast.h $(DESTDIR)$(INCLUDEDIR)/holdfast.h

install: all install-library ## into $(DESTDIR)$(PREFIX); an existing configuration is kept
	install -D -m 755 $(OUT)/bin/holdfastd $(DESTDIR)$(SBINDIR)/holdfastd
	install -D -m 755 $(OUT)/bin/holdfastctl $(DESTDIR)$(BINDIR)/holdfastctl
	install -D -m 755 $(OUT)/bin/holdfast-worker $(DESTDIR)$(LIBEXECDIR)/holdfast-worker
	test -e $(DESTDIR)$(SYSCONFDIR)/holdfast/holdfast.conf || \
	  install -D -m 644 conf/holdfast.conf $(DESTDIR)$(SYSCONFDIR)/holdfast/holdfast.conf
	install -D -m 644 conf/datagram.avsc $(DESTDIR)$(DOCDIR)/datagram.avsc
	install -D -m 644 README.md $(DESTDIR)$(DOCDIR)/README.md
	install -d $(DESTDIR)$(UNITDIR)
	sed -e 's|@SBINDIR@|$(SBINDIR)|g' -e 's|@BINDIR@|$(BINDIR)|g' -e 's|@SYSCONFDIR@|$(SYSCONFDIR)|g' \
	  conf/holdfast.service > $(DESTDIR)$(UNITDIR)/holdfast.service
	for page in man/*.[1-8]; do \
	  install -D -m 644 $$page $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/} || exit 1; done

uninstall: ## remove what install put there, but not the configuration
	rm -f $(DESTDIR)$(SBINDIR)/holdfastd $(DESTDIR)$(BINDIR)/holdfastctl $(DESTDIR)$(LIBEXECDIR)/holdfast-worker \
	  $(DESTDIR)$(UNITDIR)/holdfast.service $(DESTDIR)$(LIBDIR)/$(SONAME) $(DESTDIR)$(LIBDIR)/libholdfast.so \
	  $(DESTDIR)$(LIBDIR)/libholdfast.a $(DESTDIR)$(LIBDIR)/pkgconfig/holdfast.pc $(DESTDIR)$(INCLUDEDIR)/holdfast.h
	rm -rf $(DESTDIR)$(DOCDIR)
	for page in man/*.[1-8]; do rm -f $(DESTDIR)$(MANDIR)/man$${page##*.}/$${page##*/}; done
	-rmdir $(DESTDIR)$(LIBEXECDIR) 2>/dev/null

clean: ## remove everything that was built
	rm -rf $(BUILD)

help: ## this list
	@sed -n 's/^\([a-z][a-z -]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 24

-include $(patsubst %.o,%.d,$(COMMON_OBJ) $(CLIENT_OBJ) $(SUPERVISOR_OBJ) $(WORKER_OBJ) $(CTL_OBJ) $(TESTLIB_OBJ))
-include $(wildcard $(OUT)/obj/supervisor/main.d $(OUT)/obj/worker/main.d $(OUT)/obj/supervisor/ctl/main.d \
  $(OUT)/obj/tests/unit/*.d $(OUT)/obj/tests/unit/*/*.d $(OUT)/obj/tests/lib/*.d $(OUT)/obj/tests/bench/*.d)
