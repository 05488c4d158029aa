//! The fields that every HTTP response carries, whichever part of the server answers.
//!
//! They tell browsers not to guess types, not to store responses, and not to let other pages frame, open or embed
//! them. A page that needs less strict rules for itself replaces `Content-Security-Policy`.
//!
//! The web client needs the clipboard and notifications. `Permissions-Policy` does not list them, so they stay as they
//! are by default: for the page itself, and after a question to the user. Deliberately absent:
//! `Strict-Transport-Security`, which belongs to the proxy that terminates TLS.

/// Name in lower case, and value.
pub const RESPONSE_FIELDS: [(&str, &str); 8] = [
    // Every response is personal or momentary.
    ("cache-control", "no-store"),
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), \
         microphone=(), midi=(), payment=(), usb=()",
    ),
    ("referrer-policy", "no-referrer"),
    ("x-content-type-options", "nosniff"),
    // For browsers that do not know frame-ancestors.
    ("x-frame-options", "DENY"),
];

/// The policy of responses that are no pages.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; frame-ancestors 'none'";

/// The fields as text, for responses that are written without an HTTP library.
#[must_use]
pub fn response_fields() -> String {
    RESPONSE_FIELDS.iter().map(|(name, value)| [name, ": ", value, "\r\n"].concat()).collect()
}
