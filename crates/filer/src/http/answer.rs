// SPDX-License-Identifier: Apache-2.0
//! Answers: JSON, errors, and the status of each kind of failure.

use std::fmt;

use axum::body::Body;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use serde::Serialize;

use super::names::NameError;

/// A response of the filer.
pub(super) type Reply = Response<Body>;

/// A refused request: what is sent instead of the answer.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    /// Empty: no body is sent.
    pub(super) text: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            text: text.into(),
        }
    }

    /// Without a body, as upstream answers where the status says all.
    pub(super) fn bare(status: StatusCode) -> Self {
        Self::new(status, "")
    }

    pub(super) fn reply(&self) -> Reply {
        if self.text.is_empty() {
            return bare(self.status);
        }
        #[derive(Serialize)]
        struct ErrorBody<'a> {
            error: &'a str,
        }
        let mut reply = json(self.status, &ErrorBody { error: &self.text }, false);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let soon = HeaderValue::from_static("1");
            reply.headers_mut().insert(http::header::RETRY_AFTER, soon);
        }
        reply
    }
}

/// The client broke off or sent a body that cannot be read; nginx's code, as upstream has it.
pub(super) fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.text)
    }
}

impl std::error::Error for Refusal {}

impl From<NameError> for Refusal {
    /// The one table from the namespace's refusals to statuses.
    fn from(error: NameError) -> Self {
        let error = match error {
            NameError::InDoubt(told) => return Self::from(*told),
            told => told,
        };
        let status = match &error {
            NameError::InDoubt(_) | NameError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            NameError::NotFound => StatusCode::NOT_FOUND,
            NameError::Conflict | NameError::IsFile(_) | NameError::IsDirectory(_) => {
                StatusCode::CONFLICT
            }
            // Upstream's clients match the text and expect 500 with it.
            NameError::NotEmpty(_) => StatusCode::INTERNAL_SERVER_ERROR,
            NameError::NameTooLong => return Self::bare(StatusCode::URI_TOO_LONG),
            NameError::ReadOnly(_) | NameError::DiskFull(_) => StatusCode::INSUFFICIENT_STORAGE,
            NameError::WriteOnce => StatusCode::FORBIDDEN,
            NameError::Invalid(_) => StatusCode::BAD_REQUEST,
            NameError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            NameError::Unacknowledged(_) => StatusCode::GATEWAY_TIMEOUT,
        };
        Self::new(status, error.to_string())
    }
}

impl From<dulse_blobs::Error> for Refusal {
    fn from(error: dulse_blobs::Error) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
    }
}

/// An answer without a body.
pub(super) fn bare(status: StatusCode) -> Reply {
    let mut reply = Response::new(Body::empty());
    *reply.status_mut() = status;
    reply
}

/// 202 without a body, with the headers of a JSON answer as upstream has it.
pub(super) fn accepted() -> Reply {
    let mut reply = bare(StatusCode::ACCEPTED);
    mark_json(&mut reply);
    reply
}

pub(super) fn mark_json(reply: &mut Reply) {
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

/// A JSON answer; `is_pretty` indents by two spaces.
pub(super) fn json(status: StatusCode, value: &impl Serialize, is_pretty: bool) -> Reply {
    let text = if is_pretty {
        serde_json::to_vec_pretty(value)
    } else {
        serde_json::to_vec(value)
    };
    match text {
        Ok(text) => {
            let mut reply = Response::new(Body::from(text));
            *reply.status_mut() = status;
            mark_json(&mut reply);
            reply
        }
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            bare(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// A text answer.
pub(super) fn text(status: StatusCode, text: impl Into<Body>) -> Reply {
    let mut reply = Response::new(text.into());
    *reply.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    reply.headers_mut().insert(CONTENT_TYPE, plain);
    reply
}

/// Sets a header when the value can be one; entries may hold any bytes.
pub(super) fn set(reply: &mut Reply, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        reply.headers_mut().insert(name, value);
    }
}
