//! How well scores do beside the rules' own, counted by each node once a decision is applied, and added up on request.
//!
//! Off every decision's path: nothing here reaches a command, an answer, a leaf or a state. Counters begin anew with the
//! process and are no record. The heuristic sees neither policy's verdict nor the action's own effect on the history, since
//! it would be told what it is to foresee.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use parking_lot::Mutex;
use rkyv::rancor::Error;
use serde::{Deserialize, Serialize};

use nethical_governance::command::{DetectionV1, EvaluationV1};
use nethical_governance::outcome::DecidedV1;
use nethical_governance::risk::{Past, VIOLATION_SEVERITY_MIN, score_of};
use nethical_governance::scores::tally::{Bin, Check, Confusion, Tally, Truth};
use nethical_governance::scores::{Features, blend, context_risk};
use nethical_protocol::decision::Verdict;
use nethical_protocol::error::Problem;
use nethical_protocol::ids::KeyedId;
use nethical_protocol::limits::SCORED_TENANTS_MAX;
use nethical_protocol::model::ModelBlending;

use crate::message::KIND_SCORES;
use crate::node::Core;
use crate::world::Lane;

/// Scores that were held against the rules', by scorer and whether they agree.
pub const SCORES_TOTAL: &str = "nethical_scores_total";
/// What is measured: our own heuristic, the score that the caller's model gave, and its blend with the rules'.
pub const SCORERS: [&str; 3] = ["heuristic", "client", "blended"];
/// How long a peer may take.
const PATIENCE: Duration = Duration::from_secs(2);

type Tallies = [Tally; SCORERS.len()];

/// What is known of an action before it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Foreseen {
    /// Its tenant.
    pub tenant: KeyedId,
    /// What the tenant wants done with a model's score.
    pub blending: ModelBlending,
    /// The caller's model's score.
    pub model: Option<u16>,
    /// What the agent's history says.
    pub past: Option<Past>,
    context_risk: u16,
    found: Found,
    refused: bool,
}

impl Foreseen {
    /// Of an action that was evaluated and is not decided.
    pub fn of(
        (tenant, blending): (KeyedId, ModelBlending),
        model: Option<u16>,
        past: Option<Past>,
        evaluation: &EvaluationV1,
    ) -> Self {
        let context_risk = context_risk(evaluation.privileged, evaluation.automated);
        let refused = matches!(evaluation.verdict.0, Verdict::Block | Verdict::Terminate);
        let found = Found::default().with(&evaluation.detections);
        Self { tenant, blending, model, past, context_risk, found, refused }
    }

    fn features(&self, of_behaviour: &[DetectionV1]) -> Features {
        let found = self.found.with(of_behaviour);
        Features {
            violation_count: Some(if found.violates { 1_000 } else { 0 }),
            severity_max: Some(found.severity),
            recency_score: self.past.map(|past| past.recency),
            frequency_score: self.past.map(|past| past.frequency),
            context_risk: Some(self.context_risk),
        }
    }

    /// Score and confidence by scorer, in the order of [`SCORERS`]; a model's own confidence is not known here.
    fn scores(&self, rule: u16, of_behaviour: &[DetectionV1]) -> [Option<(u16, u16)>; SCORERS.len()] {
        let heuristic = self.features(of_behaviour).score();
        let mixed = self.model.filter(|_| self.blending != ModelBlending::Off);
        let mixed = mixed.map(|model| (blend(rule, model).unwrap_or(rule), 0));
        [Some((heuristic.score, heuristic.confidence)), self.model.map(|model| (model, 0)), mixed]
    }
}

/// What detectors found, policy left out.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    severity: u16,
    violates: bool,
}

impl Found {
    fn with(self, more: &[DetectionV1]) -> Self {
        let severity = more.iter().map(|found| found.severity).max().unwrap_or(0).max(self.severity).min(1_000);
        Self { severity, violates: severity >= VIOLATION_SEVERITY_MIN }
    }
}

/// Counts of this node: of all tenants together, and apart as far as there is room.
#[derive(Debug, Default)]
pub struct ScoreCounts(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    all: Tallies,
    tenants: BTreeMap<KeyedId, Tallies>,
}

impl ScoreCounts {
    /// Counts a decision, here and in the metrics.
    pub fn note(&self, foreseen: &Foreseen, decided: &DecidedV1) {
        let truth = Truth { rule: score_of(decided.risk_terms), refused: foreseen.refused };
        let scores = foreseen.scores(truth.rule, &decided.findings);
        let mut counted = self.0.lock();
        let mut unread = Tallies::default();
        let Counted { all, tenants } = &mut *counted;
        let has_room = tenants.len() < SCORED_TENANTS_MAX || tenants.contains_key(&foreseen.tenant);
        let own = if has_room { tenants.entry(foreseen.tenant).or_default() } else { &mut unread };
        for (at, (score, confidence)) in scores.iter().enumerate().filter_map(|(at, score)| Some((at, (*score)?))) {
            let agrees = all[at].note(score, confidence, truth);
            own[at].note(score, confidence, truth);
            let agrees = if agrees { "true" } else { "false" };
            metrics::counter!(SCORES_TOTAL, "scorer" => SCORERS[at], "agrees" => agrees).increment(1);
        }
    }

    fn read(&self, tenant: Option<KeyedId>) -> Tallies {
        let counted = self.0.lock();
        tenant.map_or(counted.all, |tenant| counted.tenants.get(&tenant).copied().unwrap_or_default())
    }
}

/// What have you counted?
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ScoresAskV1 {
    /// Of one tenant, or of all together.
    pub tenant: Option<[u8; 16]>,
}

/// What a node has counted.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ScoresV1 {
    /// In the order of [`SCORERS`].
    pub tallies: Vec<Tally>,
}

/// Answers a peer; nothing where the ask does not read.
pub fn on_scores(core: &Core, body: &[u8]) -> Option<Bytes> {
    let ask = rkyv::from_bytes::<ScoresAskV1, Error>(body).ok()?;
    let tallies = core.shared.scores.read(ask.tenant.map(KeyedId)).to_vec();
    Some(Bytes::from(rkyv::to_bytes::<Error>(&ScoresV1 { tallies }).ok()?.into_vec()))
}

/// Whose scores.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScoreQuery {
    /// Of one tenant; of all together where left out.
    pub tenant: Option<String>,
}

/// How well scores do beside the rules'.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreReport {
    /// Of this tenant; of all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// What that tenant has done with scores of its callers' models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_blending: Option<ModelBlending>,
    /// `heuristic`, `client`, `blended`.
    pub scorers: Vec<ScorerView>,
    /// Nodes whose counts are in here, each since its process started.
    pub nodes: Vec<u64>,
    /// Nodes that did not answer: what they counted is missing.
    pub awaiting: Vec<u64>,
}

/// One scorer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScorerView {
    /// Its name.
    pub scorer: String,
    /// Decisions for which it gave a score.
    pub samples: u64,
    /// Of those, within 100 of the rules' score.
    pub agreed: u64,
    /// The same in thousandths of the samples.
    pub agreement_permille: u64,
    /// Of the samples, in the gray zone by the rules.
    pub gray_samples: u64,
    /// The mean of its confidence, 0..1000; absent where it tells none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<u64>,
    /// Its denials against policy's.
    pub confusion: ConfusionView,
    /// The denials of the rules' score against policy's, on the same samples.
    pub baseline: ConfusionView,
    /// Five bins, from 0 up.
    pub calibration: Vec<BinView>,
    /// How far mean scores and shares of refusals lie apart, weighed by samples, in thousandths.
    pub calibration_error_permille: u64,
    /// Whether it might be promoted.
    pub promotion: PromotionView,
}

/// Decisions by what a score and policy said; a score of 700 and more is a denial.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfusionView {
    /// Denied by both.
    pub true_positives: u64,
    /// Denied by the score alone.
    pub false_positives: u64,
    /// Refused by policy alone.
    pub false_negatives: u64,
    /// Denied by neither.
    pub true_negatives: u64,
}

impl From<Confusion> for ConfusionView {
    fn from(of: Confusion) -> Self {
        let Confusion { true_positives, false_positives, false_negatives, true_negatives } = of;
        Self { true_positives, false_positives, false_negatives, true_negatives }
    }
}

/// Samples whose score lies in one fifth of the scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinView {
    /// The least score in it.
    pub from: u16,
    /// How many.
    pub samples: u64,
    /// Their mean score.
    pub predicted_permille: u64,
    /// The share of them that policy refused.
    pub observed_permille: u64,
}

/// The gate before a scorer that decides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionView {
    /// True where every check holds. Nothing is promoted by it.
    pub passes: bool,
    /// Each condition.
    pub checks: Vec<CheckView>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// `false-positives`, `true-positives`, `gray-samples`.
    pub name: String,
    /// Whether it holds.
    pub holds: bool,
    /// In words, with the numbers.
    pub detail: String,
}

impl From<Check> for CheckView {
    fn from(Check { name, holds, found, bound }: Check) -> Self {
        let detail = match name {
            "false-positives" => format!("{found} ‰ of negatives, the rules' score {bound} ‰; at most 50 ‰ apart"),
            "true-positives" => format!("{found}, the rules' score {bound}; more are needed"),
            _ => format!("{found} in the gray zone; {bound} are needed"),
        };
        Self { name: name.to_owned(), holds, detail }
    }
}

/// What all nodes have counted, of one tenant or of all.
///
/// # Errors
/// `unknown-tenant` where one is named that the zone does not know.
pub async fn report(core: Arc<Core>, query: ScoreQuery) -> Result<ScoreReport, Problem> {
    let view = core.shared.view();
    let tenant = match &query.tenant {
        None => None,
        Some(name) => Some(view.tenant(name).ok_or_else(|| core.shared.no_tenant(name))?),
    };
    let id = tenant.map(|tenant| tenant.id);
    let ask = ScoresAskV1 { tenant: id.map(|id| id.0) };
    let ask = Bytes::from(rkyv::to_bytes::<Error>(&ask).expect("encoding into memory cannot fail").into_vec());
    let wire = &core.shared.world.wire;
    let asked = core.peers().into_iter().map(|peer| {
        let ask = ask.clone();
        async move {
            let answer = wire.call(peer, Lane::Control, KIND_SCORES, ask, PATIENCE).await;
            (peer.0, answer.ok().and_then(|bytes| rkyv::from_bytes::<ScoresV1, Error>(&bytes).ok()))
        }
    });
    let (mut sums, mut nodes, mut awaiting) = (core.shared.scores.read(id), vec![core.shared.options.node.0], vec![]);
    for (node, answer) in join_all(asked).await {
        match answer {
            Some(counted) => {
                sums.iter_mut().zip(&counted.tallies).for_each(|(sum, tally)| sum.add(tally));
                nodes.push(node);
            }
            None => awaiting.push(node),
        }
    }
    nodes.sort_unstable();
    let scorers = SCORERS.into_iter().zip(&sums).map(|(scorer, tally)| shown(scorer, tally)).collect();
    let model_blending = tenant.map(|tenant| tenant.model_blending());
    Ok(ScoreReport { tenant: query.tenant, model_blending, scorers, nodes, awaiting })
}

fn shown(scorer: &str, tally: &Tally) -> ScorerView {
    let checks: Vec<CheckView> = tally.gate().into_iter().map(CheckView::from).collect();
    let bin = |(from, bin): (u16, &Bin)| BinView {
        from,
        samples: bin.samples,
        predicted_permille: bin.predicted_permille(),
        observed_permille: bin.observed_permille(),
    };
    ScorerView {
        scorer: scorer.to_owned(),
        samples: tally.samples,
        agreed: tally.agreed,
        agreement_permille: tally.agreement_permille(),
        gray_samples: tally.gray,
        confidence: (scorer == SCORERS[0]).then(|| tally.confidence_mean()),
        confusion: tally.confusion.into(),
        baseline: tally.baseline.into(),
        calibration: (0..).step_by(200).zip(&tally.bins).map(bin).collect(),
        calibration_error_permille: tally.calibration_error_permille(),
        promotion: PromotionView { passes: checks.iter().all(|check| check.holds), checks },
    }
}

#[cfg(test)]
mod tests {
    use nethical_governance::command::VerdictWord;
    use nethical_governance::outcome::RiskTier;
    use nethical_protocol::decision::AgentStatus;
    use nethical_protocol::ids::ControlRevision;

    use super::*;

    const TENANT: KeyedId = KeyedId([7; 16]);

    /// A decision whose score by the rules is `7·severity·0.3 …`: all terms alike give that score.
    fn decided(rule: u16) -> DecidedV1 {
        DecidedV1 {
            verdict: Verdict::Allow,
            reasons: vec![],
            status: AgentStatus::Active,
            epoch: 0,
            risk: 1,
            tier: RiskTier::Low,
            risk_terms: [rule; 5],
            quota: vec![],
            retry_after_ns: 0,
            control_rev: ControlRevision(2),
            findings: vec![],
            ahead: vec![],
        }
    }

    fn foreseen(blending: ModelBlending, model: Option<u16>, verdict: Verdict) -> Foreseen {
        let evaluation = EvaluationV1 { verdict: VerdictWord(verdict), ..EvaluationV1::default() };
        Foreseen::of((TENANT, blending), model, None, &evaluation)
    }

    #[test]
    fn each_scorer_is_counted_where_it_has_a_score() {
        let counts = ScoreCounts::default();
        counts.note(&foreseen(ModelBlending::Off, None, Verdict::Allow), &decided(500));
        counts.note(&foreseen(ModelBlending::Off, Some(900), Verdict::Block), &decided(500));
        counts.note(&foreseen(ModelBlending::Shadow, Some(1_000), Verdict::Block), &decided(600));
        counts.note(&foreseen(ModelBlending::Enforce, Some(0), Verdict::Allow), &decided(700));
        let all = counts.read(None);
        assert_eq!(all.map(|tally| tally.samples), [4, 3, 2]);
        assert_eq!(all.map(|tally| tally.gray), [3, 2, 1]);
        // The blend of 600 and 1000 is 720, a denial; outside of the gray zone it is the rules' score.
        assert_eq!(all.map(|tally| tally.confusion.true_positives), [0, 2, 1]);
        assert_eq!((all[2].confusion.false_positives, all[2].agreed), (1, 1));
        assert_eq!((counts.read(Some(TENANT)), counts.read(Some(KeyedId([8; 16])))), (all, Tallies::default()));
    }

    #[test]
    fn policys_verdict_is_no_feature_and_findings_of_behaviour_are() {
        let blocked = foreseen(ModelBlending::Off, None, Verdict::Terminate);
        assert_eq!(blocked.features(&[]), foreseen(ModelBlending::Off, None, Verdict::Allow).features(&[]));
        let odd = [DetectionV1 { detector: 9, severity: VIOLATION_SEVERITY_MIN }];
        let features = blocked.features(&odd);
        assert_eq!((features.violation_count, features.severity_max), (Some(1_000), Some(VIOLATION_SEVERITY_MIN)));
        assert_eq!((features.recency_score, features.score().confidence), (None, 480));
        let known = Foreseen { past: Some(Past { recency: 1_000, frequency: 100 }), ..blocked };
        assert_eq!(known.features(&odd).score().confidence, 800);
    }

    #[test]
    fn tenants_beyond_the_bound_are_counted_together_only() {
        let counts = ScoreCounts::default();
        for number in 0..=SCORED_TENANTS_MAX as u64 {
            let mut tenant = [0; 16];
            tenant[..8].copy_from_slice(&number.to_le_bytes());
            let foreseen = Foreseen { tenant: KeyedId(tenant), ..foreseen(ModelBlending::Off, None, Verdict::Allow) };
            counts.note(&foreseen, &decided(0));
        }
        assert_eq!(counts.read(None)[0].samples, SCORED_TENANTS_MAX as u64 + 1);
        assert_eq!(counts.0.lock().tenants.len(), SCORED_TENANTS_MAX);
    }

    #[test]
    fn a_report_names_what_a_promotion_lacks() {
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.note(900, 0, Truth { rule: 500, refused: true });
        }
        let view = shown("client", &tally);
        let told: Vec<(&str, bool)> = view.promotion.checks.iter().map(|check| (&*check.name, check.holds)).collect();
        assert_eq!(told, [("false-positives", true), ("true-positives", true), ("gray-samples", false)]);
        assert!(!view.promotion.passes && view.confidence.is_none());
        assert_eq!(view.promotion.checks[2].detail, "3 in the gray zone; 100 are needed");
        assert_eq!(view.calibration.iter().map(|bin| bin.from).collect::<Vec<_>>(), [0, 200, 400, 600, 800]);
    }
}
