//! `plimsoll-pod`: the header (in gRPC a metadata key) that pins one request to one pod, and that says in its response which
//! pod served it. For people who look for what is wrong with one pod: they ask that one, and see whom they have asked.
//!
//! Nobody picks for a pinned request, and nobody judges: it goes to a pod that is ejected or drains all the same, because such
//! a pod is the one to look at.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tonic::Status;

use super::upstream::Upstream;
use crate::observe::Pod;

/// The same name on the way to a pod and back.
pub(super) const POD: HeaderName = HeaderName::from_static("plimsoll-pod");
/// How many pods an error names. All 500 of a large fleet would make a header that gRPC clients refuse (8 KiB).
const NAMED: usize = 8;
/// How much of a name an error shows, in bytes: a name is as long as somebody wrote it.
const SHOWN: usize = 64;
/// What a name is spelled with otherwise in a header: a space at its end would be lost, and a name that holds a `%` could be
/// read as two.
const SPELLED: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// Why a request is not sent to the pod that it names. Nothing was sent to any.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PinError {
    /// The caller named a pod that is not there (any more): it takes one of those that are, or leaves the header out.
    #[error("`plimsoll-pod: {0}` names no pod of this fleet: {1}")]
    Unknown(String, String),
    /// The caller named several: it leaves all but one out.
    #[error("`plimsoll-pod` is given {0} times: one request can go to one pod only")]
    Several(usize),
}

impl From<PinError> for Status {
    fn from(error: PinError) -> Status {
        Status::invalid_argument(error.to_string())
    }
}

/// The pod of `pods` that `headers` pin the request to, if they do. The header is taken out: it is for this node, and a pod
/// might make something of it (a Triton can be told to forward headers to models).
///
/// # Errors
/// [`PinError`]: the caller's mistake (INVALID_ARGUMENT, 400).
pub(super) fn take_pin(pods: &[Arc<Pod>], headers: &mut HeaderMap) -> Result<Option<Arc<Pod>>, PinError> {
    let times = headers.get_all(POD).iter().count();
    if times == 0 {
        return Ok(None);
    }
    let name = headers.remove(POD).filter(|_| times == 1).ok_or(PinError::Several(times))?;
    let spelled = |pod: &Arc<Pod>| *spelling(pod) == name;
    let called = |pod: &&Arc<Pod>| spelled(pod) || pod.name().as_bytes() == name.as_bytes();
    // As a response spells it comes first; and two lives of one pod can stand beside each other for a moment.
    match pods.iter().filter(called).min_by_key(|pod| (!spelled(pod), pod.is_ejected())) {
        Some(pod) => Ok(Some(pod.clone())),
        None => Err(PinError::Unknown(cut(&String::from_utf8_lossy(name.as_bytes()), SHOWN), known(pods))),
    }
}

/// Says in `headers` of a response that `pod` served it.
pub(super) fn say_pod(headers: &mut HeaderMap, pod: &Pod) {
    headers.insert(POD, spelling(pod).clone());
}

fn spelling(pod: &Pod) -> &HeaderValue {
    &Upstream::of(pod).spelled
}

/// `name` as a header's value: visible ASCII stays, all else is `%` and two digits. Made once for each pod.
pub(super) fn spell(name: &str) -> HeaderValue {
    let spelled = utf8_percent_encode(name, SPELLED).to_string();
    HeaderValue::try_from(spelled).unwrap_or_else(|_| unreachable!("visible ASCII is a header's value"))
}

/// The first few of the pods that there are.
fn known(pods: &[Arc<Pod>]) -> String {
    let names: Vec<String> = pods.iter().take(NAMED).map(|pod| format!("`{}`", cut(pod.name(), SHOWN))).collect();
    match pods.len() - names.len() {
        _ if pods.is_empty() => "it knows none".into(),
        0 => format!("they are {}", names.join(", ")),
        more => format!("they are {} and {more} more", names.join(", ")),
    }
}

/// A text from outside, short enough for an error.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.floor_char_boundary(most) {
        end if end < text.len() => format!("{}...", &text[..end]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::PodSpec;

    fn fleet(names: &[&str]) -> Vec<Arc<Pod>> {
        let pod = |(i, name): (usize, &&str)| {
            let spec = PodSpec::new(*name, format!("http://127.0.0.1:{}", 8001 + i));
            Arc::new(Pod::new(spec, i as u64, Arc::default()))
        };
        names.iter().enumerate().map(pod).collect()
    }

    fn pinned_to(value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(POD, HeaderValue::from_bytes(value).unwrap())])
    }

    fn found(pods: &[Arc<Pod>], value: &[u8]) -> u64 {
        take_pin(pods, &mut pinned_to(value)).unwrap().unwrap().life
    }

    /// The header is the node's: a Triton that forwards headers to its models would see it as a parameter.
    #[tokio::test]
    async fn a_pin_finds_its_pod_and_goes_no_further() {
        let pods = fleet(&["pod-a", "pod-b"]);
        let mut headers = pinned_to(b"pod-b");
        headers.insert("x-tenant", HeaderValue::from_static("a"));
        assert_eq!(take_pin(&pods, &mut headers).unwrap().unwrap().name(), "pod-b");
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-tenant"]);
        assert!(take_pin(&pods, &mut headers).unwrap().is_none());
    }

    /// The sick pod is the one that somebody wants to look at; only between two of the same name the well one is meant.
    #[tokio::test]
    async fn an_ejected_pod_can_be_pinned() {
        let pods = fleet(&["pod-a", "twice", "twice"]);
        for pod in &pods[..2] {
            pod.eject();
        }
        assert_eq!((found(&pods, b"pod-a"), found(&pods, b"twice")), (0, 2));
    }

    /// A name that is not there must not be answered by another pod; and of 500 pods the error names only some.
    #[tokio::test]
    async fn a_pin_to_nobody_names_what_was_asked_and_some_that_there_are() {
        let error = |pods: &[Arc<Pod>], value: &str| {
            let status = Status::from(take_pin(pods, &mut pinned_to(value.as_bytes())).unwrap_err());
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            status.message().to_owned()
        };
        assert_eq!(error(&[], "pod-z"), "`plimsoll-pod: pod-z` names no pod of this fleet: it knows none");
        let two = fleet(&["pod-a", "pod-b"]);
        let told = "`plimsoll-pod: pod-z` names no pod of this fleet: they are `pod-a`, `pod-b`";
        assert_eq!(error(&two, "pod-z"), told);
        let long = "é".repeat(5000);
        let text = error(&fleet(&[&*long; 500]), &long[1000..]);
        assert!(
            text.len() < 2000 && text.ends_with("... and 492 more") || text.ends_with("...` and 492 more"),
            "{text}"
        );
    }

    /// One request cannot be at two pods; taking the first would hide a proxy that adds its own.
    #[tokio::test]
    async fn two_pins_are_a_mistake() {
        let pods = fleet(&["pod-a", "pod-b"]);
        let mut headers = pinned_to(b"pod-a");
        headers.append(POD, HeaderValue::from_static("pod-b"));
        assert_eq!(take_pin(&pods, &mut headers).unwrap_err(), PinError::Several(2));
        assert!(headers.is_empty());
    }

    /// People name pods as they like: a name that is no header's value must not break its responses, and what a response
    /// says pins the next request to the same pod.
    #[tokio::test]
    async fn whatever_a_pod_is_called_its_spelling_leads_back_to_it() {
        let names = ["pod-a", "gpu 7", "größe", "line\nbreak", "50%25", "50%", " ", ""];
        let pods = fleet(&names);
        let spelled = ["pod-a", "gpu%207", "gr%C3%B6%C3%9Fe", "line%0Abreak", "50%2525", "50%25", "%20", ""];
        for (pod, spelled) in pods.iter().zip(spelled) {
            let mut headers = HeaderMap::new();
            say_pod(&mut headers, pod);
            assert_eq!(headers[POD], spelled);
            assert_eq!(found(&pods, spelled.as_bytes()), pod.life, "{spelled}");
        }
        // As it is written it is found too, where that can be sent and means nobody else's spelling.
        assert_eq!((found(&pods, b"gpu 7"), found(&pods, "größe".as_bytes()), found(&pods, b"50%")), (1, 2, 5));
    }
}
