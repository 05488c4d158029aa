// Events for an application that takes them one at a time: `for await (const event of client.events())`.
//
// The queue is bounded. When it is full, the client drops numbered events without moving their cursor, and replays the
// log when there is room: the log is the queue behind the queue. Unnumbered events (typing, presence) are dropped.
// An event counts as handled when the application asks for the next one; only then its cursor is stored.

export class EventQueue {
    #max;
    #onRoom;
    #onHandled;
    #events = [];
    #waiting;
    #isEnded = false;
    #wasFull = false;
    #taken;

    constructor({ max, onRoom, onHandled }) {
        this.#max = max;
        this.#onRoom = onRoom;
        this.#onHandled = onHandled;
    }

    /** Whether another event can be added. After `false`, `onRoom` is called when half of the queue is free. */
    hasRoom() {
        this.#wasFull ||= this.#events.length >= this.#max;
        return !this.#wasFull;
    }

    /** Empties the queue. */
    takeAll() {
        return this.#events.splice(0);
    }

    push(event) {
        this.#events.push(event);
        this.#serve();
    }

    end() {
        this.#isEnded = true;
        this.#serve();
    }

    #serve() {
        if (!this.#waiting || (this.#events.length === 0 && !this.#isEnded)) return;
        const resolve = this.#waiting;
        this.#waiting = undefined;
        this.#taken = this.#events.shift();
        resolve(this.#taken ? { value: this.#taken, done: false } : { value: undefined, done: true });
        if (this.#wasFull && this.#events.length <= this.#max / 2) {
            this.#wasFull = false;
            this.#onRoom();
        }
    }

    #handled() {
        if (this.#taken) this.#onHandled(this.#taken);
        this.#taken = undefined;
    }

    [Symbol.asyncIterator]() {
        return {
            next: () => {
                this.#handled();
                return new Promise((resolve) => {
                    this.#waiting = resolve;
                    this.#serve();
                });
            },
            // A `break` in the loop: the event of that turn was handled.
            return: async () => {
                this.#handled();
                return { value: undefined, done: true };
            },
        };
    }
}
