//! Dictionaries as changes of the zone: who packs with which, that none ever goes, and that they are bounded.

use nethical_audit::body::pack::DICTIONARY_1;
use nethical_protocol::control::TenantSpec;

use super::*;
use crate::control::signing::Place;
use crate::control::{AskV1, ChangeV1, Changed};

fn control() -> ControlState {
    let mut state = ControlState::default();
    for tenant in ["bank", "airline"] {
        let spec = TenantSpec::named(tenant);
        ask(&mut state, AskV1::PutTenant { spec, wrapped_key: vec![1] }).expect("the tenant is new");
    }
    state
}

fn ask(state: &mut ControlState, change: AskV1) -> Result<Changed, Problem> {
    match state.apply(&ChangeV1 { now_ns: 7, change }, Place::default()) {
        Changed::Refused(problem) => Err(problem),
        changed => Ok(changed),
    }
}

fn give(state: &mut ControlState, tenant: &str, digest: DictionaryDigest) -> Result<Changed, Problem> {
    let (tenant, bytes) = (tenant.to_owned(), DICTIONARY_1.to_vec());
    ask(state, AskV1::Dictionary(DictionaryAskV1::Give { tenant, digest, bytes }))
}

fn leave(state: &mut ControlState, tenant: &str) -> Result<Changed, Problem> {
    ask(state, AskV1::Dictionary(DictionaryAskV1::Leave { tenant: tenant.to_owned() }))
}

fn id(tenant: &str) -> KeyedId {
    KeyedId([tenant.as_bytes()[0]; 16])
}

fn shelf(state: &ControlState) -> Shelf {
    let mut shelf = Shelf::default();
    for event in state.events() {
        if let EventV1::Dictionary(change) = &event.event {
            shelf.fold(event, Some(id(change.tenant())));
        }
    }
    shelf
}

/// The true digest: nodes name a dictionary by what they read.
fn digest() -> DictionaryDigest {
    *Dictionary::read(DICTIONARY_1).expect("a dictionary").digest()
}

#[test]
fn a_tenant_packs_with_what_it_gave_and_reads_all_that_was_ever_given() {
    let mut state = control();
    assert!(matches!(give(&mut state, "bank", digest()), Ok(Changed::Revision(_))));
    assert!(matches!(give(&mut state, "bank", digest()), Ok(Changed::Unchanged(_))), "the same again");
    let held = shelf(&state);
    assert_eq!(held.of(&id("bank")).map(|own| *own.digest()), Some(digest()));
    assert!(held.of(&id("airline")).is_none(), "nobody else's bodies are packed with it");

    assert!(matches!(leave(&mut state, "bank"), Ok(Changed::Revision(_))));
    assert!(matches!(leave(&mut state, "bank"), Ok(Changed::Unchanged(_))));
    let held = shelf(&state);
    assert!(held.of(&id("bank")).is_none() && held.known().get(&name_of(&digest())).is_some(), "old bodies still read");

    // Given again it is chosen again, and its bytes are not kept twice.
    assert!(matches!(give(&mut state, "bank", digest()), Ok(Changed::Revision(_))));
    assert!(matches!(give(&mut state, "airline", digest()), Ok(Changed::Revision(_))));
    let given = state.events().iter().filter(|event| event.event.bulk() > 0).count();
    let packs: Vec<_> = shelf(&state).kept().map(|(_, kept, packs)| (kept.tenant.clone(), packs)).collect();
    assert_eq!((given, packs), (1, vec![("bank".to_owned(), vec!["airline".to_owned(), "bank".to_owned()])]));
}

#[test]
fn what_a_node_cannot_read_packs_nothing() {
    let mut state = control();
    let (tenant, bytes) = ("bank".to_owned(), vec![7; 4_096]);
    let asked = DictionaryAskV1::Give { tenant, digest: [9; 32], bytes };
    ask(&mut state, AskV1::Dictionary(asked)).expect("its leader could read it");
    assert!(shelf(&state).of(&id("bank")).is_none());
}

#[test]
fn dictionaries_are_bounded_and_no_two_have_one_name() {
    let mut state = control();
    assert_eq!(give(&mut state, "nobody", digest()).expect_err("no such tenant").code, Code::UnknownTenant);
    let (tenant, bytes) = ("bank".to_owned(), vec![7; DICTIONARY_BYTES_MAX + 1]);
    let large = AskV1::Dictionary(DictionaryAskV1::Give { tenant, digest: [9; 32], bytes });
    assert_eq!(ask(&mut state, large).expect_err("too large").code, Code::TooLarge);

    give(&mut state, "bank", [1; 32]).expect("there is room");
    let mut same_name = [1; 32];
    same_name[31] = 2;
    let refused = give(&mut state, "bank", same_name).expect_err("bodies could not tell them apart");
    assert!(refused.detail.contains("01010101"), "{}", refused.detail);

    for number in 2..=DICTIONARIES_MAX as u8 {
        give(&mut state, "bank", [number; 32]).expect("there is room");
    }
    assert!(give(&mut state, "bank", [99; 32]).is_err());
    assert!(give(&mut state, "bank", [1; 32]).is_ok(), "one that is kept may be chosen again");
}
