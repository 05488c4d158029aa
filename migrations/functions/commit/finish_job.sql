-- A job is done. If it was wanted again meanwhile, it runs again.
-- Locks: the job's row.

CREATE FUNCTION finish_job(p_job bigint, p_attempts integer, p_next_at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM jobs j WHERE j.id = p_job AND j.attempts = p_attempts AND j.next_at = p_next_at;
    IF NOT FOUND THEN
        -- With other attempts it is another process's by now.
        UPDATE jobs j SET leased_until = NULL WHERE j.id = p_job AND j.attempts = p_attempts;
    END IF;
END $$;
