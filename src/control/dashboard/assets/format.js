// Numbers as people read them. Three significant digits are what the histograms know.

/** 0.00123 s as "1.23 ms", from nanoseconds. */
export function time(ns) {
    if (ns === undefined || ns === null) return "–";
    for (const [size, unit] of [
        [1e9, "s"],
        [1e6, "ms"],
        [1e3, "µs"],
    ]) {
        if (ns >= size) return `${digits(ns / size)}\u2009${unit}`;
    }
    return `${Math.round(ns)}\u2009ns`;
}

/** 12345 as "12.3 k". */
export function count(n) {
    for (const [size, unit] of [
        [1e9, "G"],
        [1e6, "M"],
        [1e4, "k"],
    ]) {
        if (n >= size) return `${digits(n / Math.min(size, size === 1e4 ? 1e3 : size))}\u2009${unit}`;
    }
    return n >= 100 || Number.isInteger(n) ? Math.round(n).toLocaleString("en") : digits(n);
}

/** Bytes a second. */
export function bytes(n) {
    for (const [size, unit] of [
        [1e9, "GB"],
        [1e6, "MB"],
        [1e3, "kB"],
    ]) {
        if (n >= size) return `${digits(n / size)}\u2009${unit}`;
    }
    return `${Math.round(n)}\u2009B`;
}

function digits(n) {
    return n >= 99.95 ? n.toFixed(0) : n >= 9.995 ? n.toFixed(1) : n.toFixed(2);
}

/** 93784000 ms as "1 d 2 h". */
export function duration(ms) {
    const parts = [
        [86400, "d"],
        [3600, "h"],
        [60, "min"],
        [1, "s"],
    ];
    let seconds = Math.floor(ms / 1000);
    const words = [];
    for (const [size, unit] of parts) {
        const n = Math.floor(seconds / size);
        seconds -= n * size;
        if (n > 0 || (unit === "s" && words.length === 0)) words.push(`${n}\u2009${unit}`);
        if (words.length === 2) break;
    }
    return words.join(" ");
}

/** A moment as "14:03:07". */
export function clock(ms) {
    return new Date(ms).toLocaleTimeString("en-GB");
}

/** cross_core as "cross core". */
export function words(name) {
    return name.replaceAll("_", " ");
}

/** An element with attributes and children; text is a child like any other. */
export function element(name, attributes = {}, ...children) {
    return filled(document.createElement(name), attributes, children);
}

/** The same for SVG. */
export function svg(name, attributes = {}, ...children) {
    return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(node, attributes, children) {
    for (const [key, value] of Object.entries(attributes)) {
        if (value !== undefined && value !== false) node.setAttribute(key, value === true ? "" : value);
    }
    node.append(...children);
    return node;
}
