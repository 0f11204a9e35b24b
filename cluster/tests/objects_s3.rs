//! A real object store through our seam: what is put, read in ranges, listed over several pages and removed.
//!
//! Skipped with a message unless `NETHICAL_TEST_S3` names a place. Its bucket must be there and may hold other things; what this
//! leaves behind after a failure is below `nethical-test-`. Against a server of one's own, such as moto:
//!
//! ```console
//! $ python3 -m venv venv && venv/bin/pip install 'moto[server]' && venv/bin/moto_server -H 127.0.0.1 -p 5123 &
//! $ curl -X PUT http://127.0.0.1:5123/cold
//! $ export AWS_ENDPOINT=http://127.0.0.1:5123 AWS_ALLOW_HTTP=true AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any
//! $ NETHICAL_TEST_S3=s3://cold/zone cargo test -p nethical-cluster --test objects_s3 -- --nocapture
//! ```
//!
//! The same runs on `gs://` and `az://` places with their own variables.
#![allow(clippy::disallowed_methods, reason = "the test is told by environment where a store is")]

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use nethical_cluster::world::objects::{Place, StoreObjects};
use nethical_cluster::world::real::RealClock;
use nethical_cluster::world::{ObjectError, Objects};

/// More than stores list at once.
const MANY: usize = 1_003;
/// More than is taken of an answer that is no range.
const LARGE_BYTES: usize = 9 * 1024 * 1024 + 17;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_store_keeps_its_promises() {
    let Ok(place) = std::env::var("NETHICAL_TEST_S3") else {
        eprintln!("skipped: NETHICAL_TEST_S3 names no store; this file's head says how to run it");
        return;
    };
    let place = Place::parse(&place).expect("NETHICAL_TEST_S3 is a place");
    let environment: Vec<_> = std::env::vars().collect();
    let store = StoreObjects::open(&place, &environment, Arc::new(RealClock::new())).expect("the store opens");
    let folder = format!("nethical-test-{}", std::process::id());
    ranges(&store, &folder).await;
    pages(&store, &folder).await;
    no_bucket(&place, &environment).await;
    let left = store.list(&folder).await.expect("listed");
    assert!(left.is_empty(), "{left:?}");
    eprintln!("{place} keeps its promises");
}

/// A wrong bucket must not look like one without objects.
async fn no_bucket(place: &Place, environment: &[(String, String)]) {
    let Place::Bucket { kind, prefix, .. } = place else { return };
    let wrong =
        Place::Bucket { kind: *kind, bucket: "nethical-test-no-such-bucket".to_owned(), prefix: prefix.clone() };
    let store = StoreObjects::open(&wrong, environment, Arc::new(RealClock::new())).expect("the store opens");
    for told in [
        store.put("a", Bytes::new()).await.expect_err("no bucket"),
        store.get("a", 0..1).await.expect_err("no bucket"),
        store.list("").await.expect_err("no bucket"),
        store.remove("a").await.expect_err("no bucket"),
    ] {
        assert!(matches!(told, ObjectError::Unavailable(_)), "{told:?}");
    }
}

async fn ranges(store: &StoreObjects, folder: &str) {
    let name = format!("{folder}/large/1.parquet");
    let large: Bytes = (0..LARGE_BYTES).map(|at| (at % 251) as u8).collect::<Vec<_>>().into();
    store.put(&name, Bytes::from_static(b"first")).await.expect("put");
    store.put(&name, large.clone()).await.expect("put again");
    let all = LARGE_BYTES as u64;
    for range in [0..all, 0..1, 1_000..70_000, all - 3..all, all - 3..all + 1_000, 0..all * 2] {
        let expected = large.slice(range.start as usize..range.end.min(all) as usize);
        assert!(store.get(&name, range.clone()).await.expect("read") == expected, "bytes {range:?}");
    }
    for range in [all..all + 9, all + 5..all + 9, 7..7] {
        assert_eq!(store.get(&name, range.clone()).await, Ok(Bytes::new()), "bytes {range:?}");
    }
    let empty = format!("{folder}/empty");
    store.put(&empty, Bytes::new()).await.expect("put");
    assert_eq!(store.get(&empty, 0..9).await, Ok(Bytes::new()));
    assert_eq!(store.get(&format!("{folder}/other"), 0..9).await, Err(ObjectError::Missing));
    assert_eq!(store.list(folder).await.expect("listed").len(), 2);
    for name in [&name, &name, &empty] {
        store.remove(name).await.expect("removed");
    }
    assert_eq!(store.get(&name, 0..9).await, Err(ObjectError::Missing));
}

async fn pages(store: &StoreObjects, folder: &str) {
    let names: Vec<String> = (0..MANY).map(|number| format!("{folder}/many/{number:05}")).collect();
    let beside = format!("{folder}/many-more");
    let puts = stream::iter(&names).map(|name| store.put(name, Bytes::from_static(b"x"))).buffer_unordered(16);
    puts.for_each(|put| async { put.expect("put") }).await;
    store.put(&beside, Bytes::from_static(b"xy")).await.expect("put");
    let listed = store.list(&format!("{folder}/many")).await.expect("listed");
    assert_eq!(listed.iter().map(|object| &object.name).collect::<Vec<_>>(), names.iter().collect::<Vec<_>>());
    assert!(listed.iter().all(|object| object.bytes == 1));
    let removals = stream::iter(names.iter().chain([&beside])).map(|name| store.remove(name)).buffer_unordered(16);
    removals.for_each(|removed| async { removed.expect("removed") }).await;
}
