//! What a browser may be talked into. It reaches the loopback of the machine that it runs on, and whatever page is open in it may
//! have it send requests there: a form needs nobody's leave, and a name that its owner points to 127.0.0.1 (DNS rebinding) makes
//! this API look like that page's own. Programs send none of the headers that are looked at here, and are not concerned.

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue};

/// What browsers say of who made a page send a request (Fetch Metadata).
const SEC_FETCH_SITE: &str = "sec-fetch-site";
/// What forms send, without asking whether they may.
const FORMS: [&str; 3] = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];

/// Why a request that changes something may have been sent by another site's page; none where it was not.
pub(super) fn is_forged(request: &Request) -> Option<String> {
    if request.method().is_safe() {
        return None;
    }
    let headers = request.headers();
    let value = |name: &str| headers.get(name).map(HeaderValue::as_bytes).map(String::from_utf8_lossy);
    match (value(SEC_FETCH_SITE), value(ORIGIN.as_str())) {
        (Some(site), _) if !matches!(&*site, "same-origin" | "none") => return Some(format!("sec-fetch-site: {site}")),
        (None, Some(origin)) if !is_of(&origin, headers) => return Some(format!("origin: {origin}")),
        _ => {}
    }
    let kind = value(CONTENT_TYPE.as_str())?;
    let plain = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    FORMS.contains(&&*plain).then(|| format!("content-type: {kind}"))
}

/// Whether `origin` is the host that is asked.
fn is_of(origin: &str, headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    origin.split_once("://").is_some_and(|(_, authority)| authority.as_bytes().eq_ignore_ascii_case(host))
}

/// The name that a request asks by, where it is none that only this machine has. Addresses cannot be pointed elsewhere.
pub(super) fn foreign_name(request: &Request) -> Option<String> {
    let named =
        request.headers().get_all(HOST).iter().map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    let target = request.uri().authority().map(ToString::to_string);
    named.chain(target).find(|name| !is_own(name))
}

fn is_own(name: &str) -> bool {
    let Ok(authority) = name.parse::<Authority>() else { return false };
    let host = authority.host();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let host = host.to_ascii_lowercase();
    bare.parse::<std::net::IpAddr>().is_ok() || host == "localhost" || host.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn request(method: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = Request::builder().method(method).uri("/v1/drain");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).unwrap()
    }

    /// A page that somebody has open must not drain the node on his machine; he himself, and his programs, may.
    #[test]
    fn pages_of_other_sites_change_nothing() {
        let host = ("host", "127.0.0.1:9090");
        for mine in [
            &[][..],
            &[host, ("content-type", "application/json")],
            &[host, ("sec-fetch-site", "same-origin"), ("origin", "http://127.0.0.1:9090")],
            &[host, ("sec-fetch-site", "none")],
            &[host, ("origin", "http://127.0.0.1:9090")],
        ] {
            assert_eq!(is_forged(&request("POST", mine)), None);
        }
        for (name, value) in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("origin", "http://127.0.0.1:9091"),
            ("origin", "null"),
            ("origin", "https://evil.example"),
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-type", "Text/Plain; charset=utf-8"),
            ("content-type", "multipart/form-data; boundary=x"),
        ] {
            assert_eq!(is_forged(&request("POST", &[host, (name, value)])), Some(format!("{name}: {value}")));
            assert_eq!(is_forged(&request("GET", &[host, (name, value)])), None);
        }
    }

    /// A name that somebody else may point to this machine must open nothing on it.
    #[test]
    fn names_that_others_own_are_foreign() {
        for own in ["127.0.0.1", "10.0.0.7:9090", "[::1]:9090", "localhost", "LocalHost:9090", "node.localhost:1"] {
            assert_eq!(foreign_name(&request("GET", &[("host", own)])), None, "{own}");
        }
        assert_eq!(foreign_name(&request("GET", &[])), None);
        for foreign in
            ["evil.example", "evil.example:9090", "127.0.0.1.evil.example", "localhost.evil.example", "a b", ""]
        {
            assert_eq!(foreign_name(&request("GET", &[("host", foreign)])), Some(foreign.to_owned()));
        }
        assert!(foreign_name(&request("GET", &[("host", "localhost"), ("host", "evil.example")])).is_some());
    }
}
