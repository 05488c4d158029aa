// The appearance: light, dark, or like the system.

const KEY = "veza.theme";

export function theme() {
    return localStorage.getItem(KEY) ?? "system";
}

export function setTheme(name) {
    if (name === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, name);
    applyTheme();
}

export function applyTheme() {
    document.documentElement.dataset.theme = theme();
}
