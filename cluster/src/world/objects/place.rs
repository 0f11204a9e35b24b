//! Where an object store is, as people write it: a folder, or a bucket with its scheme. Text in, a value or a sentence out;
//! nothing is opened here.

use std::fmt;
use std::path::{Component, PathBuf};

use object_store::path::Path;

/// What a good one looks like, for whoever wrote a bad one.
const FORMS: &str = "write file:///FOLDER, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX";
/// Longer names are none of any store's.
const BUCKET_BYTES_MAX: usize = 255;

/// Whose interface a bucket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// S3's, which many stores speak.
    S3,
    /// Google Cloud Storage's.
    Google,
    /// Azure Blob Storage's, where a bucket is called a container.
    Azure,
}

/// Where an object store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder, which must be there.
    Folder(PathBuf),
    /// A bucket of a service.
    Bucket {
        /// Whose interface it speaks.
        kind: Kind,
        /// Its name.
        bucket: String,
        /// In front of every object's name; empty for none.
        prefix: String,
    },
}

impl Place {
    /// Reads a URL, or a plain absolute path.
    ///
    /// # Errors
    /// In a sentence that says what to write instead.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return folder(text, text);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("{text:?} is no object store; {FORMS}"));
        };
        let kind = match scheme {
            "file" => return folder(text, rest),
            "s3" => Kind::S3,
            "gs" => Kind::Google,
            "az" => Kind::Azure,
            "http" | "https" => {
                let advice = "an endpoint is told by environment, as AWS_ENDPOINT, and the bucket here";
                return Err(format!("{text:?} is no object store: {advice}; {FORMS}"));
            }
            _ => return Err(format!("{text:?}: stores of the scheme {scheme:?} are not known; {FORMS}")),
        };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !is_bucket(bucket) {
            let advice =
                "a bucket is letters, digits, dots, dashes and underscores; credentials are told by environment";
            return Err(format!("{text:?} names no bucket: {advice}; {FORMS}"));
        }
        match Path::parse(prefix) {
            Ok(path) if path.as_ref() == prefix && !prefix.contains(['?', '#', '%']) => {}
            _ => return Err(format!("{text:?}: {prefix:?} is no folder of a bucket; {FORMS}")),
        }
        Ok(Self::Bucket { kind, bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(out, "file://{}", path.display()),
            Self::Bucket { kind, bucket, prefix } => {
                let scheme = match kind {
                    Kind::S3 => "s3",
                    Kind::Google => "gs",
                    Kind::Azure => "az",
                };
                let slash = if prefix.is_empty() { "" } else { "/" };
                write!(out, "{scheme}://{bucket}{slash}{prefix}")
            }
        }
    }
}

/// An absolute path, taken as it is written: nothing in it is an escape.
fn folder(text: &str, path: &str) -> Result<Place, String> {
    let folder = PathBuf::from(path);
    let is_plain = folder.components().all(|part| matches!(part, Component::Normal(_) | Component::RootDir));
    if !folder.is_absolute() || !is_plain || folder.parent().is_none() {
        return Err(format!("{text:?} is no absolute path of a folder; {FORMS}"));
    }
    Ok(Place::Folder(folder))
}

fn is_bucket(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty() && name.len() <= BUCKET_BYTES_MAX && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_places_are_read_and_written_alike() {
        for (text, written) in [
            ("/var/lib/cold", "file:///var/lib/cold"),
            ("file:///var/lib/cold", "file:///var/lib/cold"),
            ("file:///var/lib/cold/", "file:///var/lib/cold/"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my.bucket-1/audit/zone", "s3://my.bucket-1/audit/zone"),
            ("gs://bucket_1/audit/", "gs://bucket_1/audit"),
            ("az://container/audit", "az://container/audit"),
        ] {
            let place = Place::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(place.to_string(), written, "{text}");
            assert_eq!(Place::parse(&place.to_string()), Ok(place), "{text}");
        }
    }

    #[test]
    fn bad_places_are_told_with_what_to_write() {
        for text in [
            "",
            "cold",
            "./cold",
            "../cold",
            "file://cold",
            "file://host/cold",
            "file:///",
            "/",
            "/a/../b",
            "memory:///",
            "ftp://bucket",
            "http://127.0.0.1:9000/bucket",
            "https://bucket.s3.amazonaws.com",
            "s3:/bucket",
            "s3://",
            "s3:///prefix",
            "s3://key:secret@bucket",
            "s3://bucket:9000/x",
            "s3://bucket?region=x",
            "s3://bucket/a//b",
            "s3://bucket/../b",
            "s3://bucket/a?b",
            "gs://bu cket",
        ] {
            let told = Place::parse(text).expect_err(text);
            assert!(told.contains("s3://BUCKET/PREFIX"), "{text}: {told}");
        }
        let told = Place::parse("https://example.org/bucket").expect_err("an endpoint");
        assert!(told.contains("AWS_ENDPOINT"), "{told}");
    }
}
