# SQLAlchemy's tests of its PostgreSQL dialect, of its dialects in general, of SQL and of its engine, with psycopg or
# another driver. Of its source package.
# shellcheck shell=bash disable=SC2034,SC2154

driver=${driver:-psycopg}
version=2.1.9
repeats_some=1
python=$cache/sqlalchemy-venv/bin/python3

sqlalchemy_source() {
    python_source sqlalchemy "$version"
    environment "$cache/sqlalchemy-venv" 'psycopg[binary]==3.3.9' asyncpg==0.32.0 greenlet typing_extensions \
        pytest==8.4.2 pytest-timeout==2.4.0
}

obtain_suite() { once "SQLAlchemy $version" sqlalchemy_source; }

run_suite() {
    fresh_database test
    PGDATABASE=test psql -X -q -c "create schema test_schema" -c "create schema test_schema_2" \
        -c "create extension hstore" -c "create extension citext" \
        -c "alter database test set default_text_search_config to 'pg_catalog.english'"
    reach_standbys
    # Its plugin makes a class for each backend after tests have been selected.
    if [ -e "$selection" ]; then sed -i 's/_postgresql+[^:]*::/::/' "$selection"; fi
    PYTHONPATH=$cache/sqlalchemy-$version/lib run_pytest "$cache/sqlalchemy-$version" \
        --dburi "postgresql+$driver://$PGUSER:$PGPASSWORD@$PGHOST:$PGPORT/test" --maxfail=100000 --backend-only \
        -- test/dialect/postgresql test/dialect/test_suite.py test/sql test/engine
}
