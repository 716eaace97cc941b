// SPDX-License-Identifier: Apache-2.0
//! Files are understood whole or refused with the line.

use std::path::Path;

use dulse_config::{File, Key, Kind, Schema, template};

fn key(name: &str, kind: Kind, default: &str) -> Key {
    Key {
        name: name.to_owned(),
        kind,
        default: default.to_owned(),
        help: format!("What {name} is, told at such length that the comment needs a second line"),
    }
}

fn schemas() -> Vec<Schema> {
    let engines = vec!["redb".to_owned(), "sqlite".to_owned()];
    let keys = vec![
        key("ip", Kind::Text, "127.0.0.1"),
        key("port", Kind::Integer(65_535), "8888"),
        key("engine", Kind::OneOf(engines), "redb"),
        key("master", Kind::List, "a:1,b:2"),
        key("alone", Kind::Boolean, "false"),
        key("chunk-size", Kind::Size, "4MiB"),
        key("keep-alive", Kind::Span, "1m"),
    ];
    let of = |name: &str| Schema {
        name: name.to_owned(),
        about: format!("dulse {name}"),
        keys: keys.clone(),
    };
    vec![of("filer"), of("volume")]
}

fn parse(text: &str) -> Result<File, String> {
    File::parse(Path::new("f.toml"), text, &schemas()).map_err(|e| e.to_string())
}

#[test]
fn the_template_parses_is_complete_and_equals_the_defaults() {
    let text = template(&schemas());
    let file = parse(&text).unwrap();
    for schema in schemas() {
        let values: Vec<_> = file.section(&schema.name).collect();
        assert_eq!(values.len(), schema.keys.len());
        for key in schema.keys {
            let (_, value) = values.iter().find(|(name, _)| *name == key.name).unwrap();
            assert_eq!(value.texts.join(","), key.default);
        }
    }
    assert!(text.lines().all(|line| line.len() <= 89), "{text}");
}

#[test]
fn what_is_not_understood_is_refused_with_the_line() {
    for (text, line, says) in [
        (
            "[filer]\nprot = 1\n",
            2,
            "unknown key `prot` in [filer]; expected one of ip, port",
        ),
        (
            "\n[filler]\n",
            2,
            "unknown section `filler`; expected one of [filer], [volume]",
        ),
        ("port = 1\n", 1, "unknown section `port`"),
        ("filer = 1\n", 1, "expected [filer]"),
        (
            "[filer]\nport = \"1\"\n",
            2,
            "`port` is of type string; expected a whole number",
        ),
        ("[filer]\nport = 70000\n", 2, "from 0 to 65535"),
        ("[filer]\nport = -1\n", 2, "from 0 to 65535"),
        (
            "[filer]\n\nengine = \"x\"\n",
            3,
            "expected one of \"redb\", \"sqlite\"",
        ),
        ("[filer]\nalone = 1\n", 2, "expected true or false"),
        ("[filer]\nmaster = \"a:1\"\n", 2, "expected a list of texts"),
        ("[filer]\nmaster = [1]\n", 2, "something that is no text"),
        (
            "[filer]\nchunk-size = 4\n",
            2,
            "expected a size with its unit",
        ),
        (
            "[filer]\nchunk-size = \"4\"\n",
            2,
            "expected a size with its unit",
        ),
        (
            "[filer]\nkeep-alive = \"4\"\n",
            2,
            "expected a span of time",
        ),
        ("[filer]\nip = \n", 2, ""),
        ("[filer]\nip = \"a\"\nip = \"b\"\n", 3, ""),
        (
            "[filer]\nport = 1\n[volume]\nport = 2\nprot = 3\n",
            5,
            "unknown key `prot` in [volume]",
        ),
    ] {
        let error = parse(text).unwrap_err();
        let head = format!("f.toml, line {line}: ");
        assert!(
            error.starts_with(&head) && error.contains(says),
            "{text:?}: {error}"
        );
    }
}

#[test]
fn values_come_as_on_the_command_line() {
    let file = parse("[filer]\nmaster = [\"a:1\", \"b:2\"]\nalone = true\nport = 5\n").unwrap();
    let values: Vec<_> = file.section("filer").collect();
    let texts = |name: &str| values.iter().find(|v| v.0 == name).unwrap().1.texts.clone();
    assert_eq!(texts("master"), ["a:1", "b:2"]);
    assert_eq!(texts("alone"), ["true"]);
    assert_eq!(texts("port"), ["5"]);
    assert_eq!(values.len(), 3);
    assert_eq!(file.section("volume").count(), 0);
}
