/*
 * A program on libpq: everything asynchronous, pipelines, copying, cancelling, rows one by one, large objects, notices.
 *
 * It connects as the environment says, prints what it does, and ends with 0 when all of it was right.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static PGconn *connection;
static int line;
static char notices[1000];

#define CHECK(condition) (line = __LINE__, (condition) ? (void)0 : fail(#condition))

static void fail(const char *condition)
{
	fprintf(stderr, "line %d: not %s\n%s\n", line, condition, connection ? PQerrorMessage(connection) : "");
	exit(1);
}

static void remember_notice(void *unused, const PGresult *result)
{
	(void)unused;
	snprintf(notices + strlen(notices), sizeof notices - strlen(notices), "%s;",
			 PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY));
}

static void wait_for(short events)
{
	struct pollfd waiting = {.fd = PQsocket(connection), .events = events};

	while (poll(&waiting, 1, 120000) < 0 && errno == EINTR)
		;
	CHECK(waiting.revents != 0);
}

/* Connects without ever blocking. */
static void connect_asynchronously(void)
{
	PostgresPollingStatusType next = PGRES_POLLING_WRITING;

	connection = PQconnectStart("application_name=asynchronous");
	CHECK(connection && PQstatus(connection) != CONNECTION_BAD);
	while (next != PGRES_POLLING_OK)
	{
		CHECK(next != PGRES_POLLING_FAILED);
		wait_for(next == PGRES_POLLING_READING ? POLLIN : POLLOUT);
		next = PQconnectPoll(connection);
	}
	CHECK(PQsetnonblocking(connection, 1) == 0);
	PQsetNoticeReceiver(connection, remember_notice, NULL);
	CHECK(strcmp(PQparameterStatus(connection, "application_name"), "asynchronous") == 0);
	CHECK(PQbackendPID(connection) != 0);
}

static void flush(void)
{
	int left;

	while ((left = PQflush(connection)) == 1)
	{
		wait_for(POLLIN | POLLOUT);
		CHECK(PQconsumeInput(connection) == 1);
	}
	CHECK(left == 0);
}

static PGresult *next_result(void)
{
	flush();
	while (PQisBusy(connection))
	{
		wait_for(POLLIN);
		CHECK(PQconsumeInput(connection) == 1);
	}
	return PQgetResult(connection);
}

static void expect(ExecStatusType status)
{
	PGresult *result = next_result();

	CHECK(PQresultStatus(result) == status);
	PQclear(result);
}

static void expect_value(const char *value)
{
	PGresult *result = next_result();

	CHECK(PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1);
	CHECK(strcmp(PQgetvalue(result, 0, 0), value) == 0);
	PQclear(result);
}

static void expect_end(void) { CHECK(next_result() == NULL); }

static void ask(const char *sql, const char *value)
{
	CHECK(PQsendQuery(connection, sql));
	if (value)
		expect_value(value);
	else
		expect(PGRES_COMMAND_OK);
	expect_end();
}

static void several_results_and_errors(void)
{
	CHECK(PQsendQuery(connection, "SELECT 1; SELECT 2; SELECT 1/0; SELECT 3"));
	expect_value("1");
	expect_value("2");
	PGresult *result = next_result();
	CHECK(PQresultStatus(result) == PGRES_FATAL_ERROR);
	CHECK(strcmp(PQresultErrorField(result, PG_DIAG_SQLSTATE), "22012") == 0);
	PQclear(result);
	expect_end();
	ask("SELECT 4", "4");
}

static void rows_one_by_one(void)
{
	int rows = 0;
	PGresult *result;

	CHECK(PQsendQuery(connection, "SELECT n, repeat('x', 100) FROM generate_series(1, 100000) n"));
	CHECK(PQsetSingleRowMode(connection));
	while (PQresultStatus(result = next_result()) == PGRES_SINGLE_TUPLE)
	{
		CHECK(atoi(PQgetvalue(result, 0, 0)) == ++rows);
		PQclear(result);
	}
	CHECK(PQresultStatus(result) == PGRES_TUPLES_OK && rows == 100000);
	PQclear(result);
	expect_end();
}

#ifdef LIBPQ_HAS_PIPELINING
static void a_pipeline(void)
{
	char number[20];
	const char *values[] = {number};

	ask("CREATE TABLE piped (n int PRIMARY KEY)", NULL);
	CHECK(PQenterPipelineMode(connection));
	CHECK(PQsendPrepare(connection, "insertion", "INSERT INTO piped VALUES ($1) RETURNING n", 0, NULL));
	for (int n = 0; n < 500; n++)
	{
		snprintf(number, sizeof number, "%d", n);
		CHECK(PQsendQueryPrepared(connection, "insertion", 1, values, NULL, NULL, 0));
		if (n % 100 == 50)
			CHECK(PQpipelineSync(connection));
		/* Answers in between, of a pipeline that is still open. */
		if (n % 100 == 70)
			CHECK(PQsendFlushRequest(connection));
	}
	/* Fails, and with it what follows up to the synchronisation; what stands before it since the last one, too. */
	CHECK(PQsendQueryPrepared(connection, "insertion", 1, values, NULL, NULL, 0));
	CHECK(PQsendQueryPrepared(connection, "insertion", 1, values, NULL, NULL, 0));
	CHECK(PQpipelineSync(connection));
	CHECK(PQsendQueryParams(connection, "SELECT count(*) FROM piped", 0, NULL, NULL, NULL, NULL, 0));
	CHECK(PQpipelineSync(connection));

	expect(PGRES_COMMAND_OK);
	expect_end();
	for (int n = 0; n < 500; n++)
	{
		snprintf(number, sizeof number, "%d", n);
		expect_value(number);
		expect_end();
		if (n % 100 == 50)
			expect(PGRES_PIPELINE_SYNC);
	}
	PGresult *result = next_result();
	CHECK(PQresultStatus(result) == PGRES_FATAL_ERROR);
	CHECK(strcmp(PQresultErrorField(result, PG_DIAG_SQLSTATE), "23505") == 0);
	PQclear(result);
	expect_end();
	expect(PGRES_PIPELINE_ABORTED);
	expect_end();
	expect(PGRES_PIPELINE_SYNC);
	expect_value("451");
	expect_end();
	expect(PGRES_PIPELINE_SYNC);
	CHECK(PQexitPipelineMode(connection));
	ask("DROP TABLE piped", NULL);
}
#endif

static void copying(void)
{
	char text[100], *row;
	int sent, rows = 0, length;

	ask("CREATE TABLE copied (n int, s text)", NULL);
	CHECK(PQsendQuery(connection, "COPY copied FROM STDIN"));
	expect(PGRES_COPY_IN);
	for (int n = 0; n < 200000; n++)
	{
		length = snprintf(text, sizeof text, "%d\tsome text\n", n);
		while ((sent = PQputCopyData(connection, text, length)) == 0)
			flush();
		CHECK(sent == 1);
	}
	while ((sent = PQputCopyEnd(connection, NULL)) == 0)
		flush();
	CHECK(sent == 1);
	expect(PGRES_COMMAND_OK);
	expect_end();

	CHECK(PQsendQuery(connection, "COPY copied TO STDOUT"));
	expect(PGRES_COPY_OUT);
	while ((length = PQgetCopyData(connection, &row, 1)) >= 0)
	{
		if (length == 0)
		{
			wait_for(POLLIN);
			CHECK(PQconsumeInput(connection));
			continue;
		}
		rows++;
		PQfreemem(row);
	}
	CHECK(length == -1 && rows == 200000);
	expect(PGRES_COMMAND_OK);
	expect_end();

	CHECK(PQsendQuery(connection, "COPY copied FROM STDIN"));
	expect(PGRES_COPY_IN);
	CHECK(PQputCopyData(connection, "1\tx\n", 4) == 1 && PQputCopyEnd(connection, "changed its mind") == 1);
	PGresult *result = next_result();
	CHECK(PQresultStatus(result) == PGRES_FATAL_ERROR && strstr(PQresultErrorMessage(result), "changed its mind"));
	PQclear(result);
	expect_end();
	ask("SELECT count(*) FROM copied", "200000");

	/* By the extended protocol, where libpq sends Sync before and after the data. */
	static char statement[100100] = "COPY copied FROM STDIN";
	for (int round = 0; round < 4; round++)
	{
		/* At last longer than any buffer. */
		if (round == 2)
			memset(statement + strlen(statement), ' ', 100000);
		CHECK(PQsendQueryParams(connection, statement, 0, NULL, NULL, NULL, NULL, 0));
		expect(PGRES_COPY_IN);
		CHECK(PQputCopyData(connection, "1\tx\n2\ty\n", 8) == 1 && PQputCopyEnd(connection, NULL) == 1);
		expect(PGRES_COMMAND_OK);
		expect_end();
		ask("SELECT length(repeat('z', 300000))", "300000");
	}
	ask("SELECT count(*) FROM copied", "200008");
	ask("DROP TABLE copied", NULL);
}

static void cancelling(void)
{
	char problem[256];
	PGcancel *cancel = PQgetCancel(connection);

	for (int round = 0; round < 5; round++)
	{
		CHECK(PQsendQuery(connection, "SELECT pg_sleep(600)"));
		flush();
		/* Until it hits: at first the statement may not have begun. */
		do
		{
			CHECK(PQcancel(cancel, problem, sizeof problem));
			CHECK(PQconsumeInput(connection));
		} while (PQisBusy(connection));
		PGresult *result = next_result();
		CHECK(strcmp(PQresultErrorField(result, PG_DIAG_SQLSTATE), "57014") == 0);
		PQclear(result);
		expect_end();
		ask("SELECT 1", "1");
	}
	PQfreeCancel(cancel);
}

static void large_objects(void)
{
	char written[100000], back[sizeof written];

	/* These functions block. */
	CHECK(PQsetnonblocking(connection, 0) == 0);
	for (size_t n = 0; n < sizeof written; n++)
		written[n] = (char)(n * 7);
	PQclear(PQexec(connection, "BEGIN"));
	Oid object = lo_create(connection, 0);
	CHECK(object != InvalidOid);
	int descriptor = lo_open(connection, object, 0x60000);
	CHECK(descriptor >= 0);
	CHECK(lo_write(connection, descriptor, written, sizeof written) == (int)sizeof written);
	CHECK(lo_lseek64(connection, descriptor, 0, SEEK_SET) == 0);
	CHECK(lo_read(connection, descriptor, back, sizeof back) == (int)sizeof back);
	CHECK(memcmp(written, back, sizeof back) == 0);
	CHECK(lo_close(connection, descriptor) == 0);
	PQclear(PQexec(connection, "COMMIT"));
	CHECK(lo_unlink(connection, object) == 1);
	CHECK(PQsetnonblocking(connection, 1) == 0);
}

static void notices_and_descriptions(void)
{
	notices[0] = 0;
	ask("DO $$BEGIN RAISE NOTICE 'first'; RAISE WARNING 'second'; END$$", NULL);
	CHECK(strcmp(notices, "first;second;") == 0);

	CHECK(PQsendPrepare(connection, "described", "SELECT $1::int + 1 AS more", 0, NULL));
	expect(PGRES_COMMAND_OK);
	expect_end();
	CHECK(PQsendDescribePrepared(connection, "described"));
	PGresult *result = next_result();
	CHECK(PQnparams(result) == 1 && PQparamtype(result, 0) == 23 && strcmp(PQfname(result, 0), "more") == 0);
	PQclear(result);
	expect_end();
	const char *values[] = {"41"};
	for (int round = 0; round < 20; round++)
	{
		CHECK(PQsendQueryPrepared(connection, "described", 1, values, NULL, NULL, 0));
		expect_value("42");
		expect_end();
	}
	ask("DEALLOCATE described", NULL);
}

int main(void)
{
	connect_asynchronously();
	several_results_and_errors();
	rows_one_by_one();
#ifdef LIBPQ_HAS_PIPELINING
	a_pipeline();
#endif
	copying();
	cancelling();
	large_objects();
	notices_and_descriptions();
	PQreset(connection);
	CHECK(PQstatus(connection) == CONNECTION_OK);
	PQfinish(connection);
	puts("all of it was right");
	return 0;
}
