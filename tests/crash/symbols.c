// SPDX-License-Identifier: MIT
/*
 * The function at an address, and the address of a function
 *
 * Both are read from the symbol tables of the files that a process has mapped: .symtab, or .dynsym in a stripped file.
 */
#include "symbols.h"

#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct elf {
	const uint8_t *bytes;
	size_t size;
	const Elf64_Sym *symbols;
	size_t n_symbols;
	const char *strings;
};

static const Elf64_Shdr *section(const struct elf *elf, uint32_t type)
{
	const Elf64_Ehdr *header = (const void *)elf->bytes;
	const Elf64_Shdr *sections = (const void *)(elf->bytes + header->e_shoff);

	for (unsigned int i = 0; i < header->e_shnum; i++)
		if (sections[i].sh_type == type)
			return &sections[i];
	return NULL;
}

static bool elf_open(struct elf *elf, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	const Elf64_Shdr *table, *sections;
	struct stat st;
	void *p = MAP_FAILED;

	if (fd < 0)
		return false;
	if (fstat(fd, &st) == 0 && (size_t)st.st_size > sizeof(Elf64_Ehdr))
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return false;
	*elf = (struct elf){.bytes = p, .size = (size_t)st.st_size};
	if (memcmp(p, ELFMAG, SELFMAG) != 0)
		return true;
	table = section(elf, SHT_SYMTAB);
	if (!table)
		table = section(elf, SHT_DYNSYM);
	if (!table)
		return true;
	sections = (const void *)(elf->bytes + ((const Elf64_Ehdr *)p)->e_shoff);
	elf->symbols = (const void *)(elf->bytes + table->sh_offset);
	elf->n_symbols = table->sh_size / sizeof(Elf64_Sym);
	elf->strings = (const char *)elf->bytes + sections[table->sh_link].sh_offset;
	return true;
}

static void elf_close(struct elf *elf)
{
	munmap((void *)(uintptr_t)elf->bytes, elf->size);
}

uint64_t symbols_find(const char *path, const char *name)
{
	uint64_t value = 0;
	struct elf elf;

	if (!elf_open(&elf, path))
		return 0;
	for (size_t i = 0; i < elf.n_symbols && !value; i++)
		if (ELF64_ST_TYPE(elf.symbols[i].st_info) == STT_FUNC &&
			strcmp(elf.strings + elf.symbols[i].st_name, name) == 0)
			value = elf.symbols[i].st_value;
	elf_close(&elf);
	return value;
}

static void name_offset(const char *path, uint64_t offset, char *ret, size_t size)
{
	const char *base_name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	const Elf64_Sym *best = NULL;
	struct elf elf;

	snprintf(ret, size, "%#" PRIx64 " (%s)", offset, base_name);
	if (!elf_open(&elf, path))
		return;
	for (size_t i = 0; i < elf.n_symbols; i++) {
		const Elf64_Sym *symbol = &elf.symbols[i];

		if (ELF64_ST_TYPE(symbol->st_info) == STT_FUNC && symbol->st_value <= offset &&
			(!best || symbol->st_value > best->st_value))
			best = symbol;
	}
	if (best)
		snprintf(ret, size, "%s+%#" PRIx64 " (%s, %#" PRIx64 ")", elf.strings + best->st_name,
			offset - best->st_value, base_name, offset);
	elf_close(&elf);
}

struct mapping {
	uint64_t begin, end, file_begin;
	char path[PATH_MAX];
};

/* The mapping of a file (`path` not NULL) or the one that contains an address. */
static bool find_mapping(pid_t pid, uint64_t address, const char *path, struct mapping *ret)
{
	char file_name[48], line[PATH_MAX + 128];
	struct mapping first = {0};
	bool found = false;
	FILE *file;

	snprintf(file_name, sizeof(file_name), "/proc/%d/maps", (int)pid);
	file = fopen(file_name, "re");
	while (file && !found && fgets(line, sizeof(line), file)) {
		*ret = (struct mapping){0};
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %*s %*s %*s %4095s", &ret->begin, &ret->end, ret->path) <
			2)
			continue;
		if (strcmp(first.path, ret->path) != 0)
			first = *ret;
		ret->file_begin = first.begin;
		found = path ? strcmp(path, ret->path) == 0 : address >= ret->begin && address < ret->end;
	}
	if (file)
		fclose(file);
	return found;
}

void symbols_describe(pid_t pid, uint64_t address, char *ret, size_t size)
{
	struct mapping mapping;

	if (find_mapping(pid, address, NULL, &mapping))
		name_offset(mapping.path, address - mapping.file_begin, ret, size);
	else
		snprintf(ret, size, "%#" PRIx64, address);
}

uint64_t symbols_base(pid_t pid, const char *path)
{
	struct mapping mapping;

	return find_mapping(pid, 0, path, &mapping) ? mapping.file_begin : 0;
}
