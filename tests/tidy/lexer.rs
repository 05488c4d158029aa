//! A small lexer of Rust: it separates code, comments and string literals, and cuts code into tokens.
//!
//! It knows no grammar. The rules need only words, punctuation and the lines where they stand, also inside macros.

/// A file taken apart. `code` has the text's characters and lines, with comments and the inside of literals blanked.
pub struct Source {
    pub code: String,
    /// Line (from 0) and text. A comment of several lines is several entries.
    pub comments: Vec<(usize, String)>,
    /// Line where the literal starts (from 0), and its content without the quotes.
    pub strings: Vec<(usize, String)>,
}

pub fn lex(text: &str) -> Source {
    let chars: Vec<char> = text.chars().collect();
    let mut source = Source { code: String::with_capacity(text.len()), comments: Vec::new(), strings: Vec::new() };
    let (mut i, mut line) = (0, 0);
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    while i < chars.len() {
        let start = i;
        let boundary = i == 0 || !is_word(at(i - 1));
        let raw_hashes = raw_string_hashes(&chars, i).filter(|_| boundary);
        let end = if at(i) == '/' && at(i + 1) == '/' {
            (i..chars.len()).find(|&j| at(j) == '\n').unwrap_or(chars.len())
        } else if at(i) == '/' && at(i + 1) == '*' {
            let (mut depth, mut j) = (1, i + 2);
            while depth > 0 && j < chars.len() {
                match (at(j), at(j + 1)) {
                    ('/', '*') => (depth, j) = (depth + 1, j + 2),
                    ('*', '/') => (depth, j) = (depth - 1, j + 2),
                    _ => j += 1,
                }
            }
            j
        } else if let Some((open, hashes)) = raw_hashes {
            let closes = |j: usize| at(j) == '"' && (1..=hashes).all(|k| at(j + k) == '#');
            let close = (open..chars.len()).find(|&j| closes(j)).unwrap_or(chars.len());
            source.strings.push((line, chars[open..close].iter().collect()));
            (close + 1 + hashes).min(chars.len())
        } else if at(i) == '"' {
            let mut j = i + 1;
            while j < chars.len() && at(j) != '"' {
                j += if at(j) == '\\' { 2 } else { 1 };
            }
            source.strings.push((line, chars[i + 1..j.min(chars.len())].iter().collect()));
            (j + 1).min(chars.len())
        } else if at(i) == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            let from = if at(i + 1) == '\\' { i + 3 } else { i + 2 };
            (from..chars.len()).find(|&j| at(j) == '\'').map_or(chars.len(), |j| j + 1)
        } else {
            i + 1
        };
        let token: String = chars[start..end].iter().collect();
        if token.starts_with("//") || token.starts_with("/*") {
            source.comments.extend(token.lines().enumerate().map(|(n, text)| (line + n, text.trim().to_owned())));
        }
        if end == start + 1 {
            source.code.push_str(&token);
        } else {
            source.code.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        line += token.matches('\n').count();
        i = end;
    }
    source
}

/// `r"`, `r#"`, `br#"` …: where the content begins and how many hashes close it.
fn raw_string_hashes(chars: &[char], at: usize) -> Option<(usize, usize)> {
    let get = |i: usize| chars.get(i).copied();
    let r = match (get(at)?, get(at + 1)?) {
        ('r', _) => at,
        ('b' | 'c', 'r') => at + 1,
        _ => return None,
    };
    let hashes = chars[r + 1..].iter().take_while(|c| **c == '#').count();
    (get(r + 1 + hashes)? == '"').then_some((r + 2 + hashes, hashes))
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Byte positions of `word` as a whole word.
pub fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word))
}

/// The line, from 0, of a byte position.
pub fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count()
}

/// A word, a lifetime, one of `::`, `->`, `=>`, or a single character of punctuation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    /// From 0.
    pub line: usize,
}

/// Cuts [`Source::code`] into tokens.
pub fn tokens(code: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (code, 0);
    while let Some(first) = rest.chars().next() {
        let word = |text: &str| text.find(|c| !is_word(c)).unwrap_or(text.len());
        let length = if is_word(first) {
            word(rest)
        } else if first == '\'' {
            1 + word(&rest[1..])
        } else if ["::", "->", "=>"].iter().any(|pair| rest.starts_with(pair)) {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            tokens.push(Token { text: &rest[..length], line });
        }
        line += usize::from(first == '\n');
        rest = &rest[length..];
    }
    tokens
}

#[test]
fn distinguishes_literals_from_code() {
    let text = r##"let a = 'x'; let b: &'static str = "q\"//"; let c = r#"un"safe"#; /* u /* n */ s */ let d = '\'';"##;
    let text = format!("{text} let e = '\"'; done");
    let source = lex(&text);
    assert_eq!(source.strings.iter().map(|(_, s)| s.as_str()).collect::<Vec<_>>(), ["q\\\"//", "un\"safe"]);
    assert_eq!(source.comments.len(), 1);
    assert!(source.code.ends_with("; done") && source.code.contains("&'static str"), "{}", source.code);
    assert_eq!(source.code.chars().count(), text.chars().count());
}

#[test]
fn cuts_code_into_words_and_punctuation() {
    let found = tokens("fn f<'a>(x: &'a T)\n-> a::B { x.0 }");
    let expected =
        ["fn", "f", "<", "'a", ">", "(", "x", ":", "&", "'a", "T", ")", "->", "a", "::", "B", "{", "x", ".", "0", "}"];
    assert_eq!(found.iter().map(|token| token.text).collect::<Vec<_>>(), expected);
    assert_eq!((found[11].line, found[12].line), (0, 1));
}
