//! The zone's object store, of the real world: a folder, S3 and its kin, Google's or Azure's. Old audit segments rest there.
//!
//! The crate object_store speaks to all of them; this file is where it is named. It adds what the seam [`Objects`] promises:
//! every call ends, few run at the same time, no more is taken than was asked for, and what is put into a folder is synced
//! before it is acknowledged. It believes nothing that comes back and looks into none of it. It retries little, because
//! whoever moves segments comes again.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{Error, GetOptions, GetRange, GetResultPayload, ObjectStore, ObjectStoreExt, PutPayload};
use tokio::sync::Semaphore;

use super::{Clock, ObjectError, ObjectInfo, Objects, real, timeout};

mod open;
mod place;
mod transport;

pub use place::Place;

/// Calls at the same time; others wait for their turn within their own patience. Each holds one object at most.
const CALLS_MAX: usize = 8;
/// Names of one listing. A name costs some hundred bytes of memory.
const LISTED_MAX: usize = 1_000_000;
/// How long storing an object may take.
const PUT_PATIENCE: Duration = Duration::from_secs(60);
/// How long reading one may take.
const GET_PATIENCE: Duration = Duration::from_secs(30);
/// How long a listing may take: stores tell a thousand names at a time.
const LIST_PATIENCE: Duration = Duration::from_secs(300);
/// How long a removal may take.
const REMOVE_PATIENCE: Duration = Duration::from_secs(30);
/// What stores say where there is no bucket of that name.
const NO_BUCKET: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];
/// Of what a store says is wrong, how much is told, characters. Some answer with whole pages.
const WORDS_MAX: usize = 400;

/// An object store. A clone is the same one.
#[derive(Clone)]
pub struct StoreObjects {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    store: Box<dyn ObjectStore>,
    /// Where the objects are files.
    folder: Option<PathBuf>,
    /// In front of every name; empty for none.
    prefix: Path,
    calls: Semaphore,
}

impl StoreObjects {
    /// The store at a place. Credentials, endpoints and the like are taken from `environment`, by the names that the stores'
    /// own tools give them (`AWS_…`, `GOOGLE_…`, `AZURE_…`). Nothing is sent yet: a store that is away keeps no node from
    /// starting.
    ///
    /// # Errors
    /// In a sentence that says what to do, where the place cannot be used as it is.
    pub fn open(place: &Place, environment: &[(String, String)], clock: Arc<dyn Clock>) -> Result<Self, String> {
        let (store, prefix) = open::open(place, environment)?;
        let folder = match place {
            Place::Folder(folder) => Some(folder.clone()),
            Place::Bucket { .. } => None,
        };
        let inner = Inner { clock, store, folder, prefix, calls: Semaphore::new(CALLS_MAX) };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Does something with the store once there is a turn, within `patience`.
    fn call<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl Future<Output = Result<T, ObjectError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, ObjectError>> {
        let inner = self.inner.clone();
        Box::pin(async move {
            let in_turn = async {
                let _turn = inner.calls.acquire().await.expect("nobody closes it");
                inner.is_there().await?;
                work.await
            };
            let in_time = timeout(inner.clock.as_ref(), patience, in_turn).await;
            in_time.unwrap_or_else(|| Err(unavailable(format!("no answer within {} s", patience.as_secs()))))
        })
    }
}

impl Objects for StoreObjects {
    fn put(&self, name: &str, bytes: Bytes) -> BoxFuture<'static, Result<(), ObjectError>> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.call(PUT_PATIENCE, async move {
            let put = inner.store.put(&inner.path(&name)?, PutPayload::from(bytes)).await;
            put.map(drop).map_err(refusal)
        })
    }

    fn get(&self, name: &str, range: Range<u64>) -> BoxFuture<'static, Result<Bytes, ObjectError>> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.call(GET_PATIENCE, async move { inner.get(&inner.path(&name)?, range).await })
    }

    fn list(&self, folder: &str) -> BoxFuture<'static, Result<Vec<ObjectInfo>, ObjectError>> {
        let (inner, folder) = (self.inner.clone(), folder.trim_end_matches('/').to_owned());
        self.call(LIST_PATIENCE, async move { inner.list(&folder, LISTED_MAX).await })
    }

    fn remove(&self, name: &str) -> BoxFuture<'static, Result<(), ObjectError>> {
        let (inner, name) = (self.inner.clone(), name.to_owned());
        self.call(REMOVE_PATIENCE, async move { inner.remove(&name).await })
    }
}

impl Inner {
    /// A folder that is gone would make all objects missing, and the next put would make it anew.
    async fn is_there(&self) -> Result<(), ObjectError> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let told = format!("{} is no folder any more", folder.display());
        let is_there = real::hop(move || Ok(folder.is_dir())).await;
        if is_there.is_ok_and(|is_there| is_there) { Ok(()) } else { Err(unavailable(told)) }
    }

    /// Where the object of a name is.
    fn path(&self, name: &str) -> Result<Path, ObjectError> {
        match Path::parse(name) {
            Ok(path) if path.as_ref() == name && !name.is_empty() => Ok(self.below(&path)),
            _ => Err(unavailable(format!("{name:?} is no name of an object"))),
        }
    }

    fn below(&self, path: &Path) -> Path {
        Path::from_iter(self.prefix.parts().chain(path.parts()))
    }

    async fn get(&self, path: &Path, range: Range<u64>) -> Result<Bytes, ObjectError> {
        match range.is_empty() {
            true => self.read(path, 0..1).await.map(|_| Bytes::new()),
            false => self.read(path, range).await,
        }
    }

    async fn read(&self, path: &Path, range: Range<u64>) -> Result<Bytes, ObjectError> {
        let wanted = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
        let got = match self.store.get_opts(path, wanted).await {
            Ok(got) => got,
            Err(error) => return self.nothing_behind_the_end(path, range.start, error).await,
        };
        let (length, asked) = (got.range.end - got.range.start, range.end - range.start);
        if got.range.start != range.start || length > asked {
            return Err(unavailable(format!("asked for bytes {range:?}, it gives {:?}", got.range)));
        }
        if let GetResultPayload::File(..) = &got.payload {
            return got.bytes().await.map_err(fault);
        }
        let (mut chunks, mut bytes) = (got.into_stream(), BytesMut::with_capacity(length as usize));
        while let Some(chunk) = chunks.try_next().await.map_err(fault)? {
            if (bytes.len() + chunk.len()) as u64 > length {
                return Err(unavailable("it gives more bytes than it says".to_owned()));
            }
            bytes.extend_from_slice(&chunk);
        }
        match bytes.len() as u64 == length {
            true => Ok(bytes.freeze()),
            false => Err(unavailable("it gives fewer bytes than it says".to_owned())),
        }
    }

    /// Stores refuse a range that begins where the object ends or later, each with words of its own.
    async fn nothing_behind_the_end(&self, path: &Path, start: u64, error: Error) -> Result<Bytes, ObjectError> {
        if let Error::Generic { .. } = &error
            && let Ok(found) = self.store.head(path).await
            && found.size <= start
        {
            return Ok(Bytes::new());
        }
        Err(fault(error))
    }

    async fn list(&self, folder: &str, count_max: usize) -> Result<Vec<ObjectInfo>, ObjectError> {
        let place = if folder.is_empty() { self.prefix.clone() } else { self.path(folder)? };
        let (mut found, mut objects) = (self.store.list(Some(&place)), Vec::new());
        while let Some(object) = found.try_next().await.map_err(refusal)? {
            if objects.len() == count_max {
                return Err(unavailable(format!("more than {count_max} objects in {folder:?}")));
            }
            let Some(inside) = object.location.prefix_match(&self.prefix) else {
                return Err(unavailable(format!("{} was not asked for", object.location)));
            };
            objects.push(ObjectInfo { name: Path::from_iter(inside).into(), bytes: object.size });
        }
        objects.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(objects)
    }

    async fn remove(&self, name: &str) -> Result<(), ObjectError> {
        let path = self.path(name)?;
        match self.store.delete(&path).await.map_err(fault) {
            Ok(()) => {}
            // Azure's does not tell a missing object from a missing container here, and does where one is read.
            Err(ObjectError::Missing) => match self.read(&path, 0..1).await {
                Err(ObjectError::Missing) => {}
                Err(error) => return Err(error),
                Ok(_) => return Err(unavailable(format!("it has {name:?} and does not find it to remove"))),
            },
            Err(error) => return Err(error),
        }
        // The crate syncs what it puts and not what it removes; what an erasure took away must not come back with the power.
        let Some(file) = self.folder.as_ref().map(|folder| folder.join(self.prefix.as_ref()).join(name)) else {
            return Ok(());
        };
        match real::hop(move || real::sync_folder(file.parent().unwrap_or(&file))).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(unavailable(error.to_string())),
            _ => Ok(()),
        }
    }
}

fn unavailable(why: String) -> ObjectError {
    ObjectError::Unavailable(why)
}

/// What went wrong with one object. A store answers alike where the bucket is what it does not have, and that is not known of
/// any object then.
fn fault(error: Error) -> ObjectError {
    let words = error.to_string();
    match error {
        Error::NotFound { .. } if !NO_BUCKET.iter().any(|code| words.contains(code)) => ObjectError::Missing,
        error => refusal(error),
    }
}

/// The error of a store, in words short enough for a log.
fn refusal(error: Error) -> ObjectError {
    let mut words = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(WORDS_MAX) {
        words.truncate(end);
        words.push('…');
    }
    unavailable(words)
}

#[cfg(test)]
mod tests;
