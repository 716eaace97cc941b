// SPDX-License-Identifier: Apache-2.0
//! JSON web tokens over HTTP: the one place that signs and checks them.
//!
//! As upstream: HS256 alone; a volume server's token names one file id, a filer's may name
//! prefixes of paths and methods. What has no key is not guarded.

use std::time::{SystemTime, UNIX_EPOCH};

use dulse_config::security::{Jwt, TokenKey};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, Method};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// Seconds by which the clocks of two machines may differ.
const LEEWAY_SECONDS: u64 = 5;

/// What a token gives leave to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guarded {
    /// `jwt.signing`: writing and deleting at volume servers.
    VolumeWrite,
    /// `jwt.signing.read`: reading from volume servers.
    VolumeRead,
    /// `jwt.filer_signing`: writing and deleting at filers.
    FilerWrite,
    /// `jwt.filer_signing.read`: reading from filers.
    FilerRead,
}

/// A request without the token it needs. Callers answer 401 and this text, as upstream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("wrong jwt")]
pub struct Denied;

/// Keys that sign and check.
#[derive(Default)]
pub struct Tokens {
    volume_write: Option<Key>,
    volume_read: Option<Key>,
    filer_write: Option<Key>,
    filer_read: Option<Key>,
}

struct Key {
    signing: EncodingKey,
    checking: DecodingKey,
    life_seconds: u64,
}

/// What a volume server's token says.
#[derive(Serialize, Deserialize)]
struct FileClaims {
    fid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
}

/// What a filer's token may say; what is missing restricts nothing.
#[derive(Deserialize)]
struct PathClaims {
    #[serde(default)]
    allowed_prefixes: Option<Vec<String>>,
    #[serde(default)]
    allowed_methods: Option<Vec<String>>,
}

impl Tokens {
    /// The keys of `security.toml`.
    #[must_use]
    pub fn new(jwt: &Jwt) -> Self {
        Self {
            volume_write: Key::of(&jwt.volume_write),
            volume_read: Key::of(&jwt.volume_read),
            filer_write: Key::of(&jwt.filer_write),
            filer_read: Key::of(&jwt.filer_read),
        }
    }

    fn key(&self, guarded: Guarded) -> Option<&Key> {
        match guarded {
            Guarded::VolumeWrite => self.volume_write.as_ref(),
            Guarded::VolumeRead => self.volume_read.as_ref(),
            Guarded::FilerWrite => self.filer_write.as_ref(),
            Guarded::FilerRead => self.filer_read.as_ref(),
        }
    }

    /// Signs leave for one file id; empty without a key, when none is needed.
    #[must_use]
    pub fn sign_file(&self, guarded: Guarded, file_id: &str) -> String {
        let Some(key) = self.key(guarded) else {
            return String::new();
        };
        let exp = (key.life_seconds > 0).then(|| now_seconds() + key.life_seconds);
        let fid = file_id.to_owned();
        let claims = FileClaims { fid, exp };
        let signed = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key.signing);
        // Claims of text and number always serialise, and any secret will do for HMAC.
        signed.unwrap_or_default()
    }

    /// Checks leave for one file id, without the `_1` of ids that were assigned together.
    ///
    /// # Errors
    ///
    /// `Denied` when there is a key and the token does not name this id.
    pub fn check_file(
        &self,
        guarded: Guarded,
        token: Option<&str>,
        file_id: &str,
    ) -> Result<(), Denied> {
        let Some(key) = self.key(guarded) else {
            return Ok(());
        };
        let claims: FileClaims = key.check(token)?;
        (claims.fid == file_id).then_some(()).ok_or(Denied)
    }

    /// Checks leave for a method on paths, cleaned ones.
    ///
    /// # Errors
    ///
    /// `Denied` when there is a key and the token does not allow all of it.
    pub fn check_paths(
        &self,
        guarded: Guarded,
        token: Option<&str>,
        method: &Method,
        paths: &[&str],
    ) -> Result<(), Denied> {
        let Some(key) = self.key(guarded) else {
            return Ok(());
        };
        let claims: PathClaims = key.check(token)?;
        let is_allowed = claims.allows_method(method) && paths.iter().all(|p| claims.allows(p));
        is_allowed.then_some(()).ok_or(Denied)
    }
}

impl Key {
    fn of(key: &TokenKey) -> Option<Self> {
        let secret = key.key.as_bytes();
        (!secret.is_empty()).then(|| Self {
            signing: EncodingKey::from_secret(secret),
            checking: DecodingKey::from_secret(secret),
            life_seconds: key.expires_after_seconds,
        })
    }

    fn check<T: serde::de::DeserializeOwned>(&self, token: Option<&str>) -> Result<T, Denied> {
        let token = token.ok_or(Denied)?;
        let mut rules = Validation::new(Algorithm::HS256);
        rules.required_spec_claims.clear();
        rules.validate_nbf = true;
        rules.validate_aud = false;
        rules.leeway = LEEWAY_SECONDS;
        let decoded = jsonwebtoken::decode::<T>(token, &self.checking, &rules);
        decoded.map(|d| d.claims).map_err(|_| Denied)
    }
}

impl PathClaims {
    fn allows_method(&self, method: &Method) -> bool {
        let methods = self.allowed_methods.as_deref().unwrap_or_default();
        let is_it = |m: &String| m.eq_ignore_ascii_case(method.as_str());
        methods.is_empty() || methods.iter().any(is_it)
    }

    /// Prefixes match by whole components.
    fn allows(&self, path: &str) -> bool {
        let prefixes = self.allowed_prefixes.as_deref().unwrap_or_default();
        prefixes.is_empty() || prefixes.iter().any(|prefix| is_at_or_below(path, prefix))
    }
}

fn is_at_or_below(path: &str, prefix: &str) -> bool {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let mut wanted: Vec<&str> = Vec::new();
    for part in prefix.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(wanted.pop()),
            part => wanted.push(part),
        }
    }
    wanted.into_iter().all(|part| parts.next() == Some(part))
}

fn now_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// The first token found: the query's `jwt`, the header, the cookie `AT`.
#[must_use]
pub fn token_of<'a>(in_query: Option<&'a str>, headers: &'a HeaderMap) -> Option<&'a str> {
    if let Some(given) = in_query.filter(|given| !given.is_empty()) {
        return Some(given);
    }
    let bearer = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    if let Some((kind, token)) = bearer.and_then(|v| v.split_once(' '))
        && kind.eq_ignore_ascii_case("bearer")
    {
        return Some(token.trim());
    }
    let cookies = headers.get(COOKIE).and_then(|v| v.to_str().ok())?;
    let mut pairs = cookies.split(';').map(str::trim);
    pairs.find_map(|pair| pair.strip_prefix("AT="))
}

#[cfg(test)]
mod tests;
