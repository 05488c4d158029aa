-- Users whose limits are shrunk, at most p_max of them: those of whom moderators refused three or more texts in the
-- last seven days.

CREATE FUNCTION marked_users(p_max bigint) RETURNS TABLE (user_id bigint, reported boolean, slowed boolean)
LANGUAGE sql STABLE AS $$
    SELECT h.sender_id, true, false
      FROM held_messages h
     WHERE h.state = 'rejected' AND h.decided_at > now() - interval '7 days'
     GROUP BY h.sender_id HAVING count(*) >= 3
     ORDER BY max(h.decided_at) DESC LIMIT p_max
$$;
