-- What shrinks a user's limits: the server looks once a second.

CREATE INDEX held_messages_rejected ON held_messages (decided_at, sender_id) WHERE state = 'rejected';
