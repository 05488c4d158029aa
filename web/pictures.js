// Whether people's pictures are loaded from other servers. On unless somebody switches it off: this browser remembers it.
// Pictures of this server's own are always shown.

const KEY = "veza.pictures";

export function showsPictures() {
    return localStorage.getItem(KEY) !== "off";
}

export function setPictures(isOn) {
    if (isOn) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, "off");
}
