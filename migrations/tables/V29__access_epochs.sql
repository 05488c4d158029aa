-- The access epoch of a conversation. While it stays the same, a user who was allowed to send messages there still is.
-- So a committer that has seen a sender's message accepted under an epoch can accept the next one without another look
-- (commit_known).
--
-- Invariant: every change after which a sender could be refused raises it, in the same transaction: a membership that
-- ends, another role, a mute, an archived conversation, slow mode. Triggers see to that, and they are here and not in a
-- rule set, so that servers of every version raise it. Two things are no part of it, and commit_known looks at them: a
-- mute of an account everywhere, and a block between the two users of a direct conversation.

ALTER TABLE conversations ADD access_epoch bigint NOT NULL DEFAULT 0;
GRANT UPDATE (access_epoch) ON conversations TO chat_writer;
-- The owner changes memberships when it erases a person.
CREATE POLICY owner_raises_epochs ON conversations FOR UPDATE TO chat_owner USING (true) WITH CHECK (true);

CREATE FUNCTION raise_epoch_of_conversation() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    NEW.access_epoch := OLD.access_epoch + 1;
    RETURN NEW;
END $$;
CREATE TRIGGER raise_epoch BEFORE UPDATE OF archived_at, slow_mode_s ON conversations FOR EACH ROW
    WHEN (OLD.archived_at IS DISTINCT FROM NEW.archived_at OR OLD.slow_mode_s <> NEW.slow_mode_s)
    EXECUTE FUNCTION raise_epoch_of_conversation();

-- Locks: the conversations' rows, which a mutation has locked before.
CREATE FUNCTION raise_epochs_of_members() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        UPDATE conversations c SET access_epoch = c.access_epoch + 1
         WHERE c.id IN (SELECT x.conversation_id FROM former_members x);
    ELSE
        UPDATE conversations c SET access_epoch = c.access_epoch + 1 WHERE c.id = NEW.conversation_id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER raise_epochs_of_former AFTER DELETE ON conversation_members
    REFERENCING OLD TABLE AS former_members FOR EACH STATEMENT EXECUTE FUNCTION raise_epochs_of_members();
-- A read marker is in most updates of a member, and in none of these columns.
CREATE TRIGGER raise_epoch_of_changed AFTER UPDATE OF role, muted_until ON conversation_members FOR EACH ROW
    WHEN (OLD.role <> NEW.role OR OLD.muted_until IS DISTINCT FROM NEW.muted_until)
    EXECUTE FUNCTION raise_epochs_of_members();

-- The accounts that were muted everywhere, which are few.
CREATE INDEX users_muted ON users (id) WHERE muted_until IS NOT NULL;
