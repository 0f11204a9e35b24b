//! Legal holds as changes of the zone: what they forbid, that they are bounded, and that nothing is done twice.

use nethical_protocol::control::TenantSpec;
use nethical_protocol::ids::KeyedId;

use super::*;
use crate::control::signing::Place;
use crate::control::{AskV1, ChangeV1, Changed};

fn control() -> ControlState {
    let mut state = ControlState::default();
    let spec = TenantSpec::named("bank");
    ask(&mut state, AskV1::PutTenant { spec, wrapped_key: vec![1] }).expect("the tenant is new");
    state
}

fn ask(state: &mut ControlState, change: AskV1) -> Result<u64, Problem> {
    match state.apply(&ChangeV1 { now_ns: 7, change }, Place::default()) {
        Changed::Revision(revision) | Changed::Unchanged(revision) => Ok(revision.0),
        Changed::Refused(problem) => Err(problem),
    }
}

fn subject(number: u8) -> KeyedId {
    KeyedId([number; 16])
}

fn hold(scope: LegalScope) -> AskV1 {
    let (tenant, reason) = ("bank".to_owned(), "file 12".to_owned());
    AskV1::SetLegalHold(LegalHoldV1 { tenant, scope, from_ns: 0, to_ns: 0, reason, by: String::new(), at_ns: 0 })
}

fn lift(id: u64) -> AskV1 {
    AskV1::LiftLegalHold { id: ControlRevision(id), by: "ann".to_owned() }
}

fn erase(number: u8, is_person: bool) -> AskV1 {
    let erasure =
        ErasureV1 { tenant: "bank".to_owned(), subject: subject(number), is_person, reason: String::new(), at_ns: 0 };
    AskV1::Erase(erasure)
}

#[test]
fn an_erasure_that_a_standing_hold_may_cover_is_refused_and_the_hold_is_named() {
    let mut state = control();
    let id = ask(&mut state, hold(LegalScope::Agent(subject(1)))).expect("it stands");
    let refused = ask(&mut state, erase(1, false)).expect_err("it is held");
    assert_eq!(refused.code, Code::LegalHold);
    assert!(refused.detail.starts_with(&format!("legal hold {id} on agent 0101")), "{}", refused.detail);
    assert!(refused.detail.contains(&format!("legal-hold lift {id}")) && refused.detail.contains("(file 12)"));
    assert!(ask(&mut state, erase(2, false)).is_ok(), "another agent");
    assert!(ask(&mut state, erase(3, true)).is_err(), "the agent may have spoken of this person");

    ask(&mut state, lift(id)).expect("lifted");
    assert!(ask(&mut state, erase(1, false)).is_ok());
    ask(&mut state, hold(LegalScope::Person(subject(3)))).expect("it stands");
    assert!(ask(&mut state, erase(3, true)).is_err());
    assert!(ask(&mut state, erase(4, true)).is_ok(), "another person");
    assert!(ask(&mut state, erase(1, false)).is_err(), "the agent may have spoken of the person");
    ask(&mut state, hold(LegalScope::Tenant)).expect("it stands");
    assert!(ask(&mut state, erase(4, true)).is_err());
}

#[test]
fn the_same_hold_twice_is_one_and_a_lifted_one_stays_lifted() {
    let mut state = control();
    let id = ask(&mut state, hold(LegalScope::Tenant)).expect("it stands");
    assert_eq!(ask(&mut state, hold(LegalScope::Tenant)), Ok(id));
    assert_eq!(ask(&mut state, lift(id)), Ok(id + 1));
    assert_eq!(ask(&mut state, lift(id)), Ok(id + 1));
    assert_eq!(ask(&mut state, hold(LegalScope::Tenant)), Ok(id + 2), "a new one after the old one was lifted");
    assert_eq!(ask(&mut state, lift(99)).map_err(|problem| problem.code), Err(Code::NotFound));
}

#[test]
fn standing_holds_are_bounded() {
    let mut state = control();
    for number in 0..LEGAL_HOLDS_STANDING_MAX {
        let scope = LegalScope::Agent(KeyedId((number as u128).to_be_bytes()));
        ask(&mut state, hold(scope)).expect("there is room");
    }
    let refused = ask(&mut state, hold(LegalScope::Tenant)).expect_err("there is no room");
    assert_eq!(refused.code, Code::InvalidControl);
}
