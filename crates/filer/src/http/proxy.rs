// SPDX-License-Identifier: Apache-2.0
//! `?proxyChunkId=`: reads of one chunk, for clients that cannot reach volume servers.

use axum::body::Body;
use dulse_types::FileId;
use http::header::{ACCEPT_ENCODING, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE};
use http::{HeaderMap, Method, StatusCode};

use super::Http;
use super::answer::{Refusal, Reply};

/// Headers of the request that matter to a volume server. A token does not: it is ours.
const PASSED: [http::HeaderName; 4] = [RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE, ACCEPT_ENCODING];

/// Answers with what a volume server answers.
pub(super) async fn chunk(
    http: &Http,
    id: &str,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Reply, Refusal> {
    if method != Method::GET && method != Method::HEAD {
        return Err(Refusal::bare(StatusCode::METHOD_NOT_ALLOWED));
    }
    let id: FileId = id
        .parse()
        .map_err(|_| Refusal::bare(StatusCode::BAD_REQUEST))?;
    let mut passed = HeaderMap::new();
    for name in PASSED {
        if let Some(value) = headers.get(&name) {
            passed.insert(name, value.clone());
        }
    }
    let response = http.blobs.forward(id, method, &passed).await?;
    Ok(response.map(Body::new))
}
