// Loads the profile pictures of users who are in no loaded page of members: members of very large rooms, and users who
// have left. A picture is requested when the avatar is scrolled into view.

const SOON_MS = 200;

/** Loads the pictures in one scrolling box. */
export class Faces {
    #alarm;

    constructor(app, box) {
        this.app = app;
        this.box = box;
    }

    /** Call this when other avatars may be visible. */
    look() {
        this.#alarm ??= setTimeout(() => {
            this.#alarm = undefined;
            this.#requestVisible();
        }, SOON_MS);
    }

    #requestVisible() {
        const { app, box } = this;
        // Wait for the members, which come with their pictures.
        if (!app.current?.hasMembers || document.hidden) return;
        const seen = box.getBoundingClientRect();
        const unknown = new Set();
        for (const face of box.querySelectorAll(".face[data-profile]")) {
            const id = Number(face.dataset.profile);
            if (app.store.people.get(id)?.avatar_url !== undefined) continue;
            const { top, bottom } = face.getBoundingClientRect();
            if (bottom > seen.top && top < seen.bottom) unknown.add(id);
        }
        for (const id of unknown) app.reads.requestPicture(id);
    }
}
