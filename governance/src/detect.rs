//! Detectors: what an action's text gives away, as numbers that policy and risk can read.
//!
//! Each detector has a number for ever and a severity from 1 to 1000; what a finding leads to is up to policy and risk.
//! An e-mail address is a finding of low severity and never a reason to block by itself. One pass of an automaton and
//! one of byte classes find candidates; precise checks run on those only. All work is linear in the text, and all
//! results are bounded. Nothing here keeps, logs or returns the text itself.

mod anchors;
mod commands;
mod context;
mod encoded;
mod mail;
mod numbers;
mod phone;
mod phrases;
pub mod score;
mod secrets;
mod size;

#[cfg(test)]
mod corpus;
#[cfg(test)]
pub(crate) mod measured;

use std::sync::Arc;

use nethical_protocol::action::Action;

use crate::behaviour;
use crate::command::DetectionV1;
use crate::normalise::{Form, Normalised, boundary_after, boundary_before};
use anchors::Anchors;

/// Raised whenever the same text may give other findings than before.
pub const DETECTORS_VERSION: u16 = 2;

/// E-mail addresses.
pub const EMAIL: u8 = 1;
/// Telephone numbers.
pub const PHONE: u8 = 2;
/// Payment cards that pass Luhn's check.
pub const CARD: u8 = 3;
/// International bank account numbers that pass their check.
pub const IBAN: u8 = 4;
/// US social security numbers.
pub const SSN: u8 = 5;
/// IPv4 and IPv6 addresses.
pub const IP: u8 = 6;
/// Keys, tokens and passwords.
pub const SECRETS: u8 = 7;
/// Text that tries to give a model new orders.
pub const INJECTION: u8 = 8;
/// Text that tries to talk a model out of its rules.
pub const JAILBREAK: u8 = 9;
/// Commands that destroy or open a way in.
pub const DANGEROUS: u8 = 10;
/// Texts that are odd by their mass.
pub const PAYLOAD: u8 = 11;
/// Encodings that hide something which another detector finds.
pub const ENCODED: u8 = 12;

/// Names by number, from 1. Numbers and names are in leaves and policies: they never change, new ones are appended.
pub const NAMES: [&str; 12] = [
    "email",
    "phone",
    "card",
    "iban",
    "ssn",
    "ip",
    "secrets",
    "injection",
    "jailbreak",
    "dangerous",
    "payload",
    "encoded",
];

/// What annotators call the same things, by number, as in labelled data and in redacted texts.
pub const LABELS: [&str; NAMES.len()] = [
    "EMAIL_ADDRESS",
    "PHONE_NUMBER",
    "CREDIT_CARD",
    "IBAN_CODE",
    "US_SSN",
    "IP_ADDRESS",
    "SECRET",
    "PROMPT_INJECTION",
    "JAILBREAK",
    "DANGEROUS_COMMAND",
    "ODD_PAYLOAD",
    "ENCODED_PAYLOAD",
];

/// Spans that one scan returns (32 B each); severities are kept for all findings.
pub const SPANS_MAX: usize = 64;

/// The detector's name, those of behaviour included, or `unknown` for a number of a later release.
pub fn name(detector: u8) -> &'static str {
    let of_text = || usize::from(detector).checked_sub(1).and_then(|place| NAMES.get(place).copied());
    behaviour::name(detector).or_else(of_text).unwrap_or("unknown")
}

/// The number of a detector's name, those of behaviour included.
pub fn number(name: &str) -> Option<u8> {
    number_of_text(name).or_else(|| behaviour::number(name))
}

/// What annotators call it, or `UNKNOWN` for a number of a later release.
pub fn label(detector: u8) -> &'static str {
    usize::from(detector).checked_sub(1).and_then(|place| LABELS.get(place).copied()).unwrap_or("UNKNOWN")
}

/// The number of a detector of texts by its name: only those can be switched off.
pub fn number_of_text(name: &str) -> Option<u8> {
    NAMES.iter().position(|known| *known == name).map(|place| place as u8 + 1)
}

/// A set of detectors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DetectorSet(u32);

impl DetectorSet {
    /// No detector.
    pub const NONE: Self = Self(0);

    /// The detectors of these numbers; numbers of a later release are left out.
    pub const fn of(detectors: &[u8]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < detectors.len() {
            if detectors[at] > 0 && detectors[at] as usize <= NAMES.len() {
                bits |= 1 << detectors[at];
            }
            at += 1;
        }
        Self(bits)
    }

    /// True where the detector of this number is in it.
    pub const fn has(self, detector: u8) -> bool {
        detector < 32 && self.0 >> detector & 1 == 1
    }
}

/// Which text of an action a span is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The text given to [`Detectors::scan`].
    Text,
    /// The action's name.
    Name,
    /// The resource's id.
    Resource,
    /// The arguments, as JSON.
    Args,
    /// The context, as JSON.
    Context,
}

/// Where something was found: a byte range of whole characters of the source text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Which text.
    pub field: Field,
    /// First byte.
    pub start: usize,
    /// Past the last byte.
    pub end: usize,
    /// The detector's number.
    pub detector: u8,
    /// 1..1000.
    pub severity: u16,
}

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings {
    spans: Vec<Span>,
    severities: [u16; NAMES.len()],
    spans_max: usize,
    off: DetectorSet,
    is_complete: bool,
}

impl Default for Findings {
    fn default() -> Self {
        Self::within(SPANS_MAX, DetectorSet::NONE)
    }
}

impl Findings {
    fn within(spans_max: usize, off: DetectorSet) -> Self {
        Self { spans: Vec::new(), severities: [0; NAMES.len()], spans_max, off, is_complete: true }
    }

    /// False where a text was so dense with decoys that not all of it was looked at; `payload` says so as well.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Where, sorted by place; at most [`SPANS_MAX`], the first ones of each pass.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The highest severity of each detector that found something, sorted by detector.
    pub fn detections(&self) -> Vec<DetectionV1> {
        let found = (1u8..).zip(self.severities).filter(|(_, severity)| *severity > 0);
        found.map(|(detector, severity)| DetectionV1 { detector, severity }).collect()
    }

    /// True where nothing was found.
    pub fn is_empty(&self) -> bool {
        self.severities == [0; NAMES.len()]
    }

    fn add(&mut self, span: Span) {
        if self.off.has(span.detector) {
            return;
        }
        let worst = &mut self.severities[usize::from(span.detector) - 1];
        *worst = span.severity.max(*worst);
        if self.spans.len() < self.spans_max {
            self.spans.push(span);
        }
    }
}

/// Receives findings as ranges of the text being scanned.
trait Report {
    fn found(&mut self, detector: u8, severity: u16, start: usize, end: usize);

    /// A check is about to read so many bytes, or fewer. Tests add them up: work, unlike time, is the same everywhere.
    fn looked(&mut self, _bytes: usize) {}
}

/// Findings in one normalised text, led back to their source.
struct Scan<'a> {
    findings: &'a mut Findings,
    normalised: &'a Normalised<'a>,
    field: Field,
}

impl Report for Scan<'_> {
    fn found(&mut self, detector: u8, severity: u16, start: usize, end: usize) {
        let text = self.normalised.text();
        let (start, end) = (boundary_before(text, start), boundary_after(text, end));
        let (start, end) = self.normalised.origin(start, end);
        self.findings.add(Span { field: self.field, start, end, detector, severity });
    }
}

/// Findings in a decoded payload: placed where the payload is, which is a finding of its own.
struct Hidden<'a> {
    outer: &'a mut dyn Report,
    start: usize,
    end: usize,
}

impl Report for Hidden<'_> {
    fn found(&mut self, detector: u8, severity: u16, _start: usize, _end: usize) {
        self.outer.found(ENCODED, severity.max(900), self.start, self.end);
        self.outer.found(detector, severity, self.start, self.end);
    }

    fn looked(&mut self, bytes: usize) {
        self.outer.looked(bytes);
    }
}

/// All detectors, ready to run. Made once; about a megabyte of tables, which clones share.
#[derive(Clone)]
pub struct Detectors {
    tables: Arc<Tables>,
    off: DetectorSet,
}

struct Tables {
    anchors: Anchors,
    hidden: Anchors,
}

impl Default for Detectors {
    fn default() -> Self {
        Self::new()
    }
}

impl Detectors {
    /// Compiles the tables: some milliseconds.
    pub fn new() -> Self {
        let anchors = Anchors::new(&[phrases::RULES, commands::RULES, secrets::RULES]);
        let hidden = Anchors::new(&[phrases::RULES, commands::RULES]);
        Self { tables: Arc::new(Tables { anchors, hidden }), off: DetectorSet::NONE }
    }

    /// The same detectors, some of which report nothing. Costs nothing: the tables are shared.
    #[must_use]
    pub fn without(&self, off: DetectorSet) -> Self {
        Self { tables: self.tables.clone(), off }
    }

    /// Scans a plain text.
    pub fn scan(&self, text: &str) -> Findings {
        let mut findings = Findings::within(SPANS_MAX, self.off);
        self.scan_field(Field::Text, text, Form::Plain, &mut findings);
        findings.spans.sort_unstable();
        findings.spans.dedup();
        findings
    }

    /// As [`Detectors::scan`], with every span however many there are: at most one for every two bytes of text.
    pub fn all_spans(&self, text: &str) -> Vec<Span> {
        self.scan_whole(text, Form::Plain).spans
    }

    /// Everything in a text of either form, for redaction and for people.
    pub fn scan_whole(&self, text: &str, form: Form) -> Findings {
        let mut findings = Findings::within(usize::MAX, self.off);
        self.scan_field(Field::Text, text, form, &mut findings);
        findings.spans.sort_unstable();
        findings.spans.dedup();
        findings
    }

    /// Scans everything in an action that a person or a model wrote: name, resource id, arguments and context.
    pub fn scan_action(&self, action: &Action) -> Findings {
        let mut findings = Findings::within(SPANS_MAX, self.off);
        for (field, text, form) in [
            (Field::Name, &action.name, Form::Plain),
            (Field::Resource, &action.resource_id, Form::Plain),
            (Field::Args, &action.args_json, Form::Json),
            (Field::Context, &action.context_json, Form::Json),
        ] {
            self.scan_field(field, text, form, &mut findings);
        }
        findings.spans.sort_unstable();
        findings.spans.dedup();
        findings
    }

    fn scan_field(&self, field: Field, source: &str, form: Form, findings: &mut Findings) {
        if source.len() < 3 {
            return;
        }
        let normalised = Normalised::of(source, form);
        let text = normalised.text().as_bytes();
        let mut scan = Scan { findings, normalised: &normalised, field };
        let complete = self.tables.anchors.scan(text, &mut scan);
        scan_bytes(text, &mut scan);
        let complete = self.scan_hidden(text, 0, &mut scan) && complete;
        size::judge(source.len(), &normalised, !complete, &mut scan);
        findings.is_complete &= complete;
    }

    /// Looks for phrases and commands inside encodings. False where checks ran out.
    fn scan_hidden(&self, text: &[u8], depth: usize, report: &mut dyn Report) -> bool {
        let mut complete = true;
        encoded::for_each(text, &mut |start, end, decoded| {
            let mut inner = Hidden { outer: &mut *report, start, end };
            complete &= self.tables.hidden.scan(decoded, &mut inner);
            if depth + 1 < encoded::DEPTH_MAX {
                complete &= self.scan_hidden(decoded, depth + 1, &mut inner);
            }
        });
        complete
    }
}

/// The pass of byte classes: everything that begins with a digit or has a sign of its own.
fn scan_bytes(text: &[u8], report: &mut dyn Report) {
    let mut at = 0;
    while at < text.len() {
        at = match text[at] {
            b'0'..=b'9' => mail::iban(text, at, report).unwrap_or_else(|| numbers::at(text, at, report)),
            b'+' | b'(' if opens_number(text, at) => numbers::at(text, at, report),
            b'@' => mail::email(text, at, report),
            b'%' => mail::email_in_url(text, at, report),
            b':' if text.get(at + 1).is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == b':') => {
                numbers::ip_v6(text, at, report)
            }
            _ => at + 1,
        };
    }
}

/// True where a sign before a number leads to a digit: `+1`, `(0`, `(+4`.
fn opens_number(text: &[u8], at: usize) -> bool {
    let next = text.get(at + 1).copied().unwrap_or_default();
    next.is_ascii_digit() || (next == b'+' && text[at] == b'(' && text.get(at + 2).is_some_and(u8::is_ascii_digit))
}
