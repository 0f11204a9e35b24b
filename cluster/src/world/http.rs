//! Services outside of the cluster, over plain HTTP. The real world behind [`Outside`].
//!
//! Follows no redirects, uses no proxy and keeps no cookies; what is answered is bounded and not looked at.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Outside, POSTED_BYTES_MAX, Posted};

/// How long a connection may take to be made.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// Posts over HTTP.
pub struct HttpOutside {
    client: reqwest::Client,
}

impl HttpOutside {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// Where the client cannot be made.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client })
    }
}

impl Outside for HttpOutside {
    fn post(&self, url: &str, body: Bytes, deadline: Duration) -> BoxFuture<'static, Result<Posted, String>> {
        let request = self.client.post(url).timeout(deadline).header("content-type", "text/plain").body(body);
        async move {
            let mut answer = request.send().await.map_err(|error| error.to_string())?;
            let (status, mut body) = (answer.status().as_u16(), BytesMut::new());
            while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
                if body.len() + chunk.len() > POSTED_BYTES_MAX {
                    return Err(format!("the answer has more than {POSTED_BYTES_MAX} bytes"));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Posted { status, body: body.freeze() })
        }
        .boxed()
    }
}
