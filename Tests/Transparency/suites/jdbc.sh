# What pgjdbc does that other drivers don't, by a program of ours, with Debian's driver.
# shellcheck shell=bash disable=SC2034,SC2154

obtain_suite() {
    prepare javac=default-jdk-headless
    once "pgjdbc" debian_packages "$cache/jdbc" libpostgresql-jdbc-java
    class_path=$cache/jdbc/usr/share/java/postgresql.jar:$work/classes
    javac -nowarn -cp "$class_path" -d "$work/classes" "$transparency/programs/Jdbc.java"
}

run_suite() {
    fresh_database jdbc
    PGDATABASE=jdbc timeout 900 java -cp "$class_path" Jdbc >"$results/outcomes.tsv" 2>"$results/log" || {
        tail -n 20 "$results/log" >&2
        fail "the program for pgjdbc failed ($side)"
    }
}
