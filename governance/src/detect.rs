//! Detectors: what an action's text gives away, as numbers that policy and risk can read.
//!
//! Each detector has a number for ever and a severity from 1 to 1000; what a finding leads to is up to policy and risk.
//! An e-mail address is a finding of low severity and never a reason to block by itself. One pass of an automaton and
//! one of byte classes find candidates; precise checks run on those only. All work is linear in the text, and all
//! results are bounded. Nothing here keeps, logs or returns the text itself.

mod anchors;
mod commands;
mod encoded;
mod mail;
mod numbers;
mod phrases;
mod secrets;
mod size;

#[cfg(test)]
pub(crate) mod measured;

use nethical_protocol::action::Action;

use crate::behaviour;
use crate::command::DetectionV1;
use crate::normalise::{Form, Normalised, boundary_after, boundary_before};
use anchors::Anchors;

/// Raised whenever the same text may give other findings than before.
pub const DETECTORS_VERSION: u16 = 1;

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

/// Spans that one scan returns (32 B each); severities are kept for all findings.
pub const SPANS_MAX: usize = 64;

/// The detector's name, those of behaviour included, or `unknown` for a number of a later release.
pub fn name(detector: u8) -> &'static str {
    let of_text = || usize::from(detector).checked_sub(1).and_then(|place| NAMES.get(place).copied());
    behaviour::name(detector).or_else(of_text).unwrap_or("unknown")
}

/// The number of a detector's name, those of behaviour included.
pub fn number(name: &str) -> Option<u8> {
    let of_text = NAMES.iter().position(|known| *known == name).map(|place| place as u8 + 1);
    of_text.or_else(|| behaviour::number(name))
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    spans: Vec<Span>,
    severities: [u16; NAMES.len()],
}

impl Findings {
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
        let worst = &mut self.severities[usize::from(span.detector) - 1];
        *worst = span.severity.max(*worst);
        if self.spans.len() < SPANS_MAX {
            self.spans.push(span);
        }
    }
}

/// Receives findings as ranges of the text being scanned.
trait Report {
    fn found(&mut self, detector: u8, severity: u16, start: usize, end: usize);
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
}

/// All detectors, ready to run. Made once; about a megabyte of tables, which clones share.
#[derive(Clone)]
pub struct Detectors {
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
        Self {
            anchors: Anchors::new(&[phrases::RULES, commands::RULES, secrets::RULES]),
            hidden: Anchors::new(&[phrases::RULES, commands::RULES]),
        }
    }

    /// Scans a plain text.
    pub fn scan(&self, text: &str) -> Findings {
        let mut findings = Findings::default();
        self.scan_field(Field::Text, text, Form::Plain, &mut findings);
        findings.spans.sort_unstable();
        findings
    }

    /// Scans everything in an action that a person or a model wrote: name, resource id, arguments and context.
    pub fn scan_action(&self, action: &Action) -> Findings {
        let mut findings = Findings::default();
        for (field, text, form) in [
            (Field::Name, &action.name, Form::Plain),
            (Field::Resource, &action.resource_id, Form::Plain),
            (Field::Args, &action.args_json, Form::Json),
            (Field::Context, &action.context_json, Form::Json),
        ] {
            self.scan_field(field, text, form, &mut findings);
        }
        findings.spans.sort_unstable();
        findings
    }

    fn scan_field(&self, field: Field, source: &str, form: Form, findings: &mut Findings) {
        if source.len() < 3 {
            return;
        }
        let normalised = Normalised::of(source, form);
        let text = normalised.text().as_bytes();
        let mut scan = Scan { findings, normalised: &normalised, field };
        let complete = self.anchors.scan(text, &mut scan);
        scan_bytes(text, &mut scan);
        let hidden_complete = self.scan_hidden(text, 0, &mut scan);
        size::judge(source.len(), &normalised, !(complete && hidden_complete), &mut scan);
    }

    /// Looks for phrases and commands inside encodings. False where checks ran out.
    fn scan_hidden(&self, text: &[u8], depth: usize, report: &mut dyn Report) -> bool {
        let mut complete = true;
        encoded::for_each(text, &mut |start, end, decoded| {
            let mut inner = Hidden { outer: &mut *report, start, end };
            complete &= self.hidden.scan(decoded, &mut inner);
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
            b'+' | b'(' if text.get(at + 1).is_some_and(u8::is_ascii_digit) => numbers::at(text, at, report),
            b'@' => mail::email(text, at, report),
            b':' if text.get(at + 1).is_some_and(|byte| byte.is_ascii_hexdigit() || *byte == b':') => {
                numbers::ip_v6(text, at, report)
            }
            _ => at + 1,
        };
    }
}
