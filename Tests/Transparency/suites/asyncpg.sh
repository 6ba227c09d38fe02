# asyncpg's own tests, of its source package.
# shellcheck shell=bash disable=SC2034,SC2154

version=0.32.0
repeats_some=1
python=$cache/asyncpg-venv/bin/python3

asyncpg_source() {
    python_source asyncpg "$version"
    # The installed package has the compiled parts; the tests must not find the source's.
    rm -rf asyncpg-tests
    mkdir asyncpg-tests
    cp -r "asyncpg-$version/tests" asyncpg-tests/
    environment "$cache/asyncpg-venv" "asyncpg==$version" pytest==8.4.2 pytest-timeout==2.4.0 uvloop==0.22.1 \
        distro==1.9.0
}

obtain_suite() { once "asyncpg $version" asyncpg_source; }

run_suite() {
    fresh_database asyncpg_test
    # With PGHOST its tests use what is there. Those of the source's style and of servers it would start are left out.
    PGDATABASE=asyncpg_test run_pytest "$cache/asyncpg-tests" --ignore=tests/test__sourcecode.py -- tests
}
