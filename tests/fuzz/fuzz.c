// SPDX-License-Identifier: MIT
/* What fuzzers have in common: how an input is taken apart, and how a seed is written. */
#include "tests/fuzz/fuzz.h"

#include <stdbool.h>
#include <stdio.h>

uint64_t fuzz_take(struct fuzz_input *input, size_t n_bytes)
{
	uint64_t value = 0;

	for (size_t i = 0; i < n_bytes && input->size > 0; i++, input->data++, input->size--)
		value |= (uint64_t)*input->data << 8 * i;
	return value;
}

bool fuzz_write_seed(const char *folder, const char *name, const uint8_t *data, size_t size)
{
	char path[4096];
	FILE *file;
	bool is_good;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, "we");
	if (!file)
		return false;
	is_good = fwrite(data, 1, size, file) == size;
	return fclose(file) == 0 && is_good;
}
