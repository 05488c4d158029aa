-- What stands for the personal fields of an audit row in its hash. The salt makes it useless for guessing them.

CREATE FUNCTION audit_commitment(r audit_logs) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(audit_canonical('veza-audit-personal-v1', encode(r.salt, 'hex'), r.ip_address, r.device, r.reason,
                                  r.details::text))
$$;
