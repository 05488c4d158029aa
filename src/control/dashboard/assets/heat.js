// The heat map: a column per second, a row per quarter of a power of two, darker where more fell. Counts span several
// powers of ten, so the colour is logarithmic: a handful of slow messages must not vanish beside thousands of fast
// ones.

import { clock, count, element, time } from "./format.js";

const MARGIN = { left: 56, right: 14, top: 6, bottom: 26 };
const SHADES = 32;

export class Heat {
    #figure;
    #canvas = element("canvas", { "aria-hidden": "true" });
    #tip = element("figcaption", { class: "tip", hidden: true });
    #bounds;
    #seconds;
    #samples = [];
    #stage = 0;
    #cell;
    #view;

    constructor(figure, seconds, bounds) {
        this.#figure = figure;
        this.#seconds = seconds;
        this.#bounds = bounds;
        figure.tabIndex = 0;
        figure.setAttribute("role", "group");
        figure.setAttribute("aria-label", "Latency over time, arrow keys move through seconds and latencies");
        figure.append(this.#canvas, this.#tip);
        new ResizeObserver(() => this.#paint()).observe(figure);
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#paint());
        const point = (event) => {
            const box = this.#canvas.getBoundingClientRect();
            const { low, high, plot } = this.#view;
            const slot = Math.floor(((event.clientX - box.left - MARGIN.left) / plot.width) * this.#seconds);
            const part = 1 - (event.clientY - box.top - MARGIN.top) / plot.height;
            this.#select(slot, low + Math.floor(part * (high - low + 1)));
        };
        figure.addEventListener("pointermove", point);
        figure.addEventListener("pointerdown", point);
        for (const end of ["pointerleave", "blur"]) figure.addEventListener(end, () => this.#select());
        figure.addEventListener("keydown", (event) => {
            const step = {
                ArrowLeft: [-1, 0],
                ArrowRight: [1, 0],
                PageUp: [-30, 0],
                PageDown: [30, 0],
                ArrowUp: [0, 1],
                ArrowDown: [0, -1],
            }[event.key];
            if (event.key === "Escape") this.#select();
            if (!step) return;
            event.preventDefault();
            const { low, high } = this.#view;
            const from = this.#cell ?? { slot: this.#seconds, row: Math.floor((low + high) / 2) };
            this.#select(from.slot + step[0], from.row + step[1]);
        });
    }

    draw(samples, stage) {
        this.#samples = samples;
        this.#stage = stage;
        this.#paint();
    }

    #select(slot, row) {
        const first = this.#seconds - this.#samples.length;
        const { low, high } = this.#view ?? {};
        this.#cell =
            slot === undefined || this.#samples.length === 0 || low === undefined
                ? undefined
                : { slot: Math.min(this.#seconds - 1, Math.max(first, slot)), row: Math.min(high, Math.max(low, row)) };
        this.#paint();
    }

    #cells(sample) {
        const flat = sample.heat[this.#stage];
        return Array.from({ length: flat.length / 2 }, (_, at) => [flat[2 * at], flat[2 * at + 1]]);
    }

    #paint() {
        const width = this.#figure.clientWidth;
        const height = this.#figure.clientHeight;
        if (width < 60) return;
        const ratio = devicePixelRatio || 1;
        if (this.#canvas.width !== Math.round(width * ratio) || this.#canvas.height !== Math.round(height * ratio)) {
            this.#canvas.width = Math.round(width * ratio);
            this.#canvas.height = Math.round(height * ratio);
        }
        const context = this.#canvas.getContext("2d");
        context.setTransform(ratio, 0, 0, ratio, 0, 0);
        context.clearRect(0, 0, width, height);

        const style = getComputedStyle(this.#figure);
        const colour = (name) => style.getPropertyValue(name).trim();
        const columns = this.#samples.map((sample) => this.#cells(sample));
        const rows = columns.flat().map(([row]) => row);
        // At least a power of ten, with a little air.
        let low = rows.length ? Math.max(0, Math.min(...rows) - 1) : 40;
        let high = rows.length ? Math.min(this.#bounds.length - 1, Math.max(...rows) + 1) : 68;
        while (high - low < 14) [low, high] = [Math.max(0, low - 1), Math.min(this.#bounds.length - 1, high + 1)];
        const plot = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
        this.#view = { low, high, plot };
        const column = plot.width / this.#seconds;
        const row = plot.height / (high - low + 1);
        const x = (slot) => MARGIN.left + slot * column;
        const y = (at) => MARGIN.top + plot.height - (at - low + 1) * row;

        context.fillStyle = colour("--plot");
        context.fillRect(MARGIN.left, MARGIN.top, plot.width, plot.height);
        const most = Math.max(1, ...columns.flat().map(([, n]) => n));
        const shades = ramp([0, 1, 2, 3, 4].map((step) => colour(`--heat-${step}`)));
        const first = this.#seconds - columns.length;
        this.#axes(context, colour, { x, low, high, width, height });
        columns.forEach((cells, index) => {
            for (const [at, n] of cells) {
                context.fillStyle = shades[Math.round((Math.log1p(n) / Math.log1p(most)) * (SHADES - 1))];
                context.fillRect(x(first + index), y(at), column + 0.4, row + 0.4);
            }
        });
        this.#showCell(context, colour, columns, { x, y, column, row, first, width });
    }

    #axes(context, colour, { x, low, high, width, height }) {
        context.font = "11px system-ui, sans-serif";
        context.fillStyle = colour("--faint");
        context.strokeStyle = colour("--grid");
        context.lineWidth = 1;
        context.textAlign = "right";
        context.textBaseline = "middle";
        const bottom = Math.log(this.#bounds[low - 1] ?? this.#bounds[0] / 2);
        const top = Math.log(this.#bounds[high]);
        for (let decade = 3; decade <= 10; decade++) {
            const part = (Math.log(10 ** decade) - bottom) / (top - bottom);
            if (part < -0.001 || part > 1.001) continue;
            const at = Math.round(height - MARGIN.bottom - part * (height - MARGIN.top - MARGIN.bottom)) + 0.5;
            context.beginPath();
            context.moveTo(MARGIN.left, at);
            context.lineTo(width - MARGIN.right, at);
            context.stroke();
            context.fillText(
                ["1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"][decade - 3],
                MARGIN.left - 8,
                at,
            );
        }
        context.textBaseline = "alphabetic";
        const minutes = this.#seconds / 60;
        for (let minute = 0; minute <= minutes; minute++) {
            context.textAlign = minute === minutes ? "right" : minute === 0 ? "left" : "center";
            if (width < 460 && minute % 2 === 0) continue;
            const label = minute === minutes ? "now" : `−${minutes - minute} min`;
            context.fillText(label, x(minute * 60), height - 8);
        }
        if (this.#samples.every((sample) => sample.heat[this.#stage].length === 0)) {
            context.textAlign = "center";
            context.fillText("Nothing happened in the last five minutes", (width + MARGIN.left) / 2, height / 2);
        }
    }

    #showCell(context, colour, columns, { x, y, column, row, first, width }) {
        this.#tip.hidden = this.#cell === undefined;
        if (!this.#cell) return;
        const { slot, row: at } = this.#cell;
        const cells = columns[slot - first] ?? [];
        const sample = this.#samples[slot - first];
        if (!sample) return;
        context.strokeStyle = colour("--text");
        context.strokeRect(x(slot) - 0.5, y(at) - 0.5, Math.max(3, column) + 1, row + 1);
        const total = cells.reduce((sum, [, n]) => sum + n, 0);
        const here = cells.find(([found]) => found === at)?.[1] ?? 0;
        const share = total > 0 ? `, ${((100 * here) / total).toPrecision(2)}\u2009%` : "";
        this.#tip.replaceChildren(
            element("strong", {}, clock(sample.at)),
            element("span", {}, `${time(this.#bounds[at - 1] ?? 0)} – ${time(this.#bounds[at])}`),
            element("span", {}, `${count(here)} of ${count(total)}${share}`),
        );
        const half = this.#tip.offsetWidth / 2;
        this.#tip.style.left = `${Math.min(width - half - 4, Math.max(half + 4, x(slot)))}px`;
        this.#tip.style.top = `${Math.max(0, y(at) - 8)}px`;
        this.#tip.classList.toggle("below", y(at) < 70);
    }
}

/** Shades between colours given as #rrggbb. */
function ramp(stops) {
    const parts = stops.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
    return Array.from({ length: SHADES }, (_, shade) => {
        const at = (shade / (SHADES - 1)) * (parts.length - 1);
        const [from, to] = [parts[Math.floor(at)], parts[Math.ceil(at)]];
        return `rgb(${from.map((part, i) => Math.round(part + (to[i] - part) * (at % 1))).join(" ")})`;
    });
}
