// SPDX-License-Identifier: MIT
/*
 * The demo's types, and how its programs fail
 *
 * The same spec gives the same type in every process, so each program registers all of them at its start and none
 * has to be first.
 */
#include "tree.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define N_ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))

/* A struct type whose slots are the first n_slots members. */
static int register_type(pyheap *heap, const char *name, size_t size, size_t n_slots, pyheap_type *ret)
{
	static const size_t slots[] = {0, 8, 16};
	pyheap_type_spec spec = {.name = name, .size = size, .n_slots = n_slots, .slots = slots};

	return pyheap_type_register(heap, &spec, ret);
}

int tree_types_register(pyheap *heap, struct tree_types *ret)
{
	struct tree_types types = {0};
	const struct {
		const char *name;
		size_t size, n_slots;
		pyheap_type *ret;
	} all[] = {
		{"demo.tree", sizeof(struct tree), 3, &types.tree},
		{"demo.folder", sizeof(struct folder), 2, &types.folder},
		{"demo.file", sizeof(struct file), 2, &types.file},
		{"demo.claim", sizeof(struct claim), 1, &types.claim},
		{"demo.count", sizeof(struct count), 1, &types.count},
	};

	for (size_t i = 0; i < N_ELEMENTS(all); i++) {
		int r = register_type(heap, all[i].name, all[i].size, all[i].n_slots, all[i].ret);
		if (r < 0)
			return r;
	}
	*ret = types;
	return 0;
}

void die(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "%s: ", program_invocation_short_name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(EXIT_FAILURE);
}

int must(int r, const char *what)
{
	if (r < 0)
		die("%s: %s", what, pyheap_strerror(r));
	return r;
}

void *must_data(pyheap *heap, pyheap_ref ref, const char *what)
{
	void *data = pyheap_data(heap, ref);

	if (!data)
		die("%s: %s", what, pyheap_strerror(-errno));
	return data;
}
