//! Where a Redis is, as people write it: a URL.

use std::fmt;
use std::str::FromStr;

use crate::config::{bracketed, host_port, shown};

/// Where Redis listens unless it is told otherwise.
const PORT: u16 = 6379;

/// A Redis's address: `redis://[USER@]HOST[:PORT][/DATABASE]`, `rediss://` with TLS. A password is never part of it: addresses
/// are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisAddress {
    /// Its name or IP address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// As whom, where that is not the default user.
    pub user: Option<String>,
    /// Which of its databases.
    pub database: u32,
}

/// Why a text is no Redis's address: what is wrong, with the value in backticks, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; {remedy}")]
#[non_exhaustive]
pub struct NoRedisAddress {
    /// What is wrong.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl RedisAddress {
    /// A Redis on this machine, where it listens by itself.
    pub fn local() -> RedisAddress {
        RedisAddress { host: "127.0.0.1".to_owned(), port: PORT, tls: false, user: None, database: 0 }
    }
}

impl FromStr for RedisAddress {
    type Err = NoRedisAddress;

    fn from_str(written: &str) -> Result<RedisAddress, NoRedisAddress> {
        const FORM: &str = "write it as in `redis://10.0.0.7:6379/0`, or rediss:// for TLS";
        let wrong = |remedy: &str| NoRedisAddress {
            problem: format!("{} is not the URL of a Redis", shown(written)),
            remedy: remedy.to_owned(),
        };
        let (tls, rest) = match written.split_once("://") {
            Some(("redis" | "valkey", rest)) => (false, rest),
            Some(("rediss" | "valkeys", rest)) => (true, rest),
            Some(("unix" | "redis+unix", _)) => return Err(wrong("give its host and port: sockets are not supported")),
            Some(_) => return Err(wrong("it begins with redis://, or with rediss:// for TLS")),
            None => return Err(wrong(FORM)),
        };
        let (user, rest) = match rest.rsplit_once('@') {
            // The value is not shown: it has a secret in it.
            Some((user, _)) if user.contains(':') => {
                let problem = "the URL has a password in it, and URLs are printed".to_owned();
                let remedy = "write the password into a file, and name that as the password file".to_owned();
                return Err(NoRedisAddress { problem, remedy });
            }
            Some((user, rest)) => (Some(user), rest),
            None => (None, rest),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        if user.is_some_and(|user| user.is_empty() || !user.chars().all(plain)) {
            return Err(wrong("a user is called by letters, digits and -._~"));
        }
        let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => 0,
            number => {
                number.parse().map_err(|_| wrong("behind the slash stands the number of a database, as in /0"))?
            }
        };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let host = if has_port { host.to_owned() } else { format!("{host}:{PORT}") };
        let (host, port) = host_port(&host).map_err(|_| wrong(FORM))?;
        Ok(RedisAddress { host, port, tls, user: user.map(str::to_owned), database })
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        write!(f, "{scheme}://{}:{}", bracketed(&self.host), self.port)?;
        if self.database == 0 { Ok(()) } else { write!(f, "/{}", self.database) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What people write must be understood, and be one thing in the log however it was written.
    #[test]
    fn urls_are_read_as_redis_clients_read_them() {
        for (written, is) in [
            ("redis://h", "redis://h:6379"),
            ("valkey://h:1/", "redis://h:1"),
            ("rediss://me@10.0.0.7:6380/3", "rediss://10.0.0.7:6380/3"),
            ("redis://[fd00::7]", "redis://[fd00::7]:6379"),
            ("redis://[fd00::7]:7/0", "redis://[fd00::7]:7"),
        ] {
            assert_eq!(written.parse::<RedisAddress>().unwrap().to_string(), is);
        }
        let me: RedisAddress = "redis://me@h".parse().unwrap();
        assert_eq!(me.user.as_deref(), Some("me"));
    }

    /// Each mistake is told with its value and what to do; a secret is not told at all.
    #[test]
    fn what_is_no_url_is_refused_with_a_remedy() {
        let said = |written: &str| written.parse::<RedisAddress>().unwrap_err().to_string();
        assert_eq!(
            said("10.0.0.7:6379"),
            "`10.0.0.7:6379` is not the URL of a Redis; write it as in `redis://10.0.0.7:6379/0`, or rediss:// for TLS"
        );
        assert!(said("http://h").ends_with("it begins with redis://, or with rediss:// for TLS"));
        assert!(said("unix:///run/redis").ends_with("sockets are not supported"));
        assert!(said("redis://h/x").ends_with("the number of a database, as in /0"));
        assert!(!said("redis://:hunter2@h").contains("hunter2"));
        for wrong in
            ["redis://", "redis://h:0", "redis://h:99999", "redis://a b", "redis://@h", "redis://h:1:2", "redis://::1"]
        {
            assert!(wrong.parse::<RedisAddress>().is_err(), "{wrong}");
        }
    }
}
