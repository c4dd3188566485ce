/* SPDX-License-Identifier: MIT */
#pragma once

/* What a daemon before this one left in the heap: see adopt.c. */

#include "daemon/dsession.h"

/* Bring the heap that was adopted to where this daemon can go on. -EUCLEAN it is damaged; the log says what is wrong.
 */
int adopt_heap(struct dsessions *sessions, const char *name);
