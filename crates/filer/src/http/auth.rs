// SPDX-License-Identifier: Apache-2.0
//! Tokens that guard writes and reads.

use dulse_types::FullPath;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, Method, StatusCode};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

use super::answer::Refusal;
use super::target::{Query, clean};

/// Seconds by which clocks of issuer and filer may differ.
const LEEWAY_SECONDS: u64 = 5;

/// The keys of upstream's `jwt.filer_signing`; an empty one checks nothing.
#[derive(Clone, Default)]
pub struct Keys {
    /// Guards PUT, POST and DELETE.
    pub write: Vec<u8>,
    /// Guards GET and HEAD.
    pub read: Vec<u8>,
}

/// What a token may say; what is missing restricts nothing.
#[derive(Deserialize, Default)]
struct Claims {
    #[serde(default)]
    allowed_prefixes: Vec<String>,
    #[serde(default)]
    allowed_methods: Vec<String>,
}

impl Keys {
    /// Checks the token of a request against method, path and the source it names.
    pub(super) fn check(
        &self,
        method: &Method,
        path: &FullPath,
        query: &Query,
        headers: &HeaderMap,
    ) -> Result<(), Refusal> {
        let is_read = method == Method::GET || method == Method::HEAD;
        let key = if is_read { &self.read } else { &self.write };
        if key.is_empty() {
            return Ok(());
        }
        let wrong = || Refusal::new(StatusCode::UNAUTHORIZED, "wrong jwt");
        let token = token_of(query, headers).ok_or_else(wrong)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_nbf = true;
        validation.validate_aud = false;
        validation.leeway = LEEWAY_SECONDS;
        let claims = decode::<Claims>(token, &DecodingKey::from_secret(key), &validation);
        let claims = claims.map_err(|_| wrong())?.claims;
        let mut paths = vec![path.clone()];
        for source in ["mv.from", "cp.from"] {
            if !query.text(source).is_empty() {
                paths.push(clean(query.text(source))?);
            }
        }
        let is_allowed = claims.allows_method(method) && paths.iter().all(|p| claims.allows(p));
        is_allowed.then_some(()).ok_or_else(wrong)
    }
}

impl Claims {
    fn allows_method(&self, method: &Method) -> bool {
        let methods = &self.allowed_methods;
        methods.is_empty()
            || methods
                .iter()
                .any(|m| m.eq_ignore_ascii_case(method.as_str()))
    }

    /// Prefixes match by whole components.
    fn allows(&self, path: &FullPath) -> bool {
        let prefixes = &self.allowed_prefixes;
        prefixes.is_empty()
            || prefixes.iter().any(|prefix| {
                clean(prefix).is_ok_and(|prefix| *path == prefix || path.is_below(&prefix))
            })
    }
}

/// The first token found: query, header, cookie.
fn token_of<'a>(query: &'a Query, headers: &'a HeaderMap) -> Option<&'a str> {
    let given = query.text("jwt");
    if !given.is_empty() {
        return Some(given);
    }
    let bearer = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let bearer = bearer.and_then(|v| v.split_once(' '));
    if let Some((kind, token)) = bearer
        && kind.eq_ignore_ascii_case("bearer")
    {
        return Some(token.trim());
    }
    let cookies = headers.get(COOKIE).and_then(|v| v.to_str().ok())?;
    let mut pairs = cookies.split(';').map(str::trim);
    pairs.find_map(|pair| pair.strip_prefix("AT="))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    fn check(claims: serde_json::Value, method: Method, path: &str) -> bool {
        let keys = Keys {
            write: b"secret".to_vec(),
            read: b"secret".to_vec(),
        };
        let key = EncodingKey::from_secret(b"secret");
        let token = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        let uri = format!("{path}?jwt={token}").parse().unwrap();
        let path = FullPath::parse(path).unwrap();
        let query = Query::of(&uri);
        keys.check(&method, &path, &query, &HeaderMap::new())
            .is_ok()
    }

    #[test]
    fn claims_restrict_methods_and_whole_components() {
        assert!(check(json!({}), Method::GET, "/a"));
        assert!(check(json!({"exp": 4_000_000_000_u64}), Method::GET, "/a"));
        assert!(!check(json!({"exp": 1}), Method::GET, "/a"));
        let prefixes = || json!({"allowed_prefixes": ["/a/"]});
        assert!(check(prefixes(), Method::PUT, "/a/b"));
        assert!(!check(prefixes(), Method::PUT, "/ab"));
        let methods = || json!({"allowed_methods": ["GET"]});
        assert!(check(methods(), Method::GET, "/a"));
        assert!(!check(methods(), Method::PUT, "/a"));
    }

    #[test]
    fn no_token_and_a_foreign_one_are_refused() {
        let keys = Keys {
            write: b"secret".to_vec(),
            read: Vec::new(),
        };
        let (path, query) = (FullPath::root(), Query::default());
        let mut headers = HeaderMap::new();
        assert!(keys.check(&Method::GET, &path, &query, &headers).is_ok());
        assert!(keys.check(&Method::PUT, &path, &query, &headers).is_err());
        let key = EncodingKey::from_secret(b"other");
        let token = encode(&Header::new(Algorithm::HS256), &json!({}), &key).unwrap();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        assert!(keys.check(&Method::PUT, &path, &query, &headers).is_err());
    }
}
