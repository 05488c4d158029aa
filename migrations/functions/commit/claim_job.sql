-- Takes the job that is due for the longest time, for p_lease_s seconds: one of the kinds in p_kinds, and of no user in
-- p_passed_over, who have as many running as they may. Several processes can do so at once. While a backup runs, its
-- session shares the advisory lock, and no content is removed: the rows of its snapshot may need it.
-- The job is found in a materialized query. As a condition of the update, it could be evaluated again for each job, and
-- every time find another one, which nobody would then do before its lease has ended.
-- Its attempts name the lease, so they only grow.
-- Locks: the job's row and the advisory lock of backups, both without waiting.

CREATE FUNCTION claim_job(p_kinds text[], p_passed_over bigint[], p_lease_s bigint) RETURNS SETOF jobs
LANGUAGE sql AS $$
    WITH found AS MATERIALIZED (
        SELECT x.id FROM jobs x
         WHERE x.kind = ANY (p_kinds) AND x.next_at <= now() AND (x.leased_until IS NULL OR x.leased_until < now())
           AND (x.owner_id IS NULL OR x.owner_id <> ALL (p_passed_over))
           AND (x.kind <> 'remove_blob' OR (SELECT pg_try_advisory_xact_lock(1986361953, 2)))
         ORDER BY x.next_at LIMIT 1 FOR UPDATE SKIP LOCKED)
    UPDATE jobs j SET leased_until = now() + make_interval(secs => p_lease_s),
           attempts = j.attempts % 1000000000 + 1
      FROM found WHERE j.id = found.id
    RETURNING j.*
$$;
