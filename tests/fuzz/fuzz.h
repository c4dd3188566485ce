/* SPDX-License-Identifier: MIT */
#pragma once

/* What a fuzzer is, for libFuzzer and for the main() of ours: see fuzz_main.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Write the seeds into a folder: short inputs, from which the others are made. False: an error, which errno says. */
bool fuzz_write_seeds(const char *folder);

/* One of these; false: it could not be written. */
bool fuzz_write_seed(const char *folder, const char *name, const uint8_t *data, size_t size);

/* The input, which is taken piece by piece. At its end all is 0. */
struct fuzz_input {
	const uint8_t *data;
	size_t size;
};

uint64_t fuzz_take(struct fuzz_input *input, size_t n_bytes);
