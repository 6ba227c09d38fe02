# What node-pg does, by a program of ours, with Debian's driver.
# shellcheck shell=bash disable=SC2034,SC2154

obtain_suite() {
    prepare node=nodejs
    once "node-pg" debian_packages "$cache/node-pg" node-pg node-split2 node-xtend node-readable-stream
}

run_suite() {
    fresh_database node
    PGDATABASE=node NODE_PATH=$cache/node-pg/usr/share/nodejs timeout 600 node "$transparency/programs/node_pg.js" \
        >"$results/outcomes.tsv" 2>"$results/log" || {
        tail -n 20 "$results/log" >&2
        fail "the program for node-pg failed ($side)"
    }
}
