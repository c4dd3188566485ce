/* SPDX-License-Identifier: MIT */
#pragma once

/* Names of addresses, and addresses of names: see symbols.c. */

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* What lies at `address` in a process, as "function+0x12 (file)". */
void symbols_describe(pid_t pid, uint64_t address, char *ret, size_t size);

/* Where a function of an ELF file lies, relative to where the file is loaded; 0: there is none. */
uint64_t symbols_find(const char *path, const char *name);

/* Where a process has a file loaded; 0: it has not. */
uint64_t symbols_base(pid_t pid, const char *path);
