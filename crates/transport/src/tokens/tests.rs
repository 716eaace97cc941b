// SPDX-License-Identifier: Apache-2.0
//! What tokens give leave to, and what they do not.

use serde_json::json;

use super::*;

fn tokens() -> Tokens {
    let key = |key: &str| TokenKey {
        key: key.to_owned(),
        expires_after_seconds: 10,
    };
    Tokens::new(&Jwt {
        volume_write: key("write"),
        volume_read: key("read"),
        filer_write: key("filer"),
        filer_read: TokenKey::default(),
    })
}

fn sign(claims: &serde_json::Value, secret: &str, algorithm: Algorithm) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

#[test]
fn a_token_is_for_one_file_id_and_one_use() {
    let tokens = tokens();
    let token = tokens.sign_file(Guarded::VolumeWrite, "3,0102030405");
    let check = |guarded, token: Option<&str>, id: &str| tokens.check_file(guarded, token, id);
    assert_eq!(
        check(Guarded::VolumeWrite, Some(&token), "3,0102030405"),
        Ok(())
    );
    for (guarded, token, id) in [
        (Guarded::VolumeWrite, Some(token.as_str()), "3,0202030405"),
        (Guarded::VolumeRead, Some(&token), "3,0102030405"),
        (Guarded::VolumeWrite, Some(""), "3,0102030405"),
        (Guarded::VolumeWrite, Some("a.b.c"), "3,0102030405"),
        (Guarded::VolumeWrite, None, "3,0102030405"),
    ] {
        assert_eq!(
            check(guarded, token, id),
            Err(Denied),
            "{guarded:?} {token:?} {id}"
        );
    }
}

#[test]
fn without_a_key_nothing_is_signed_and_nothing_asked_for() {
    let none = Tokens::default();
    assert_eq!(none.sign_file(Guarded::VolumeWrite, "3,01"), "");
    assert_eq!(none.check_file(Guarded::VolumeWrite, None, "3,01"), Ok(()));
    let check = tokens().check_paths(Guarded::FilerRead, None, &Method::GET, &["/a"]);
    assert_eq!(check, Ok(()));
}

#[test]
fn old_tokens_other_keys_and_other_algorithms_are_refused() {
    let check = |token: &str| tokens().check_file(Guarded::VolumeWrite, Some(token), "3,01");
    let fid = |more: serde_json::Value| {
        let mut claims = json!({"fid": "3,01"});
        let more = more.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(more);
        claims
    };
    let hs256 = Algorithm::HS256;
    assert!(check(&sign(&fid(json!({})), "write", hs256)).is_ok());
    assert!(
        check(&sign(
            &fid(json!({"exp": 4_000_000_000_u64})),
            "write",
            hs256
        ))
        .is_ok()
    );
    assert!(check(&sign(&fid(json!({"exp": 1})), "write", hs256)).is_err());
    assert!(
        check(&sign(
            &fid(json!({"nbf": 4_000_000_000_u64})),
            "write",
            hs256
        ))
        .is_err()
    );
    assert!(check(&sign(&fid(json!({})), "other", hs256)).is_err());
    assert!(check(&sign(&fid(json!({})), "write", Algorithm::HS512)).is_err());
    assert!(check(&sign(&json!({}), "write", hs256)).is_err());
}

#[test]
fn claims_restrict_methods_and_whole_components() {
    let check = |claims: serde_json::Value, method: Method, paths: &[&str]| {
        let token = sign(&claims, "filer", Algorithm::HS256);
        let checked = tokens().check_paths(Guarded::FilerWrite, Some(&token), &method, paths);
        checked.is_ok()
    };
    assert!(check(json!({}), Method::PUT, &["/a"]));
    assert!(check(
        json!({"allowed_prefixes": null}),
        Method::PUT,
        &["/a"]
    ));
    for (path, expect) in [("/a/b", true), ("/a", true), ("/ab", false), ("/", false)] {
        for prefix in ["/a", "/a/", "//a", "/x/../a"] {
            let claims = json!({"allowed_prefixes": ["/z", prefix]});
            assert_eq!(
                check(claims, Method::PUT, &[path]),
                expect,
                "{path} {prefix}"
            );
        }
    }
    let both = json!({"allowed_prefixes": ["/a"]});
    assert!(!check(both, Method::PUT, &["/a/x", "/b/x"]));
    assert!(check(
        json!({"allowed_prefixes": ["/"]}),
        Method::PUT,
        &["/a"]
    ));
    assert!(check(
        json!({"allowed_methods": ["put"]}),
        Method::PUT,
        &["/a"]
    ));
    assert!(!check(
        json!({"allowed_methods": ["GET"]}),
        Method::PUT,
        &["/a"]
    ));
}

#[test]
fn the_query_wins_over_the_header_and_that_over_the_cookie() {
    let mut headers = HeaderMap::new();
    assert_eq!(token_of(None, &headers), None);
    headers.insert(COOKIE, "x=1; AT=cookie".parse().unwrap());
    assert_eq!(token_of(Some(""), &headers), Some("cookie"));
    headers.insert(AUTHORIZATION, "bearer header".parse().unwrap());
    assert_eq!(token_of(None, &headers), Some("header"));
    assert_eq!(token_of(Some("query"), &headers), Some("query"));
    headers.insert(AUTHORIZATION, "Basic header".parse().unwrap());
    assert_eq!(token_of(None, &headers), Some("cookie"));
}
