// SPDX-License-Identifier: Apache-2.0
//! Tokens that guard writes and reads: what of a request they must allow.

use dulse_transport::{Guarded, Tokens, token_of};
use dulse_types::FullPath;
use http::{HeaderMap, Method, StatusCode};

use super::answer::Refusal;
use super::target::{Query, clean};

/// Checks the token of a request against method, path and the source it names.
pub(super) fn check(
    tokens: &Tokens,
    method: &Method,
    path: &FullPath,
    query: &Query,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let is_read = method == Method::GET || method == Method::HEAD;
    let guarded = if is_read {
        Guarded::FilerRead
    } else {
        Guarded::FilerWrite
    };
    let mut paths = vec![path.clone()];
    for source in ["mv.from", "cp.from"] {
        if !query.text(source).is_empty() {
            paths.push(clean(query.text(source))?);
        }
    }
    let paths: Vec<_> = paths.iter().map(FullPath::as_str).collect();
    let token = token_of(Some(query.text("jwt")), headers);
    let checked = tokens.check_paths(guarded, token, method, &paths);
    checked.map_err(|denied| Refusal::new(StatusCode::UNAUTHORIZED, denied.to_string()))
}

#[cfg(test)]
mod tests {
    use dulse_config::security::{Jwt, TokenKey};
    use http::header::AUTHORIZATION;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    fn tokens() -> Tokens {
        let key = TokenKey {
            key: "secret".to_owned(),
            expires_after_seconds: 10,
        };
        Tokens::new(&Jwt {
            filer_write: key,
            ..Jwt::default()
        })
    }

    fn is_allowed(claims: Option<serde_json::Value>, method: &Method, uri: &str) -> bool {
        let uri: http::Uri = uri.parse().unwrap();
        let path = FullPath::parse(uri.path()).unwrap();
        let mut headers = HeaderMap::new();
        if let Some(claims) = claims {
            let key = EncodingKey::from_secret(b"secret");
            let token = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
            headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        }
        let query = Query::of(&uri);
        check(&tokens(), method, &path, &query, &headers).is_ok()
    }

    #[test]
    fn reads_and_writes_have_keys_of_their_own() {
        assert!(is_allowed(None, &Method::GET, "/a"));
        assert!(is_allowed(None, &Method::HEAD, "/a"));
        for method in [Method::PUT, Method::POST, Method::DELETE] {
            assert!(!is_allowed(None, &method, "/a"));
            assert!(is_allowed(Some(json!({})), &method, "/a"));
        }
    }

    #[test]
    fn the_source_of_a_move_or_copy_must_be_allowed_too() {
        let claims = || Some(json!({"allowed_prefixes": ["/a"]}));
        assert!(is_allowed(claims(), &Method::POST, "/a/x"));
        assert!(is_allowed(claims(), &Method::POST, "/a/x?mv.from=/a/y"));
        for query in ["mv.from=/b/y", "cp.from=/b/y", "mv.from=/a/../b/y"] {
            assert!(
                !is_allowed(claims(), &Method::POST, &format!("/a/x?{query}")),
                "{query}"
            );
        }
    }
}
