# psycopg 2's own tests, of its source package.
# shellcheck shell=bash disable=SC2034,SC2154

version=2.9.11
repeats_some=1
python=$cache/psycopg2-venv/bin/python3

psycopg2_source() {
    python_source psycopg2 "$version"
    environment "$cache/psycopg2-venv" "psycopg2-binary==$version" pytest==8.4.2 pytest-timeout==2.4.0
}

obtain_suite() { once "psycopg2 $version" psycopg2_source; }

run_suite() {
    fresh_database psycopg2_test
    PGDATABASE=psycopg2_test psql -X -q -c "create extension hstore"
    reach_standbys
    PSYCOPG2_TESTDB=psycopg2_test run_pytest "$cache/psycopg2-$version" -- tests
}
