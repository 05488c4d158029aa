// Events for an application that handles them one at a time: `for await (const event of client.events())`.
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
    #current;

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
    drain() {
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
        this.#current = this.#events.shift();
        resolve(this.#current ? { value: this.#current, done: false } : { value: undefined, done: true });
        if (this.#wasFull && this.#events.length <= this.#max / 2) {
            this.#wasFull = false;
            this.#onRoom();
        }
    }

    #handled() {
        if (this.#current) this.#onHandled(this.#current);
        this.#current = undefined;
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
