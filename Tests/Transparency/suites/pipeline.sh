# libpq's own tests of its pipeline mode, and for some of them what went over the wire.
# shellcheck shell=bash disable=SC2034,SC2154

obtain_suite() {
    use_postgres_source
    local -r headers=$cache/headers$(pg_config --includedir-server)
    gcc -O1 -w -I"$headers" -I"$(pg_config --includedir)" -o "$work/libpq_pipeline" \
        "$source/src/test/modules/libpq_pipeline/libpq_pipeline.c" -L"$(pg_config --pkglibdir)" \
        -L"$(pg_config --libdir)" -lpq -lpgcommon -lpgport -lm
}

run_suite() {
    fresh_database pipeline
    mkdir -p "$results/results"
    local name expected
    for name in $("$work/libpq_pipeline" tests); do
        {
            status=0
            timeout 120 "$work/libpq_pipeline" -r 700 -t "$work/trace" "$name" "dbname=pipeline" 2>&1 |
                # How much goes into sockets before one is full is different every time.
                sed -E 's/^libpq_pipeline:[0-9]*: //; /^result [0-9]+\/[0-9]+: /d; s/\.{10,}//' || status=$?
            echo "status: $status"
        } >"$results/results/$name.out"
        # In full where PostgreSQL expects it to be the same every time.
        expected=$source/src/test/modules/libpq_pipeline/traces/$name.trace
        if [ -e "$expected" ]; then
            cat "$work/trace" >"$results/results/$name-trace.out"
            cmp -s "$work/trace" "$expected" || echo "not as expected" >>"$results/results/$name-trace.out"
        fi
    done
}
