//! From the rules that matched to one verdict: the most severe wins, and no permit means no.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use nethical_protocol::decision::Verdict;
use nethical_protocol::limits::{APPROVAL_TTL_S_DEFAULT, REASONS_MAX};

use super::PolicyResult;
use super::rule::RuleText;

/// The result of the rules that matched. `permitted` says whether a permit was among them; without one,
/// `default_deny` speaks as well.
///
/// Named are the rules of the final verdict, and, where the action may still go ahead, milder ones that oblige to
/// something: the most severe first when there are more than [`REASONS_MAX`].
pub(super) fn compose<'a>(mut matched: Vec<&'a RuleText>, permitted: bool, default_deny: &'a RuleText) -> PolicyResult {
    if !permitted {
        matched.push(default_deny);
    }
    let verdict = matched.iter().map(|rule| rule.verdict).max().unwrap_or(Verdict::Block);
    let may_go_ahead = verdict < Verdict::Block;
    // What the action comes to once a person has approved it: the milder rules go on to hold.
    let obliges = |rule: &&&RuleText| rule.verdict == Verdict::Restrict || !rule.obligations.is_empty();
    let lifted = if matched.iter().any(|rule| obliges(&rule)) { Verdict::Restrict } else { Verdict::Allow };
    let ttls = matched.iter().map(|rule| rule.approval_ttl_s).filter(|ttl_s| *ttl_s > 0);
    let approval_ttl_s = ttls.min().unwrap_or(APPROVAL_TTL_S_DEFAULT as u32);
    matched.retain(|rule| rule.verdict == verdict || (may_go_ahead && !rule.obligations.is_empty()));
    matched.sort_by_key(|rule| (Reverse(rule.verdict), rule.hash()));
    matched.truncate(REASONS_MAX);
    let mut rules: Vec<[u8; 8]> = matched.iter().map(|rule| rule.hash()).collect();
    rules.sort_unstable();
    let obligations: BTreeSet<Arc<str>> = matched.iter().flat_map(|rule| rule.obligations.iter().cloned()).collect();
    let reasons = matched.iter().map(|rule| rule.sentence().into()).collect();
    PolicyResult { verdict, rules, obligations: obligations.into_iter().collect(), reasons, lifted, approval_ttl_s }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(id: &str, verdict: Verdict, obligations: &[&str], approval_ttl_s: u32) -> RuleText {
        let obligations = obligations.iter().map(|text| (*text).into()).collect();
        RuleText { id: id.into(), reason: "".into(), obligations, verdict, approval_ttl_s }
    }

    #[test]
    fn what_is_escalated_comes_to_what_the_milder_rules_say_and_lives_as_long_as_the_strictest_says() {
        let deny = RuleText::default_deny();
        let allow = rule("allow", Verdict::Allow, &[], 0);
        let (ask, soon) = (rule("ask", Verdict::Escalate, &[], 900), rule("soon", Verdict::Escalate, &[], 60));
        let restrict = rule("restrict", Verdict::Restrict, &[], 0);
        let notify = rule("notify", Verdict::Escalate, &["notify"], 0);
        let hour = APPROVAL_TTL_S_DEFAULT as u32;
        for (matched, lifted, ttl_s) in [
            (vec![&allow, &ask], Verdict::Allow, 900),
            (vec![&allow, &ask, &soon], Verdict::Allow, 60),
            (vec![&allow, &ask, &restrict], Verdict::Restrict, 900),
            (vec![&allow, &notify], Verdict::Restrict, hour),
        ] {
            let result = compose(matched, true, &deny);
            assert_eq!((result.verdict, result.lifted, result.approval_ttl_s), (Verdict::Escalate, lifted, ttl_s));
        }
        assert_eq!(
            compose(vec![&ask], false, &deny).verdict,
            Verdict::Block,
            "nobody can approve what nothing permits"
        );
    }
}
