// The captcha that a registration may need: the widget of Turnstile, hCaptcha or reCAPTCHA, with the same functions.

const APIS = ["turnstile", "hcaptcha", "grecaptcha"];

/** Loads the script once. */
let loading;
function load(url) {
    loading ??= new Promise((done, fail) => {
        const script = document.createElement("script");
        Object.assign(script, { src: url, async: true, onload: done });
        script.onerror = () => {
            loading = undefined;
            script.remove();
            fail(new Error(url));
        };
        document.head.append(script);
    });
    return loading;
}

/** Shows the widget in `box`. Calls `solved` with its response, and with undefined when that has expired. */
export async function showCaptcha(box, { site_key, script_url }, solved) {
    await load(script_url);
    const name = APIS.find((name) => globalThis[name]);
    const api = globalThis[name];
    if (name === "grecaptcha") await new Promise((done) => api.ready(done));
    const forget = () => solved(undefined);
    api.render(box, { sitekey: site_key, callback: solved, "expired-callback": forget, "error-callback": forget });
}
