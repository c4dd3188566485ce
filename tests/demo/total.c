// SPDX-License-Identifier: MIT
/*
 * demo-total: add up what the workers left
 *
 *     demo-total
 *
 * Prints one figure per line. Fails where a folder has no result.
 */
#include "tree.h"
#include "words.h"

#include <stdio.h>
#include <string.h>

/* Add the identifiers of one folder, each ended by a newline, to the set. */
static void add_identifiers(pyheap *heap, pyheap_ref ref, struct string_set *set)
{
	const char *p = must_data(heap, ref, "identifiers");
	const char *end = p + pyheap_size(heap, ref);

	while (p < end) {
		const char *newline = memchr(p, '\n', (size_t)(end - p));
		if (!newline)
			die("a list of identifiers is cut short");
		if (!string_set_add(set, p, (size_t)(newline - p)))
			die("out of memory");
		p = newline + 1;
	}
}

int main(void)
{
	struct string_set identifiers = {0};
	struct count sum = {0};
	pyheap_ref root;
	pyheap *heap;

	must(pyheap_open(&heap, NULL), "open");
	must(pyheap_name_get(heap, DEMO_ROOT, &root), DEMO_ROOT);
	const struct tree *tree = must_data(heap, root, "tree");
	const pyheap_ref *results = must_data(heap, tree->results, "results");

	for (uint64_t i = 0; i < tree->n_folders; i++) {
		if (!results[i])
			die("folder %ju was not counted", (uintmax_t)i);
		const struct count *count = must_data(heap, results[i], "count");
		sum.n_files += count->n_files;
		sum.n_bytes += count->n_bytes;
		sum.n_lines += count->n_lines;
		sum.n_words += count->n_words;
		add_identifiers(heap, count->identifiers, &identifiers);
	}
	printf("files %ju\nbytes %ju\nlines %ju\nwords %ju\nidentifiers %zu\n", (uintmax_t)sum.n_files,
		(uintmax_t)sum.n_bytes, (uintmax_t)sum.n_lines, (uintmax_t)sum.n_words, identifiers.n);

	string_set_deinit(&identifiers);
	pyheap_close(heap);
	return 0;
}
