# PostgreSQL's isolation tests: several sessions that wait for each other, in every order of their steps.
# shellcheck shell=bash disable=SC2034,SC2154

obtain_suite() {
    use_postgres_source
    use_installed test/isolation/pg_isolation_regress
    cp -r "$source/src/test/isolation" "$work/tests"
    gcc -shared -fPIC -O1 -Wall -I"$(pg_config --includedir)" -o "$work/isolation.so" \
        "$transparency/programs/isolation.c" -ldl
}

run_suite() {
    fresh_database isolation_regression "lc_collate 'C' lc_ctype 'C'"
    local setting
    for setting in "lc_messages to 'C'" "lc_monetary to 'C'" "lc_numeric to 'C'" "lc_time to 'C'" \
        "bytea_output to 'hex'" "timezone_abbreviations to 'Default'"; do
        sql -c "alter database isolation_regression set $setting"
    done
    # A session is found by the number that programs/isolation.c has put into its application_name.
    psql -X -q -v ON_ERROR_STOP=1 "${primary%/*}/isolation_regression" <<'SQL'
create function public.session_is_blocked(waiting int, others int[]) returns bool language sql volatile as $$
    select coalesce(bool_or(pg_catalog.pg_isolation_test_session_is_blocked(pid, array(
        select pid from pg_catalog.pg_stat_activity where application_name = any (
            select '#' || other from unnest(others) other)))), false)
    from pg_catalog.pg_stat_activity where application_name = '#' || waiting
$$;
SQL
    reach_standbys
    # What does not end within 30 seconds never will.
    LD_PRELOAD=$work/isolation.so PGISOLATIONTIMEOUT=30 timeout 3600 "$installed" --use-existing \
        --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" --dbname=isolation_regression \
        --inputdir="$work/tests" --outputdir="$results" --bindir="$bindir" \
        --schedule="$work/tests/isolation_schedule" >"$results/log" 2>&1 || true
    grep -qE '\.\.\. (ok|FAILED)|^(not )?ok ' "$results/log" || {
        tail -n 20 "$results/log" >&2
        fail "pg_isolation_regress did not run ($side)"
    }
}
