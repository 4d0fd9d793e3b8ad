/* SPDX-License-Identifier: MIT */
/* Ring memory for bench programs. Called before the clock starts; never while something is
 * measured. */
#include "tests/bench/ring_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/bench/support.h"

int ring_memory_make(const struct channel_spec *spec, struct channel_geometry *ret_geometry)
{
    channel_geometry_compute(spec, ret_geometry);
    int memfd = memfd_create("bench-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memfd < 0 || ftruncate(memfd, (off_t)ret_geometry->total_size) < 0)
        support_fail("ring memory");
    void *head =
        mmap(NULL, ret_geometry->data_offset, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    if (head == MAP_FAILED)
        support_fail("mmap");
    channel_page_init(head, ret_geometry, spec->name, 0, 0);
    munmap(head, ret_geometry->data_offset);
    return memfd;
}

void ring_memory_open(const struct channel_spec *spec, struct ring *ret_ring,
                      struct ring_writer *ret_writer)
{
    struct channel_geometry geometry;
    int memfd = ring_memory_make(spec, &geometry);
    support_check(ring_attach(ret_ring, memfd, &geometry, (enum ring_mapping_wanted)spec->mapping),
                  "ring_attach");
    fd_close(&memfd);
    ring_writer_open(ret_writer, ret_ring);
}
