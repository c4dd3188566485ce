/* SPDX-License-Identifier: MIT */
#pragma once

/* What pyheapd says, a line an event: see log.c. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <syslog.h>

/* Look at stderr once: is it the journal's, and how is it written without waiting? */
void log_init(void);

/* Leave out lines of less importance than this syslog priority (default: LOG_INFO). */
void log_set_level(int priority);

/* "error", "warning", "notice", "info" or "debug". -EINVAL. */
int log_parse_level(const char *s, int *ret);

/* Say how many lines were left out, once there is room for it. True: there is something that could not be said yet. */
bool log_catch_up(void);

/* "64 MiB", "11.7 GiB". The result is good until the fourth call after it. */
const char *log_size(uint64_t bytes);

/* A line, without its newline. Bytes that cannot be printed become '?'. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_notice(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
