/* SPDX-License-Identifier: MIT */
/* The fuzzer of requests for log files, with inputs that are drawn and a bounded number of them. It
 * has the gate in a thread, under a descriptor number that the test framework would have: so this
 * is a program without it, which says what the framework would. */
#include "tests/fuzz/fuzz_gate_objects.c"

#define REQUESTS 20000
#define LONGEST  40

static uint64_t draw(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15;
    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return mixed ^ mixed >> 31;
}

int main(int argc, char **argv)
{
    uint8_t input[LONGEST];
    const char *seed = getenv("HOLDFAST_TEST_SEED");
    uint64_t state = seed ? strtoull(seed, NULL, 10) : 20251009;
    const long count = argc > 1 ? strtol(argv[1], NULL, 10) : REQUESTS;
    LLVMFuzzerInitialize(&argc, &argv);
    for (long i = 0; i < count; i++) {
        for (size_t at = 0; at < sizeof input; at++)
            input[at] = (uint8_t)draw(&state);
        /* Every other name as it is. */
        LLVMFuzzerTestOneInput(input, input[0] & 0x80 ? CHOICES : CHOICES + draw(&state) % 25);
    }
    printf("100%%: Checks: 1, Failures: 0, Errors: 0\n");
    return 0;
}
