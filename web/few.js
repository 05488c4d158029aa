// Work that waits for its turn: at most so many pieces of it run at once. Pure, but for the promises.

/** A function that runs `work` as soon as fewer than `most` others run, the first asked first, and gives its outcome. */
export function few(most) {
    const waiting = [];
    let running = 0;
    const next = () => {
        if (running >= most || waiting.length === 0) return;
        running++;
        const { work, resolve, reject } = waiting.shift();
        // A failure ends the turn as a success does; it is its asker's to handle.
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
