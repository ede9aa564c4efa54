//! Addresses as people write them: sockets, `host:port`, URLs of pods. A problem is told in two halves, what is wrong
//! and what to write instead; the caller puts the place and the key in front.

use std::net::{IpAddr, SocketAddr};

use super::error::shown;

/// What is wrong, and what to do.
pub(crate) type Problem = (String, String);

/// `IP:port` to listen on; port 0 takes any free one.
pub(super) fn socket(written: &str) -> Result<SocketAddr, Problem> {
    written.parse().map_err(|_| {
        let remedy = match written.parse::<IpAddr>() {
            Ok(ip @ IpAddr::V6(_)) => format!("add a port, as in `[{ip}]:8001`"),
            Ok(ip) => format!("add a port, as in `{ip}:8001`"),
            Err(_) => "write IP:port, as in `127.0.0.1:8001` or `[::1]:8001`".to_owned(),
        };
        (format!("{} is not a socket address", shown(written)), remedy)
    })
}

/// `host:port` to dial: a name or an IP address, IPv6 in brackets.
pub(crate) fn host_port(written: &str) -> Result<(String, u16), Problem> {
    let problem = |remedy: &str| (format!("{} is not host:port", shown(written)), remedy.to_owned());
    let plain = "write it as in `triton.svc:8001`, `10.0.0.7:8001` or `[fd00::7]:8001`";
    let (host, port) = written.rsplit_once(':').ok_or_else(|| problem(plain))?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| problem("the port is 1 to 65535"))?;
    if let Some(inner) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match inner.parse::<IpAddr>() {
            Ok(ip @ IpAddr::V6(_)) => Ok((ip.to_string(), port)),
            _ => Err(problem("only an IPv6 address stands in brackets")),
        };
    }
    if host.contains(':') {
        return Err(problem("an IPv6 address needs brackets, as in `[fd00::7]:8001`"));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.is_empty() || host.len() > 253 || !host.chars().all(allowed) {
        return Err(problem(plain));
    }
    Ok((host.to_owned(), port))
}

/// The URL of a pod, `http://` in front where no scheme was written.
pub(crate) fn pod_url(written: &str) -> Result<String, Problem> {
    let problem = |remedy: &str| (format!("{} is not the URL of a pod", shown(written)), remedy.to_owned());
    let (scheme, rest) = match written.split_once("://") {
        None => ("http", written),
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some(("grpc", _)) => return Err(problem("write http:// in front of host:port")),
        Some(_) => return Err(problem("write it as in `http://10.0.0.7:8001`")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = host_port(rest).map_err(|_| problem("write it as in `http://10.0.0.7:8001`"))?;
    Ok(format!("{scheme}://{}:{port}", bracketed(&host)))
}

/// A host as it stands before `:port`.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// IPv6 has colons of its own; read carelessly, the last group becomes a port.
    #[test]
    fn ipv6_needs_its_brackets() {
        assert_eq!(socket("[::1]:80").unwrap().port(), 80);
        assert_eq!(socket("::1").unwrap_err().1, "add a port, as in `[::1]:8001`");
        assert_eq!(host_port("[fd00::7]:8001").unwrap(), ("fd00::7".into(), 8001));
        assert_eq!(host_port("fd00::7:8001").unwrap_err().1, "an IPv6 address needs brackets, as in `[fd00::7]:8001`");
        assert_eq!(pod_url("http://[fd00::7]:8001/").unwrap(), "http://[fd00::7]:8001");
        assert_eq!(host_port("[a]:1").unwrap_err().1, "only an IPv6 address stands in brackets");
    }

    /// The same pod written in two ways must be one pod, and what cannot be served must not be accepted.
    #[test]
    fn urls_of_pods_have_one_form() {
        assert_eq!(pod_url("10.0.0.7:8001").unwrap(), "http://10.0.0.7:8001");
        assert_eq!(pod_url("https://[fd00::7]:8001/").unwrap(), "https://[fd00::7]:8001");
        assert_eq!(pod_url("http://triton_0.svc:8001/").unwrap(), "http://triton_0.svc:8001");
        for bad in ["http://a", "http://:1", "http://a:0", "http://a:99999", "ftp://a:1", "http://a:1/v2", "a b:1", ""]
        {
            assert!(pod_url(bad).is_err(), "{bad}");
        }
    }
}
