// SPDX-License-Identifier: MIT
/*
 * The path of every public call: enter, change, and again after a grant
 *
 * A public call first asks whether the session belongs to this process and whether the heap still exists
 * (session_enter()). Then it calls one function of heap/, which is a whole change or nothing. Where that function finds
 * no free memory it returns HEAP_WANTS_ARENAS and has changed nothing: the daemon is asked for arenas, and the function
 * is called again (CALL_CHANGE()).
 *
 * A process that dies in between leaves arenas that are granted and not used; the daemon finds them in the arena table.
 */
#include "client/call.h"

#include "client/cancel.h"
#include "client/grant.h"
#include "heap/change/supply.h"
#include "heap/object/own.h"

#define GRANTS_MAX 1000U /* of one call */

bool call_grow(pyheap *heap, int *r)
{
	CANCEL_HELD_OFF;

	if (heap->n_grants == 0)
		connection_begin(&heap->connection);
	/*
	 * Other sessions may use up what was granted for this one, so one grant may not be enough. A thousand that do
	 * not help mean that the heap does not find what it was given: it is damaged.
	 */
	if (heap->n_grants++ == GRANTS_MAX) {
		heap->n_grants = 0;
		*r = -EUCLEAN;
		return false;
	}
	*r = !heap->connection.awaits_grant && supply_is_full(heap->session.heap, heap->session.n_wanted_arenas)
		     ? -ENOMEM
		     : grant_request(&heap->connection, &heap->session);
	/* Blocks of the session's own pools that others freed are memory, too. */
	if ((*r == -ENOMEM || *r == -EDQUOT) && own_collect_all(&heap->session) > 0)
		*r = 0;
	if (*r == -ECONNRESET && session_ended(heap))
		*r = -EPIPE;
	if (*r < 0)
		heap->n_grants = 0; /* the call is over */
	return *r == 0;
}
