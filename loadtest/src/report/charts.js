// The charts of a report, and the functions that write numbers and build elements.
"use strict";
const report = (() => {
    const data = JSON.parse(document.getElementById("data").textContent);
    const SVG = document.getElementById("svg").namespaceURI;
    const runs = data.runs;
    const many = runs.length > 1;
    const visible = runs.map(() => true);
    const charts = [];

    // Text goes in as text nodes only: labels and samples are whatever a file said.
    const fill = (node, attributes, children) => {
        for (const [name, value] of Object.entries(attributes || {})) {
            if (name === "on")
                for (const [event, handler] of Object.entries(value)) node.addEventListener(event, handler);
            else if (name === "vars")
                for (const [key, entry] of Object.entries(value)) node.style.setProperty(key, entry);
            else if (value !== null && value !== undefined && value !== false)
                node.setAttribute(name, value === true ? "" : value);
        }
        for (const child of children.flat(Infinity))
            if (child !== null && child !== undefined && child !== false) node.append(child);
        return node;
    };
    const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
    const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
    const color = (run) => `var(--c${run % 8})`;
    const dot = (run) => h("span", { class: "dot", vars: { "--series": color(run) }, "aria-hidden": "true" });

    // Numbers, as the terminal writes them: three significant digits.
    const three = (v) => v.toFixed(Math.abs(v) < 9.995 ? 2 : Math.abs(v) < 99.95 ? 1 : 0);
    const micros = (us) =>
        us < 999.5
            ? `${Number.isInteger(us) ? us : three(us)} µs`
            : us < 999500
              ? `${three(us / 1e3)} ms`
              : `${three(us / 1e6)} s`;
    const grouped = (v) =>
        Math.round(v)
            .toString()
            .replace(/\B(?=(\d{3})+$)/g, ",");
    const number = (v) => (v >= 999.5 ? grouped(v) : Number.isInteger(v) ? `${v}` : three(v));
    const short = (v) =>
        v >= 1e6
            ? `${+(v / 1e6).toPrecision(3)}M`
            : v >= 1e4
              ? `${+(v / 1e3).toPrecision(3)}k`
              : v >= 1000
                ? grouped(v)
                : `${+v.toPrecision(3)}`;
    const tick = (us) =>
        us < 1000
            ? `${+us.toPrecision(3)} µs`
            : us < 1e6
              ? `${+(us / 1e3).toPrecision(3)} ms`
              : `${+(us / 1e6).toPrecision(3)} s`;
    const bytes = (v) => {
        let u = -1;
        while (v >= 999.5 && u < 3) {
            v /= 1024;
            u += 1;
        }
        return u < 0 ? `${v} B` : `${three(v)} ${["KiB", "MiB", "GiB", "TiB"][u]}`;
    };
    const seconds = (v) => `${+v.toFixed(1)} s`;
    const percentile = (x) => {
        const p = 100 * (1 - 1 / x);
        return `P${x < 1.0001 ? "0" : +p.toFixed(Math.max(0, Math.ceil(Math.log10(x)) - 1))}`;
    };

    // Scales.
    const niceStep = (span, count) => {
        const raw = span / Math.max(1, count),
            power = 10 ** Math.floor(Math.log10(raw));
        return [1, 2, 5, 10].map((n) => n * power).find((step) => step >= raw * 0.999) || raw;
    };
    const linear = (min, max, count) => {
        const step = niceStep(max - min || 1, count),
            top = Math.ceil(max / step - 1e-9) * step || step,
            ticks = [];
        for (let v = min; v <= top * 1.0001; v += step) ticks.push(+v.toPrecision(12));
        return { ticks, at: (v) => (v - min) / (top - min), top };
    };
    // Memory has round numbers in powers of two.
    const binary = (min, max, count) => {
        const unit = 1024 ** Math.max(0, Math.floor(Math.log2(Math.max(1, max)) / 10 - 0.01)),
            scaled = linear(min / unit, max / unit, count);
        return { ticks: scaled.ticks.map((v) => v * unit), at: (v) => scaled.at(v / unit) };
    };
    const log = (min, max) => {
        const bottom = Math.max(min, 1e-9),
            decades = Math.log10(max / bottom);
        const steps = decades <= 1.3 ? [1, 2, 3, 5, 7] : decades <= 3.2 ? [1, 2, 5] : [1];
        const all = [];
        for (let e = Math.floor(Math.log10(bottom)) - 1; e <= Math.log10(max) + 1; e += 1)
            for (const n of steps) all.push(+(n * 10 ** e).toPrecision(6));
        const low = all.filter((v) => v <= bottom).pop() || bottom,
            high = all.find((v) => v >= max) || max;
        const span = Math.log(high / low) || 1;
        return { ticks: all.filter((v) => v >= low && v <= high), at: (v) => Math.log(Math.max(v, low) / low) / span };
    };
    const PERCENTILES = [
        [1, "0 %"],
        [2, "50 %"],
        [10, "90 %"],
        [100, "99 %"],
        [1e3, "99.9 %"],
        [1e4, "99.99 %"],
        [1e5, "99.999 %"],
        [1e6, "99.9999 %"],
        [1e7, "99.99999 %"],
    ];

    // A chart: series {run, name, points [[x, y]], dash?, width?, band? [[x, low, high]]}; y is "log" or "zero".
    function chart(title, keys, options, series) {
        series = series.filter((one) => one.points.length > 0);
        if (series.length === 0) return null;
        const figure = h("section", { class: "card chart" });
        const readout = h("div", { class: "readout", role: "status" });
        const plot = s("svg", {
            class: "plot",
            tabindex: "0",
            role: "slider",
            "aria-label": `${title}: values along the horizontal axis, use the arrow keys`,
            "aria-valuemin": 0,
            "aria-valuenow": 0,
        });
        const legend = keys.map(([name, dash, width]) =>
            h(
                "span",
                {},
                s(
                    "svg",
                    { width: 22, height: 8, "aria-hidden": "true" },
                    s("line", {
                        x1: 1,
                        x2: 21,
                        y1: 4,
                        y2: 4,
                        stroke: "currentColor",
                        "stroke-width": width || 2,
                        "stroke-dasharray": dash,
                        "stroke-linecap": "round",
                    }),
                ),
                name,
            ),
        );
        figure.append(
            h("header", {}, h("h3", {}, title), legend.length > 0 && h("div", { class: "keys" }, legend)),
            plot,
            readout,
        );
        let view = null,
            at = -1;

        function draw() {
            const width = Math.max(280, Math.round(plot.getBoundingClientRect().width || 480)),
                height = Math.round(Math.min(300, Math.max(210, width * 0.52)));
            const shown = series.filter((one) => visible[one.run]);
            const used = shown.length > 0 ? shown : series;
            const ys = used
                .flatMap((one) => one.points.map((p) => p[1]).concat((one.band || []).flatMap((b) => [b[1], b[2]])))
                .filter((v) => Number.isFinite(v) && (options.y !== "log" || v > 0));
            const xs = used.flatMap((one) => [one.points[0][0], one.points[one.points.length - 1][0]]);
            const yMax = ys.reduce((a, b) => Math.max(a, b), 0),
                yMin = ys.reduce((a, b) => Math.min(a, b), Infinity);
            const y =
                options.y === "log"
                    ? log(Number.isFinite(yMin) ? yMin : 1, Math.max(yMax, 2))
                    : (options.y === "binary" ? binary : linear)(0, yMax || 1, 5);
            const labels = y.ticks.map(options.yText);
            const left = 14 + Math.max(...labels.map((text) => text.length)) * 6.4,
                right = 14,
                top = 8,
                bottom = 26;
            const xMin = Math.min(...xs),
                xMax = Math.max(...xs);
            const xSpan = options.x === "log" ? Math.log(xMax / xMin) || 1 : xMax - xMin || 1;
            const px = (x) =>
                left + (width - left - right) * (options.x === "log" ? Math.log(x / xMin) / xSpan : (x - xMin) / xSpan);
            const py = (v) => top + (height - top - bottom) * (1 - y.at(v));
            plot.setAttribute("viewBox", `0 0 ${width} ${height}`);
            plot.replaceChildren();
            y.ticks.forEach((v, index) => {
                const place = Math.round(py(v)) + 0.5;
                plot.append(
                    s("line", { class: "grid", x1: left, x2: width - right, y1: place, y2: place }),
                    s("text", { x: left - 7, y: place + 4, "text-anchor": "end" }, labels[index]),
                );
            });
            const ticks = options.xTicks
                ? options.xTicks(xMin, xMax)
                : linear(0, xMax, Math.max(2, Math.floor(width / 90)))
                      .ticks.filter((v) => v >= xMin - 1e-9 && v <= xMax + 1e-9)
                      .map((v) => [v, options.xText(v)]);
            let free = -Infinity;
            for (const [v, text] of ticks) {
                const place = px(v),
                    half = text.length * 3.2,
                    centre = Math.min(place, width - 2 - half);
                plot.append(
                    s("line", {
                        class: "grid",
                        x1: Math.round(place) + 0.5,
                        x2: Math.round(place) + 0.5,
                        y1: top,
                        y2: height - bottom,
                    }),
                );
                if (centre - half < free) continue;
                plot.append(s("text", { x: centre, y: height - 8, "text-anchor": "middle" }, text));
                free = centre + half + 8;
            }
            plot.append(
                s("line", {
                    class: "axis",
                    x1: left,
                    x2: width - right,
                    y1: height - bottom + 0.5,
                    y2: height - bottom + 0.5,
                }),
            );
            const path = (points) =>
                points
                    .filter((p) => Number.isFinite(p[1]))
                    .map((p, i) => `${i === 0 ? "M" : "L"}${px(p[0]).toFixed(1)} ${py(p[1]).toFixed(1)}`)
                    .join("");
            for (const one of shown)
                if (one.band && shown.length <= 4) {
                    const there = one.band.map((b) => [b[0], b[2]]);
                    const back = one.band.slice().reverse();
                    plot.append(
                        s("path", {
                            class: "band",
                            vars: { "--series": color(one.run) },
                            d: `${path(there)}${path(back.map((b) => [b[0], b[1]])).replace("M", "L")}Z`,
                        }),
                    );
                }
            for (const one of shown)
                plot.append(
                    s("path", {
                        class: "line",
                        vars: { "--series": color(one.run) },
                        d: path(one.points),
                        "stroke-width": one.width || 2,
                        "stroke-dasharray": one.dash || (one.run >= 8 ? "8 3" : null),
                    }),
                );
            if (options.dots)
                for (const one of shown)
                    for (const p of one.points)
                        plot.append(
                            s("circle", {
                                class: "mark",
                                vars: { "--series": color(one.run) },
                                cx: px(p[0]),
                                cy: py(p[1]),
                                r: 3.5,
                            }),
                        );
            const cursor = s("g", {});
            plot.append(cursor);
            const grid = [...new Set(shown.flatMap((one) => one.points.map((p) => p[0])))].sort((a, b) => a - b);
            plot.setAttribute("aria-valuemax", Math.max(0, grid.length - 1));
            view = { width, height, px, py, shown, cursor, grid, top, bottom };
            hide();
        }

        // The point of a series at a place; none where it has already ended.
        function valueAt(one, x) {
            const points = one.points;
            if (x > points[points.length - 1][0] * 1.0001 || x < points[0][0] * 0.9999) return null;
            let low = 0,
                high = points.length - 1;
            while (high - low > 1) {
                const middle = (low + high) >> 1;
                if (points[middle][0] <= x) low = middle;
                else high = middle;
            }
            return Math.abs(points[high][0] - x) < Math.abs(points[low][0] - x) ? points[high] : points[low];
        }

        function show(index) {
            if (!view || view.grid.length === 0) return;
            at = Math.max(0, Math.min(view.grid.length - 1, index));
            const x = view.grid[at],
                place = view.px(x);
            const found = view.shown.map((one) => [one, valueAt(one, x)]).filter(([, point]) => point !== null);
            view.cursor.replaceChildren(
                s("line", { class: "cross", x1: place, x2: place, y1: view.top, y2: view.height - view.bottom }),
            );
            for (const [one, point] of found)
                view.cursor.append(
                    s("circle", {
                        class: "mark",
                        vars: { "--series": color(one.run) },
                        cx: view.px(point[0]),
                        cy: view.py(point[1]),
                        r: 4,
                    }),
                );
            const name = (one) => [many && runs[one.run].label, one.name].filter(Boolean).join(" · ");
            readout.replaceChildren(
                h("div", { class: "at" }, options.xText(x)),
                ...found.map(([one, point]) =>
                    h(
                        "div",
                        { class: "row" },
                        dot(one.run),
                        h("span", {}, name(one)),
                        h("b", {}, options.value(point[1])),
                    ),
                ),
            );
            readout.style.display = "block";
            const box = plot.getBoundingClientRect(),
                card = figure.getBoundingClientRect(),
                scale = box.width / view.width;
            const left = box.left - card.left + place * scale,
                size = readout.getBoundingClientRect();
            const beside = left + 14 + size.width < card.width - 6 ? left + 14 : left - 14 - size.width;
            readout.style.left = `${Math.max(6, Math.min(beside, card.width - size.width - 6))}px`;
            readout.style.top = `${box.top - card.top + 10}px`;
            const values = found.map(([one, point]) => `${name(one)} ${options.value(point[1])}`);
            plot.setAttribute("aria-valuenow", at);
            plot.setAttribute("aria-valuetext", `${options.xText(x)}: ${values.join(", ")}`);
        }
        function hide() {
            at = -1;
            readout.style.display = "none";
            if (view) view.cursor.replaceChildren();
        }
        function follow(event) {
            if (!view || view.grid.length === 0) return;
            const box = plot.getBoundingClientRect(),
                want = ((event.clientX - box.left) * view.width) / box.width;
            let best = 0;
            for (let i = 1; i < view.grid.length; i += 1)
                if (Math.abs(view.px(view.grid[i]) - want) < Math.abs(view.px(view.grid[best]) - want)) best = i;
            show(best);
        }
        plot.addEventListener("pointermove", follow);
        plot.addEventListener("pointerdown", follow);
        plot.addEventListener("pointerleave", (event) => {
            if (event.pointerType !== "touch") hide();
        });
        plot.addEventListener("blur", hide);
        plot.addEventListener("keydown", (event) => {
            const last = view ? view.grid.length - 1 : 0,
                far = Math.max(1, Math.round(last / 20));
            const next = {
                ArrowRight: at + 1,
                ArrowLeft: at < 0 ? last : at - 1,
                PageUp: at + far,
                PageDown: at - far,
                Home: 0,
                End: last,
            }[event.key];
            if (event.key === "Escape") hide();
            else if (next !== undefined) {
                event.preventDefault();
                show(next);
            }
        });
        charts.push({ figure, draw, width: 0 });
        return figure;
    }

    const curve = (key, title) =>
        chart(
            title,
            [],
            {
                x: "log",
                y: "log",
                yText: tick,
                value: micros,
                xText: percentile,
                xTicks: (min, max) => PERCENTILES.filter(([x]) => x >= min * 0.999 && x <= max * 1.001),
            },
            runs.flatMap((run, index) =>
                run.curves
                    .filter((one) => one.key === key)
                    .map((one) => ({ run: index, name: "", points: one.points })),
            ),
        );

    const overTime = (title, keys, y, yText, value, lines) =>
        chart(
            title,
            keys.length > 1 ? keys : [],
            { x: "linear", y, yText, value, xText: seconds },
            runs.flatMap((run, index) => lines(run.timeline, index)),
        );
    const line = (run, timeline, key, name, style) => {
        const points = timeline.map((second) => [second.at_s, second[key]]);
        return points.some((p) => p[1] > 0) ? [{ run, name, points, ...style }] : [];
    };
    const latencyOverTime = (kind, title) =>
        overTime(
            title,
            [["P99", null, 2.2], ["P50", "1 4", 2], ...(many ? [] : [["max", "5 4", 1]])],
            "log",
            tick,
            micros,
            (timeline, run) => {
                // A second without values has no latency; zero would be the best of all.
                const known = timeline.filter((second) => second[`${kind}_p99_us`] > 0);
                return [
                    ...line(run, known, `${kind}_p99_us`, "P99", {
                        width: 2.2,
                        band: known.map((second) => [second.at_s, second[`${kind}_p50_us`], second[`${kind}_p99_us`]]),
                    }),
                    ...line(run, known, `${kind}_p50_us`, "P50", { dash: "1 4", width: 2 }),
                    ...(many ? [] : line(run, known, `${kind}_max_us`, "max", { width: 1, dash: "5 4" })),
                ];
            },
        );

    return {
        data,
        runs,
        many,
        visible,
        charts,
        fill,
        h,
        s,
        color,
        dot,
        three,
        micros,
        number,
        short,
        tick,
        bytes,
        chart,
        curve,
        overTime,
        line,
        latencyOverTime,
    };
})();
