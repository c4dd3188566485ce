/* SPDX-License-Identifier: MIT */
#pragma once

/* One test program as several processes side by side: see parts.c. */

#include <stddef.h>

/*
 * Call `run` in n processes, the first of them bound to that CPU, the next ones to those that follow (-1: to none).
 * Each takes its items by parts_take() until there are no more. The number of failures: what each process answers, and
 * one for each that does not end by itself.
 */
int parts_run(unsigned int n, int cpu, int (*run)(void *userdata), void *userdata);

/* The index of the next item, which no other process gets. */
size_t parts_take(void);

/* Memory that the processes share, all zero; ends the program where there is none. */
void *parts_memory(size_t size);
