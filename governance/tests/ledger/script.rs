//! Golden scripts: each file under `tests/scripts` is one behaviour, its name is the sentence.
//!
//! `UPDATE_GOLDENFILES=1` rewrites the expected output; read the difference before keeping it.

use std::error::Error;
use std::fmt::Write as _;

use goldenscript::{ArgumentConsumer, Command, Context, Runner};
use nethical_governance::approval::{Approval, ApprovalKey};
use nethical_governance::behaviour::{ActionFactsV1, label_bits};
use nethical_governance::command::{
    CostV1, DecideV1, DetectionV1, HeaderV1, HoldOrderV1, LeaseTakeV1, RequestKey, SettleV1, VerdictWord,
};
use nethical_governance::dedup::DedupBounds;
use nethical_governance::detect;
use nethical_governance::hold::region_id;
use nethical_governance::ledger::{Lapsed, Ledger};
use nethical_governance::outcome::OutcomeV1;
use nethical_governance::quota::lease::{CountersV1, LeaseAskV1, LeaseKey, PINNED_NS, slot_of_lease};
use nethical_protocol::control::{
    ControlFact, HoldEffect, HoldFact, KeyPart, LimitFact, LimitKind, LimitMode, Overrun, Placement, TenantFact,
};
use nethical_protocol::decision::Verdict;
use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber};
use nethical_protocol::quarantine::{QuarantineFact, QuarantineRuleFact, QuarantineWhenFact};

use crate::bench::{
    Bench, SECOND_NS, START_NS, actor, command, control, duration, entry, id, limit, nanoseconds, request, subject,
};
use crate::show::{quota, show, show_what, view};

type Failure = Box<dyn Error>;

#[test]
fn every_script_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scripts");
    let entries = std::fs::read_dir(folder).expect("the scripts' folder");
    let mut scripts: Vec<_> = entries.map(|entry| entry.expect("a script").path()).collect();
    scripts.sort();
    assert!(scripts.len() >= 15, "scripts are missing: {scripts:?}");
    for script in scripts {
        eprintln!("{}", script.display());
        goldenscript::run(&mut Script::default(), &script).unwrap_or_else(|why| panic!("{}: {why}", script.display()));
    }
}

/// Runs one script. Terms are those of the log and of the entries' proposers.
struct Script {
    bench: Bench,
    log_term: u64,
    entry_term: u64,
}

impl Default for Script {
    fn default() -> Self {
        Self { bench: Bench::empty(Ledger::new(2)), log_term: 1, entry_term: 1 }
    }
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Failure> {
        let mut words = Words(command.consume_args());
        let output = match command.name.as_str() {
            "at" => self.set_time(&mut words)?,
            "terms" => self.set_terms(&mut words)?,
            "bounds" => self.set_bounds(&mut words)?,
            "decide" => self.decide(&mut words)?,
            "every" => self.every(&mut words)?,
            "place" => self.order(&mut words, HeaderV1::PlaceHoldOrder)?,
            "lift" => self.order(&mut words, HeaderV1::LiftHoldOrder)?,
            "tick" => self.apply(HeaderV1::Tick),
            "settle" => self.settle(&mut words, false)?,
            "release" => self.settle(&mut words, true)?,
            "approve" => self.word(&mut words, true)?,
            "deny" => self.word(&mut words, false)?,
            "approvals" => self.approvals(),
            "control" => self.control(&mut words)?,
            "grant" | "take" | "return" => self.lease(&command.name, &mut words)?,
            "agent" => view(&self.bench.ledger.agent_view(&actor("t", words.next()?))),
            "usage" => self.usage(&mut words)?,
            "band" => self.band(&mut words)?,
            "state" => self.state(),
            name => {
                let fact = fact(name, &mut words)?;
                let from = self.bench.ledger.control_revision().0;
                self.apply(control(from, from + 1, vec![fact]))
            }
        };
        words.0.reject_next()?;
        Ok(output)
    }
}

impl Script {
    /// Applies one command as an entry of its own. A twin that is restored from a snapshot before every command must
    /// answer the same and be the same afterwards.
    fn apply(&mut self, header: HeaderV1) -> String {
        let entry = entry(self.entry_term, self.bench.now_ns, vec![command(header)]);
        let bytes = self.bench.ledger.to_bytes().expect("a small ledger");
        let mut twin = Ledger::from_bytes(&bytes).expect("our own snapshot");
        let applied = self.bench.ledger.apply_entry(self.log_term, &entry).expect("our own apply version").remove(0);
        assert_eq!(twin.apply_entry(self.log_term, &entry).expect("our own apply version").remove(0), applied);
        assert_eq!(twin.digest(), self.bench.ledger.digest());
        let lapsed = self.bench.ledger.take_lapsed();
        assert_eq!(twin.take_lapsed(), lapsed);
        let show_lapsed = |lapsed: &Lapsed| format!("leaf {}: {}", lapsed.leaf_index, show_what(&lapsed.what));
        lapsed.iter().map(show_lapsed).chain([show(&applied)]).collect()
    }

    /// The lease of a limit of the whole tenant that began at control revision 3, in the window of now.
    fn lease(&mut self, name: &str, words: &mut Words<'_>) -> Result<String, Failure> {
        let number = LimitNumber(words.next()?.parse()?);
        let window: u64 = nanoseconds(words.key("window").ok_or("window=")?)?;
        let mut count = |name: &str| words.key(name).unwrap_or("0").parse::<u64>();
        let (granted, returned, need, want) = (count("granted")?, count("returned")?, count("need")?, count("want")?);
        let child = count("child")? as u32;
        let born = ControlRevision(count("born")?.max(3));
        let at_ns = count("windows")? * window + self.bench.now_ns;
        let key = KeyedId::NONE;
        // A flow's lease has no window; its share's life and its last charge are given in seconds since the start.
        let window_ns = if window == 0 { 0 } else { at_ns - at_ns % window };
        let since_start = |seconds: u64| if seconds == 0 { 0 } else { START_NS + seconds * 1_000_000_000 };
        let (born_ns, until_ns) = (since_start(count("life")?), since_start(count("until")?));
        let (spent, spent_at_ns) = (count("spent")?, since_start(count("at")?));
        let counters = CountersV1 { born_ns, granted, returned, spent, spent_at_ns };
        let life_ns = if window == 0 { (born_ns, until_ns) } else { (0, u64::MAX) };
        let (refused, wait_ns, is_critical) = (count("refused")? > 0, count("wait")?, count("critical")? > 0);
        let lease = LeaseKey { slot: slot_of_lease(number, key), limit: number, born, key, window_ns };
        Ok(self.apply(match name {
            "grant" => {
                let (waiting, pinned) = (count("waiting")?.max(need), count("pinned")?);
                let ask = LeaseAskV1 { lease, child, counters, need, waiting, want, pinned, pinned_ns: 0, is_critical };
                HeaderV1::LeaseGrant(ask)
            }
            "take" => {
                let (pinned, pinned_ns) = (count("pinned")?, PINNED_NS);
                let take = LeaseTakeV1 { lease, life_ns, granted, refused, wait_ns, is_critical, pinned, pinned_ns };
                HeaderV1::LeaseTake(take)
            }
            _ => HeaderV1::LeaseReturn(lease),
        }))
    }

    fn set_time(&mut self, words: &mut Words<'_>) -> Result<String, Failure> {
        self.bench.now_ns = START_NS + nanoseconds(words.next()?)?;
        Ok(String::new())
    }

    fn set_terms(&mut self, words: &mut Words<'_>) -> Result<String, Failure> {
        self.log_term = words.key("log").unwrap_or("1").parse()?;
        self.entry_term = words.key("entry").unwrap_or("1").parse()?;
        Ok(String::new())
    }

    fn set_bounds(&mut self, words: &mut Words<'_>) -> Result<String, Failure> {
        let entries_max = words.key("entries").ok_or("entries=")?.parse()?;
        let window_ms = nanoseconds(words.key("window").ok_or("window=")?)? / 1_000_000;
        self.bench.ledger = Ledger::with_bounds(2, DedupBounds { entries_max, window_ms });
        Ok(String::new())
    }

    fn decide(&mut self, words: &mut Words<'_>) -> Result<String, Failure> {
        let decide = self.decision(words)?;
        let mut output = String::new();
        let mut times: u32 = words.key("times").unwrap_or("1").parse()?;
        let mut next = Some(decide);
        while let Some(mut decide) = next.take() {
            output = self.apply(HeaderV1::Decide(decide.clone()));
            times -= 1;
            if times > 0 {
                decide.agent_version = self.bench.ledger.agent_version(&decide.actor);
                next = Some(decide);
            }
        }
        Ok(output)
    }

    /// The same action again and again with time in between. Tells of those in which something was found.
    fn every(&mut self, words: &mut Words<'_>) -> Result<String, Failure> {
        let (gap_ns, times) = (nanoseconds(words.next()?)?, words.next()?.parse::<u32>()?);
        let decide = self.decision(words)?;
        let mut output = String::new();
        for time in 1..=times {
            self.bench.now_ns += gap_ns;
            let mut decide = decide.clone();
            decide.request = request("", "", self.bench.now_ns / 1_000_000);
            decide.agent_version = self.bench.ledger.agent_version(&decide.actor);
            let applied = self.bench.apply(HeaderV1::Decide(decide));
            if let OutcomeV1::Decided(decided) = &applied.outcome
                && !decided.findings.is_empty()
            {
                write!(output, "{time}. {}", show(&applied))?;
            }
        }
        Ok(output)
    }

    fn decision(&self, words: &mut Words<'_>) -> Result<DecideV1, Failure> {
        let agent = words.next()?;
        let mut decide = self.bench.decision(agent);
        decide.actor = actor(words.key("tenant").unwrap_or("t"), agent);
        decide.agent_version = self.bench.ledger.agent_version(&decide.actor);
        decide.request = self.request(words)?;
        decide.session = id(words.key("session").unwrap_or(""));
        decide.cohort = id(words.key("cohort").unwrap_or(""));
        decide.tool = id(words.key("tool").unwrap_or("search"));
        decide.region_in_zone = region_id(words.key("region").unwrap_or(""));
        decide.costs.clear();
        for (unit, amount) in [("requests", "1"), ("tokens", "")] {
            let amount = words.key(unit).unwrap_or(amount);
            if !amount.is_empty() {
                decide.costs.push(CostV1 { unit: id(unit), amount: amount.parse()?, is_reserved: false });
            }
        }
        if let Some(amount) = words.key("reserve") {
            decide.costs.push(CostV1 { unit: id("tokens"), amount: amount.parse()?, is_reserved: true });
            decide.reserve_ttl_s = (nanoseconds(words.key("ttl").unwrap_or("60s"))? / SECOND_NS) as u32;
        }
        if let Some(word) = words.key("verdict") {
            decide.evaluation.verdict = VerdictWord(Verdict::from_word(word).ok_or("verdict=")?);
        }
        if let Some(severity) = words.key("severity") {
            decide.evaluation.detections.push(DetectionV1 { detector: 1, severity: severity.parse()? });
        }
        decide.resource = id(words.key("resource").unwrap_or(""));
        decide.evaluation.facts = ActionFactsV1 {
            bytes: words.key("bytes").unwrap_or("0").parse()?,
            labels: words.key("labels").unwrap_or("").split('+').fold(0, |bits, label| bits | label_bits(label)),
            outside: words.key("outside") == Some("true"),
            entropy: None,
        };
        if let Some(revision) = words.key("policy") {
            decide.policy_rev = ControlRevision(revision.parse()?);
        }
        if let Some(bundle) = words.key("by") {
            decide.by_canary = bundle == "canary";
        }
        if let Some(what) = words.key("action") {
            decide.review.digest = id(what);
        }
        decide.is_critical = words.key("critical").is_some();
        decide.model_score = words.key("model").map(str::parse).transpose()?;
        decide.has_asked = words.key("asked").is_some();
        decide.review.named = words.key("approval").map(str::parse).transpose()?;
        if let Some(word) = words.key("lifted") {
            decide.review.lifted = VerdictWord(Verdict::from_word(word).ok_or("lifted=")?);
        }
        if let Some(ttl) = words.key("asks") {
            decide.review.ttl_s = (nanoseconds(ttl)? / SECOND_NS) as u32;
        }
        if words.key("seen") == Some("new") {
            decide.agent_version = self.bench.ledger.agent_version(&actor("t", "nobody has this name"));
        }
        Ok(decide)
    }

    fn request(&self, words: &mut Words<'_>) -> Result<RequestKey, Failure> {
        let issued_ns = match words.key("issued") {
            Some(text) => START_NS + nanoseconds(text)?,
            None => self.bench.now_ns,
        };
        Ok(request(words.key("id").unwrap_or(""), words.key("body").unwrap_or(""), issued_ns / 1_000_000))
    }

    fn settle(&mut self, words: &mut Words<'_>, is_release: bool) -> Result<String, Failure> {
        let decision = words.next()?.parse()?;
        let used = words.key("tokens").map(|text| text.parse::<u64>()).transpose()?;
        let mut content = [u8::from(is_release); 8];
        content[..7].copy_from_slice(&used.unwrap_or(0).to_le_bytes()[..7]);
        let used = used.map(|used| (id("tokens"), used)).into_iter().collect();
        let slot = actor("t", "a").slot;
        Ok(self.apply(HeaderV1::SettleReservation(SettleV1 { slot, decision, content, is_release, used })))
    }

    fn word(&mut self, words: &mut Words<'_>, approves: bool) -> Result<String, Failure> {
        let word = self.bench.word(words.next()?.parse()?, approves, words.key("by").unwrap_or("ann"));
        Ok(self.apply(HeaderV1::DecideApproval(word)))
    }

    fn approvals(&self) -> String {
        let show = |(key, known): (ApprovalKey, Approval)| {
            let until = duration(known.until_ns.saturating_sub(START_NS));
            format!("approval {}: {} until {until}\n", key.leaf_index, known.state.as_str())
        };
        self.bench.ledger.approvals().map(show).collect()
    }

    fn order(&mut self, words: &mut Words<'_>, header: fn(HoldOrderV1) -> HeaderV1) -> Result<String, Failure> {
        let agent = words.next()?;
        let ttl_ns = nanoseconds(words.key("ttl").unwrap_or("0s"))?;
        let mut order = self.bench.order(agent, effect(words.key("effect"))?, ttl_ns);
        order.request = self.request(words)?;
        order.approvers = words.key("approvers").unwrap_or("0").parse()?;
        order.names = words.key("names").map_or_else(Vec::new, |names| names.split(',').map(id).collect());
        order.approver = id(words.key("by").unwrap_or(""));
        Ok(self.apply(header(order)))
    }

    fn control(&mut self, words: &mut Words<'_>) -> Result<String, Failure> {
        let (from, to) = (words.next()?.parse()?, words.next()?.parse()?);
        let mut facts = Vec::new();
        while let Ok(tenant) = words.next() {
            facts.push(ControlFact::Tenant(TenantFact { tenant: id(tenant), placement: Placement::Single }));
        }
        Ok(self.apply(control(from, to, facts)))
    }

    fn usage(&self, words: &mut Words<'_>) -> Result<String, Failure> {
        let usage = self.bench.ledger.usage(&subject(words.next()?), self.bench.now_ns);
        Ok(usage.iter().map(quota).collect())
    }

    fn band(&self, words: &mut Words<'_>) -> Result<String, Failure> {
        let (agent, number) = (words.next()?, words.next()?.parse()?);
        let mut costs = Vec::new();
        for unit in ["requests", "tokens"] {
            if let Some(amount) = words.key(unit) {
                costs.push(CostV1 { unit: id(unit), amount: amount.parse()?, is_reserved: false });
            }
        }
        let band = self.bench.ledger.band(LimitNumber(number), &subject(agent), &costs, self.bench.now_ns);
        Ok(band.as_str().to_owned())
    }

    fn state(&self) -> String {
        let ledger = &self.bench.ledger;
        let now_ns = ledger.now_ns().saturating_sub(START_NS);
        format!(
            "now={} leaves={} revision={} agents={} buckets={} remembered={} covered={}s reserved={}",
            duration(now_ns),
            ledger.leaf_count(),
            ledger.control_revision(),
            ledger.agent_count(),
            ledger.bucket_count(),
            ledger.remembered_count(),
            ledger.seconds_covered(),
            ledger.reservation_count(),
        )
    }
}

/// Facts that are commands of their own: each becomes the next control revision.
fn fact(name: &str, words: &mut Words<'_>) -> Result<ControlFact, Failure> {
    Ok(match name {
        "tenant" => {
            let spread = words.key("placement") == Some("spread");
            let placement = if spread { Placement::Spread } else { Placement::Single };
            ControlFact::Tenant(TenantFact { tenant: id(words.next()?), placement })
        }
        "policy" => ControlFact::Policy { digest: [words.next()?.len() as u8; 32] },
        "limit" => ControlFact::Limit(limit_fact(words)?),
        "unlimit" => ControlFact::LimitRemoved(LimitNumber(words.next()?.parse()?)),
        "hold" => ControlFact::Hold(HoldFact {
            id: ControlRevision(words.next()?.parse()?),
            tenant: id(words.key("tenant").unwrap_or("")),
            cohort: id(words.key("cohort").unwrap_or("")),
            tool: id(words.key("tool").unwrap_or("")),
            effect: effect(words.key("effect"))?,
            session: id(words.key("session").unwrap_or("")),
            region: region_id(words.key("region").unwrap_or("")),
            until_ns: words.key("until").map_or(Ok(0), |text| nanoseconds(text).map(|ns| START_NS + ns))?,
        }),
        "unhold" => ControlFact::HoldLifted(ControlRevision(words.next()?.parse()?)),
        "rules" => ControlFact::Quarantine(rules(words)?),
        "nothing" => ControlFact::Nothing,
        "canary" => {
            ControlFact::PolicyCanary { digest: [words.next()?.len() as u8; 32], percent: words.next()?.parse()? }
        }
        "uncanary" => ControlFact::PolicyCanaryEnded,
        _ => return Err(format!("no such command: {name}").into()),
    })
}

/// `rules [tenant=t] elevated=N[/effect[/ttl]] violations=COUNT+SEVERITY+TIME[/…] finding=NAME+SEVERITY[/…]`
fn rules(words: &mut Words<'_>) -> Result<QuarantineFact, Failure> {
    let tenant = id(words.key("tenant").unwrap_or(""));
    let mut rules = Vec::new();
    for what in ["elevated", "violations", "finding"] {
        let Some(text) = words.key(what) else { continue };
        let mut parts = text.split('/');
        let when: Vec<&str> = parts.next().unwrap_or("").split('+').collect();
        let when = match (what, &when[..]) {
            ("elevated", [actions]) => QuarantineWhenFact::Elevated { actions: actions.parse()? },
            ("violations", [count, severity, within]) => QuarantineWhenFact::Violations {
                count: count.parse()?,
                severity: severity.parse()?,
                within_ns: nanoseconds(within)?,
            },
            ("finding", [name, severity]) => QuarantineWhenFact::Finding {
                detector: detect::number(name).ok_or("no such detector")?,
                severity: severity.parse()?,
            },
            _ => return Err(format!("no such rule: {what}={text}").into()),
        };
        let effect = effect(parts.next())?;
        rules.push(QuarantineRuleFact { when, effect, ttl_ns: nanoseconds(parts.next().unwrap_or("0s"))? });
    }
    Ok(QuarantineFact { tenant, rules })
}

fn limit_fact(words: &mut Words<'_>) -> Result<LimitFact, Failure> {
    let number = words.next()?.parse()?;
    let per = |text: &str| -> Result<(u64, u64), Failure> {
        let (amount, period) = text.split_once('/').ok_or("amount/period")?;
        Ok((amount.parse()?, nanoseconds(period)? / SECOND_NS))
    };
    let kind = if let Some(rate) = words.key("rate") {
        let (amount, period_s) = per(rate)?;
        LimitKind::Rate { amount, period_s, burst: words.key("burst").ok_or("burst=")?.parse()? }
    } else if let Some(cap) = words.key("lifetime") {
        LimitKind::Lifetime { cap: cap.parse()? }
    } else if let Some(cap) = words.key("concurrency") {
        LimitKind::Concurrency { cap: cap.parse()? }
    } else if let Some(rolling) = words.key("rolling") {
        let (cap, window_s) = per(rolling)?;
        LimitKind::Rolling { cap, window_s }
    } else {
        let (cap, window_s) = per(words.key("budget").ok_or("a kind")?)?;
        LimitKind::Budget { cap, window_s }
    };
    let mut fact = limit(number, words.key("unit").unwrap_or("requests"), kind);
    let mode = words.key("mode").unwrap_or("enforce");
    fact.mode = LimitMode::ALL.into_iter().find(|known| known.as_str() == mode).ok_or("mode=")?;
    fact.reserve = words.key("reserve").unwrap_or("0").parse()?;
    if words.key("overrun") == Some("cap") {
        fact.overrun = Overrun::Cap;
    }
    fact.agent = id(words.key("agent").unwrap_or(""));
    fact.tool = id(words.key("tool").unwrap_or(""));
    fact.cohort = id(words.key("cohort").unwrap_or(""));
    for part in words.key("key").unwrap_or("tenant").split('+') {
        fact.key.push(match part {
            "tenant" => KeyPart::Tenant,
            "cohort" => KeyPart::Cohort,
            "agent" => KeyPart::Agent,
            "session" => KeyPart::Session,
            "tool" => KeyPart::Tool,
            "region" => KeyPart::Region,
            _ => return Err(format!("no such key part: {part}").into()),
        });
    }
    Ok(fact)
}

/// A command's arguments, taken out one by one.
struct Words<'a>(ArgumentConsumer<'a>);

impl<'a> Words<'a> {
    fn next(&mut self) -> Result<&'a str, Failure> {
        Ok(self.0.next_pos().ok_or("an argument is missing")?)
    }

    fn key(&mut self, key: &str) -> Option<&'a str> {
        self.0.take_key(key)
    }
}

fn effect(word: Option<&str>) -> Result<HoldEffect, Failure> {
    match word {
        None | Some("block") => Ok(HoldEffect::Block),
        Some("restrict") => Ok(HoldEffect::Restrict),
        Some(other) => Err(format!("no such effect: {other}").into()),
    }
}
