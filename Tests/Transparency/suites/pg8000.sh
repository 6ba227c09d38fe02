# pg8000's own tests, of its source package.
# shellcheck shell=bash disable=SC2034,SC2154

version=1.31.6
repeats_some=1
python=$cache/pg8000-venv/bin/python3

pg8000_source() {
    python_source pg8000 "$version"
    environment "$cache/pg8000-venv" "pg8000==$version" pytest==8.4.2 pytest-timeout==2.4.0 pytest-mock==3.14.1 \
        pytest-benchmark==5.1.0 pytz==2025.2
}

obtain_suite() { once "pg8000 $version" pg8000_source; }

run_suite() {
    fresh_database pg8000 # for its roles only: the tests connect to the database postgres
    sql -c "create extension if not exists hstore"
    reach_standbys
    # Those of logging in want a server with pg_hba.conf as they know it.
    run_pytest "$cache/pg8000-$version" --benchmark-skip --ignore-glob='test/*/auth' --ignore=test/test_readme.py -- test
}
