// Limits how many asynchronous jobs run at the same time.

/** Returns a function that runs `work` when fewer than `max` jobs run, first in, first out, and returns its result. */
export function limitConcurrency(max) {
    const waiting = [];
    let running = 0;
    const next = () => {
        if (running >= max || waiting.length === 0) return;
        running++;
        const { work, resolve, reject } = waiting.shift();
        // A failed job frees its slot like any other; the caller handles the error.
        Promise.resolve()
            .then(work)
            .then(resolve, reject)
            .finally(() => {
                running--;
                next();
            });
    };
    return (work) =>
        new Promise((resolve, reject) => {
            waiting.push({ work, resolve, reject });
            next();
        });
}
