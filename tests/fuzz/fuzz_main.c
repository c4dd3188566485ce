// SPDX-License-Identifier: MIT
/*
 * The main() of a fuzzer that is built without libFuzzer
 *
 *   FUZZER --seeds FOLDER             write the seeds there
 *   FUZZER FILE...                    try these inputs
 *   FUZZER [--runs N] [--seed N] FOLDER   try the inputs in the folder, then N random changes of them
 *
 * Without coverage it finds less; it repeats what libFuzzer has found, in any build, and tries the seeds in each.
 */
#include "tests/fuzz/fuzz.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define INPUT_MAX  4096U
#define INPUTS_MAX 1024U

static struct {
	uint8_t *data;
	size_t size;
} inputs[INPUTS_MAX];
static size_t n_inputs;

static uint64_t random_state = 1;

static uint64_t random_below(uint64_t n)
{
	uint64_t x;

	random_state += UINT64_C(0x9e3779b97f4a7c15);
	x = random_state;
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (x ^ (x >> 31)) % n;
}

static bool read_input(const char *path)
{
	FILE *file = fopen(path, "re");
	uint8_t *data = malloc(INPUT_MAX);

	if (!file || !data || n_inputs == INPUTS_MAX)
		return false;
	inputs[n_inputs].data = data;
	inputs[n_inputs++].size = fread(data, 1, INPUT_MAX, file);
	fclose(file);
	return true;
}

static bool read_inputs(const char *path)
{
	struct dirent *entry;
	struct stat st;
	DIR *folder;
	bool is_good = true;

	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return read_input(path);
	folder = opendir(path);
	while (folder && is_good && (entry = readdir(folder))) {
		char one[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(one, sizeof(one), "%s/%s", path, entry->d_name);
		is_good = read_input(one);
	}
	if (folder)
		closedir(folder);
	return folder && is_good;
}

/* Another input, of one or two: bytes changed, left out, put in, taken from another. */
static size_t vary(uint8_t *data)
{
	size_t i = random_below(n_inputs), size = inputs[i].size, at, n;

	memcpy(data, inputs[i].data, size);
	for (uint64_t changes = 1 + random_below(12); changes > 0; changes--) {
		at = size ? random_below(size) : 0;
		n = 1 + random_below(16);
		switch (random_below(5)) {
		case 0:
			if (size)
				data[at] ^= (uint8_t)(1U << random_below(8));
			break;
		case 1:
			if (size)
				data[at] = (uint8_t)random_below(256);
			break;
		case 2:
			if (n > size - at)
				break;
			memmove(data + at, data + at + n, size - at - n);
			size -= n;
			break;
		case 3:
			if (size + n > INPUT_MAX)
				break;
			memmove(data + at + n, data + at, size - at);
			for (size_t k = 0; k < n; k++)
				data[at + k] = (uint8_t)random_below(256);
			size += n;
			break;
		default:
			i = random_below(n_inputs);
			n = inputs[i].size < INPUT_MAX - at ? inputs[i].size : INPUT_MAX - at;
			memcpy(data + at, inputs[i].data, n);
			size = at + n > size ? at + n : size;
			break;
		}
	}
	return size;
}

int main(int argc, char **argv)
{
	uint64_t n_runs = 0;
	uint8_t data[INPUT_MAX];

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc)
			return fuzz_write_seeds(argv[i + 1]) ? 0 : 1;
		if (strcmp(argv[i], "--runs") == 0 && i + 1 < argc)
			n_runs = strtoull(argv[++i], NULL, 0);
		else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
			random_state = strtoull(argv[++i], NULL, 0);
		else if (!read_inputs(argv[i])) {
			perror(argv[i]);
			return 2;
		}
	}
	for (size_t i = 0; i < n_inputs; i++)
		LLVMFuzzerTestOneInput(inputs[i].data, inputs[i].size);
	for (uint64_t i = 0; i < n_runs && n_inputs; i++) {
		size_t size = vary(data);
		uint8_t *exact = malloc(size ? size : 1); /* so that a sanitizer sees what reads beyond the end */

		memcpy(exact, data, size);
		LLVMFuzzerTestOneInput(exact, size);
		free(exact);
	}
	printf("%zu inputs and %llu changes of them\n", n_inputs, (unsigned long long)n_runs);
	for (size_t i = 0; i < n_inputs; i++)
		free(inputs[i].data);
	return 0;
}
