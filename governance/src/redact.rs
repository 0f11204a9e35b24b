//! Redaction: what detectors found is cut out of a text, and what stays is still the same kind of text.
//!
//! A policy names what is cut, a mode what stands in its place. JSON stays JSON: cuts never cross a string's end, and a
//! number of which something must go becomes a string. Overlapping finds are one cut. A text that was too dense to be
//! looked at whole is cut whole: nothing stays because it was not seen. Pure, and linear in the text; keys for hashes come
//! from the caller. It must not decide who is redacted; policy and tenants' settings do.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use nethical_protocol::control::Redaction;

use crate::detect::{CARD, DetectorSet, Detectors, EMAIL, IBAN, IP, PHONE, SECRETS, SSN, label};
use crate::normalise::Form;

mod json;

/// Digits from which on a number is cut by [`Redaction::Aggressive`], whatever it is.
const NUMBER_DIGITS_MIN: usize = 5;
/// What stands for such a number.
const NUMBER: &str = "NUMBER";
/// What stands for a text that could not be looked at whole.
const UNREAD: &str = "UNREAD";

/// What stands in the place of a cut.
#[derive(Clone, Copy)]
pub enum Mode<'a> {
    /// What it was: `[US_SSN]`. Cards keep four digits and mail its domain, unless the policy is aggressive.
    Mask,
    /// `[US_SSN:` and 16 hex digits `]`: equal for equal values under one key, and nothing without the key. The function
    /// is a keyed MAC of a label and a value.
    Hash(&'a dyn Fn(&str, &str) -> [u8; 8]),
    /// `[US_SSN_1]`: equal for equal values of one text, so that whoever has the text can put them back.
    Tokenise,
    /// Nothing; in JSON `null` for a number.
    Drop,
}

/// The modes by name, from the one that tells most to the one that tells least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModeName {
    /// [`Mode::Tokenise`].
    Tokenise,
    /// [`Mode::Hash`].
    Hash,
    /// [`Mode::Mask`].
    Mask,
    /// [`Mode::Drop`].
    Drop,
}

/// What an obligation `redact`, `redact:POLICY` or `redact:POLICY:MODE` asks for. Without a policy it is `standard`,
/// without a mode `mask`. `None` for other obligations; the error says what is wrong.
pub fn obligation(id: &str) -> Option<Result<(Redaction, ModeName), String>> {
    let rest = match id.strip_prefix("redact")? {
        "" => return Some(Ok((Redaction::Standard, ModeName::Mask))),
        rest => rest.strip_prefix(':')?,
    };
    let (policy, mode) = rest.split_once(':').unwrap_or((rest, "mask"));
    let policy = Redaction::from_word(policy).filter(|policy| *policy != Redaction::None);
    let mode = match mode {
        "mask" => Some(ModeName::Mask),
        "hash" => Some(ModeName::Hash),
        "tokenise" => Some(ModeName::Tokenise),
        "drop" => Some(ModeName::Drop),
        _ => None,
    };
    let wrong = || {
        format!(
            "{id:?}: write redact:minimal, redact:standard or redact:aggressive, and :mask, :hash, :tokenise or :drop"
        )
    };
    Some(policy.zip(mode).ok_or_else(wrong))
}

/// What a policy cuts, aggressive's numbers aside.
pub fn detectors_of(policy: Redaction) -> DetectorSet {
    match policy {
        Redaction::None => DetectorSet::NONE,
        Redaction::Minimal => DetectorSet::of(&[CARD, IBAN, SSN, SECRETS]),
        Redaction::Standard | Redaction::Aggressive => DetectorSet::of(&[CARD, IBAN, SSN, SECRETS, EMAIL, PHONE, IP]),
    }
}

/// One cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Where the string or number is, as a JSON pointer (RFC 6901); empty in a plain text.
    pub path: String,
    /// `EMAIL_ADDRESS` …, as in labelled data; `NUMBER` for what only aggressive cuts.
    pub kind: &'static str,
    /// First character, counted in that string as JSON means it.
    pub start: usize,
    /// Past the last character.
    pub end: usize,
    /// What stands there now.
    pub with: String,
}

/// Ready to redact by one policy in one mode.
pub struct Redactor<'a> {
    detectors: Detectors,
    policy: Redaction,
    mode: Mode<'a>,
}

/// A find as a range of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Find {
    start: usize,
    end: usize,
    severity: u16,
    kind: &'static str,
}

impl<'a> Redactor<'a> {
    /// Which detectors a tenant has switched off makes no difference here: what is stored or sent is another matter.
    pub fn new(detectors: &Detectors, policy: Redaction, mode: Mode<'a>) -> Self {
        Self { detectors: detectors.without(DetectorSet::NONE), policy, mode }
    }

    /// Redacts a plain text, or JSON where `form` says so and it is.
    pub fn redact<'t>(&self, text: &'t str, form: Form) -> (Cow<'t, str>, Vec<Cut>) {
        if self.policy == Redaction::None {
            return (Cow::Borrowed(text), Vec::new());
        }
        let is_json = form == Form::Json && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
        let Some(finds) = self.finds(text, form) else { return (Cow::Owned(unread(is_json)), vec![whole(text)]) };
        if finds.is_empty() {
            return (Cow::Borrowed(text), Vec::new());
        }
        let mut writer = Writer {
            redactor: self,
            text,
            out: String::with_capacity(text.len()),
            cuts: Vec::new(),
            tokens: BTreeMap::new(),
            copied: 0,
        };
        match is_json {
            true => json::redact(&mut writer, &finds),
            false => writer.piece(&finds, 0..text.len(), "", false),
        }
        writer.out.push_str(&text[writer.copied..]);
        (Cow::Owned(writer.out), writer.cuts)
    }

    /// What is to be cut: sorted, apart from each other. `None` where not all of the text was looked at.
    fn finds(&self, text: &str, form: Form) -> Option<Vec<Find>> {
        let found = self.detectors.scan_whole(text, form);
        if !found.is_complete() {
            return None;
        }
        let cut = detectors_of(self.policy);
        let mut finds: Vec<Find> = (found.spans().iter().filter(|span| cut.has(span.detector)))
            .map(|span| {
                let (start, end) = if span.detector == SECRETS {
                    whole_secret(text, span.start, span.end, form)
                } else {
                    (span.start, span.end)
                };
                Find { start, end, severity: span.severity, kind: label(span.detector) }
            })
            .collect();
        if self.policy == Redaction::Aggressive {
            finds.extend(numbers(text));
        }
        finds.sort_unstable();
        Some(merged(finds))
    }

    fn replacement(&self, find: &Find, value: &str, tokens: &mut BTreeMap<(&'static str, String), usize>) -> String {
        let kind = find.kind;
        let bare = || -> String {
            match kind {
                "SECRET" => value.to_owned(),
                "EMAIL_ADDRESS" => value.to_lowercase(),
                _ => value.chars().filter(char::is_ascii_alphanumeric).map(|sign| sign.to_ascii_uppercase()).collect(),
            }
        };
        match self.mode {
            Mode::Drop => String::new(),
            Mode::Mask => self.mask(kind, value),
            Mode::Hash(mac) => {
                let mut out = format!("[{kind}:");
                mac(kind, &bare()).iter().for_each(|byte| write!(out, "{byte:02x}").expect("a string takes all"));
                out + "]"
            }
            Mode::Tokenise => {
                let next = tokens.keys().filter(|(of, _)| *of == kind).count() + 1;
                let number = *tokens.entry((kind, bare())).or_insert(next);
                format!("[{kind}_{number}]")
            }
        }
    }

    fn mask(&self, kind: &str, value: &str) -> String {
        let is_plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
        let digits: String = value.chars().filter(char::is_ascii_digit).collect();
        match kind {
            _ if self.policy == Redaction::Aggressive => format!("[{kind}]"),
            "CREDIT_CARD" if digits.len() >= 12 => format!("[{kind}:{}]", &digits[digits.len() - 4..]),
            "EMAIL_ADDRESS" => match value.rsplit_once('@') {
                Some((_, domain)) if is_plain(domain) => format!("[{kind}]@{domain}"),
                _ => format!("[{kind}]"),
            },
            _ => format!("[{kind}]"),
        }
    }
}

/// The text in the making.
struct Writer<'r, 'a> {
    redactor: &'r Redactor<'a>,
    text: &'r str,
    out: String,
    cuts: Vec<Cut>,
    tokens: BTreeMap<(&'static str, String), usize>,
    /// Bytes of the source that are dealt with.
    copied: usize,
}

impl Writer<'_, '_> {
    /// Cuts the finds, all of which touch it, out of a plain text or the inside of a JSON string.
    fn piece(&mut self, finds: &[Find], range: std::ops::Range<usize>, path: &str, is_escaped: bool) {
        let count = |text: &str| if is_escaped { json::characters(text) } else { text.chars().count() };
        let (mut characters, mut counted) = (0, range.start);
        for find in finds {
            let (start, end) = (find.start.max(range.start), find.end.min(range.end));
            let with = self.redactor.replacement(find, &self.text[start..end], &mut self.tokens);
            self.out.push_str(&self.text[self.copied..start]);
            self.out.push_str(&with);
            let first = characters + count(&self.text[counted..start]);
            characters = first + count(&self.text[start..end]);
            (self.copied, counted) = (end, end);
            self.cuts.push(Cut { path: path.to_owned(), kind: find.kind, start: first, end: characters, with });
        }
    }

    /// Puts a string in the place of a JSON number.
    fn number(&mut self, find: &Find, range: std::ops::Range<usize>, path: &str) {
        let value = &self.text[range.clone()];
        let with = self.redactor.replacement(find, value, &mut self.tokens);
        self.out.push_str(&self.text[self.copied..range.start]);
        self.out.push_str(&if with.is_empty() { "null".to_owned() } else { format!("\"{with}\"") });
        self.copied = range.end;
        self.cuts.push(Cut { path: path.to_owned(), kind: find.kind, start: 0, end: value.len(), with });
    }
}

fn unread(is_json: bool) -> String {
    if is_json { format!("{{\"redacted\":\"[{UNREAD}]\"}}") } else { format!("[{UNREAD}]") }
}

fn whole(text: &str) -> Cut {
    Cut { path: String::new(), kind: UNREAD, start: 0, end: text.chars().count(), with: format!("[{UNREAD}]") }
}

/// Finds that overlap become one, which has the name of the worst.
fn merged(finds: Vec<Find>) -> Vec<Find> {
    let mut apart: Vec<Find> = Vec::with_capacity(finds.len());
    for find in finds {
        match apart.last_mut() {
            Some(last) if find.start < last.end => {
                if find.severity > last.severity {
                    (last.severity, last.kind) = (find.severity, find.kind);
                }
                last.end = find.end.max(last.end);
            }
            _ => apart.push(find),
        }
    }
    apart
}

/// A secret without the name in front (`password=`), with all that belongs to it: detectors look at a bounded window, so
/// the rest of a long token or of a private key is found here.
fn whole_secret(text: &str, start: usize, end: usize, form: Form) -> (usize, usize) {
    const BEGIN: &str = "-----BEGIN";
    const END: &str = "-----END";
    let found = &text[start..end];
    if found.get(..BEGIN.len()).is_some_and(|head| head.eq_ignore_ascii_case(BEGIN)) {
        // In JSON the key ends with its string at the latest.
        let last = if form == Form::Json { json::string_end(text.as_bytes(), end) } else { text.len() };
        let rest = &text[end..last.max(end)];
        let footer = rest
            .find(END)
            .map(|at| at + rest[at + END.len()..].find("-----").map_or(END.len(), |tail| END.len() + tail + 5));
        return (start, end + footer.unwrap_or(rest.len()));
    }
    let named = found.starts_with(|first: char| first.is_ascii_alphabetic()).then(|| found.find(['=', ':'])).flatten();
    let skip = |at: usize| {
        at + found[at..]
            .bytes()
            .take_while(|byte| matches!(byte, b'=' | b':' | b'>' | b' ' | b'"' | b'\'' | b'\\'))
            .count()
    };
    let inside = named.map_or(0, skip);
    let is_token =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-' | b'.' | b'~');
    let rest = text.as_bytes()[end..].iter().take_while(|byte| is_token(byte)).count();
    let first = if inside < found.len() { start + inside } else { start };
    (first, end + rest)
}

/// Runs of letters and digits, joined by single signs as in dates, with so many digits that they may name somebody.
fn numbers(text: &str) -> impl Iterator<Item = Find> + '_ {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let start = at;
            let mut digits = 0;
            while at < bytes.len() {
                let joins = matches!(bytes[at], b'-' | b'.' | b'/' | b':')
                    && at > start
                    && bytes[at - 1].is_ascii_digit()
                    && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
                if !bytes[at].is_ascii_alphanumeric() && !joins {
                    break;
                }
                digits += usize::from(bytes[at].is_ascii_digit());
                at += 1;
            }
            let end = at;
            at += usize::from(at == start);
            if digits >= NUMBER_DIGITS_MIN {
                return Some(Find { start, end, severity: 0, kind: NUMBER });
            }
        }
        None
    })
}

#[cfg(test)]
mod tests;
