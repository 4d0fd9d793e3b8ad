/* SPDX-License-Identifier: MIT */
/* `holdfastctl capabilities` says what is there because it has tried it, and why something is not
 * there in the kernel's own words. The story: this machine as it is; then the same machine with one
 * thing after the other taken away by a sandbox. */
#include <check.h>
#include <errno.h>
#include <jansson.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "supervisor/ctl/ctl_capabilities.h"
#include "tests/lib/deny_call.h"
#include "tests/lib/unit.h"

static char said[8192];

static int run(bool json)
{
    const struct ctl_options options = {.json = json};
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    int out = dup(STDOUT_FILENO);
    fflush(NULL);
    dup2(fileno(file), STDOUT_FILENO);
    int status = ctl_capabilities(&options);
    fflush(NULL);
    dup2(out, STDOUT_FILENO);
    close(out);
    rewind(file);
    said[fread(said, 1, sizeof said - 1, file)] = '\0';
    fclose(file);
    return status;
}

/* As JSON; the caller's. */
static json_t *report(int expected_status)
{
    ck_assert_int_eq(run(true), expected_status);
    json_t *all = json_loads(said, 0, NULL);
    ck_assert_msg(all != NULL, "%s", said);
    return all;
}

/* What it says of one of them; *ret_reason is NULL when it is present. */
static bool is_present(const json_t *all, const char *key, const char **ret_reason)
{
    const json_t *one = json_object_get(all, key);
    ck_assert_msg(json_is_boolean(json_object_get(one, "present")), "%s: %s", key, said);
    *ret_reason = json_string_value(json_object_get(one, "reason"));
    ck_assert_msg(json_is_true(json_object_get(one, "present")) == (*ret_reason == NULL),
                  "%s: a reason when it is absent, and only then: %s", key, said);
    return *ret_reason == NULL;
}

static const char *const keys[] = {"memfd", "double_mapping", "huge_pages", "gso",
                                   "gro",   "seccomp",        "landlock"};

START_TEST(this_machine_as_it_is)
{
    const char *reason;
    int fds = unit_count_fds();
    json_t *all = report(CTL_OK);
    ck_assert_int_eq(json_integer_value(json_object_get(all, "page_bytes")), sysconf(_SC_PAGESIZE));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        is_present(all, keys[i], &reason);
    /* The rest of the tests could not run either. */
    ck_assert(is_present(all, "memfd", &reason));
    ck_assert(is_present(all, "double_mapping", &reason));
    const json_t *huge = json_object_get(all, "huge_pages");
    long long free_pages = json_integer_value(json_object_get(huge, "free"));
    ck_assert_int_eq(is_present(all, "huge_pages", &reason), free_pages > 0);
    ck_assert_int_le(free_pages, json_integer_value(json_object_get(huge, "configured")));
    json_decref(all);
    ck_assert_int_eq(unit_count_fds(), fds);
    ck_assert_int_eq(run(false), CTL_OK);
    ck_assert_msg(strstr(said, "\nmemfd              present\n") != NULL, "%s", said);
}
END_TEST

static const struct taken_away {
    struct denied_call call;
    const char *key;
    int status;
    const char *reason;
} taken_away[] = {
    {{SYS_memfd_create, EPERM, DENY_ANY_ARGUMENT, 0, 0},
     "memfd",
     CTL_NO,
     "memfd_create: Operation not permitted"},
    {{SYS_memfd_create, EPERM, DENY_ANY_ARGUMENT, 0, 0},
     "double_mapping",
     CTL_NO,
     "memfd_create: Operation not permitted"},
    {{SYS_fcntl, EPERM, 1, 1033 /* F_ADD_SEALS */, 0}, "memfd", CTL_NO, "sealing it"},
    {{SYS_ftruncate, EFBIG, DENY_ANY_ARGUMENT, 0, 0}, "memfd", CTL_NO, "ftruncate: File too large"},
    {{SYS_memfd_create, ENOSPC, 1, 0, MFD_HUGETLB}, "huge_pages", CTL_OK, "free"},
    {{SYS_socket, EAFNOSUPPORT, DENY_ANY_ARGUMENT, 0, 0},
     "gso",
     CTL_OK,
     "no UDP over loopback to try it on: Address family"},
    {{SYS_setsockopt, ENOPROTOOPT, 2, UDP_SEGMENT, 0},
     "gso",
     CTL_OK,
     "UDP_SEGMENT: Protocol not available"},
    {{SYS_setsockopt, ENOPROTOOPT, 2, UDP_GRO, 0},
     "gro",
     CTL_OK,
     "UDP_GRO: Protocol not available"},
    {{SYS_sendto, EINVAL, DENY_ANY_ARGUMENT, 0, 0},
     "gso",
     CTL_OK,
     "sending a run over loopback: Invalid argument"},
    /* An option that is taken and then forgotten. */
    {{SYS_setsockopt, 0, 2, UDP_SEGMENT, 0}, "gso", CTL_OK, "a run was not cut"},
    {{SYS_setsockopt, 0, 2, UDP_GRO, 0}, "gro", CTL_OK, "arrived in pieces"},
    {{SYS_prctl, EINVAL, 0, PR_SET_SECCOMP, 0}, "seccomp", CTL_OK, "CONFIG_SECCOMP_FILTER"},
    {{SYS_prctl, EACCES, 0, PR_SET_SECCOMP, 0},
     "seccomp",
     CTL_OK,
     "PR_SET_SECCOMP: Permission denied"},
    {{SYS_prctl, 0, 0, PR_SET_SECCOMP, 0}, "seccomp", CTL_OK, "no effect"},
    {{SYS_landlock_create_ruleset, ENOSYS, DENY_ANY_ARGUMENT, 0, 0},
     "landlock",
     CTL_OK,
     "CONFIG_SECURITY_LANDLOCK"},
    {{SYS_landlock_create_ruleset, EOPNOTSUPP, DENY_ANY_ARGUMENT, 0, 0},
     "landlock",
     CTL_OK,
     "lsm="},
    {{SYS_landlock_restrict_self, E2BIG, DENY_ANY_ARGUMENT, 0, 0},
     "landlock",
     CTL_OK,
     "landlock: Argument list too long"},
    {{SYS_landlock_restrict_self, 0, DENY_ANY_ARGUMENT, 0, 0}, "landlock", CTL_OK, "no effect"},
};

START_TEST(what_a_sandbox_takes_away_is_absent_and_says_why)
{
    const struct taken_away *row = &taken_away[_i];
    const char *reason;
    deny_call(&row->call);
    if (strcmp(row->key, "landlock") == 0 && row->call.number == SYS_landlock_restrict_self &&
        syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 0)
        unit_skip("no landlock here: %s", strerror(errno));
    json_t *all = report(row->status);
    ck_assert_msg(!is_present(all, row->key, &reason), "%s is said to be there: %s", row->key,
                  said);
    ck_assert_msg(strstr(reason, row->reason) != NULL, "'%s' is not in: %s", row->reason, reason);
    json_decref(all);
    ck_assert_int_eq(run(false), row->status);
    ck_assert_msg(strstr(said, row->reason) != NULL && strstr(said, "absent: ") != NULL, "%s",
                  said);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("holdfastctl capabilities");
    TCase *tests = tcase_create("capabilities");
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, this_machine_as_it_is);
    tcase_add_loop_test(tests, what_a_sandbox_takes_away_is_absent_and_says_why, 0,
                        sizeof taken_away / sizeof taken_away[0]);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
