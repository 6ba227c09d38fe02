/*
 * Lets isolationtester name its sessions to the server by something that holds through a pool.
 *
 * isolationtester asks the server whether a session waits for another one by the process numbers that PQbackendPID()
 * gives. Through the endpoint these are the endpoint's, and the server process behind a session may be another one in
 * every transaction. So this library, loaded before libpq, numbers the sessions itself, leaves each one's number in its
 * application_name, and sends the question to a function that finds the processes by that (suites/isolation.sh).
 * It is loaded for the direct runs too.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <libpq-fe.h>

enum { MAXIMUM = 64 };

static struct {
	PGconn *connection;
	int told;    /* what the connection was told when it began */
	int process; /* the server's process then */
	int number;  /* ours */
} sessions[MAXIMUM];
static int count;

static void *original(const char *name)
{
	void *symbol = dlsym(RTLD_NEXT, name);
	if (symbol == NULL) {
		fprintf(stderr, "libpq has no %s\n", name);
		abort();
	}
	return symbol;
}

int PQbackendPID(const PGconn *connection)
{
	int (*told)(const PGconn *) = original("PQbackendPID");
	char number[16];
	const char *parameters[] = {number};
	PGresult *result;

	for (int i = 0; i < count; i++)
		if (sessions[i].connection == connection)
			return sessions[i].number;
	if (count == MAXIMUM)
		abort();
	sessions[count].connection = (PGconn *) connection;
	sessions[count].told = told(connection);
	sessions[count].number = getpid() % 10000000 * MAXIMUM + count;
	snprintf(number, sizeof number, "#%d", sessions[count].number);
	result = PQexecParams((PGconn *) connection,
	                      "SELECT pg_backend_pid() FROM set_config('application_name', $1, false)", 1, NULL, parameters,
	                      NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK) {
		fprintf(stderr, "could not number a session: %s", PQerrorMessage(connection));
		exit(1);
	}
	sessions[count].process = atoi(PQgetvalue(result, 0, 0));
	PQclear(result);
	return sessions[count++].number;
}

PGresult *PQprepare(PGconn *connection, const char *name, const char *query, int parameters, const Oid *types)
{
	PGresult *(*prepare)(PGconn *, const char *, const char *, int, const Oid *) = original("PQprepare");
	static const char question[] = "pg_catalog.pg_isolation_test_session_is_blocked";
	const char *place = strstr(query, question);
	char changed[4096];

	if (place == NULL)
		return prepare(connection, name, query, parameters, types);
	snprintf(changed, sizeof changed, "%.*spublic.session_is_blocked%s", (int) (place - query), query,
	         place + strlen(question));
	return prepare(connection, name, changed, parameters, types);
}

PGnotify *PQnotifies(PGconn *connection)
{
	PGnotify *(*notifies)(PGconn *) = original("PQnotifies");
	PGnotify *notify = notifies(connection);

	for (int i = 0; notify != NULL && i < count; i++)
		if (notify->be_pid == sessions[i].process || notify->be_pid == sessions[i].told) {
			notify->be_pid = sessions[i].number;
			break;
		}
	return notify;
}
