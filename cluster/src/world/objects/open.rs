//! Opens the store at a place: picks the crate's builder, hands it the environment's settings, our transport and few retries.
//! Whether the store answers is not asked here.

use std::path::Path as Folder;
use std::str::FromStr;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{BackoffConfig, ObjectStore, RetryConfig};

use super::place::{Kind, Place};
use super::transport::Transport;

/// After a failed request; whoever asked comes again later anyway.
const RETRIES_MAX: usize = 2;
/// Nothing is tried again once a call has taken this long.
const RETRY_PATIENCE: Duration = Duration::from_secs(20);
/// Before the first retry, and before any later one at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// The store and what stands in front of all names there.
pub fn open(place: &Place, environment: &[(String, String)]) -> Result<(Box<dyn ObjectStore>, Path), String> {
    let (kind, bucket, prefix) = match place {
        Place::Folder(path) => return Ok((folder(path)?, Path::default())),
        Place::Bucket { kind, bucket, prefix } => (*kind, bucket, prefix),
    };
    let prefix = Path::parse(prefix).map_err(|error| error.to_string())?;
    let transport = Transport::new()?;
    let store = match kind {
        Kind::S3 => s3(bucket, environment, transport),
        Kind::Google => google(bucket, environment, transport),
        Kind::Azure => azure(bucket, environment, transport),
    };
    let advice = match kind {
        Kind::S3 => "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and, unless it is Amazon's, AWS_ENDPOINT",
        Kind::Google => "GOOGLE_SERVICE_ACCOUNT, the path of a service account's JSON file",
        Kind::Azure => "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
    };
    match store {
        Ok(store) => Ok((store, prefix)),
        Err(error) => Err(format!("{place} cannot be used: {error}. Check the environment: {advice}.")),
    }
}

/// A folder that is not there is not made: it may be a disk that is not mounted, and what is put there would be lost from
/// sight with the mount.
fn folder(path: &Folder) -> Result<Box<dyn ObjectStore>, String> {
    if !path.is_dir() {
        return Err(format!("{} is no folder: make it, or mount what it belongs to, and start again", path.display()));
    }
    let store = LocalFileSystem::new_with_prefix(path);
    let store = store.map_err(|error| format!("{} cannot be used: {error}", path.display()))?;
    Ok(Box::new(store.with_fsync(true)))
}

fn s3(
    bucket: &str,
    environment: &[(String, String)],
    transport: Transport,
) -> object_store::Result<Box<dyn ObjectStore>> {
    let said = settings::<AmazonS3ConfigKey>(environment, "AWS_");
    let builder = said.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
    // Removals one by one: not every store that speaks this interface has the one for many.
    let builder = builder.with_bucket_name(bucket).with_disable_bulk_delete(true);
    Ok(Box::new(builder.with_http_connector(transport).with_retry(retries()).build()?))
}

fn google(
    bucket: &str,
    environment: &[(String, String)],
    transport: Transport,
) -> object_store::Result<Box<dyn ObjectStore>> {
    let said = settings::<GoogleConfigKey>(environment, "GOOGLE_");
    let builder = said.fold(GoogleCloudStorageBuilder::new(), |builder, (key, value)| builder.with_config(key, value));
    let builder = builder.with_bucket_name(bucket);
    Ok(Box::new(builder.with_http_connector(transport).with_retry(retries()).build()?))
}

fn azure(
    container: &str,
    environment: &[(String, String)],
    transport: Transport,
) -> object_store::Result<Box<dyn ObjectStore>> {
    let said = settings::<AzureConfigKey>(environment, "AZURE_");
    let builder = said.fold(MicrosoftAzureBuilder::new(), |builder, (key, value)| builder.with_config(key, value));
    let builder = builder.with_container_name(container);
    Ok(Box::new(builder.with_http_connector(transport).with_retry(retries()).build()?))
}

/// What the environment says under a prefix and the crate knows. The rest is other tools'.
fn settings<'e, K: FromStr>(
    environment: &'e [(String, String)],
    prefix: &'e str,
) -> impl Iterator<Item = (K, &'e String)> {
    let ours = environment.iter().filter(move |(name, _)| name.starts_with(prefix));
    ours.filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)))
}

fn retries() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: BACKOFF.0, max_backoff: BACKOFF.1, base: 2.0 };
    RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_PATIENCE }
}
