/* SPDX-License-Identifier: MIT */
#pragma once

/* The function at an address, and the address of a function: see symbols.c. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Describe an address of a process as "function+0x12 (file)". */
void symbols_describe(pid_t pid, uint64_t address, char *ret, size_t size);

/* The offset of a function from where its file is loaded; 0: the file has no such function. */
uint64_t symbols_find(const char *path, const char *name);

/* The address at which a process has a file loaded; 0: it has not. */
uint64_t symbols_base(pid_t pid, const char *path);
