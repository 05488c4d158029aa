-- Users whose limits are shrunk, at most p_max of them: those of whom administrators of the server rejected three or
-- more texts that its rules held in the last seven days, and those whom a response to a security event slows down. What
-- moderators of a conversation decide does not count: anybody can be one.

CREATE FUNCTION marked_users(p_admins bigint[], p_max bigint)
RETURNS TABLE (user_id bigint, reported boolean, slowed boolean) LANGUAGE sql STABLE AS $$
    SELECT coalesce(r.sender_id, s.user_id), r.sender_id IS NOT NULL, s.user_id IS NOT NULL
      FROM (SELECT h.sender_id, max(h.decided_at) AS at FROM held_messages h
             WHERE h.state = 'rejected' AND h.decided_at > now() - interval '7 days' AND h.is_server_rule
               AND NOT h.sent AND h.decided_by = ANY (p_admins)
             GROUP BY h.sender_id HAVING count(*) >= 3) r
      FULL JOIN (SELECT x.user_id, max(x.begins_at) AS at FROM account_responses x
                  WHERE x.response = 'slow_down' AND x.begins_at <= now() AND x.ends_at > now()
                  GROUP BY x.user_id) s ON s.user_id = r.sender_id
     ORDER BY greatest(r.at, s.at) DESC LIMIT p_max
$$;
