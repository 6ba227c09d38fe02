# psycopg 3's own tests. No package has them: its repository must be reachable, or a copy be in .build-regress/psycopg.
# shellcheck shell=bash disable=SC2034,SC2154

version=3.3.4
repeats_some=1
python=$cache/psycopg-venv/bin/python3

psycopg_source() {
    [ -d "$cache/psycopg/tests" ] ||
        git clone --quiet --depth 1 --branch "$version" https://github.com/psycopg/psycopg "$cache/psycopg"
    environment "$cache/psycopg-venv" "psycopg[binary]==$version" psycopg-pool==3.3.1 pytest==8.4.2 \
        pytest-timeout==2.4.0 anyio==4.9.0 pproxy==2.7.9
}

obtain_suite() { once "psycopg $version" psycopg_source; }

run_suite() {
    fresh_database psycopg_test
    # Those marked slow measure time. The types of mypy say nothing about us. Whoever comes after a test that failed is not
    # to be blamed for connections that it left open.
    PSYCOPG_TEST_DSN="host=$PGHOST port=$PGPORT user=$PGUSER password=$PGPASSWORD dbname=psycopg_test" \
        PSYCOPG_IMPL=binary run_pytest "$cache/psycopg" -W ignore::pytest.PytestUnraisableExceptionWarning -m "not slow and not mypy and not timing" -- tests
}
