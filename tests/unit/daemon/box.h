/* SPDX-License-Identifier: MIT */
#pragma once

/* A folder of its own and a log that can be read, for tests of the daemon's parts: see box.c. */

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* Run the suite that the function makes; remove whatever it leaves, also when it fails or is ended by a signal. The
 * program's status. */
int box_main(Suite *(*suite)(void));

/* A path in the folder of this program. The result is good until the fourth call after it. */
const char *box_path(const char *name);

/* The name of a heap that no other program uses; what is in /dev/shm of it is removed in the end. */
const char *box_heap_name(void);

/* From here on what this process writes to stderr can be asked for, and is not seen. */
void box_catch_log(void);
/* Does a line that was written since the last call have the text in it? */
bool box_logged(const char *text);
