/* SPDX-License-Identifier: MIT */
/* Reads the ELF symbol table of the running binary once, at start. Called by main; looked up by
 * last_words, in a signal handler: must never allocate or lock after it was loaded. */
#include "worker/symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

struct function {
    uint64_t start;
    uint64_t size;
    const char *name; /* in the file's mapping, which stays for the process's life */
};

static struct {
    uintptr_t base; /* what was added to the file's addresses */
    uintptr_t low, high;
    struct function *functions; /* by address */
    size_t count;
} table;

static int compare_functions(const void *a, const void *b)
{
    const struct function *first = a, *second = b;
    return first->start < second->start ? -1 : first->start > second->start;
}

/* The first object is the program itself (dl_iterate_phdr(3)). */
static int find_program(struct dl_phdr_info *info, size_t size, void *unused)
{
    (void)size;
    (void)unused;
    table.base = info->dlpi_addr;
    table.low = UINTPTR_MAX;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_LOAD)
            continue;
        uintptr_t start = table.base + header->p_vaddr;
        if (start < table.low)
            table.low = start;
        if (start + header->p_memsz > table.high)
            table.high = start + header->p_memsz;
    }
    return 1;
}

static bool inside(uint64_t offset, uint64_t length, uint64_t size)
{
    return offset <= size && length <= size - offset;
}

static void take_symbols(const uint8_t *file, uint64_t size, const Elf64_Shdr *symbols,
                         const Elf64_Shdr *strings)
{
    if (!inside(symbols->sh_offset, symbols->sh_size, size) ||
        !inside(strings->sh_offset, strings->sh_size, size) || strings->sh_size == 0 ||
        file[strings->sh_offset + strings->sh_size - 1] != '\0')
        return;
    size_t count = symbols->sh_size / sizeof(Elf64_Sym);
    table.functions = calloc(count ? count : 1, sizeof *table.functions);
    if (!table.functions)
        return;
    for (size_t i = 0; i < count; i++) {
        Elf64_Sym symbol;
        memcpy(&symbol, file + symbols->sh_offset + i * sizeof symbol, sizeof symbol);
        if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_value == 0 ||
            symbol.st_name >= strings->sh_size)
            continue;
        table.functions[table.count++] =
            (struct function){symbol.st_value, symbol.st_size,
                              (const char *)file + strings->sh_offset + symbol.st_name};
    }
    qsort(table.functions, table.count, sizeof *table.functions, compare_functions);
}

static void read_file(const uint8_t *file, uint64_t size)
{
    Elf64_Ehdr header;
    if (size < sizeof header)
        return;
    memcpy(&header, file, sizeof header);
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
        header.e_shentsize != sizeof(Elf64_Shdr) ||
        !inside(header.e_shoff, (uint64_t)header.e_shnum * sizeof(Elf64_Shdr), size))
        return;
    for (unsigned i = 0; i < header.e_shnum; i++) {
        Elf64_Shdr section, strings;
        memcpy(&section, file + header.e_shoff + i * sizeof section, sizeof section);
        if (section.sh_type != SHT_SYMTAB || section.sh_link >= header.e_shnum)
            continue;
        memcpy(&strings, file + header.e_shoff + section.sh_link * sizeof strings, sizeof strings);
        take_symbols(file, size, &section, &strings);
        return;
    }
}

void symbols_load(void)
{
    struct stat status;
    dl_iterate_phdr(find_program, NULL);
    int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &status) == 0 && status.st_size > 0) {
        const void *file = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file != MAP_FAILED)
            read_file(file, (uint64_t)status.st_size);
    }
    fd_close(&fd);
}

uint64_t symbols_find(uintptr_t address, const char **ret_name)
{
    *ret_name = "";
    if (address < table.low || address >= table.high)
        return 0;
    uint64_t relative = address - table.base;
    size_t low = 0, high = table.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (table.functions[middle].start <= relative)
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0 && relative - table.functions[low - 1].start <= table.functions[low - 1].size)
        *ret_name = table.functions[low - 1].name;
    return relative;
}
