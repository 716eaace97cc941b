// SPDX-License-Identifier: Apache-2.0
//! `security.toml` as upstream reads it.

use std::path::Path;

use dulse_config::Security;

const FILE: &str = r#"
[cors.allowed_origins]
values = "http://a, http://b"
[jwt.signing]
key = "w"
expires_after_seconds = 20
[jwt.signing.read]
key = "r"
[jwt.filer_signing]
key = "fw"
[access]
ui = true
[grpc]
ca = "/ca.crt"
allowed_wildcard_domain = ".example.com"
[grpc.filer]
cert = "/filer.crt"
key = "/filer.key"
allowed_commonNames = "filer1,filer2"
[https.client]
enabled = true
[https.filer]
cert = "/h.crt"
key = "/h.key"
disable_tls_verify_client_cert = true
[guard]
white_list = "127.0.0.1,10.0.0.0/8"
"#;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Security, String> {
    let variable = |name: &str| {
        let found = environment.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Security::parse(Path::new("security.toml"), text, &variable).map_err(|e| e.to_string())
}

#[test]
fn keys_are_those_of_upstream() {
    let s = parse(FILE, &[]).unwrap();
    assert_eq!(s.jwt.volume_write.key, "w");
    assert_eq!(s.jwt.volume_write.expires_after_seconds, 20);
    assert_eq!(s.jwt.volume_read.key, "r");
    assert_eq!(s.jwt.volume_read.expires_after_seconds, 60);
    assert_eq!(s.jwt.filer_write.expires_after_seconds, 10);
    assert_eq!(s.jwt.filer_read.key, "");
    assert_eq!(s.grpc.ca, "/ca.crt");
    assert_eq!(s.grpc.allowed_wildcard_domain, ".example.com");
    assert_eq!(s.grpc.filer.allowed_common_names, ["filer1", "filer2"]);
    assert!(s.https.client.enabled);
    assert!(s.https.filer.disable_tls_verify_client_cert);
    assert_eq!(s.white_list, ["127.0.0.1", "10.0.0.0/8"]);
    assert_eq!(s.allowed_origins.unwrap(), ["http://a", "http://b"]);
    assert!(s.unknown.is_empty(), "{:?}", s.unknown);
    assert!(s.lists_directories);
}

#[test]
fn the_environment_wins_and_needs_no_file() {
    let environment = [
        ("WEED_JWT_SIGNING_KEY", "from the environment"),
        ("WEED_GRPC_FILER_ALLOWED_COMMONNAMES", "x"),
        ("WEED_JWT_FILER_SIGNING_EXPIRES_AFTER_SECONDS", "7"),
    ];
    for text in [FILE, ""] {
        let s = parse(text, &environment).unwrap();
        assert_eq!(s.jwt.volume_write.key, "from the environment");
        assert_eq!(s.grpc.filer.allowed_common_names, ["x"]);
        assert_eq!(s.jwt.filer_write.expires_after_seconds, 7);
    }
}

#[test]
fn unknown_keys_are_named_and_wrong_types_refused() {
    let s = parse("[jwt.signing]\nkee = \"w\"\n[s3.sse]\nkek = \"\"\n", &[]).unwrap();
    assert_eq!(s.unknown, ["`jwt.signing.kee` in line 2"]);
    for (text, says) in [
        (
            "[jwt.signing]\nexpires_after_seconds = \"x\"\n",
            "line 2: `jwt.signing.expires",
        ),
        (
            "[https.client]\nenabled = \"maybe\"\n",
            "line 2: `https.client.enabled`",
        ),
        ("[grpc\n", "line 1: "),
        ("[grpc]\nca = 1.5\n", "line 2: `grpc.ca` is of type float"),
    ] {
        let error = parse(text, &[]).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn secrets_are_not_shown() {
    let s = parse("[jwt.signing]\nkey = \"hush\"\n", &[]).unwrap();
    assert!(!format!("{s:?}").contains("hush"));
}

#[test]
fn the_given_directory_is_looked_into_first() {
    let dir = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".seaweedfs")).unwrap();
    let write = |dir: &Path, key: &str| {
        let text = format!("[jwt.signing]\nkey = \"{key}\"\n");
        std::fs::write(dir.join("security.toml"), text).unwrap();
    };
    write(&home.path().join(".seaweedfs"), "home");
    let at_home = home.path().display().to_string();
    let environment = |name: &str| (name == "HOME").then(|| at_home.clone());
    let load = || Security::load(Some(dir.path()), &environment).unwrap();
    assert_eq!(load().jwt.volume_write.key, "home");
    write(dir.path(), "given");
    assert_eq!(load().jwt.volume_write.key, "given");
    assert_eq!(load().path.unwrap(), dir.path().join("security.toml"));
}
