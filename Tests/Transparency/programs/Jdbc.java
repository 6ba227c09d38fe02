import java.io.StringReader;
import java.sql.Array;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Types;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Properties;
import java.util.TreeMap;

import org.postgresql.PGConnection;
import org.postgresql.PGStatement;
import org.postgresql.copy.CopyManager;

/** What pgjdbc does that other drivers don't. Prints one line a test: its name, a tab, and what came out. */
public class Jdbc {
    interface Body {
        Object run(Connection connection) throws Exception;
    }

    static String url;

    static Connection connect(String... properties) throws SQLException {
        Properties all = new Properties();
        all.setProperty("user", System.getenv("PGUSER"));
        all.setProperty("password", System.getenv("PGPASSWORD"));
        for (int i = 0; i < properties.length; i += 2) all.setProperty(properties[i], properties[i + 1]);
        return DriverManager.getConnection(url, all);
    }

    static void test(String name, Body body, String... properties) {
        String outcome;
        try (Connection connection = connect(properties)) {
            outcome = String.valueOf(body.run(connection));
        } catch (SQLException error) {
            outcome = error.getSQLState() + " " + error.getMessage();
        } catch (Exception error) {
            outcome = error.toString();
        }
        System.out.println(name + "\t" + outcome.replace("\n", " "));
    }

    static List<String> rows(ResultSet result) throws SQLException {
        List<String> rows = new ArrayList<>();
        int columns = result.getMetaData().getColumnCount();
        while (result.next()) {
            StringBuilder row = new StringBuilder();
            for (int i = 1; i <= columns; i++) row.append(i > 1 ? "|" : "").append(result.getString(i));
            rows.add(row.toString());
        }
        return rows;
    }

    static List<String> ask(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet result = statement.executeQuery(sql)) {
            return rows(result);
        }
    }

    static void run(Connection connection, String... statements) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            for (String sql : statements) statement.execute(sql);
        }
    }

    static String state(Body body, Connection connection) throws Exception {
        try {
            return String.valueOf(body.run(connection));
        } catch (BatchUpdateException error) {
            return error.getSQLState() + Arrays.toString(error.getUpdateCounts());
        } catch (SQLException error) {
            return error.getSQLState();
        }
    }

    static Object serverPrepare(Connection connection) throws Exception {
        List<String> seen = new ArrayList<>();
        try (PreparedStatement select = connection.prepareStatement("SELECT n, s FROM jdbc WHERE n = ?")) {
            for (int i = 0; i < 12; i++) {
                select.setInt(1, i);
                seen.add(rows(select.executeQuery()) + (select.unwrap(PGStatement.class).isUseServerPrepare() ? "!" : ""));
            }
        }
        return seen;
    }

    static Object cursor(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        long sum = 0;
        try (PreparedStatement select = connection.prepareStatement("SELECT n FROM generate_series(1, 2000) n")) {
            select.setFetchSize(50);
            for (int round = 0; round < 7; round++) {
                try (ResultSet result = select.executeQuery()) {
                    while (result.next()) {
                        sum += result.getInt(1);
                        // Another statement between two parts of the first.
                        if (result.getRow() % 500 == 0) sum += Long.parseLong(ask(connection, "SELECT 1").get(0));
                    }
                }
            }
        }
        connection.commit();
        return sum;
    }

    static Object batch(Connection connection) throws Exception {
        List<Object> seen = new ArrayList<>();
        for (boolean automatic : new boolean[] {true, false}) {
            connection.setAutoCommit(automatic);
            try (PreparedStatement insert =
                    connection.prepareStatement("INSERT INTO jdbc_batch VALUES (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
                for (int i = 0; i < 300; i++) {
                    insert.setInt(1, i);
                    insert.setString(2, "text " + i);
                    insert.addBatch();
                }
                seen.add(Arrays.stream(insert.executeBatch()).sum());
                ResultSet keys = insert.getGeneratedKeys();
                seen.add(rows(keys).size());
                insert.setInt(1, 1);
                insert.setString(2, "good");
                insert.addBatch();
                insert.setInt(1, 1);
                insert.setString(2, null);
                insert.addBatch();
                seen.add(state(c -> insert.executeBatch().length, connection));
            }
            if (!automatic) connection.rollback();
            connection.setAutoCommit(true);
            seen.add(ask(connection, "SELECT count(*) FROM jdbc_batch"));
        }
        run(connection, "TRUNCATE jdbc_batch");
        return seen;
    }

    static Object copy(Connection connection) throws Exception {
        CopyManager manager = connection.unwrap(PGConnection.class).getCopyAPI();
        run(connection, "CREATE TEMP TABLE copied (n int, s text)");
        StringBuilder data = new StringBuilder();
        for (int i = 0; i < 5000; i++) data.append(i).append("\trow ").append(i).append('\n');
        long in = manager.copyIn("COPY copied FROM STDIN", new StringReader(data.toString()));
        java.io.StringWriter writer = new java.io.StringWriter();
        long out = manager.copyOut("COPY (SELECT * FROM copied ORDER BY n) TO STDOUT", writer);
        String bad = state(c -> manager.copyIn("COPY copied FROM STDIN", new StringReader("x\ty\n")), connection);
        org.postgresql.copy.CopyIn cancelled = manager.copyIn("COPY copied FROM STDIN");
        cancelled.writeToCopy("1\tone\n".getBytes(), 0, 6);
        cancelled.cancelCopy();
        return in + " " + out + " " + writer.toString().equals(data.toString()) + " " + bad + " "
                + ask(connection, "SELECT count(*) FROM copied");
    }

    static Object cancel(Connection connection) throws Exception {
        List<String> seen = new ArrayList<>();
        for (int i = 0; i < 3; i++) {
            try (Statement statement = connection.createStatement()) {
                // Until it hits: before the statement has begun a request means nothing.
                boolean[] done = new boolean[1];
                Thread canceller = new Thread(() -> {
                    try {
                        while (!done[0]) {
                            Thread.sleep(50);
                            statement.cancel();
                        }
                    } catch (Exception error) {
                        throw new RuntimeException(error);
                    }
                });
                canceller.start();
                seen.add(state(c -> statement.execute("SELECT pg_sleep(60)"), connection));
                done[0] = true;
                canceller.join();
            }
            seen.addAll(ask(connection, "SELECT 42"));
        }
        try (Statement statement = connection.createStatement()) {
            statement.setQueryTimeout(1);
            seen.add(state(c -> statement.execute("SELECT pg_sleep(60)"), connection));
        }
        seen.addAll(ask(connection, "SELECT 42"));
        return seen;
    }

    static Object listen(Connection connection) throws Exception {
        run(connection, "LISTEN jdbc");
        try (Connection other = connect()) {
            for (int i = 0; i < 3; i++) run(other, "NOTIFY jdbc, '" + i + "'");
        }
        List<String> seen = new ArrayList<>();
        while (seen.size() < 3)
            for (var notification : connection.unwrap(PGConnection.class).getNotifications(10000))
                seen.add(notification.getName() + " " + notification.getParameter());
        return seen;
    }

    static Object readOnly(Connection connection) throws Exception {
        List<Object> seen = new ArrayList<>();
        for (boolean automatic : new boolean[] {true, false}) {
            connection.setAutoCommit(automatic);
            for (boolean readOnly : new boolean[] {true, false}) {
                connection.setReadOnly(readOnly);
                seen.add(connection.isReadOnly());
                seen.add(ask(connection, "SELECT count(*) FROM jdbc"));
                seen.add(ask(connection, "SHOW transaction_read_only"));
                if (!automatic) connection.rollback();
                seen.add(state(c -> { run(c, "UPDATE jdbc SET n = n WHERE n = 1"); return "written"; }, connection));
                if (!automatic) connection.rollback();
            }
        }
        return seen;
    }

    static Object autosave(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        List<Object> seen = new ArrayList<>();
        seen.add(ask(connection, "SELECT n FROM jdbc WHERE n = 1"));
        seen.add(state(c -> ask(c, "SELECT 1/0"), connection));
        seen.add(state(c -> ask(c, "SELECT n FROM jdbc WHERE n = 2"), connection));
        connection.commit();
        return seen;
    }

    static Object changedTable(Connection connection) throws Exception {
        run(connection, "DROP TABLE IF EXISTS jdbc_changing", "CREATE TABLE jdbc_changing AS SELECT 1 AS n");
        List<Object> seen = new ArrayList<>();
        for (int round = 0; round < 3; round++) {
            for (int i = 0; i < 8; i++)
                try (PreparedStatement select = connection.prepareStatement("SELECT * FROM jdbc_changing")) {
                    seen.add(state(c -> rows(select.executeQuery()), connection));
                }
            run(connection, "ALTER TABLE jdbc_changing ADD COLUMN c" + round + " int");
        }
        return seen;
    }

    static Object transactions(Connection connection) throws Exception {
        List<Object> seen = new ArrayList<>();
        for (int level : new int[] {Connection.TRANSACTION_READ_COMMITTED, Connection.TRANSACTION_REPEATABLE_READ,
                Connection.TRANSACTION_SERIALIZABLE}) {
            connection.setTransactionIsolation(level);
            seen.add(connection.getTransactionIsolation() == level);
            connection.setAutoCommit(false);
            seen.add(ask(connection, "SHOW transaction_isolation"));
            run(connection, "INSERT INTO jdbc VALUES (100, 'x')");
            Savepoint savepoint = connection.setSavepoint("a");
            run(connection, "INSERT INTO jdbc VALUES (101, 'x')");
            connection.rollback(savepoint);
            seen.add(ask(connection, "SELECT n FROM jdbc WHERE n >= 100"));
            connection.rollback();
            connection.setAutoCommit(true);
        }
        return seen;
    }

    static Object types(Connection connection) throws Exception {
        List<Object> seen = new ArrayList<>();
        try (PreparedStatement select = connection.prepareStatement(
                "SELECT ?::int, ?::bigint, ?::text, ?::bool, ?::float8, ?::numeric, ?::bytea, ?::timestamp, ?::int[], ?::uuid")) {
            for (int i = 0; i < 8; i++) {
                select.setInt(1, i);
                select.setLong(2, Long.MAX_VALUE - i);
                select.setString(3, "ü€" + "x".repeat(i * 10));
                select.setBoolean(4, i % 2 == 0);
                select.setDouble(5, 0.1 * i);
                select.setBigDecimal(6, new java.math.BigDecimal("12345678901234567890.0123456789"));
                select.setBytes(7, new byte[] {0, 1, (byte) 255});
                select.setTimestamp(8, java.sql.Timestamp.valueOf("2024-02-29 12:34:56.789"));
                Array array = connection.createArrayOf("int4", new Integer[] {1, null, i});
                select.setArray(9, array);
                if (i == 5) select.setNull(10, Types.OTHER); else select.setObject(10, new java.util.UUID(7, i));
                seen.add(rows(select.executeQuery()));
            }
        }
        return seen;
    }

    static Object metadata(Connection connection) throws Exception {
        var metadata = connection.getMetaData();
        List<Object> seen = new ArrayList<>();
        seen.add(metadata.getDatabaseProductVersion());
        seen.add(rows(metadata.getTables(null, "public", "jdbc%", null)));
        seen.add(rows(metadata.getColumns(null, "public", "jdbc%", null)));
        seen.add(rows(metadata.getPrimaryKeys(null, "public", "jdbc")));
        seen.add(new TreeMap<>(connection.unwrap(PGConnection.class).getParameterStatuses()));
        return seen;
    }

    static Object resultSets(Connection connection) throws Exception {
        List<Object> seen = new ArrayList<>();
        try (Statement statement = connection.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
            ResultSet result = statement.executeQuery("SELECT n, s FROM jdbc ORDER BY n");
            result.absolute(3);
            result.updateString(2, "changed");
            result.updateRow();
            result.moveToInsertRow();
            result.updateInt(1, 500);
            result.updateString(2, "inserted");
            result.insertRow();
            seen.add(ask(connection, "SELECT n, s FROM jdbc WHERE s IN ('changed', 'inserted') ORDER BY n"));
        }
        run(connection, "DELETE FROM jdbc WHERE n = 500", "UPDATE jdbc SET s = 's' || n");
        try (Statement statement = connection.createStatement()) {
            boolean more = statement.execute("SELECT 1; UPDATE jdbc SET n = n WHERE n < 4; SELECT 2, 3");
            while (true) {
                seen.add(more ? rows(statement.getResultSet()) : statement.getUpdateCount());
                more = statement.getMoreResults();
                if (!more && statement.getUpdateCount() == -1) break;
            }
        }
        return seen;
    }

    static Object schema(Connection connection) throws Exception {
        List<Object> seen = new ArrayList<>();
        run(connection, "CREATE SCHEMA IF NOT EXISTS elsewhere");
        connection.setSchema("elsewhere");
        seen.add(connection.getSchema());
        connection.setClientInfo("ApplicationName", "jdbc's");
        seen.add(ask(connection, "SHOW application_name"));
        seen.add(state(c -> ask(c, "SELECT count(*) FROM jdbc"), connection));
        connection.setSchema("public");
        seen.add(ask(connection, "SELECT count(*) FROM jdbc"));
        seen.add(connection.isValid(5));
        connection.setNetworkTimeout(Runnable::run, 30000);
        seen.add(ask(connection, "SELECT 1"));
        return seen;
    }

    static Object largeObject(Connection connection) throws Exception {
        connection.setAutoCommit(false);
        var manager = connection.unwrap(PGConnection.class).getLargeObjectAPI();
        long identifier = manager.createLO();
        var object = manager.open(identifier);
        object.write(new byte[200_000]);
        object.seek(100_000);
        int length = object.read(500_000).length;
        object.close();
        manager.delete(identifier);
        connection.commit();
        return length;
    }

    public static void main(String[] arguments) throws Exception {
        url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE")
                + "?sslmode=prefer";
        try (Connection connection = connect()) {
            run(connection, "CREATE TABLE jdbc (n int PRIMARY KEY, s text)",
                    "INSERT INTO jdbc SELECT n, 's' || n FROM generate_series(1, 20) n",
                    "CREATE TABLE jdbc_batch (n int, s text NOT NULL, i serial)");
        }
        for (String mode : new String[] {"extended", "simple", "extendedForPrepared", "extendedCacheEverything"}) {
            String[] way = {"preferQueryMode", mode};
            test("server prepare " + mode, Jdbc::serverPrepare, way);
            test("cursor " + mode, Jdbc::cursor, way);
            test("batch " + mode, Jdbc::batch, way);
            test("copy " + mode, Jdbc::copy, way);
            test("cancel " + mode, Jdbc::cancel, way);
            test("listen " + mode, Jdbc::listen, way);
            test("read only " + mode, Jdbc::readOnly, way);
            test("transactions " + mode, Jdbc::transactions, way);
            test("types " + mode, Jdbc::types, way);
            test("metadata " + mode, Jdbc::metadata, way);
            test("result sets " + mode, Jdbc::resultSets, way);
            test("schema " + mode, Jdbc::schema, way);
            test("large object " + mode, Jdbc::largeObject, way);
            test("changed table " + mode, Jdbc::changedTable, way);
        }
        for (String threshold : new String[] {"1", "-1", "0"})
            test("server prepare, threshold " + threshold, Jdbc::serverPrepare, "prepareThreshold", threshold);
        for (String autosave : new String[] {"always", "conservative", "never"}) {
            test("autosave " + autosave, Jdbc::autosave, "autosave", autosave);
            test("changed table, autosave " + autosave, Jdbc::changedTable, "autosave", autosave);
        }
        test("batch, rewritten", Jdbc::batch, "reWriteBatchedInserts", "true");
        test("cursor, adaptive", Jdbc::cursor, "adaptiveFetch", "true", "defaultRowFetchSize", "10", "maxResultBuffer", "1M");
        test("read only, always", Jdbc::readOnly, "readOnly", "true", "readOnlyMode", "always");
        test("read only, ignored", Jdbc::readOnly, "readOnly", "true", "readOnlyMode", "ignore");
        test("few statements kept", Jdbc::serverPrepare, "preparedStatementCacheQueries", "1", "prepareThreshold", "1");
        for (String type : new String[] {"primary", "any", "preferSecondary", "secondary"})
            test("targetServerType " + type, c -> ask(c, "SELECT 1"), "targetServerType", type, "loginTimeout", "10");
        test("options", c -> ask(c, "SHOW work_mem") + "" + ask(c, "SHOW search_path"), "options",
                "-c work_mem=5MB -c search_path=elsewhere", "assumeMinServerVersion", "15");
    }
}
