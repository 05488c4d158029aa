-- Makes the partitions of audit_logs for this month and some months ahead, and for months whose rows had to go to
-- the default partition. Returns the names of the new ones. Only the owner can execute it.
-- Locks: audit_logs_default (ACCESS EXCLUSIVE) and audit_logs (SHARE UPDATE EXCLUSIVE). Appends do not wait for them.

CREATE FUNCTION make_audit_partitions(p_ahead integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    v_month timestamp;
    v_name  text;
    v_range text;
BEGIN
    PERFORM set_config('app.audit_change', 'partitions', true);
    FOR v_month IN
        SELECT date_trunc('month', x.created_at AT TIME ZONE 'UTC') FROM audit_logs_default x
        UNION SELECT date_trunc('month', now() AT TIME ZONE 'UTC') + make_interval(months => n)
                FROM generate_series(0, p_ahead) n
        ORDER BY 1
    LOOP
        v_name := 'audit_logs_' || to_char(v_month, 'YYYY_MM');
        CONTINUE WHEN to_regclass('public.' || v_name) IS NOT NULL;
        v_range := format('created_at >= %L AND created_at < %L', v_month || '+00',
                          v_month + interval '1 month' || '+00');
        EXECUTE format('CREATE TABLE public.%I (LIKE public.audit_logs INCLUDING ALL)', v_name);
        LOCK TABLE public.audit_logs_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('WITH moved AS (DELETE FROM public.audit_logs_default WHERE %s RETURNING *) '
                       'INSERT INTO public.%I SELECT * FROM moved', v_range, v_name);
        EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', v_name);
        EXECUTE format('CREATE TRIGGER refuse_audit_truncate BEFORE TRUNCATE ON public.%I FOR EACH STATEMENT '
                       'EXECUTE FUNCTION public.refuse_audit_change()', v_name);
        EXECUTE format('ALTER TABLE public.audit_logs ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)', v_name,
                       v_month || '+00', v_month + interval '1 month' || '+00');
        RETURN NEXT v_name;
    END LOOP;
    PERFORM set_config('app.audit_change', '', true);
END $$;
