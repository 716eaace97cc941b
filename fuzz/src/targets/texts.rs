// SPDX-License-Identifier: Apache-2.0
//! Texts of clients and operators: session tokens, leave, levels, rules of paths, networks.

use dulse_config::security::{Jwt, TokenKey};
use dulse_filer::session::{SessionToken, parse};
use dulse_namespace::Rules;
use dulse_replica::{Durability, LevelBelow};
use dulse_transport::{Guarded, Tokens, WhiteList, token_of};
use dulse_types::{FullPath, Identity, Origin};
use http::{HeaderMap, HeaderValue, Method};

/// Session tokens, one value a line; and what is written as they are.
pub(crate) fn session(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(tokens) = parse(text.lines()) {
        for token in tokens {
            let again = token.to_string().parse::<SessionToken>();
            assert_eq!(again.ok(), Some(token), "`{text}`");
        }
    }
    if let Ok(origin) = text.parse::<Origin>() {
        assert_eq!(origin.to_string().parse::<Origin>().ok(), Some(origin));
    }
    if let Ok(identity) = text.parse::<Identity>() {
        let again = identity.to_string().parse::<Identity>();
        assert_eq!(again.ok(), Some(identity), "`{text}`");
    }
}

/// Levels of durability, and networks of a white list, one a line.
pub(crate) fn settings(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(level) = text.parse::<Durability>() {
        assert_eq!(level.to_string().parse::<Durability>().ok(), Some(level));
    }
    if let Ok(below) = text.parse::<LevelBelow>() {
        let again = below.to_string().parse::<LevelBelow>();
        assert_eq!(again.ok(), Some(below), "`{text}`");
    }
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    if let Ok(list) = WhiteList::parse(&lines) {
        for address in ["127.0.0.1", "::1", "::ffff:10.0.0.1"] {
            let address = address.parse().expect("an address");
            let _ = list.admits(address);
        }
    }
}

/// Upstream's `filer.conf`, and what holds for some paths.
pub(crate) fn rules(input: &[u8]) {
    let Ok(rules) = Rules::parse(input) else {
        return;
    };
    for path in ["/", "/a", "/a/b/c", "/buckets/x/ä"] {
        if let Some(rule) = rules.of(path) {
            assert!(path.starts_with(&rule.location_prefix));
            let _ = rule.ttl_sec();
        }
        let _ = FullPath::parse(path);
    }
}

/// Those that the seeds are signed with.
pub(crate) fn tokens() -> Tokens {
    let key = TokenKey {
        key: "secret".to_owned(),
        expires_after_seconds: 0,
    };
    Tokens::new(&Jwt {
        volume_write: key.clone(),
        filer_write: key,
        ..Jwt::default()
    })
}

/// A token, as a header and as what is asked for.
pub(crate) fn leave(input: &[u8]) {
    let tokens = tokens();
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(input) {
        headers.insert("authorization", value.clone());
        headers.insert("cookie", value);
    }
    let token = token_of(None, &headers).or_else(|| std::str::from_utf8(input).ok());
    // What the seeds are signed for is allowed to nobody else.
    let other = tokens.check_file(Guarded::VolumeWrite, token, "4,01637037d6aabbcc");
    assert!(other.is_err() || token.is_none());
    let _ = tokens.check_file(Guarded::VolumeWrite, token, "3,01637037d6aabbcc");
    let _ = tokens.check_paths(Guarded::FilerWrite, token, &Method::PUT, &["/a/b"]);
}
