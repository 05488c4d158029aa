// Tiles: a figure and its five minutes. A pointer on one tile shows the same second on all of them.

import { clock, element, svg } from "./format.js";

const WIDTH = 300;
const HEIGHT = 56;

/** tiles: [{id, title, unit, value(sample) or undefined, format, note?(sample)}] */
export class Tiles {
    #tiles;
    #seconds;
    #samples = [];
    #at;

    constructor(parent, seconds, tiles) {
        this.#seconds = seconds;
        this.#tiles = tiles.map((tile) => {
            const output = element("output", { id: `tile-${tile.id}` }, "–");
            const when = element("span", { class: "when" });
            const area = svg("path", { class: "area" });
            const line = svg("path", { class: "line" });
            const cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
            const top = element("span", { class: "top" });
            const chart = svg(
                "svg",
                { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
                area,
                line,
                cursor,
            );
            const node = element(
                "div",
                {
                    class: "card tile",
                    tabindex: "0",
                    role: "group",
                    "aria-label": `${tile.title}, arrow keys move through time`,
                },
                element("h3", {}, tile.title),
                element("p", { class: "value" }, output, element("span", { class: "unit" }, tile.unit)),
                element("div", { class: "spark" }, chart),
                element("p", { class: "foot" }, when, top),
            );
            this.#listen(node, chart);
            parent.append(node);
            return { ...tile, node, output, when, area, line, cursor, top };
        });
    }

    #listen(node, chart) {
        const point = (event) => {
            const box = chart.getBoundingClientRect();
            this.#select(Math.round(((event.clientX - box.left) / box.width) * (this.#seconds - 1)));
        };
        node.addEventListener("pointermove", point);
        node.addEventListener("pointerdown", point);
        for (const end of ["pointerleave", "blur"]) node.addEventListener(end, () => this.#select(undefined));
        node.addEventListener("keydown", (event) => {
            const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -30, PageDown: 30 }[event.key];
            if (event.key === "Escape") this.#select(undefined);
            if (step === undefined) return;
            event.preventDefault();
            this.#select((this.#at ?? this.#seconds - 1) + step);
        });
    }

    #select(slot) {
        const first = this.#seconds - this.#samples.length;
        this.#at =
            slot === undefined || this.#samples.length === 0
                ? undefined
                : Math.min(this.#seconds - 1, Math.max(first, slot));
        this.#show();
    }

    draw(samples) {
        this.#samples = samples;
        const first = this.#seconds - samples.length;
        const x = (index) => (((first + index) / (this.#seconds - 1)) * WIDTH).toFixed(1);
        for (const tile of this.#tiles) {
            const values = samples.map((sample) => tile.value(sample));
            const top = Math.max(0, ...values.filter((value) => value !== undefined));
            const y = (value) => (HEIGHT - 2 - (top > 0 ? value / top : 0) * (HEIGHT - 6)).toFixed(1);
            // Where there is no value, the line has a hole.
            let line = "",
                area = "",
                open;
            values.forEach((value, index) => {
                if (value !== undefined) {
                    line += `${open === undefined ? "M" : "L"}${x(index)} ${y(value)}`;
                    area +=
                        open === undefined
                            ? `M${x(index)} ${HEIGHT}L${x(index)} ${y(value)}`
                            : `L${x(index)} ${y(value)}`;
                    open = index;
                }
                const ends = open !== undefined && (index === values.length - 1 || values[index + 1] === undefined);
                if (ends && value !== undefined) {
                    area += `L${x(index)} ${HEIGHT}Z`;
                    // A second alone would be invisible.
                    line += `h0.01`;
                    open = undefined;
                }
            });
            tile.line.setAttribute("d", line);
            tile.area.setAttribute("d", area);
            tile.top.textContent = top > 0 ? `max ${tile.format(top)}` : "";
        }
        this.#show();
    }

    #show() {
        const first = this.#seconds - this.#samples.length;
        const index = this.#at === undefined ? this.#samples.length - 1 : this.#at - first;
        const sample = this.#samples[index];
        for (const tile of this.#tiles) {
            const value = sample && tile.value(sample);
            tile.output.textContent = value === undefined ? "–" : tile.format(value);
            tile.when.textContent =
                this.#at === undefined ? ((sample && tile.note?.(sample)) ?? "") : `at ${clock(sample.at)}`;
            tile.node.classList.toggle("past", this.#at !== undefined);
            const x = ((this.#at ?? 0) / (this.#seconds - 1)) * WIDTH;
            tile.cursor.setAttribute("x1", x);
            tile.cursor.setAttribute("x2", x);
            tile.cursor.setAttribute("visibility", this.#at === undefined ? "hidden" : "visible");
        }
    }
}
