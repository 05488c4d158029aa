-- Runs read_<name>. The server calls every read by this function; the name comes from the server's own table.

CREATE FUNCTION look_up(p_name text, p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_answer jsonb;
BEGIN
    EXECUTE format('SELECT %I($1)', 'read_' || p_name) INTO v_answer USING p_arguments;
    RETURN v_answer;
END $$;
