// SPDX-License-Identifier: MIT
/*
 * pyheapctl ls, rm: the names of the heap
 *
 * ls holds no object, so that the counts it shows are those of the clients. It asks for each figure of an object by
 * itself; an object that is freed meanwhile answers -ESTALE and is left out.
 */
#include "ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct entry {
	char name[PYHEAP_NAME_MAX + 1];
	char type[PYHEAP_TYPE_NAME_MAX + 1];
	pyheap_ref ref;
	uint64_t size;
	uint64_t refcount;
};

struct entries {
	struct entry *list;
	size_t n, n_allocated;
};

static int entry_fill(struct entry *entry, pyheap *heap)
{
	pyheap_type type;
	int64_t refcount;
	ssize_t size;
	int r;

	r = pyheap_typeof(heap, entry->ref, &type);
	if (r < 0)
		return r;
	r = pyheap_type_name(heap, type, entry->type);
	if (r < 0)
		return r;
	size = pyheap_size(heap, entry->ref);
	if (size < 0)
		return (int)size;
	refcount = pyheap_refcount(heap, entry->ref);
	if (refcount < 0)
		return (int)refcount;
	entry->size = (uint64_t)size;
	entry->refcount = (uint64_t)refcount;
	return 0;
}

static int entries_reserve(struct entries *entries)
{
	size_t n = entries->n_allocated ? 2 * entries->n_allocated : 64;
	struct entry *list;

	if (entries->n < entries->n_allocated)
		return 0;
	list = reallocarray(entries->list, n, sizeof(*list));
	if (!list)
		return -ENOMEM;
	entries->list = list;
	entries->n_allocated = n;
	return 0;
}

static int entry_compare(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

/* Read all names, sorted by their bytes. The caller frees the list, also after an error. */
static int entries_read(struct entries *entries, pyheap *heap)
{
	uint64_t cursor = 0;
	int r;

	for (;;) {
		struct entry *entry;

		r = entries_reserve(entries);
		if (r < 0)
			return r;
		entry = &entries->list[entries->n];
		r = pyheap_name_next(heap, &cursor, entry->name, &entry->ref);
		if (r <= 0)
			break;
		r = entry_fill(entry, heap);
		if (r == 0)
			entries->n++;
		else if (r != -ESTALE)
			return r;
	}
	if (r == 0)
		qsort(entries->list, entries->n, sizeof(*entries->list), entry_compare);
	return r;
}

static int max_width(int width, size_t n)
{
	return n > (size_t)width ? (int)n : width;
}

static void print_padded(const char *s, int width)
{
	print_escaped(stdout, s);
	printf("%*s", width - (int)escaped_width(s), "");
}

static void print_table(const struct entries *entries)
{
	int name_width = 4, type_width = 4;

	for (size_t i = 0; i < entries->n; i++) {
		name_width = max_width(name_width, escaped_width(entries->list[i].name));
		type_width = max_width(type_width, escaped_width(entries->list[i].type));
	}
	printf("%-*s  %-*s  %18s  %10s  %s\n", name_width, "NAME", type_width, "TYPE", "SIZE", "REFCOUNT", "REF");
	for (size_t i = 0; i < entries->n; i++) {
		const struct entry *entry = &entries->list[i];
		char size[NUMBER_MAX], refcount[NUMBER_MAX];

		print_padded(entry->name, name_width + 2);
		print_padded(entry->type, type_width + 2);
		printf("%18s  %10s  %016" PRIx64 "\n", format_number(entry->size, size),
			format_number(entry->refcount, refcount), entry->ref);
	}
}

static void print_list_json(const struct entries *entries)
{
	printf("[");
	for (size_t i = 0; i < entries->n; i++) {
		const struct entry *entry = &entries->list[i];

		printf("%s\n  {\"name\": ", i ? "," : "");
		print_json(stdout, entry->name);
		printf(", \"type\": ");
		print_json(stdout, entry->type);
		printf(", \"size\": %" PRIu64 ", \"refcount\": %" PRIu64 ", \"ref\": \"%016" PRIx64 "\"}", entry->size,
			entry->refcount, entry->ref);
	}
	printf("\n]\n");
}

int run_ls(struct ctl *ctl, int n_args, char **args)
{
	struct entries entries = {0};
	int r;

	(void)n_args, (void)args;
	r = entries_read(&entries, ctl->heap);
	if (r < 0)
		r = ctl_fail_heap("cannot read the names", NULL, r);
	else if (ctl->json)
		print_list_json(&entries);
	else
		print_table(&entries);
	free(entries.list);
	return r;
}

int run_rm(struct ctl *ctl, int n_args, char **args)
{
	int code = CTL_OK;

	for (int i = 0; i < n_args; i++) {
		int r = pyheap_name_del(ctl->heap, args[i]);

		if (r < 0)
			code = ctl_fail_heap("cannot remove the name", args[i], r);
	}
	return code;
}
