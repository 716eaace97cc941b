// SPDX-License-Identifier: Apache-2.0
//! Upstream's `dsn`: `user:password@protocol(address)/database?option=value&…`, as Go's driver
//! writes it.

use std::path::PathBuf;

/// What a `dsn` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dsn {
    /// User; may be empty.
    pub username: String,
    /// Password; may be empty.
    pub password: String,
    /// Name or address of the server.
    pub hostname: String,
    /// Its port.
    pub port: u16,
    /// A socket in the file system, in place of name and port.
    pub socket: Option<PathBuf>,
    /// Database.
    pub database: String,
    /// Whether the connection is encrypted, and who is believed.
    pub tls: DsnTls,
}

/// The option `tls`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DsnTls {
    /// Not given: what else is configured counts.
    Unsaid,
    /// `false`.
    Off,
    /// `true`.
    Checked,
    /// `skip-verify`.
    Unchecked,
}

/// A `dsn` that cannot be. No message shows a password.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DsnError {
    /// Not of the form at all.
    #[error(
        "dsn is not of the form `user:password@tcp(host:port)/database?option=value`: {because}"
    )]
    Form {
        /// What is missing.
        because: &'static str,
    },
    /// A protocol that is not spoken.
    #[error("dsn has the protocol `{0}`; expected `tcp` or `unix`")]
    Protocol(String),
    /// A port that is none.
    #[error("dsn has the port `{0}`; expected a number from 1 to 65535")]
    Port(String),
    /// An option with a value that is not supported.
    #[error("dsn has `{name}={value}`; expected {expected}")]
    Value {
        /// The option.
        name: String,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// An option that is not known.
    #[error(
        "dsn has the option `{0}`, which is not supported; expected tls, charset, collation or \
         one that only Go's driver needs"
    )]
    Option(String),
}

const FALSE: [&str; 4] = ["", "0", "f", "false"];

/// Options that are right for Go's driver and change nothing here: statements are always
/// prepared, times are not read, and time-outs are our own.
const WITHOUT_EFFECT: [&str; 15] = [
    "allownativepasswords",
    "checkconnliveness",
    "clientfoundrows",
    "columnswithalias",
    "connectionattributes",
    "interpolateparams",
    "loc",
    "maxallowedpacket",
    "multistatements",
    "parsetime",
    "readtimeout",
    "rejectreadonly",
    "timeout",
    "timetruncate",
    "writetimeout",
];

/// Options that must not be on: they weaken the connection or are not there.
const MUST_BE_OFF: [&str; 5] = [
    "allowallfiles",
    "allowcleartextpasswords",
    "allowfallbacktoplaintext",
    "allowoldpasswords",
    "compress",
];

impl std::str::FromStr for Dsn {
    type Err = DsnError;

    fn from_str(text: &str) -> Result<Self, DsnError> {
        let form = |because| DsnError::Form { because };
        // As Go's driver: the last slash of all, so a password may hold any character and an
        // option's value no slash.
        let (left, right) = text
            .rsplit_once('/')
            .ok_or_else(|| form("there is no `/` before the database"))?;
        let (database, options) = right.split_once('?').unwrap_or((right, ""));
        let (who, address) = match left.rsplit_once('@') {
            Some((who, address)) => (who, address),
            None => ("", left),
        };
        let (username, password) = who.split_once(':').unwrap_or((who, ""));
        let (protocol, address) = match address.split_once('(') {
            None => (address, ""),
            Some((protocol, rest)) => {
                let inside = rest.strip_suffix(')');
                (
                    protocol,
                    inside.ok_or_else(|| form("the address has no `)`"))?,
                )
            }
        };
        let mut dsn = Self {
            username: username.to_owned(),
            password: password.to_owned(),
            hostname: "127.0.0.1".to_owned(),
            port: 3306,
            socket: None,
            database: decoded(database, false).ok_or_else(|| form("the database's name"))?,
            tls: DsnTls::Unsaid,
        };
        match (protocol, address) {
            ("tcp" | "", "") => {}
            ("tcp", address) => {
                let (hostname, port) = host_and_port(address)?;
                hostname.clone_into(&mut dsn.hostname);
                dsn.port = port.unwrap_or(dsn.port);
            }
            ("unix", "") => dsn.socket = Some("/tmp/mysql.sock".into()),
            ("unix", path) => dsn.socket = Some(path.into()),
            (other, _) => return Err(DsnError::Protocol(other.to_owned())),
        }
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = decoded(value, true).ok_or_else(|| form("an option's value"))?;
            dsn.option(name, value)?;
        }
        Ok(dsn)
    }
}

impl Dsn {
    fn option(&mut self, name: &str, value: String) -> Result<(), DsnError> {
        let lower = name.to_ascii_lowercase();
        let wrong = |expected| {
            Err(DsnError::Value {
                name: name.to_owned(),
                value: value.clone(),
                expected,
            })
        };
        match lower.as_str() {
            "tls" => {
                self.tls = match value.to_ascii_lowercase().as_str() {
                    "true" | "1" => DsnTls::Checked,
                    "skip-verify" => DsnTls::Unchecked,
                    off if FALSE.contains(&off) => DsnTls::Off,
                    _ => return wrong("`true`, `false` or `skip-verify`"),
                }
            }
            "charset" if !value.split(',').all(|one| one == "utf8mb4") => {
                return wrong("`utf8mb4`, in which every name can be said");
            }
            "collation" if !value.starts_with("utf8mb4_") => {
                return wrong("one of utf8mb4, such as `utf8mb4_bin`");
            }
            "charset" | "collation" => {}
            name if WITHOUT_EFFECT.contains(&name) => {}
            name if MUST_BE_OFF.contains(&name) => {
                if !FALSE.contains(&value.to_ascii_lowercase().as_str()) {
                    return wrong("`false`");
                }
            }
            _ => return Err(DsnError::Option(name.to_owned())),
        }
        Ok(())
    }
}

/// `host`, `host:port`, `[::1]:port`.
fn host_and_port(address: &str) -> Result<(&str, Option<u16>), DsnError> {
    let form = |because| DsnError::Form { because };
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest
                .split_once(']')
                .ok_or_else(|| form("the address has no `]`"))?;
            (host, behind.strip_prefix(':'))
        }
        None => match address.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let number = |port: &str| {
        let number = port.parse().ok().filter(|port| *port != 0);
        number.ok_or_else(|| DsnError::Port(port.to_owned()))
    };
    Ok((host, port.map(number).transpose()?))
}

/// `%41` is `A`; in options `+` is a space.
fn decoded(text: &str, is_option: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                out.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
            }
            b'+' if is_option => out.push(b' '),
            byte => out.push(byte),
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Dsn {
        text.parse().unwrap()
    }

    #[test]
    fn upstreams_own_example_is_read() {
        let dsn = parse("root@tcp(localhost:3306)/seaweedfs?collation=utf8mb4_bin");
        assert_eq!(
            (&*dsn.username, &*dsn.password, &*dsn.hostname),
            ("root", "", "localhost")
        );
        assert_eq!((dsn.port, &*dsn.database), (3306, "seaweedfs"));
        assert_eq!((dsn.socket, dsn.tls), (None, DsnTls::Unsaid));
    }

    #[test]
    fn every_part_may_be_missing_but_the_slash() {
        let bare = parse("/");
        assert_eq!(
            (&*bare.hostname, bare.port, &*bare.database),
            ("127.0.0.1", 3306, "")
        );
        assert_eq!(parse("/a%2Fb").database, "a/b");
        assert_eq!(parse("tcp(h)/d").hostname, "h");
        let six = parse("u:p@tcp([::1]:3307)/d");
        assert_eq!((&*six.hostname, six.port), ("::1", 3307));
        let socket = parse("unix(/run/my.sock)/d").socket;
        assert_eq!(socket, Some("/run/my.sock".into()));
    }

    #[test]
    fn a_password_may_hold_what_parts_others() {
        let dsn = parse("u:p@:/ss(w)@tcp(h:1)/d?tls=true&interpolateParams=true");
        assert_eq!((&*dsn.username, &*dsn.password), ("u", "p@:/ss(w)"));
        assert_eq!(dsn.tls, DsnTls::Checked);
        assert_eq!(parse("u:/a?b/@tcp(h:1)/d").password, "/a?b/");
    }

    #[test]
    fn what_is_not_supported_is_refused_with_what_is_expected() {
        for (text, expected) in [
            ("root@tcp(h:1)", "no `/`"),
            ("u@udp(h)/d", "`tcp` or `unix`"),
            ("tcp(h:0)/d", "from 1 to 65535"),
            ("tcp(h:x)/d", "from 1 to 65535"),
            ("tcp(h/d", "no `)`"),
            ("tcp([::1/d", "no `)`"),
            ("/d?tls=preferred", "`skip-verify`"),
            ("/d?charset=latin1", "`utf8mb4`"),
            ("/d?collation=latin1_bin", "utf8mb4_bin"),
            ("/d?allowAllFiles=true", "`false`"),
            ("/d?autocommit=0", "`autocommit`"),
            ("/d%zz", "the database's name"),
        ] {
            let error = text.parse::<Dsn>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = "u:secret@tcp(h:99999)/d".parse::<Dsn>().unwrap_err();
        assert!(!error.to_string().contains("secret"));
    }
}
