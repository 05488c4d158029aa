// The setting that loads profile pictures from other servers. On by default; this browser remembers the choice.
// Pictures of this server are always shown.

const KEY = "veza.pictures";

export function showsPictures() {
    return localStorage.getItem(KEY) !== "off";
}

export function setPictures(isOn) {
    if (isOn) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, "off");
}
