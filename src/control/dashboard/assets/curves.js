// Percentile curves: each stage's latency over the share of messages that were at most that slow, both axes
// logarithmic.

import { svg, time, words } from "./format.js";

const MARGIN = { left: 56, right: 14, top: 10, bottom: 34 };
/** Percentages on the horizontal axis. */
const TICKS = [0, 50, 90, 99, 99.9, 99.99];
const END = 4;

/** 90 % → 1, 99 % → 2, 99.9 % → 3 … */
const nines = (percent) => Math.log10(1 / (1 - percent / 100));

/** How many must have been counted until a percentile is more than the largest value. */
export function known(count, percent) {
    return count * (1 - percent / 100) >= 0.999;
}

export class Curves {
    #figure;
    #stages;
    #percents;
    #summaries = [];
    #hidden = new Set();
    #at;

    constructor(figure, stages, percentiles) {
        this.#figure = figure;
        this.#stages = stages;
        this.#percents = percentiles.map((percentile) => percentile / 1000);
        figure.tabIndex = 0;
        figure.setAttribute("role", "group");
        figure.setAttribute("aria-label", "Percentile curves of each stage, arrow keys move through the percentiles");
        new ResizeObserver(() => this.#paint()).observe(figure);
        const point = (event) => {
            const box = figure.getBoundingClientRect();
            const at = ((event.clientX - box.left - MARGIN.left) / (box.width - MARGIN.left - MARGIN.right)) * END;
            const distance = (index) => Math.abs(nines(this.#percents[index]) - at);
            this.#select(this.#percents.map((_, index) => index).sort((a, b) => distance(a) - distance(b))[0]);
        };
        figure.addEventListener("pointermove", point);
        figure.addEventListener("pointerdown", point);
        for (const end of ["pointerleave", "blur"]) figure.addEventListener(end, () => this.#select(undefined));
        figure.addEventListener("keydown", (event) => {
            const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
            if (event.key === "Escape") this.#select(undefined);
            if (step === undefined) return;
            event.preventDefault();
            const next = (this.#at ?? (step > 0 ? -1 : this.#percents.length)) + step;
            this.#select(Math.min(this.#percents.length - 1, Math.max(0, next)));
        });
    }

    /** summaries[stage] = [count, percentiles …, largest] in nanoseconds. */
    draw(summaries) {
        this.#summaries = summaries;
        this.#paint();
    }

    toggle(stage) {
        if (!this.#hidden.delete(stage)) this.#hidden.add(stage);
        this.#paint();
        return !this.#hidden.has(stage);
    }

    #select(index) {
        this.#at = index;
        this.#paint();
    }

    #points(stage) {
        const [count, ...values] = this.#summaries[stage] ?? [0];
        if (!count || this.#hidden.has(stage)) return [];
        const points = this.#percents
            .map((percent, index) => ({ percent, x: nines(percent), ns: values[index] }))
            .filter(({ percent }) => known(count, percent));
        points.push({ percent: undefined, x: Math.min(END, Math.log10(Math.max(count, 1.2))), ns: values.at(-1) });
        return points.filter(({ ns }, index, all) => index === 0 || ns >= all[index - 1].ns);
    }

    #paint() {
        const { width, height } = this.#figure.getBoundingClientRect();
        if (width < 60 || height < 60) return;
        const curves = this.#stages.map((_, stage) => this.#points(stage));
        const all = curves.flat().map(({ ns }) => ns);
        const low = all.length ? Math.floor(Math.log10(Math.min(...all))) : 4;
        const high = all.length ? Math.max(low + 1, Math.ceil(Math.log10(Math.max(...all)) - 0.02)) : 7;
        const x = (at) => MARGIN.left + (at / END) * (width - MARGIN.left - MARGIN.right);
        const y = (ns) =>
            height - MARGIN.bottom - ((Math.log10(ns) - low) / (high - low)) * (height - MARGIN.top - MARGIN.bottom);
        const picture = svg("svg", { width, height, "aria-hidden": "true" });

        for (let decade = low; decade <= high; decade++) {
            const at = y(10 ** decade);
            picture.append(svg("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }));
            picture.append(
                svg("text", { class: "tick", x: MARGIN.left - 8, y: at + 4, "text-anchor": "end" }, power(decade)),
            );
            for (let part = 2; part < 10 && decade < high; part++) {
                const minor = y(part * 10 ** decade);
                picture.append(
                    svg("line", {
                        class: "grid minor",
                        x1: MARGIN.left,
                        x2: width - MARGIN.right,
                        y1: minor,
                        y2: minor,
                    }),
                );
            }
        }
        for (const percent of TICKS) {
            const at = x(nines(percent));
            const narrow = width < 460;
            const label = percent === 0 ? (narrow ? "" : "0") : narrow ? String(percent) : `P${percent}`;
            picture.append(svg("line", { class: "grid", x1: at, x2: at, y1: MARGIN.top, y2: height - MARGIN.bottom }));
            picture.append(
                svg(
                    "text",
                    {
                        class: "tick",
                        x: at,
                        y: height - MARGIN.bottom + 18,
                        "text-anchor": percent > 99.95 ? "end" : "middle",
                    },
                    label,
                ),
            );
        }
        // The two that users feel come last, so that they lie on top.
        curves.forEach((points, stage) => {
            if (points.length === 0) return;
            const path = points
                .map(({ x: at, ns }, index) => `${index ? "L" : "M"}${x(at).toFixed(1)} ${y(ns).toFixed(1)}`)
                .join("");
            const last = points.at(-1);
            picture.append(svg("path", { class: `curve stage-${this.#stages[stage]}`, d: path }));
            picture.append(
                svg("circle", { class: `end stage-${this.#stages[stage]}`, cx: x(last.x), cy: y(last.ns), r: 2.5 }),
            );
        });
        if (all.length === 0) {
            picture.append(
                svg(
                    "text",
                    { class: "empty", x: (width + MARGIN.left) / 2, y: height / 2, "text-anchor": "middle" },
                    "Nothing happened in this window",
                ),
            );
        }
        if (this.#at !== undefined && all.length > 0) this.#tooltip(picture, x, y, width, height);
        this.#figure.replaceChildren(picture);
    }

    #tooltip(picture, x, y, width, height) {
        const percent = this.#percents[this.#at];
        const at = x(nines(percent));
        picture.append(svg("line", { class: "cursor", x1: at, x2: at, y1: MARGIN.top, y2: height - MARGIN.bottom }));
        const rows = this.#stages
            .map((name, stage) => ({ name, stage, summary: this.#summaries[stage] ?? [0] }))
            .filter(({ stage, summary }) => summary[0] > 0 && !this.#hidden.has(stage) && known(summary[0], percent))
            .map(({ name, summary }) => ({ name, ns: summary[1 + this.#at] }))
            .sort((a, b) => b.ns - a.ns);
        const box = { width: 178, height: 26 + rows.length * 17 };
        const left = at + 12 + box.width > width ? at - 12 - box.width : at + 12;
        const group = svg("g", { class: "tooltip", transform: `translate(${Math.max(2, left)} ${MARGIN.top + 4})` });
        group.append(svg("rect", { width: box.width, height: box.height, rx: 6 }));
        group.append(
            svg("text", { class: "strong", x: 10, y: 18 }, `P${percent}${rows.length ? "" : ": too few counted"}`),
        );
        rows.forEach(({ name, ns }, row) => {
            const line = 35 + row * 17;
            picture.append(svg("circle", { class: `end stage-${name}`, cx: at, cy: y(ns), r: 3.5 }));
            group.append(svg("circle", { class: `end stage-${name}`, cx: 14, cy: line - 4, r: 4 }));
            group.append(svg("text", { x: 26, y: line }, words(name)));
            group.append(svg("text", { class: "figure", x: box.width - 10, y: line, "text-anchor": "end" }, time(ns)));
        });
        picture.append(group);
    }
}

function power(decade) {
    const unit = ["ns", "µs", "ms", "s"][Math.min(3, Math.floor(decade / 3))];
    return `${10 ** (decade - 3 * Math.min(3, Math.floor(decade / 3)))}\u2009${unit}`;
}
