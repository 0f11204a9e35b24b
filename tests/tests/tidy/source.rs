//! A Rust file as the checks see it: its text, and the same text with comments and literals blanked out.
//!
//! A lexer of fifty lines, not a parser: good enough to count braces and find words that are code. Blanking keeps every
//! line where it is.

/// One file.
pub struct Source {
    /// From the repository's root.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Without comments and the contents of literals.
    pub code: String,
}

impl Source {
    /// Blanks the text.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let text = text.into();
        let code = blank(&text);
        Self { path: path.into(), text, code }
    }

    /// The code without the blocks that are compiled for tests only, line for line.
    pub fn code_outside_tests(&self) -> String {
        let mut code: Vec<char> = self.code.chars().collect();
        let marker: Vec<char> = "#[cfg(test)]".chars().collect();
        let mut at = 0;
        while let Some(found) = find(&code, &marker, at) {
            at = end_of_item(&code, found + marker.len());
            code[found..at].iter_mut().filter(|c| **c != '\n').for_each(|c| *c = ' ');
        }
        code.into_iter().collect()
    }
}

fn find(code: &[char], what: &[char], from: usize) -> Option<usize> {
    code[from..].windows(what.len()).position(|window| window == what).map(|place| from + place)
}

/// Behind the item that begins at `from`: its closing brace, or its semicolon where it has no body.
pub fn end_of_item(code: &[char], from: usize) -> usize {
    let mut depth = 0usize;
    for (at, c) in code.iter().enumerate().skip(from) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 && *c == '}' {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match literal_or_comment(&chars, at) {
            Some(end) => end.min(chars.len()),
            None => {
                code.push(chars[at]);
                at += 1;
                continue;
            }
        };
        code.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// The end of the literal or comment that begins here, if one does.
fn literal_or_comment(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied();
    match chars[at] {
        '/' if next == Some('/') => Some((at..chars.len()).find(|i| chars[*i] == '\n').unwrap_or(chars.len())),
        '/' if next == Some('*') => Some(end_of_block_comment(chars, at)),
        '"' => Some(end_of_string(chars, at + 1)),
        'r' if !is_word(chars, at.wrapping_sub(1)) || is_prefix(chars, at) => end_of_raw_string(chars, at),
        '\'' if next == Some('\\') => {
            Some((at + 3..chars.len()).find(|i| chars[*i] == '\'').map_or(chars.len(), |i| i + 1))
        }
        '\'' if chars.get(at + 2) == Some(&'\'') => Some(at + 3),
        _ => None,
    }
}

fn is_word(chars: &[char], at: usize) -> bool {
    chars.get(at).is_some_and(|c| c.is_alphanumeric() || *c == '_')
}

/// True for the `r` of `br"…"` and `cr"…"`.
fn is_prefix(chars: &[char], at: usize) -> bool {
    matches!(chars.get(at.wrapping_sub(1)), Some('b' | 'c')) && !is_word(chars, at.wrapping_sub(2))
}

fn end_of_block_comment(chars: &[char], from: usize) -> usize {
    let (mut depth, mut at) = (0, from);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') if depth == 1 => return at + 2,
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_string(chars: &[char], from: usize) -> usize {
    let mut at = from;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

fn end_of_raw_string(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |i: &usize| chars[*i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    Some((open + 1..chars.len()).find(closes).map_or(chars.len(), |i| i + 1 + hashes))
}

#[test]
fn comments_and_literals_are_blanked_and_code_is_not() {
    let source = Source::new(
        "a.rs",
        "let a = \"{ \\\" //\"; // }\nlet b = r#\"\"{\"#; /* { /* } */ */ let c = ('{', '\\'', 'x');\nfn f<'a>(x: &'a str) { br\"}\"; var\"}\" }",
    );
    let code: Vec<&str> = source.code.lines().map(str::trim_end).collect();
    assert_eq!(code.len(), 3, "lines stay lines");
    assert!(!code[0].contains('{') && !code[0].contains('}') && code[0].contains("let a ="));
    assert!(!code[1].contains('{') && !code[1].contains('}') && code[1].contains("let c = ("), "{}", code[1]);
    assert_eq!(code[2].matches(['{', '}']).count(), 2, "{}", code[2]);
    assert!(code[2].contains("<'a>"), "a lifetime is no literal");
}

#[test]
fn what_is_compiled_for_tests_is_cut_out() {
    let source = Source::new(
        "a.rs",
        "use a;\n#[cfg(test)]\nmod x;\nfn f() { [0; 2] }\n#[cfg(test)]\n#[path = \"t.rs\"]\nmod tests {\n  fn g() { clock() }\n}\nfn h() {}",
    );
    let code = source.code_outside_tests();
    assert!(code.contains("fn f()") && code.contains("fn h()"));
    assert!(!code.contains("mod x") && !code.contains("clock"));
    assert_eq!(code.lines().count(), 10);
}
