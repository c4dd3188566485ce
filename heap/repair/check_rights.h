/* SPDX-License-Identifier: MIT */
#pragma once

/* Rights to objects, counted anew. See check_rights.c. */

#include "heap/repair/check_report.h"

/* Count all rights and compare them with the headers; with a mender, mend them. */
void check_rights(struct check *check);
