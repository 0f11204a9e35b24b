//! Made-up sentences with known answers: numbering plans of many countries for recall, look-alikes for precision, and
//! hostile texts whose work is counted.
//!
//! Drawn from a seed, so that a figure can be had again. Sentences and formats are written for this test.

use super::score::{LabelSpan, Labelled, Score};
use super::*;

/// Numbers drawn by a linear congruential generator (Knuth's MMIX constants).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }

    fn pick<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }

    /// `#` is any digit, `%` one that is not zero, `?` a capital letter.
    fn fill(&mut self, form: &str) -> String {
        let mut draw = |sign| match sign {
            '#' => char::from(b'0' + self.below(10) as u8),
            '%' => char::from(b'1' + self.below(9) as u8),
            '?' => char::from(b'A' + self.below(26) as u8),
            other => other,
        };
        form.chars().map(&mut draw).collect()
    }
}

const PHONES: &[&str] = &[
    "%##-%##-####",
    "(%##)%##-####",
    "(%##) %##-####",
    "%##.%##.####",
    "%##%######",
    "%##-#######",
    "+1-%##-%##-####",
    "001-%##-%##-####",
    "1-%##-%##-####",
    "%##-%##-####x###",
    "(%##)%##-####x#####",
    "%##.%##.####x####",
    "+1-%##-%##-####x####",
    "001-%##-%##-####x#####",
    "%## %## #### ext. ##",
    "+44(0)##########",
    "+44 (0)#### ######",
    "+447700 ### ###",
    "07700 ######",
    "(07700) ### ###",
    "020 #### ####",
    "+49(0)#### ######",
    "+49 ### #######",
    "0### ######",
    "(0####) #####",
    "0176 ######",
    "+33 (0)# ## ## ## ##",
    "+33 # ## ## ## ##",
    "0# ## ## ## ##",
    "0#.##.##.##.##",
    "+41 ## ### ## ##",
    "+41 (0)## ### ## ##",
    "0%# ### ## ##",
    "+43 (0)##### ####",
    "+39 ### #######",
    "+39 ### ## ## ###",
    "0%## #######",
    "+34 ### ### ###",
    "6## ### ###",
    "+351 ### ### ###",
    "2# ### ### ####",
    "+31 (0)## #######",
    "0##-#######",
    "06-########",
    "+46 (0)## ### ## ##",
    "0###-### ##",
    "08-### ## ##",
    "+47 ## ## ## ##",
    "9## ## ###",
    "2#-##-##-##",
    "+45 ## ## ## ##",
    "+358 ## #######",
    "(+358) #########",
    "0## ### ####",
    "%## ####",
    "8# ## ##",
    "+48 ### ### ###",
    "67 ### ## ##",
    "+420 ### ### ###",
    "+421 9## ### ###",
    "+36 ## ###-####",
    "(##) ###-###",
    "(06)##/###-####",
    "%#/%##-####",
    "031-###-###",
    "+386 ## ### ###",
    "01 #### ###",
    "+7 (###) ###-##-##",
    "8 (###) ###-##-##",
    "+380 ## ###-##-##",
    "%##-##-##",
    "+90(###)#######",
    "0### ### ## ##",
    "+972-5#-#######",
    "05#-###-####",
    "+971 5# ### ####",
    "+98 9## ### ####",
    "+91##########",
    "+91 ##### #####",
    "0##########",
    "+86 1## #### ####",
    "1##########",
    "0#-####-####",
    "090-####-####",
    "02-####-####",
    "+82 10-####-####",
    "+65 #### ####",
    "+61 # #### ####",
    "(0#) #### ####",
    "04## ### ###",
    "+64 ## ### ####",
    "0# ###-####",
    "+27 ## ### ####",
    "08# ### ####",
    "+55 (0##) ####-####",
    "(##) ####-####",
    "+54 9 11 ####-####",
    "+52 55 #### ####",
    "+56 9 #### ####",
    "#### ####",
    "9### ####",
    "+234 80# ### ####",
    "+20 10 ########",
];

const PHONE_SENTENCES: &[&str] = &[
    "Would somebody call me on {} after lunch?",
    "You may call {}, it is mine.",
    "My phone number is {}.",
    "Phone: {}",
    "Telephone:\n{}\nE-mail:",
    "Anna Muster\nMobile: {}\nParis",
    "{} office",
    "Musterstrasse 1\n8000 Stadt\n{} fax",
    "reach us at {}-Office",
    "nobody is answering at {} today",
    "stop sending messages to {}",
    "the code never came to my registered {} at all",
    r#"{"name": "A", "phoneNumber": "{}"}"#,
    r#"{"mobile_phone":"{}","zip":"12345"}"#,
    "t\u{e9}l. {}",
    "you can dial {} from abroad",
];

const CARD_STARTS: &[(&str, usize)] = &[
    ("4", 16),
    ("4", 13),
    ("4", 19),
    ("51", 16),
    ("55", 16),
    ("2221", 16),
    ("34", 15),
    ("37", 15),
    ("6011", 16),
    ("65", 16),
    ("36", 14),
    ("300", 14),
    ("3528", 16),
    ("2131", 15),
    ("1800", 15),
    ("6304", 12),
    ("5018", 12),
    ("6759", 16),
];

const CARD_SENTENCES: &[&str] =
    &["my card {} was stolen", "Credit card: {}", "pay with {} please, it is a card", "the card number is {}, thanks"];

/// A country, its account numbers' length and what follows the check digits.
const IBAN_FORMS: &[(&str, &str)] = &[
    ("AD", "####################"),
    ("AT", "################"),
    ("BE", "############"),
    ("BG", "????##############"),
    ("CH", "#################"),
    ("CY", "########################"),
    ("CZ", "####################"),
    ("DE", "##################"),
    ("DK", "##############"),
    ("EE", "################"),
    ("ES", "####################"),
    ("FI", "##############"),
    ("FR", "#######################"),
    ("GB", "????##############"),
    ("GB", "????#############"),
    ("GE", "??################"),
    ("GR", "#######################"),
    ("HR", "#################"),
    ("HU", "########################"),
    ("IE", "????##############"),
    ("IL", "###################"),
    ("IT", "?######################"),
    ("LT", "################"),
    ("MT", "????#######################"),
    ("NL", "????##########"),
    ("NO", "###########"),
    ("PL", "########################"),
    ("PT", "#####################"),
    ("RO", "????################"),
    ("SE", "####################"),
    ("TR", "######################"),
    ("AE", "###################"),
    ("SA", "##??##################"),
];

const IBAN_SENTENCES: &[&str] = &["my IBAN is {}", "transfer it from {} to another bank", "iban={}", "IBAN {}: closed"];

const SSN_SENTENCES: &[&str] =
    &["her social security number is {}", "here is my SSN: {}", r#"{"ssn": "{}"}"#, "SSN {} on file"];

const IP_SENTENCES: &[&str] =
    &["blocked from {} again", "see http://{}/index.html", "client_ip=%20|{}|%20/", "host {}, twice", "IP: {}."];

const MAIL_SENTENCES: &[&str] = &[
    "write to {}.",
    "<{}>",
    "mailto:{}",
    "https://example.com/in?user={}&x=1",
    r#"{"email":"{}"}"#,
    "is {}, or was, right?",
];

fn card(dice: &mut Dice) -> String {
    let (start, length) = CARD_STARTS[dice.below(CARD_STARTS.len())];
    let mut digits = dice.fill(&format!("{start}{}", "#".repeat(length - start.len() - 1)));
    let doubled = |digit: u32| if digit > 4 { digit * 2 - 9 } else { digit * 2 };
    let sum: u32 = (digits.bytes().rev().enumerate())
        .map(|(place, byte)| if place % 2 == 0 { doubled(u32::from(byte - b'0')) } else { u32::from(byte - b'0') })
        .sum();
    digits.push(char::from(b'0' + ((10 - sum % 10) % 10) as u8));
    grouped(dice, &digits)
}

/// In one piece, or in groups of four.
fn grouped(dice: &mut Dice, text: &str) -> String {
    let separator = dice.pick(&["", "", " ", "-"]);
    let groups: Vec<&str> = text.as_bytes().chunks(4).map(|group| std::str::from_utf8(group).expect("ASCII")).collect();
    groups.join(separator)
}

fn iban(dice: &mut Dice) -> String {
    let (country, form) = IBAN_FORMS[dice.below(IBAN_FORMS.len())];
    let rest = dice.fill(form);
    let value = |text: &str| {
        text.bytes().fold(0u32, |value, byte| match byte {
            b'0'..=b'9' => (value * 10 + u32::from(byte - b'0')) % 97,
            letter => (value * 100 + u32::from(letter - b'A') + 10) % 97,
        })
    };
    let check = 98 - value(&format!("{rest}{country}00"));
    let whole = format!("{country}{check:02}{rest}");
    let spaced = grouped(dice, &whole).replace('-', " ");
    if dice.below(8) == 0 { spaced.to_lowercase() } else { spaced }
}

fn ssn(dice: &mut Dice) -> String {
    let (area, group, serial) = (1 + dice.below(664), 1 + dice.below(99), 1 + dice.below(9_999));
    let separator = dice.pick(&["-", "-", "-", " ", ""]);
    format!("{area:03}{separator}{group:02}{separator}{serial:04}")
}

fn ip(dice: &mut Dice) -> String {
    let mut hex = |count: usize| {
        let groups: Vec<String> = (0..count).map(|_| format!("{:x}", 1 + dice.below(65_535))).collect();
        groups.join(":")
    };
    let (whole, head, tail) = (hex(8), hex(2), hex(2));
    match dice.below(5) {
        0 => whole,
        1 => format!("2001:{head}::{tail}"),
        _ => format!("{}.{}.{}.{}", 1 + dice.below(223), dice.below(256), dice.below(256), dice.below(256)),
    }
}

fn mail(dice: &mut Dice) -> String {
    let name = dice.pick(&["anna", "j.doe", "LenaM", "x+news", "m\u{fc}ller", "o'neil", "a_b-c", "kim99"]);
    let host = dice.pick(&["example.org", "mail.example.co.uk", "x-y.example", "b\u{fc}ro.example", "EXAMPLE.COM"]);
    format!("{name}@{host}")
}

fn sentence(dice: &mut Dice, kind: &'static str) -> Labelled {
    let (sentences, value) = match kind {
        "PHONE_NUMBER" => {
            let form = PHONES[dice.below(PHONES.len())];
            (PHONE_SENTENCES, dice.fill(form))
        }
        "CREDIT_CARD" => (CARD_SENTENCES, card(dice)),
        "IBAN_CODE" => (IBAN_SENTENCES, iban(dice)),
        "US_SSN" => (SSN_SENTENCES, ssn(dice)),
        "IP_ADDRESS" => (IP_SENTENCES, ip(dice)),
        _ => (MAIL_SENTENCES, mail(dice)),
    };
    let sentence = dice.pick(sentences);
    let before = sentence.split("{}").next().unwrap_or_default().chars().count();
    let span = LabelSpan { kind: kind.to_owned(), start: before, end: before + value.chars().count() };
    Labelled { text: sentence.replace("{}", &value), spans: vec![span] }
}

/// Numbers that are no personal data, in sentences that say so or say nothing.
const BENIGN: &[&str] = &[
    "Order %####### left on 2024-0%-1#.",
    "order number %##-%######-%######",
    "Your reservation id is ??####, flight ??###.",
    "It costs $%,###.## or %### dollars.",
    "ZIP: #####-####",
    "My zip code is #####",
    "Avenida Sul ####, #####-###",
    "The meeting is on %/1#/20## at 1#:%5.",
    "from 20##-0%-1# 0#:%5:00 to 20##-0%-2# 1#:%5:00",
    "Invoice %########, total %###.##",
    "version %.#.##, build ####.##.##",
    "chapter %.#.#.#",
    "tracking 1Z 789 686 82 8979 914 #",
    "My driver's license number is ########",
    "driver licence ?######-##",
    "account %#########",
    "customer %###### and member %########",
    "ISBN 978-3-16-14841#-#",
    "%## rows, %##### bytes, %####### tokens",
    "1#,%##,### people live there",
    "coordinates %#.######, -%#.######",
    "uuid ########-####-4###-8###-############",
    "sha256 ##################?????###########",
    "gift card worth %##, certificate %######",
    "part 4###-####-####-###%-##",
    "He was born in 19## and is ## years old.",
    "timestamp 17##########, took ### ms",
    "Suite ###, %### Main Street, ?? #####",
    r#"{"user_id": "mia_li_####", "amount": %###, "year": 20##, "total_points": %######}"#,
    r#"{"payment_id": "certificate_#######", "flight_number": "HAT%##", "date": "2024-05-%#"}"#,
    "ratio %:# at 1#:##:##, score 3-1, 5x%",
    "Room #### on floor ##, bus ###",
    "std::net::Ipv6Addr and a::b::c in crate v%.#.#",
    "@handle wrote to user@localhost at 5 %",
];

#[test]
fn numbers_of_many_countries_are_found_and_look_alikes_are_not() {
    let kinds = &LABELS[..6];
    let (mut dice, mut score, detectors) = (Dice(20_261_121), Score::new(), Detectors::new());
    let mut missed: std::collections::BTreeMap<String, u32> = std::collections::BTreeMap::new();
    for round in 0..12_000 {
        let kind = kinds[round % kinds.len()];
        let made = sentence(&mut dice, kind);
        let before = score.types[kind].misses;
        score.add(&detectors, &made).expect("the generator's own labels");
        if score.types[kind].misses > before {
            *missed.entry(made.text).or_default() += 1;
        }
    }
    for round in 0..12_000 {
        let text = dice.fill(BENIGN[round % BENIGN.len()]);
        let before = score.clone();
        score.add(&detectors, &Labelled { text: text.clone(), spans: vec![] }).expect("there is no label");
        if score != before {
            *missed.entry(format!("FALSE ALARM in {text}")).or_default() += 1;
        }
    }
    missed.keys().take(60).for_each(|text| println!("  {text:?}"));
    for kind in kinds {
        let Tallied { precision, recall } = Tallied::of(&score, kind);
        println!("{kind:<14} precision {precision:.3}, recall {recall:.3}, {:?}", score.types[kind]);
        assert!(precision >= 0.95 && recall >= 0.95, "{kind}");
    }
}

/// Ratios of a tally.
pub(super) struct Tallied {
    pub precision: f64,
    pub recall: f64,
}

impl Tallied {
    pub fn of(score: &Score, kind: &str) -> Self {
        let tally = score.types[kind];
        let ratio = |of: u64| if of == 0 { 1.0 } else { tally.hits as f64 / of as f64 };
        Self { precision: ratio(tally.hits + tally.false_alarms), recall: ratio(tally.hits + tally.misses) }
    }
}

/// Adds up what checks are about to read.
#[derive(Default)]
struct Work {
    bytes: usize,
    checks: usize,
}

impl Report for Work {
    fn found(&mut self, _: u8, _: u16, _: usize, _: usize) {}

    fn looked(&mut self, bytes: usize) {
        (self.bytes, self.checks) = (self.bytes + bytes, self.checks + 1);
    }
}

fn work_of(detectors: &Detectors, text: &str) -> Work {
    let normalised = Normalised::of(text, Form::Json);
    let mut work = Work::default();
    detectors.tables.anchors.scan(normalised.text().as_bytes(), &mut work);
    scan_bytes(normalised.text().as_bytes(), &mut work);
    detectors.scan_hidden(normalised.text().as_bytes(), 0, &mut work);
    work
}

/// Each is repeated to 64 KiB.
const HOSTILE: &[&str] = &[
    "1",
    "1 ",
    "41 ",
    "0-",
    "+1",
    "(1)",
    "(+1",
    "1.",
    "1.1.1.1 ",
    "4111 ",
    "@",
    "a@",
    "a@b.",
    ".",
    "%",
    "%41",
    "%40",
    "%2541",
    ":",
    ":a",
    "::",
    "1:",
    "a:1:",
    "\u{200b}",
    "\u{e0041}",
    "\\u0031",
    "\\",
    "DE00",
    "DE00 ",
    "iban ",
    "call ",
    "call 1",
    "rm ",
    "ignore ",
    "password=",
    "://",
    "eyJ",
    "YWJj",
    "YWJj/",
    "2f",
    "0x",
    "\u{ff11}",
    "\u{fdfa}",
    "A",
    "\0",
    "日",
    "é",
];

#[test]
fn hostile_texts_cost_work_in_proportion_to_their_length() {
    let detectors = Detectors::new();
    let mut worst = (0.0, "");
    for piece in HOSTILE.iter().copied() {
        let text = |bytes: usize| piece.repeat(bytes / piece.len());
        let (half, whole) = (work_of(&detectors, &text(32_768)), work_of(&detectors, &text(65_536)));
        assert!(
            whole.bytes <= half.bytes * 2 + half.bytes / 8 + 4_096,
            "{piece:?}: {} then {}",
            half.bytes,
            whole.bytes
        );
        let per_byte = whole.bytes as f64 / 65_536.0;
        assert!(
            per_byte <= 256.0,
            "{piece:?}: {per_byte} bytes are looked at for each one, in {} checks",
            whole.checks
        );
        worst = if per_byte > worst.0 { (per_byte, piece) } else { worst };
    }
    println!("at most {:.1} bytes are looked at for each byte, with {:?}", worst.0, worst.1);
}
