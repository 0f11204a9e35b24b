//! A folder as an object store, and what cannot be opened.
#![allow(clippy::disallowed_methods, reason = "the tests look into the folder behind the store's back")]

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::world::real::RealClock;

fn folder() -> (TempDir, StoreObjects) {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::parse(folder.path().to_str().unwrap()).unwrap();
    let store = StoreObjects::open(&place, &[], Arc::new(RealClock::new())).unwrap();
    (folder, store)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn what_is_put_is_read_in_ranges_listed_in_order_and_removed() {
    let (folder, store) = folder();
    for (name, text) in [("b/2", "two"), ("b/10", "ten"), ("a/x/1", "one"), ("c", "")] {
        store.put(name, bytes(text)).await.unwrap();
    }
    store.put("b/2", bytes("second")).await.unwrap();
    let names = |objects: Vec<ObjectInfo>| objects.into_iter().map(|one| (one.name, one.bytes)).collect::<Vec<_>>();
    let owned =
        |names: &[(&str, u64)]| names.iter().map(|(name, bytes)| ((*name).to_owned(), *bytes)).collect::<Vec<_>>();
    let all = owned(&[("a/x/1", 3), ("b/10", 3), ("b/2", 6), ("c", 0)]);
    assert_eq!(names(store.list("").await.unwrap()), all);
    assert_eq!(names(store.list("b").await.unwrap()), owned(&[("b/10", 3), ("b/2", 6)]));
    assert_eq!(names(store.list("b/").await.unwrap()), owned(&[("b/10", 3), ("b/2", 6)]));
    assert_eq!(names(store.list("nowhere").await.unwrap()), []);
    for (range, expected) in [(0..6, "second"), (1..3, "ec"), (4..99, "nd"), (6..9, ""), (60..90, ""), (2..2, "")] {
        assert_eq!(store.get("b/2", range.clone()).await.unwrap(), expected, "{range:?}");
    }
    assert_eq!(store.get("c", 0..5).await.unwrap(), "");
    for name in ["a/x/1", "a/x/1", "never/there"] {
        store.remove(name).await.unwrap();
    }
    assert_eq!(names(store.list("").await.unwrap()), all[1..]);
    assert!(!folder.path().join("a/x/1").exists());
}

#[tokio::test]
async fn what_is_not_there_is_missing_and_names_that_leave_the_store_are_refused() {
    let (_folder, store) = folder();
    for range in [0..9, 3..3] {
        assert_eq!(store.get("a/b", range).await, Err(ObjectError::Missing));
    }
    for name in ["", "/a", "a/", "a//b", "../a", "a/../../b", "a/./b"] {
        let put = store.put(name, bytes("x")).await;
        assert!(matches!(put, Err(ObjectError::Unavailable(_))), "{name:?}: {put:?}");
        assert!(store.get(name, 0..1).await.is_err() && store.remove(name).await.is_err(), "{name:?}");
    }
}

/// What a crash leaves of a put is a file beside the object's; it is no object, and the next put is whole.
#[tokio::test]
async fn half_a_put_is_no_object_and_hinders_none() {
    let (folder, store) = folder();
    store.put("a/one", bytes("old")).await.unwrap();
    fs::write(folder.path().join("a/one#1"), "ne").unwrap();
    assert_eq!(store.get("a/one", 0..9).await.unwrap(), "old");
    assert_eq!(store.list("a").await.unwrap().len(), 1);
    store.put("a/one", bytes("new")).await.unwrap();
    assert_eq!(fs::read(folder.path().join("a/one")).unwrap(), b"new");
    assert_eq!(store.list("").await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_listing_has_an_end() {
    let (_folder, store) = folder();
    for name in ["a", "b", "c"] {
        store.put(name, bytes("x")).await.unwrap();
    }
    assert_eq!(store.inner.list("", 3).await.unwrap().len(), 3);
    assert!(store.inner.list("", 2).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_gets_no_turn_ends() {
    let (_folder, store) = folder();
    let turns = store.inner.calls.acquire_many(CALLS_MAX as u32).await.unwrap();
    let told = store.remove("a").await.unwrap_err();
    assert_eq!(told, ObjectError::Unavailable("no answer within 30 s".to_owned()));
    drop(turns);
    store.remove("a").await.unwrap();
}

/// Nobody listens on the port, and the few retries are over in a moment.
#[tokio::test]
async fn a_store_that_is_away_is_unavailable_soon_and_says_why() {
    let environment = [
        ("AWS_ENDPOINT", "http://127.0.0.1:9"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_ACCESS_KEY_ID", "a"),
        ("AWS_SECRET_ACCESS_KEY", "b"),
        ("AWS_PROFILE", "not for us"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let place = Place::parse("s3://bucket/prefix").unwrap();
    let store = StoreObjects::open(&place, &environment, Arc::new(RealClock::new())).unwrap();
    let Err(ObjectError::Unavailable(why)) = store.get("a", 0..1).await else { panic!("somebody listens") };
    assert!(why.contains("refused"), "{why}");
    let https = environment.map(|(name, value)| (name, value.replace("true", "false")));
    let store = StoreObjects::open(&place, &https, Arc::new(RealClock::new())).unwrap();
    let Err(ObjectError::Unavailable(why)) = store.get("a", 0..1).await else { panic!("somebody listens") };
    assert!(why.contains("http"), "plain HTTP is spoken to whom it was allowed only: {why}");
}

#[tokio::test]
async fn a_folder_that_is_gone_is_no_store_without_objects() {
    let (folder, store) = folder();
    fs::remove_dir(folder.path()).unwrap();
    for told in [
        store.put("a", bytes("x")).await.unwrap_err(),
        store.get("a", 0..1).await.unwrap_err(),
        store.list("").await.unwrap_err(),
        store.remove("a").await.unwrap_err(),
    ] {
        assert!(told.to_string().contains("no folder any more"), "{told}");
    }
    assert!(!folder.path().exists());
}

#[test]
fn a_bucket_that_is_not_there_says_nothing_of_its_objects() {
    let not_found = |why: &str| Error::NotFound { path: "a".to_owned(), source: why.into() };
    assert_eq!(fault(not_found("404 Not Found: <Code>NoSuchKey</Code>")), ObjectError::Missing);
    assert!(matches!(fault(not_found("404: <Code>NoSuchBucket</Code>")), ObjectError::Unavailable(_)));
    assert!(matches!(refusal(not_found("404")), ObjectError::Unavailable(_)));
    let ObjectError::Unavailable(long) = refusal(not_found(&"ü ".repeat(1_000))) else { panic!("it is no answer") };
    assert_eq!(long.chars().count(), WORDS_MAX + 1);
}

#[test]
fn what_cannot_be_opened_says_what_to_do() {
    let open = |text: &str, environment: &[(&str, &str)]| {
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let place = Place::parse(text).unwrap();
        StoreObjects::open(&place, &environment, Arc::new(RealClock::new())).err()
    };
    assert!(open("/no/such/folder", &[]).unwrap().contains("make it, or mount"));
    let half = [("AWS_ACCESS_KEY_ID", "a")];
    assert!(open("s3://bucket", &half).unwrap().contains("AWS_SECRET_ACCESS_KEY"));
    assert!(open("az://container", &[]).unwrap().contains("AZURE_STORAGE_ACCOUNT_NAME"));
    assert!(open("gs://bucket", &[("GOOGLE_SERVICE_ACCOUNT", "/no/such.json")]).unwrap().contains("gs://bucket"));
}
