//! Following: everything exactly once and in order, silent groups named, heartbeats, and an end when the node stops.

use tokio::sync::{Semaphore, watch};

use super::*;
use crate::door::scripted::Scripted;

/// A tail that waits for next to nothing, with what stops it.
async fn follow(script: &Arc<Scripted>, query: EntryQuery, beat: Duration) -> (Follow, watch::Sender<bool>) {
    let (stop, stopping) = watch::channel(false);
    let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a place");
    let pace = Pace { idle: Duration::from_millis(1), beat };
    let follow = Follow::begin(script.clone(), query, "r".into(), pace, stopping, place).await.expect("it begins");
    (follow, stop)
}

fn asked(cursor: Option<&str>, limit: usize) -> EntryQuery {
    let cursor = cursor.map(str::to_owned);
    EntryQuery { from_end: cursor.is_none(), cursor, limit: Some(limit), cursors: true, ..EntryQuery::default() }
}

const NEVER: Duration = Duration::from_secs(3_600);

async fn entry_id(follow: &mut Follow) -> (String, u64) {
    match follow.next().await {
        Some(Event::Entry { id, entry }) => (id, entry.decision_id.leaf_index),
        other => panic!("an entry was expected: {other:?}"),
    }
}

#[tokio::test]
async fn every_entry_is_told_once_whatever_the_pages_and_each_has_the_cursor_behind_it() {
    let script = Scripted::deciding(vec![]);
    script.append(7);
    let (mut follow, _keep) = follow(&script, asked(Some("c2"), 3), NEVER).await;
    for at in 2..7 {
        assert_eq!(entry_id(&mut follow).await, (format!("c{}", at + 1), at));
    }
    script.append(2);
    for at in 7..9 {
        assert_eq!(entry_id(&mut follow).await, (format!("c{}", at + 1), at));
    }
}

#[tokio::test]
async fn a_tail_from_now_says_where_it_begins_before_anything_comes() {
    let script = Scripted::deciding(vec![]);
    script.append(5);
    let (mut follow, _keep) = follow(&script, asked(None, 3), NEVER).await;
    script.append(1);
    assert_eq!(follow.next().await, Some(Event::Alive { id: "c5".into() }));
    assert_eq!(entry_id(&mut follow).await, ("c6".to_owned(), 5));
}

#[tokio::test]
async fn groups_that_do_not_answer_are_named_when_that_changes_and_not_again() {
    let script = Scripted::deciding(vec![]);
    script.append(1);
    script.silence(vec![3]);
    let (mut follow, _keep) = follow(&script, asked(Some("c0"), 3), NEVER).await;
    assert_eq!(entry_id(&mut follow).await.1, 0);
    assert_eq!(follow.next().await, Some(Event::Incomplete { id: "c1".into(), groups: vec![3] }));
    script.append(1);
    assert_eq!(entry_id(&mut follow).await.1, 1);
    script.silence(vec![]);
    assert_eq!(follow.next().await, Some(Event::Incomplete { id: "c2".into(), groups: vec![] }));
}

#[tokio::test]
async fn silence_is_broken_by_heartbeats_with_the_cursor() {
    let script = Scripted::deciding(vec![]);
    let (mut follow, _keep) = follow(&script, asked(Some("c0"), 3), Duration::from_millis(1)).await;
    for _ in 0..3 {
        assert_eq!(follow.next().await, Some(Event::Alive { id: "c0".into() }));
    }
}

#[tokio::test]
async fn a_problem_is_told_and_ends_it_and_so_does_a_stop_with_events_left() {
    let script = Scripted::deciding(vec![]);
    script.append(4);
    let (mut first, _keep) = follow(&script, asked(Some("c3"), 3), NEVER).await;
    let (mut second, stop) = follow(&script, asked(Some("c0"), 3), NEVER).await;
    assert_eq!(entry_id(&mut first).await.1, 3);
    script.refuse(Problem::new(Code::UnknownTenant, "gone"));
    assert!(matches!(
        first.next().await, Some(Event::Problem(told)) if told.code == Code::UnknownTenant && told.request_id == "r"
    ));
    assert_eq!(first.next().await, None);
    assert_eq!(entry_id(&mut second).await.1, 0);
    stop.send_replace(true);
    assert_eq!(second.next().await, None);
}

#[tokio::test]
async fn a_page_without_its_cursors_ends_it_instead_of_being_told_in_part() {
    let script = Scripted::deciding(vec![]);
    script.append(2);
    let query = EntryQuery { cursors: false, ..asked(Some("c0"), 3) };
    let (mut follow, _keep) = follow(&script, query, NEVER).await;
    assert!(matches!(follow.next().await, Some(Event::Problem(told)) if told.code == Code::Internal));
    assert_eq!(follow.next().await, None);
}
