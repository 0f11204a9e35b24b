//! Keys, tokens and passwords, by the shapes that their issuers document.
//!
//! A table, read by [`super::anchors`]. Assignments such as `password = …` are found by their names; values that are
//! plainly placeholders are not. Severity 950 is a private key, 900 an issuer's key, 700 a guess by name.

use super::SECRETS;
use super::anchors::Rule;

const fn token(anchors: &'static [&'static str], pattern: &'static str) -> Rule {
    Rule { detector: SECRETS, severity: 900, anchors, pattern, back: 0, ahead: 240, word: true }
}

const fn named(severity: u16, anchors: &'static [&'static str], pattern: &'static str) -> Rule {
    Rule { detector: SECRETS, severity, anchors, pattern, back: 0, ahead: 240, word: false }
}

/// The detector's patterns. Issuers fix the case of their prefixes, hence `(?-i)`.
pub(super) const RULES: &[Rule] = &[
    token(&["akia", "asia"], r"(?-i:A[KS]IA[0-9A-Z]{16})\b"),
    token(
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"],
        r"(?-i:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,})",
    ),
    token(&["glpat-"], r"(?-i:glpat-[A-Za-z0-9_-]{20,})"),
    token(
        &["xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-", "xapp-"],
        r"(?-i:xox[abprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,})",
    ),
    token(&["sk_live_", "rk_live_", "sk_test_", "whsec_"], r"(?-i:(?:[sr]k_(?:live|test)|whsec)_[A-Za-z0-9]{16,})"),
    token(&["sk-"], r"(?-i:sk-(?:ant-|proj-|or-)?[A-Za-z0-9_-]*[0-9][A-Za-z0-9_-]{19,})"),
    token(&["aiza"], r"(?-i:AIza[0-9A-Za-z_-]{35})"),
    token(&["ya29."], r"(?-i:ya29\.[0-9A-Za-z_-]{20,})"),
    token(&["npm_"], r"(?-i:npm_[A-Za-z0-9]{36})"),
    token(&["pypi-"], r"(?-i:pypi-[A-Za-z0-9_-]{50,})"),
    token(&["hf_"], r"(?-i:hf_[A-Za-z]{30,})"),
    token(&["sg."], r"(?-i:SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,})"),
    token(&["dop_v1_"], r"(?-i:dop_v1_[a-f0-9]{64})"),
    token(&["shpat_", "shpss_"], r"(?-i:shp(?:at|ss)_[a-fA-F0-9]{32})"),
    token(&["eyj"], r"(?-i:eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})"),
    named(950, &["-----begin "], r"-----begin (?:[a-z0-9]+ ){0,3}private key(?: block)?-----"),
    named(900, &["accountkey=", "sharedaccesskey="], r"(?:accountkey|sharedaccesskey)=[a-z0-9+/=]{20,}"),
    named(900, &["bearer "], r"bearer\s+[a-z0-9._~+/-]*[0-9][a-z0-9._~+/-]{15,}"),
    named(900, &["authorization: basic "], r"authorization: basic [a-z0-9+/=]{12,}"),
    named(850, &["://"], r"://[^\s/:@'\x22]{1,64}:[^\s/@'\x22]{3,64}@[a-z0-9]"),
    named(
        700,
        &[
            "password",
            "passwd",
            "passphrase",
            "secret",
            "api_key",
            "apikey",
            "api-key",
            "access_key",
            "access_token",
            "auth_token",
            "client_secret",
            "private_key",
        ],
        r"(?:password|passwd|passphrase|secret(?:_?access)?(?:_?key)?|api[_-]?key|access_key|access_token|auth_token|client_secret|private_key)(?:['\x22]\s?)?\s?(?:(?::=|=>|=|:)\s?['\x22](?:[^\s'\x22,;<>*{}\[\]$.x]|[.x][^.x])[^\s'\x22,;<>*{}\[\]]{7,}|(?::=|=>|=)\s?(?:[^\s'\x22,;<>*{}\[\]$.x]|[.x][^.x])[^\s'\x22,;<>*{}\[\]]{7,}|:\s?[^\s'\x22,;<>*{}\[\]]{0,60}[0-9][^\s'\x22,;<>*{}\[\]]{4,}|:\s?[^\s'\x22,;<>*{}\[\]]{5,60}[0-9])",
    ),
];
