/* SPDX-License-Identifier: MIT */
#pragma once

/* What pyheapd says, a line an event: see log.c. */

/* Look at stderr once: is it the journal's? Without it lines are plain. */
void log_init(void);

/* A line, without its newline. Bytes that cannot be printed become '?'. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_notice(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
