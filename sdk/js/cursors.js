// Decides by `seq` whether an event is new. Pure.
//
// Each change of a conversation has the next seq. The cursor of a conversation is the seq of the last event that the
// application received. Arithmetic decides about an event:
//
//     seq = cursor + 1   new: it is emitted, and the cursor moves
//     seq ≤ cursor       old: it was emitted before
//     seq > cursor + 1   a gap: events are missing, and the log is replayed after the cursor
//
// The cursor of a conversation that the user has left is kept apart. If they join again, nothing is emitted twice.

/** Events whose seq is that of another entry of the log. */
const UNNUMBERED = new Set(["mention"]);

/** Whether an event is an entry of the log. */
export function isNumbered(type, data) {
    return Number.isInteger(data.seq) && !UNNUMBERED.has(type);
}

export class Cursors {
    /** Conversation id → seq of the last emitted event. */
    current = new Map();
    /** The same for conversations that the user has left. */
    left = new Map();
    /** Conversations whose log is read from its start; events before the user joined are not emitted. */
    joining = new Set();

    restore({ cursors = {}, left = {} }) {
        for (const [id, seq] of Object.entries(cursors)) this.current.set(id, seq);
        for (const [id, seq] of Object.entries(left)) this.left.set(id, seq);
    }

    /** What to do with a numbered event: `emit`, `old`, `gap`, or `earlier`, which only moves the cursor. */
    classify(type, data, me) {
        const { conversation_id: id, seq } = data;
        const cursor = this.current.get(id);
        if (cursor === undefined) return seq <= (this.left.get(id) ?? -1) ? "old" : "emit";
        if (seq <= cursor) return "old";
        if (seq > cursor + 1) return "gap";
        if (!this.joining.has(id)) return "emit";
        return isArrival(type, data, me) ? "emit" : "earlier";
    }

    /** An event was emitted or skipped. */
    moveTo(id, seq, isEmitted = true) {
        this.current.set(id, seq);
        this.left.delete(id);
        if (isEmitted) this.joining.delete(id);
    }

    /**
     * The user has left: the next event may have any larger seq. `seq`: of the last event, if it was received. Returns
     * the cursor, if there was one.
     */
    leave(id, seq) {
        const cursor = this.current.get(id) ?? seq;
        this.current.delete(id);
        this.joining.delete(id);
        if (cursor !== undefined) this.left.set(id, cursor);
        return cursor;
    }

    /**
     * Compares with the heads of a `welcome`. `isFirst`: there is no earlier run to continue. Then the log of each
     * conversation is followed from now on; otherwise a conversation without a cursor was joined in the meantime, and
     * is followed from the join.
     */
    compare(heads, { isFirst, isComplete, skipsJoined = false }) {
        const isGone = (id) => isComplete && !heads.has(id);
        const gone = [...this.current.keys()].filter(isGone);
        const started = [];
        for (const [id, head] of heads) {
            if (this.current.has(id)) continue;
            const left = this.left.get(id);
            const cursor = isFirst || skipsJoined ? head : (left ?? 0);
            if (cursor === 0 && left === undefined && head > 0) this.joining.add(id);
            this.moveTo(id, cursor, false);
            started.push(id);
        }
        const isBehind = (id) => !isGone(id) && heads.get(id) !== this.current.get(id);
        return { gone, started, behind: [...this.current.keys()].filter(isBehind) };
    }
}

/** Whether an event is the start of the user's membership. */
function isArrival(type, data, me) {
    if (type === "conversation_created") return data.members.some(({ id }) => id === me);
    return type === "member_joined" && data.user.id === me;
}
