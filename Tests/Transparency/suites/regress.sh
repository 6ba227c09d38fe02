# PostgreSQL's regression tests, of the source package of the installed PostgreSQL.
# shellcheck shell=bash disable=SC2034,SC2154

obtain_suite() {
    use_postgres_source
    use_installed test/regress/pg_regress
    cp -r "$source/src/test/regress" "$work/tests"
    gcc -shared -fPIC -O1 -w -I"$cache/headers$(pg_config --includedir-server)" -o "$work/tests/regress.so" \
        "$work/tests/regress.c"
}

run_suite() {
    fresh_database regression "lc_collate 'C' lc_ctype 'C'"
    local setting
    # As pg_regress sets a database that it makes itself.
    for setting in "lc_messages to 'C'" "lc_monetary to 'C'" "lc_numeric to 'C'" "lc_time to 'C'" \
        "bytea_output to 'hex'" "timezone_abbreviations to 'Default'"; do
        sql -c "alter database regression set $setting"
    done
    # By what a standby's last feedback happened to say, a vacuum may mark pages as visible to all, on which plans depend.
    local uri
    for uri in "${standbys[@]}"; do
        psql -X -q -v ON_ERROR_STOP=1 "$uri" -c "alter system set hot_standby_feedback to off" \
            -c "select pg_reload_conf()" >/dev/null
    done
    timeout 1800 "$installed" --use-existing --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" --dbname=regression \
        --dlpath="$work/tests" --inputdir="$work/tests" --outputdir="$results" --bindir="$bindir" \
        --max-connections=20 --schedule="$work/tests/parallel_schedule" >"$results/log" 2>&1 || true
    grep -qE '\.\.\. (ok|FAILED)|^(not )?ok ' "$results/log" || {
        tail -n 20 "$results/log" >&2
        fail "pg_regress did not run ($side)"
    }
}
