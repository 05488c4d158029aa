//! A report of a few tables, for a terminal and as a page.

use super::terminal::{machine_line, table};
use crate::result::Machine;
use std::fmt::Write as _;

const STYLE: &str = include_str!("report.css");

/// A table with its title.
#[derive(Debug)]
pub struct Section {
    /// The title.
    pub title: String,
    /// Names of the columns.
    pub header: Vec<&'static str>,
    /// The cells.
    pub rows: Vec<Vec<String>>,
}

/// For people, with remarks at the end.
pub fn text(machine: &Machine, sections: &[Section], remarks: &[String]) -> String {
    let mut text = format!("{}\n", machine_line(machine));
    for Section { title, header, rows } in sections {
        let mut shown = table(header);
        shown.add_rows(rows);
        let _ = writeln!(text, "\n{title}\n\n{}", shown.trim_fmt());
    }
    for remark in remarks {
        let _ = writeln!(text, "{remark}");
    }
    text
}

/// The same as a page that needs nothing else.
pub fn page(label: &str, machine: &Machine, sections: &[Section], remarks: &[String]) -> String {
    let label = escaped(label);
    let mut main = format!("<h1>{label}</h1><p class=\"soft\">{}</p>", escaped(&machine_line(machine)));
    for Section { title, header, rows } in sections {
        let _ = write!(main, "<h2>{}</h2><table><thead><tr>", escaped(title));
        for cell in header {
            let _ = write!(main, "<th>{}</th>", escaped(cell));
        }
        main.push_str("</tr></thead><tbody>");
        for row in rows {
            main.push_str("<tr>");
            for cell in row {
                let _ = write!(main, "<td>{}</td>", escaped(cell));
            }
            main.push_str("</tr>");
        }
        main.push_str("</tbody></table>");
    }
    for remark in remarks {
        let _ = write!(main, "<p class=\"alert bad\">{}</p>", escaped(remark));
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\
         <title>{label} – load test</title><style>\n{STYLE}\n\
         main td, main th {{ padding: 4px 16px 4px 0; text-align: left; }}\n</style></head>\
         <body><main>{main}</main></body></html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
