extension Settings {
    /// A file that holds every key, and changes nothing.
    package static let example = """
        # The configuration of Slipstream: "slipstream up -c slipstream.yaml". Options of the command line win over it.
        # What is written here is what holds without a file. Times: 500ms, 15s, 2min, 1h, 1d, or a plain number of seconds.
        # "slipstream config check slipstream.yaml" says what is wrong with a file.

        # --- Where clients connect -------------------------------------------------------------------------------------------

        # IP addresses separated by commas, "localhost" (IPv4 and IPv6), or "*" for all.
        listen_addr: 127.0.0.1
        # 0 chooses a free one.
        listen_port: 6432
        # Directory of the Unix-domain socket; "" for none. Without this key: the cluster's directory.
        #unix_socket_dir: /run/slipstream
        # Threads that move bytes. Without this key: one per core.
        #workers: 2
        # How they move them: auto, uring (io_uring) or epoll.
        io: auto

        # --- Pools -----------------------------------------------------------------------------------------------------------

        # When a server connection goes back to its pool: at the end of a transaction, or of the session.
        pool_mode: transaction
        # Server connections of one pool, which is one node, database and user.
        default_pool_size: 50
        # Server connections that a pool keeps open once a client has used it.
        min_pool_size: 0
        # Server connections beyond its size for clients that have waited reserve_pool_timeout.
        reserve_pool_size: 0
        reserve_pool_timeout: 5s

        # --- Limits; 0 is no limit -------------------------------------------------------------------------------------------

        # Client sessions.
        max_client_conn: 10000
        # Clients that have not logged in yet, at one time.
        max_unauthenticated: 5000
        # Server connections per database, per user, and per node over all pools.
        max_db_connections: 0
        max_user_connections: 0
        max_node_connections: 0
        # Prepared statements kept on a server connection.
        max_prepared_statements: 200

        # --- Times; 0 is no limit --------------------------------------------------------------------------------------------

        # How long a statement waits for a server connection.
        query_wait_timeout: 120s
        # How long a statement, a pause inside a transaction, a transaction, and a pause outside of one may last.
        query_timeout: 0
        idle_transaction_timeout: 0
        transaction_timeout: 0
        client_idle_timeout: 0
        # How long a client may take to log in.
        client_login_timeout: 60s
        # How long an unused server connection is kept, and the age at which an unused one is closed.
        server_idle_timeout: 600s
        server_lifetime: 3600s
        # A server connection unused for longer is checked when it is lent; 0 checks always.
        server_check_delay: 30s
        # How long connecting to a node may take.
        server_connect_timeout: 15s
        # How long after a failed login min_pool_size opens nothing. A client that asks has the node's own answer at once.
        server_login_retry: 15s

        # --- Reads after writes ----------------------------------------------------------------------------------------------

        # Where reads go: on (to all nodes, by weight), off (to the primary), or shadow: to the primary, while SHOW slipstream.shadow
        # tells what would have gone to standbys.
        routing: on
        # What a read sees: session (its session's own writes), key (also those of sessions with the same slipstream.key),
        # global (all writes answered before it by this endpoint), eventual (what its node has replayed), or seconds (its
        # session reads from the primary for a time after a write, which "pin_time: 5s" says). Databases and users may have
        # one of their own, and sessions: SET slipstream.consistency = 'eventual'.
        consistency: session
        # Where a transaction begins: primary (on the primary, unless it says READ ONLY), or deferred (with its first statement; as long as
        # all only read, on a standby).
        transactions: primary
        # How long a statement that needs the primary waits for one to come up.
        primary_wait: 10s
        # How far a standby may be behind: an amount of data (16MB), a time (5s), or both ({bytes: 16MB, time: 5s}). One that is
        # further behind serves no reads until it is less than half as far. 0 is no limit.
        max_lag: 0

        # --- TLS: disable, allow, prefer, require, verify-ca, verify-full ----------------------------------------------------

        # With clients.
        #client_tls_sslmode: prefer
        #client_tls_cert_file: server.crt
        #client_tls_key_file: server.key
        #client_tls_ca_file: clients.crt
        #client_tls_protocols: secure
        #client_tls_ciphers: default
        # With nodes.
        #server_tls_sslmode: prefer
        #server_tls_cert_file: client.crt
        #server_tls_key_file: client.key
        #server_tls_ca_file: nodes.crt
        #server_tls_protocols: secure
        #server_tls_ciphers: default

        # --- What databases, users and nodes have of their own: the user's value beats the database's, which beats the default

        #databases:
        #  shop:
        #    pool_mode: session
        #    pool_size: 20
        #    min_pool_size: 2
        #    reserve_pool_size: 5
        #    max_db_connections: 100
        #users:
        #  reports:
        #    pool_mode: session
        #    pool_size: 5
        #    max_user_connections: 20
        #    # Logs in to the nodes when a rule below lets the user in without a password (trust, cert).
        #    password: secret
        #nodes:
        #  standby2:
        #    max_lag: 1GB

        # --- Who may log in, from where and how: the syntax of pg_hba.conf. The first line that matches decides --------------
        # Methods: scram-sha-256, md5 (or SCRAM where the password is stored so), password, cert, trust, reject.
        # Or in a file of its own: "hba_file: pg_hba.conf".

        hba: |
          # TYPE  DATABASE  USER  ADDRESS  METHOD
          local   all       all            md5
          host    all       all   all      md5

        """
}
