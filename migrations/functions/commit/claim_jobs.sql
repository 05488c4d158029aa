-- Takes jobs that are due, for p_lease_s seconds: those of the kinds in p_kinds. Several processes can do so at once.
-- Locks: the jobs' rows, without waiting.

CREATE FUNCTION claim_jobs(p_kinds text[], p_max bigint, p_lease_s bigint) RETURNS SETOF jobs LANGUAGE sql AS $$
    UPDATE jobs j SET leased_until = now() + make_interval(secs => p_lease_s), attempts = j.attempts + 1
     WHERE j.id IN (
        SELECT x.id FROM jobs x
         WHERE x.kind = ANY (p_kinds) AND x.next_at <= now() AND (x.leased_until IS NULL OR x.leased_until < now())
         ORDER BY x.next_at LIMIT p_max FOR UPDATE SKIP LOCKED)
    RETURNING j.*
$$;
