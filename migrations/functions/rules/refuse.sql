-- Refuses a mutation or a read. apply_mutations turns the exception into the verdict of that mutation.

CREATE FUNCTION refuse(code text, reason text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'VZ001', MESSAGE = code, DETAIL = reason;
END $$;
