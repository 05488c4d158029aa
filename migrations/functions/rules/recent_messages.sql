-- The id from which messages are recent: those of the range before the present one, and of all ranges that ended less
-- than 30 days ago. A repeated send is recognised among recent messages, at the cost of two or three partitions.

CREATE FUNCTION recent_messages() RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN coalesce((
        SELECT least(min(x.first_id) FILTER (WHERE coalesce(x.closed_at, 'infinity') > now() - interval '30 days'),
                     max(x.first_id) FILTER (WHERE x.closed_at IS NOT NULL))
          FROM message_partitions x), 0);
END $$;
