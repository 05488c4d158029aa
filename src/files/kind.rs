//! What a file is: its first bytes, the extension of its name and the type that its sender gave must agree.
//!
//! A reader must not receive something else than what the name promises, and a browser must never execute a file of
//! another user. So what can carry scripts is only ever served as an attachment ([`is_shown_inline`]), with `nosniff`
//! and a sandbox, whatever its name is.

use super::name::extension;
use super::reason::{FileFailure, FileReason};
use std::io::{BufRead, Seek};

/// Bytes at the start of a file that the check looks at.
pub const HEAD_BYTES: usize = 16 * 1024;
/// Most pixels of an image: 100 megapixels. A small file can claim more, and fill the memory of its decoder.
pub const PIXELS_MAX: u64 = 100_000_000;
/// Most pixels on a side of an image.
pub const SIDE_MAX: u64 = 30_000;
/// The type of bytes that nobody knows.
pub const UNKNOWN: &str = "application/octet-stream";
/// The type of text without an extension that says more.
const PLAIN: &str = "text/plain";

/// Extensions of texts, with their types. Texts have no first bytes to tell them apart.
const TEXTS: &[(&str, &str)] = &[
    ("css", "text/css"),
    ("csv", "text/csv"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ics", "text/calendar"),
    ("js", "text/javascript"),
    ("json", "application/json"),
    ("log", PLAIN),
    ("md", "text/markdown"),
    ("mjs", "text/javascript"),
    ("svg", "image/svg+xml"),
    ("txt", PLAIN),
    ("vcf", "text/vcard"),
    ("xhtml", "application/xhtml+xml"),
    ("xml", "text/xml"),
];

/// Texts that a browser runs or uses when it opens them from a disk.
const ACTIVE: &[&str] =
    &["application/xhtml+xml", "image/svg+xml", "text/css", "text/html", "text/javascript", "text/xml"];

/// Extensions with the types that their content may have, for those that a reader would be deceived by otherwise.
const PROMISED: &[(&str, &[&str])] = &[
    ("7z", &["application/x-7z-compressed"]),
    ("avif", &["image/avif"]),
    ("bmp", &["image/bmp"]),
    ("docx", &["application/vnd.openxmlformats-officedocument.wordprocessingml.document", "application/zip"]),
    ("exe", &["application/vnd.microsoft.portable-executable"]),
    ("flac", &["audio/x-flac"]),
    ("gif", &["image/gif"]),
    ("gz", &["application/gzip"]),
    ("heic", &["image/heif"]),
    ("jpeg", &["image/jpeg"]),
    ("jpg", &["image/jpeg"]),
    ("mkv", &["video/x-matroska", "video/webm"]),
    ("mov", &["video/quicktime", "video/mp4"]),
    ("mp3", &["audio/mpeg"]),
    ("mp4", &["video/mp4", "video/quicktime", "audio/m4a"]),
    ("ogg", &["audio/ogg", "video/ogg", "application/ogg"]),
    ("pdf", &["application/pdf"]),
    ("png", &["image/png"]),
    ("pptx", &["application/vnd.openxmlformats-officedocument.presentationml.presentation", "application/zip"]),
    ("tif", &["image/tiff"]),
    ("tiff", &["image/tiff"]),
    ("wav", &["audio/x-wav"]),
    ("webm", &["video/webm", "video/x-matroska"]),
    ("webp", &["image/webp"]),
    ("xlsx", &["application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "application/zip"]),
    ("zip", &["application/zip"]),
];

/// Other names of types.
const ALIASES: &[(&str, &str)] = &[
    ("application/javascript", "text/javascript"),
    ("application/x-gzip", "application/gzip"),
    ("application/x-javascript", "text/javascript"),
    ("application/x-msdownload", "application/vnd.microsoft.portable-executable"),
    ("application/x-zip-compressed", "application/zip"),
    ("application/xml", "text/xml"),
    ("audio/flac", "audio/x-flac"),
    ("audio/mp3", "audio/mpeg"),
    ("audio/wav", "audio/x-wav"),
    ("audio/wave", "audio/x-wav"),
    ("image/heic", "image/heif"),
    ("image/jpg", "image/jpeg"),
    ("image/pjpeg", "image/jpeg"),
    ("text/x-markdown", "text/markdown"),
];

/// What a browser may show in its window: pictures, sound, films and plain text, none of which can carry a script.
const INLINE: &[&str] = &[
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "audio/mpeg",
    "audio/ogg",
    "audio/x-wav",
    "audio/x-flac",
    "audio/m4a",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "video/quicktime",
    PLAIN,
];

/// What the content of a file is, from its first bytes; texts by their names.
#[must_use]
pub fn found(head: &[u8], is_whole: bool, name: &str) -> &'static str {
    if let Some(kind) = infer::get(head) {
        match kind.mime_type() {
            // Text formats are recognised by loose patterns; below, the whole head must be text.
            "text/html" | "text/xml" | "text/x-shellscript" => {}
            known => return known,
        }
    }
    if !is_text(head, is_whole) {
        return UNKNOWN;
    }
    let extension = extension(name).map(str::to_ascii_lowercase);
    TEXTS.iter().find(|(known, _)| extension.as_deref() == Some(known)).map_or(PLAIN, |(_, kind)| kind)
}

/// Whether bytes are UTF-8 without control characters that no text has. The head of a longer file may end within a
/// character.
fn is_text(head: &[u8], is_whole: bool) -> bool {
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if !is_whole && error.error_len().is_none() => {
            // PROOF: the bytes before `valid_up_to` are UTF-8.
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{c}' | '\u{1b}' | '\u{8}'))
}

/// Checks that a file is what its name and its sender say, and that this server accepts it. `allowed` has types, or
/// `image/*`, or `*`.
///
/// # Errors
/// The reason, for its sender.
pub fn check(found: &str, name: &str, declared: Option<&str>, allowed: &[String]) -> Result<(), FileFailure> {
    let extension = extension(name).map(str::to_ascii_lowercase);
    let promised = PROMISED.iter().find(|(known, _)| extension.as_deref() == Some(known)).map(|(_, types)| *types);
    if let (Some(extension), Some([promised, others @ ..])) = (&extension, promised)
        && *promised != found
        && !others.contains(&found)
    {
        let sentence = format!("The name ends with .{extension}, but the content is {found}, not {promised}.");
        return Err(wrong_extension(sentence, extension, found));
    }
    let is_text_by_name = TEXTS.iter().find(|(known, _)| extension.as_deref() == Some(known)).map(|(_, kind)| *kind);
    if let (Some(extension), Some(expected)) = (&extension, is_text_by_name)
        && !is_textual(found)
        // A text in another encoding is bytes to us. What a browser would run must be a text that we can read.
        && (found != UNKNOWN || ACTIVE.contains(&expected))
    {
        let sentence = format!("The name says {expected}, but the content is {found}.");
        return Err(wrong_extension(sentence, extension, found));
    }
    if let Some(declared) = declared.map(usual).filter(|declared| *declared != UNKNOWN)
        && !agrees(&declared, found)
    {
        let sentence = format!("The file was sent as {declared}, but its content is {found}.");
        let failure = FileFailure::new(FileReason::WrongType, sentence);
        return Err(failure.with("declared_type", declared).with("media_type", found));
    }
    let is_allowed = |pattern: &String| match pattern.split_once('/') {
        Some((class, "*")) => found.split_once('/').is_some_and(|(found, _)| found == class),
        Some(_) => pattern == found,
        None => pattern == "*",
    };
    if allowed.iter().any(is_allowed) {
        Ok(())
    } else {
        let sentence = format!("This server does not accept files of type {found}.");
        Err(FileFailure::new(FileReason::TypeNotAllowed, sentence).with("media_type", found))
    }
}

fn wrong_extension(sentence: String, extension: &str, found: &str) -> FileFailure {
    FileFailure::new(FileReason::WrongExtension, sentence).with("extension", extension).with("media_type", found)
}

/// A declared type without its parameters, in lower case and under its usual name.
fn usual(declared: &str) -> String {
    let declared = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    ALIASES.iter().find(|(alias, _)| *alias == declared).map_or(declared, |(_, usual)| (*usual).to_owned())
}

fn is_textual(kind: &str) -> bool {
    kind.starts_with("text/") || TEXTS.iter().any(|(_, known)| *known == kind)
}

/// Whether a declared type is one that such content may have.
fn agrees(declared: &str, found: &str) -> bool {
    let is_container = |found: &str| matches!(found, "application/zip" | "application/gzip" | "application/ogg");
    let has_magic = |kind: &str| PROMISED.iter().any(|(_, types)| types.contains(&kind));
    match (declared, found) {
        _ if declared == found => true,
        // Nobody can tell one text from another, but a text is not a picture.
        _ if is_textual(found) => is_textual(declared) || !has_magic(declared) && !declared.starts_with("image/"),
        _ if found == UNKNOWN => !has_magic(declared) && !is_textual(declared),
        // Many formats are zip archives, and sound and film share containers.
        _ if is_container(found) => !has_magic(declared) || declared.contains("officedocument"),
        _ => {
            let media = |kind: &str| kind.starts_with("audio/") || kind.starts_with("video/");
            media(declared) && media(found)
        }
    }
}

/// Whether a browser may show it. Everything else is an attachment, whatever it is called.
#[must_use]
pub fn is_shown_inline(media_type: &str) -> bool {
    INLINE.contains(&media_type)
}

/// The type that a response names. A page, a style sheet or a script of this origin that names a file must not get one
/// that it would use, so what is active is bytes to a browser (`nosniff` keeps it from guessing).
#[must_use]
pub fn served_type(media_type: &str) -> &str {
    if is_textual(media_type) && !is_shown_inline(media_type) { UNKNOWN } else { media_type }
}

/// Width and height of a picture, as its head says; `None` if it does not, or if a side is 0.
///
/// # Errors
/// The picture is larger than anybody should decode.
pub fn dimensions(found: &str, picture: &mut (impl BufRead + Seek)) -> Result<Option<(u32, u32)>, FileFailure> {
    if !found.starts_with("image/") || picture.rewind().is_err() {
        return Ok(None);
    }
    let Ok(size) = imagesize::reader_size(picture) else { return Ok(None) };
    if size.width == 0 || size.height == 0 {
        return Ok(None);
    }
    let (width, height) = (size.width as u64, size.height as u64);
    if width > SIDE_MAX || height > SIDE_MAX || width.saturating_mul(height) > PIXELS_MAX {
        let sentence = format!(
            "The picture has {width} × {height} pixels. At most {PIXELS_MAX} are allowed, and {SIDE_MAX} on a side."
        );
        let failure = FileFailure::new(FileReason::TooManyPixels, sentence);
        return Err(failure.with("width", width).with("height", height));
    }
    Ok(Some((width as u32, height as u32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0\0\0\0\x80\x08\x06\0\0\0";
    const GIF: &[u8] = b"GIF89a\x10\0\x20\0\0\0\0<script>alert(1)</script>";
    const PDF: &[u8] = b"%PDF-1.7\n1 0 obj";
    const ZIP: &[u8] = b"PK\x03\x04\x14\0\0\0\0\0";
    const EXE: &[u8] = b"MZ\x90\0\x03\0\0\0";

    fn anything() -> Vec<String> {
        vec!["*".to_owned()]
    }

    #[test]
    fn finds_what_a_file_is() {
        for (head, name, expected) in [
            (PNG, "a.png", "image/png"),
            (GIF, "a.html", "image/gif"),
            (PDF, "a.pdf", "application/pdf"),
            (ZIP, "a.zip", "application/zip"),
            (EXE, "a.exe", "application/vnd.microsoft.portable-executable"),
            (b"hello", "a.txt", "text/plain"),
            (b"hello", "noname", "text/plain"),
            (b"# title", "a.md", "text/markdown"),
            (b"<!DOCTYPE html><script>", "a.html", "text/html"),
            (b"<!DOCTYPE html><script>", "a.txt", "text/plain"),
            (b"<svg xmlns='http://www.w3.org/2000/svg'>", "a.svg", "image/svg+xml"),
            (b"<?xml version='1.0'?>", "a.xml", "text/xml"),
            (b"a\0b", "a.txt", UNKNOWN),
            (b"\xff\xfe", "a.txt", UNKNOWN),
            (b"", "a.bin", "text/plain"),
        ] {
            assert_eq!(found(head, true, name), expected, "{name}");
        }
        assert_eq!(found("é".as_bytes().split_last().unwrap().1, false, "a.txt"), "text/plain", "cut in a character");
        assert_eq!(found("é".as_bytes().split_last().unwrap().1, true, "a.txt"), UNKNOWN);
    }

    #[test]
    fn name_content_and_declared_type_must_agree() {
        for (head, name, declared) in [
            (PNG, "a.png", Some("image/png")),
            (PNG, "a", None),
            (PNG, "a.PNG", Some("application/octet-stream")),
            (ZIP, "a.docx", Some("application/vnd.openxmlformats-officedocument.wordprocessingml.document")),
            (ZIP, "a.epub", Some("application/epub+zip")),
            (b"x", "a.rs", Some("text/rust")),
            (b"x", "a.json", Some("application/json")),
            (b"x", "a.txt", Some("text/plain; charset=utf-8")),
            (b"<svg/>", "a.svg", Some("image/svg+xml")),
            (b"\0\x01", "a.bin", Some("application/x-thing")),
            (PNG, "a.png", Some("Image/PNG")),
            (b"\xff\xfea\0", "a.csv", None),
        ] {
            let kind = found(head, true, name);
            assert_eq!(check(kind, name, declared, &anything()), Ok(()), "{name} {declared:?} {kind}");
        }
        for (head, name, declared) in [
            (EXE, "a.png", None),
            (EXE, "a.pdf", None),
            (ZIP, "a.jpg", None),
            (b"<html>", "a.png", None),
            (b"<html>", "a", Some("image/png")),
            (PNG, "a.png", Some("text/html")),
            (EXE, "a", Some("image/jpeg")),
            (EXE, "a", Some("text/plain")),
            (b"\0\x01", "a.mp4", None),
            (b"\0\x01", "a", Some("text/plain")),
            (PDF, "a.png", Some("image/png")),
            (GIF, "a.html", None),
            (PNG, "a.txt", None),
            (b"\0<script>", "a.js", None),
        ] {
            let kind = found(head, true, name);
            let refused = check(kind, name, declared, &anything());
            assert!(refused.is_err_and(|failure| failure.sentence.contains(kind)), "{name} {declared:?} {kind}");
        }
    }

    #[test]
    fn a_server_accepts_what_its_list_has() {
        let allowed = ["image/*".to_owned(), "application/pdf".to_owned()];
        assert_eq!(check("image/png", "a", None, &allowed), Ok(()));
        assert_eq!(check("application/pdf", "a", None, &allowed), Ok(()));
        assert!(check("application/zip", "a", None, &allowed).is_err());
        assert!(check("application/pdfx", "a", None, &allowed).is_err());
    }

    #[test]
    fn what_can_carry_a_script_is_never_shown_inline() {
        for active in ["text/html", "image/svg+xml", "application/pdf", "text/xml", "application/xhtml+xml", UNKNOWN] {
            assert!(!is_shown_inline(active), "{active}");
        }
        assert!(is_shown_inline("image/png") && is_shown_inline("text/plain"));
        for active in ["text/html", "text/css", "text/javascript", "image/svg+xml", "text/xml", "application/json"] {
            assert_eq!(served_type(active), UNKNOWN, "{active}");
        }
        let sheet = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
        for passive in ["image/png", "text/plain", "application/pdf", "application/zip", sheet] {
            assert_eq!(served_type(passive), passive);
        }
    }

    #[test]
    fn refuses_pictures_that_nobody_should_decode() {
        let dimensions = |found, head: &[u8]| super::dimensions(found, &mut std::io::Cursor::new(head));
        assert_eq!(dimensions("image/png", PNG), Ok(Some((256, 128))));
        assert_eq!(dimensions("image/gif", GIF), Ok(Some((16, 32))));
        assert_eq!(dimensions("text/plain", PNG), Ok(None));
        assert_eq!(dimensions("image/png", &PNG[..9]), Ok(None));
        assert_eq!(dimensions("image/gif", b"GIF89a\0\0\x20\0\0\0\0"), Ok(None), "a side of 0");
        let huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\x86\xa0\0\x01\x86\xa0\x08\x06\0\0\0";
        assert!(dimensions("image/png", huge).unwrap_err().sentence.contains("100000 × 100000"));
    }
}
