# Those of Django's own tests that have to do with databases, of its source package. They make and drop databases.
# shellcheck shell=bash disable=SC2034,SC2154

version=5.2.19
repeats_some=1
python=$cache/django-venv/bin/python3
modules=(
    aggregation aggregation_regress annotations async backends basic bulk_create cache constraints custom_pk
    datetimes db_functions db_utils defer delete delete_regress expressions expressions_case expressions_window
    fixtures force_insert_update from_db_value get_or_create indexes inspectdb introspection lookup
    migration_test_data_persistence model_fields multiple_database ordering postgres_tests prefetch_related queries
    raw_query schema select_for_update select_related serializers sessions_tests test_runner transaction_hooks
    transactions update update_only_fields
)

django_source() {
    python_source Django "$version"
    environment "$cache/django-venv" "Django==$version" 'psycopg[binary]==3.3.9' psycopg-pool==3.3.1 tblib==3.1.0
}

obtain_suite() { once "Django $version" django_source; }

run_suite() {
    fresh_database django
    local -a chosen=("${modules[@]}")
    # Outcomes are named as the tests are; a subtest's name goes on behind that.
    if [ -e "$selection" ]; then mapfile -t chosen < <(sed 's/ .*//' "$selection" | sort -u); fi
    local status=0
    (
        cd "$cache"/[dD]jango-"$version"/tests || exit
        PYTHONPATH=$transparency OUTCOMES=$results/outcomes.jsonl PYTHONDONTWRITEBYTECODE=1 \
            timeout --kill-after=20 3600 "$python" runtests.py --settings=django_settings --parallel=1 --noinput \
            "${chosen[@]}"
    ) >"$results/log" 2>&1 || status=$?
    ((status <= 1)) && [ -s "$results/outcomes.jsonl" ] || {
        tail -n 20 "$results/log" >&2
        fail "Django's tests ended with status $status ($side)"
    }
}
