/* SPDX-License-Identifier: MIT */
#pragma once

/* Rights to objects, counted anew. See check_rights.c. */

#include "heap/repair/check_report.h"

/* Count the rights of holds, slots, queue places and names, and compare them with the headers' counts; mend where
 * asked. */
void check_rights(struct check *check);
