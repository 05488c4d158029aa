// Pictures of people whom no page of members has named: those beyond the pages that were read of a large room, and those
// who have left. They are asked for when their faces come into sight, and not before.

const SOON_MS = 200;

/** Looks after the faces in a box that scrolls. */
export class Faces {
    #alarm;

    constructor(app, box) {
        this.app = app;
        this.box = box;
    }

    /** What is in sight may have changed. */
    look() {
        this.#alarm ??= setTimeout(() => {
            this.#alarm = undefined;
            this.#ask();
        }, SOON_MS);
    }

    #ask() {
        const { app, box } = this;
        // Members may be on their way, with their pictures.
        if (!app.current?.hasMembers || document.hidden) return;
        const seen = box.getBoundingClientRect();
        const unknown = new Set();
        for (const face of box.querySelectorAll(".face[data-profile]")) {
            const id = Number(face.dataset.profile);
            if (app.store.people.get(id)?.avatar_url !== undefined) continue;
            const { top, bottom } = face.getBoundingClientRect();
            if (bottom > seen.top && top < seen.bottom) unknown.add(id);
        }
        for (const id of unknown) app.reads.pictureOf(id);
    }
}
