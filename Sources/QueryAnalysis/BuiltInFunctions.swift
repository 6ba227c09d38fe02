/// The built-in functions that are not what their volatility says, and those to know while no catalog is loaded.
enum BuiltInFunctions {
    /// What a call makes of a query, nil when its volatility tells.
    static func effect(of name: String) -> StatementEffect? {
        if let listed = listed[name] { return listed }
        return prefixes.first { name.hasPrefix($0.prefix) }?.effect
    }

    private static func words(_ text: String) -> [String] { text.split(separator: " ").map(String.init) }

    private static let listed: [String: StatementEffect] = {
        var effects: [String: StatementEffect] = [:]
        for (effect, names) in [
            (StatementEffect.read, harmless), (.primaryRead, serverSpecific), (.write, writing),
            (.sessionState, stateful),
        ] {
            for name in words(names) { effects[name] = effect }
        }
        return effects
    }()

    /// Volatile, and yet as good on a standby. Sizes are those of the same files; a client asks for the address or the
    /// start of its server to see which one it got.
    private static let harmless = """
        amvalidate bernoulli clock_timestamp current_query gen_random_uuid pg_collation_actual_version \
        pg_database_collation_actual_version pg_database_size pg_indexes_size pg_jit_available pg_partition_ancestors \
        pg_partition_tree pg_relation_size pg_sleep pg_sleep_for pg_sleep_until pg_table_size pg_tablespace_size \
        pg_total_relation_size random random_normal statement_timestamp system timeofday uuidv4 uuidv7
        """

    /// What succeeds on a standby but means something else there, or fails only there.
    private static let serverSpecific = """
        currval lastval pg_backend_pid pg_blocking_pids pg_control_checkpoint pg_control_init pg_control_recovery \
        pg_control_system pg_current_logfile pg_current_snapshot pg_current_xact_id pg_current_xact_id_if_assigned \
        pg_cursor pg_export_snapshot pg_get_backend_memory_contexts pg_get_multixact_members pg_get_replication_slots \
        pg_get_shmem_allocations pg_get_wal_replay_pause_state pg_get_wal_resource_managers \
        pg_get_wal_summarizer_state pg_hba_file_rules pg_ident_file_mappings pg_is_in_recovery pg_is_other_temp_schema \
        pg_is_wal_replay_paused pg_isolation_test_session_is_blocked pg_last_committed_xact \
        pg_last_xact_replay_timestamp pg_listening_channels pg_lock_status pg_my_temp_schema \
        pg_notification_queue_usage pg_prepared_statement pg_prepared_xact pg_read_binary_file pg_read_file \
        pg_replication_origin_progress pg_replication_origin_session_is_setup pg_replication_origin_session_progress \
        pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_show_all_file_settings pg_show_all_settings \
        pg_show_replication_origin_status pg_stat_file pg_xact_commit_timestamp pg_xact_commit_timestamp_origin \
        pg_xact_status
        """

    private static let writing = """
        cursor_to_xml cursor_to_xmlschema loread lowrite nextval pg_stat_clear_snapshot pg_stat_force_next_flush setval
        """

    /// What lives in the session: settings, seeds, locks, backups and temporary replication slots. With them those that
    /// run SQL given as text, which may call any of the others.
    private static let stateful = """
        dblink pg_backup_start pg_backup_stop pg_copy_logical_replication_slot pg_copy_physical_replication_slot \
        pg_create_logical_replication_slot pg_create_physical_replication_slot pg_replication_origin_session_reset \
        pg_replication_origin_session_setup pg_replication_origin_xact_reset pg_replication_origin_xact_setup \
        pg_start_backup pg_stop_backup query_to_xml query_to_xml_and_xmlschema query_to_xmlschema set_config setseed \
        ts_rewrite ts_stat
        """

    /// Searched in this order.
    private static let prefixes: [(prefix: String, effect: StatementEffect)] = [
        ("pg_advisory_xact_", .write), ("pg_try_advisory_xact_", .write),
        ("pg_advisory_", .sessionState), ("pg_try_advisory_", .sessionState), ("dblink_", .sessionState),
        ("lo_", .write), ("pg_stat_reset", .write),
        ("pg_stat_", .primaryRead), ("pg_ls_", .primaryRead), ("pg_current_wal_", .primaryRead),
        ("pg_last_wal_", .primaryRead), ("txid_", .primaryRead),
    ]

    /// Volatile functions of well-known extensions that write nothing a session could notice. They stay on the primary,
    /// since any function may bear such a name, but need not tie the session to its server connection.
    static let knownExtensions: Set<String> = Set(
        words(
            """
            armor gen_random_bytes gen_random_uuid gen_salt pgp_pub_encrypt pgp_pub_encrypt_bytea pgp_sym_encrypt \
            pgp_sym_encrypt_bytea uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 uuid_generate_v7
            """
        )
    )

    /// Constructs of the grammar that look like calls and are functions to older versions only.
    static let grammatical: Set<String> = Set(
        words(
            """
            json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize \
            json_table json_value merge_action
            """
        )
    )

    /// Immutable and stable ones, to know while no catalog is loaded.
    static let common: Set<String> = Set(
        words(
            """
            abs acos age any_value array_agg array_append array_cat array_dims array_fill array_length array_lower \
            array_ndims array_position array_positions array_prepend array_remove array_replace array_to_json \
            array_to_string array_upper ascii asin atan atan2 avg bit_and bit_length bit_or bool bool_and bool_or box \
            bpchar btrim bytea cardinality cbrt ceil ceiling char_length character_length chr circle coalesce \
            col_description concat concat_ws convert_from convert_to corr cos cosh cot count covar_pop covar_samp \
            cume_dist current_database current_schema current_schemas current_setting date date_bin date_part \
            date_trunc decode degrees dense_rank div encode every exp factorial first_value float4 float8 floor format \
            format_type gcd generate_series generate_subscripts get_bit get_byte has_column_privilege \
            has_database_privilege has_function_privilege has_schema_privilege has_table_privilege host hstore \
            inet_client_addr inet_client_port inet_server_addr inet_server_port initcap int2 int4 int8 isfinite \
            json_agg json_array_elements json_array_elements_text json_array_length json_build_array json_build_object \
            json_each json_each_text json_extract_path json_extract_path_text json_object_agg json_object_keys \
            json_populate_record json_populate_recordset json_strip_nulls json_to_record json_to_recordset json_typeof \
            jsonb_agg jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array \
            jsonb_build_object jsonb_each jsonb_each_text jsonb_extract_path jsonb_extract_path_text jsonb_insert \
            jsonb_object jsonb_object_agg jsonb_object_keys jsonb_path_exists jsonb_path_match jsonb_path_query \
            jsonb_path_query_array jsonb_path_query_first jsonb_populate_record jsonb_populate_recordset jsonb_pretty \
            jsonb_set jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof justify_days justify_hours \
            justify_interval lag last_value lcm lead left length like ln log log10 lower lower_inc lower_inf lpad \
            ltrim make_date make_interval make_time make_timestamp make_timestamptz max md5 min mod mode name now \
            nth_value ntile num_nonnulls num_nulls obj_description octet_length overlaps parse_ident percent_rank \
            percentile_cont percentile_disc pg_char_to_encoding pg_client_encoding pg_collation_is_visible \
            pg_column_size pg_conf_load_time pg_encoding_to_char pg_function_is_visible pg_get_constraintdef \
            pg_get_expr pg_get_function_arguments pg_get_function_identity_arguments pg_get_function_result \
            pg_get_functiondef pg_get_indexdef pg_get_keywords pg_get_partkeydef pg_get_ruledef pg_get_serial_sequence \
            pg_get_triggerdef pg_get_userbyid pg_get_viewdef pg_has_role pg_postmaster_start_time pg_size_pretty \
            pg_table_is_visible pg_type_is_visible pg_typeof phraseto_tsquery pi plainto_tsquery point polygon \
            position power quote_ident quote_literal quote_nullable radians range_agg range_merge rank regexp_count \
            regexp_instr regexp_like regexp_match regexp_matches regexp_replace regexp_split_to_array \
            regexp_split_to_table regexp_substr regr_slope repeat replace reverse right round row_number row_to_json \
            rpad rtrim scale setweight sha224 sha256 sha384 sha512 shobj_description sign sin sinh split_part sqrt \
            starts_with stddev stddev_pop stddev_samp string_agg string_to_array string_to_table strip strpos substr \
            sum tan tanh text timezone to_ascii to_char to_date to_hex to_json to_jsonb to_number to_regclass \
            to_regproc to_regtype to_timestamp to_tsquery to_tsvector transaction_timestamp translate trunc \
            ts_headline ts_rank ts_rank_cd unistr unnest upper upper_inc upper_inf var_pop var_samp variance version \
            websearch_to_tsquery width_bucket xmlagg xpath xpath_exists
            """
        )
    )
}
