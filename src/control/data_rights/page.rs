//! The pages of a copy that people read: `index.html`, and one for each conversation. They need no script and nothing
//! from elsewhere. Everything that users have written is escaped.

use serde_json::Value;
use std::fmt::Write as _;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;\
    color-scheme:light dark}h1{font-size:1.5rem}article{border-top:1px solid #8884;padding:.5rem 0}\
    time{color:#777;font-size:.85rem}p{margin:.2rem 0;white-space:pre-wrap;overflow-wrap:anywhere}\
    table{border-collapse:collapse}td,th{text-align:left;padding:.2rem .8rem .2rem 0;vertical-align:top}";

/// A text in HTML.
fn escaped(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            '"' => to.push_str("&quot;"),
            '\'' => to.push_str("&#39;"),
            other => to.push(other),
        }
    }
    to
}

fn head(title: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style><h1>{title}</h1>\n"
    )
}

/// The beginning of a conversation's page.
pub(super) fn conversation(name: &str) -> String {
    format!("{}<p><a href=\"../index.html\">Back</a></p>\n", head(name))
}

/// A message on it: a row of `sql::data_rights::copy_of_texts`.
pub(super) fn message(row: &Value) -> String {
    let text = |field: &str| escaped(row[field].as_str().unwrap_or_default());
    let mut page = format!("<article><time>{}</time>", text("at"));
    if row["edited"] == true {
        page.push_str(" <small>edited</small>");
    }
    let _ = write!(page, "<p>{}</p>", text("content")); // writing to a String does not fail
    for file in row["files"].as_array().into_iter().flatten() {
        let _ = write!(page, "<p>📎 {}</p>", escaped(file["name"].as_str().unwrap_or("file")));
    }
    page.push_str("</article>\n");
    page
}

/// What the first page shows.
#[derive(Default)]
pub(super) struct CopyContents {
    /// When the copy was made.
    pub(super) made_at: String,
    /// Name in the archive and title of each conversation, and how many messages.
    pub(super) conversations: Vec<(String, String, u64)>,
    /// Name in the archive and bytes of each file.
    pub(super) files: Vec<(String, u64)>,
    /// Name in the archive of each table, and its rows.
    pub(super) tables: Vec<(String, u64)>,
}

/// Names that the first page lists of each kind at most; the archive has all.
pub(super) const LISTED_MAX: usize = 10_000;

impl CopyContents {
    /// The first page.
    pub(super) fn to_page(&self, user: &Value) -> String {
        let mut page = head("Your data");
        let _ = write!(page, "<p>What this server stores of you, as of {}.</p><table>", escaped(&self.made_at));
        for (field, value) in user.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(page, "<tr><th>{}<td>{}", escaped(field), escaped(&value));
        }
        page.push_str("</table><h2>What you have written</h2><ul>");
        for (path, name, count) in &self.conversations {
            let (path, name) = (escaped(path), escaped(name));
            let _ = write!(page, "<li><a href=\"{path}\">{name}</a> ({count})");
        }
        page.push_str("</ul><h2>Your files</h2><ul>");
        for (path, size) in &self.files {
            let _ = write!(page, "<li>{} ({size} bytes)", escaped(path));
        }
        page.push_str("</ul><h2>Everything, for programs</h2><p>Each file has a JSON object on each line.</p><ul>");
        for (path, count) in &self.tables {
            let path = escaped(path);
            let _ = write!(page, "<li><a href=\"{path}\">{path}</a> ({count})");
        }
        page.push_str("</ul>\n");
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn texts_cannot_become_markup() {
        let row = json!({"at": "now", "content": "<script>alert('&')</script>", "edited": true,
            "files": [{"id": 1, "name": "\"><img src=x>"}]});
        let page = message(&row);
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;&amp;&#39;)"), "{page}");
        let contents =
            CopyContents { conversations: vec![("a\"b".into(), "<b>".into(), 1)], ..CopyContents::default() };
        let page = contents.to_page(&json!({"username": "<i>", "bio": null}));
        assert!(!page.contains("<b>") && !page.contains("<i>") && !page.contains("bio"), "{page}");
        assert!(conversation("<u>").contains("&lt;u&gt;"));
    }
}
