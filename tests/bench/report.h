/* SPDX-License-Identifier: MIT */
#pragma once

/* What was measured, for people (a table) and for programs (JSON). See report.c. */

#include "harness.h"

#include <stdio.h>

struct report {
	const struct row *rows;
	size_t n_rows;
	const struct peer *const *peers; /* all of them, those left out too */
	size_t n_peers;
	struct harness_options options;
};

void report_table(FILE *file, const struct report *report);

/* Write it to a file that is replaced as a whole. Negative errno, with nothing left behind. */
int report_json(const char *path, const struct report *report);
