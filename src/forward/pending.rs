//! What still waits at a pod, as its own metrics say: a correction of what cancelled requests are thought to cost there.
//!
//! A Triton runs most cancelled requests all the same, so they stay charged until their predicted end (remainders). Some it drops,
//! and some predictions are wrong. Its gauge of pending requests is exact when it is read, and leaves out those that run: so there
//! are no more requests of a model at a pod than are pending and can run at once, whoever sent them. It is read only where this
//! node has remainders, four times a second at most, and never holds anything up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Limited};
use tracing::debug;

use super::body::RequestBody;
use super::upstream::{Upstream, causes};
use crate::driver::clock;
use crate::observe::Pod;
use crate::pick::Picker;
use crate::time::Time;

/// Requests of a model that wait for a place to run, by model and version (Triton 2.51).
const GAUGE: &str = "nv_inference_pending_request_count";
/// How often a pod is asked that has remainders of this node. A question takes it 1 to 3 ms.
const EVERY: Duration = Duration::from_millis(250);
/// And one that gave no answer, or has no such gauge.
const AGAIN: Duration = Duration::from_secs(30);
/// How long it may take to connect and to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// A Triton with a thousand models shows about two million bytes.
const MAX_ANSWER: usize = 8 << 20;

/// When a pod is asked next.
#[derive(Default)]
pub(super) struct Due(AtomicU64);

impl Due {
    /// Whether it is to be asked now, and not again before it has answered.
    pub(super) fn begin(&self, now: Time) -> bool {
        let due = self.0.load(Relaxed);
        let next = (now + AGAIN).as_nanos();
        due <= now.as_nanos() && self.0.compare_exchange(due, next, Relaxed, Relaxed).is_ok()
    }
}

/// Reads what waits at `pod`, and has what cannot be there any more charged no longer.
pub(super) async fn read(picker: Picker, pod: Arc<Pod>) {
    let (asked, upstream) = (clock::now(), Upstream::of(&pod));
    let text = match tokio::time::timeout(PATIENCE, scrape(upstream)).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => return debug!(pod = pod.name(), error, "cannot read its metrics"),
        Err(_) => return debug!(pod = pod.name(), within = ?PATIENCE, "cannot read its metrics"),
    };
    let pending = pending(&text);
    if pending.is_empty() {
        return debug!(pod = pod.name(), gauge = GAUGE, "its metrics have no such gauge");
    }
    let answered = clock::now();
    for (model, waiting) in pending {
        if let Some(at_once) = upstream.asked.at_once(&model) {
            picker.bound_remainders(pod.id(), &model, (asked, answered), waiting.saturating_add(at_once));
        }
    }
    upstream.due.0.store((answered + EVERY).as_nanos(), Relaxed);
}

async fn scrape(upstream: &Upstream) -> Result<String, String> {
    let mut request =
        Request::get("/metrics").body(RequestBody::ready(Default::default())).map_err(|e| e.to_string())?;
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/plain"));
    let response = upstream.ask_metrics(request, PATIENCE).await.map_err(|error| error.to_string())?;
    if !response.status().is_success() {
        return Err(format!("HTTP status {}", response.status()));
    }
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(|error| causes(&*error))?;
    String::from_utf8(body.to_bytes().into()).map_err(|error| error.to_string())
}

/// By model, over all its versions. What is no line of the gauge is passed over: the one crate
/// for the whole format brings regular expressions and a calendar, and splits labels at commas inside of quotes.
fn pending(text: &str) -> BTreeMap<String, u32> {
    let mut models = BTreeMap::new();
    for line in text.lines() {
        let Some((labels, value)) = line.strip_prefix(GAUGE).and_then(labels_and_value) else { continue };
        let model = labels.split_once("model=\"").and_then(|(_, rest)| rest.split_once('"'));
        if let (Some((model, _)), Ok(value)) = (model, value.parse::<f64>()) {
            let sum: &mut u32 = models.entry(model.to_owned()).or_default();
            // Of no number, and below zero, this makes nothing.
            *sum = sum.saturating_add(value.ceil() as u32);
        }
    }
    models
}

/// `{labels} value`, and perhaps a time behind it.
fn labels_and_value(rest: &str) -> Option<(&str, &str)> {
    let (labels, rest) = rest.strip_prefix('{')?.rsplit_once('}')?;
    Some((labels, rest.split_whitespace().next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_read_of_all_versions() {
        let text = "# HELP nv_inference_pending_request_count Instantaneous number of pending requests awaiting execution\n\
                    # TYPE nv_inference_pending_request_count gauge\n\
                    nv_inference_pending_request_count{model=\"a\",version=\"1\"} 3\n\
                    nv_inference_pending_request_count{version=\"2\",model=\"a\"} 4 1700000000000\n\
                    nv_inference_pending_request_count{model=\"b\",version=\"1\"} 0\n\
                    nv_inference_pending_request_count_total{model=\"c\"} 9\n\
                    nv_inference_request_success{model=\"a\",version=\"1\"} 17\n";
        assert_eq!(pending(text), [("a".to_owned(), 7), ("b".to_owned(), 0)].into());
    }

    /// Whatever stands at that port: nothing may come of it.
    #[test]
    fn what_is_no_gauge_is_passed_over() {
        for line in ["", "{", "{}", "{} 1", "{model=\"a} 1", "{model=\"a\"}", "{model=\"a\"} one", " 1", "}{ 1"] {
            assert_eq!(pending(&format!("{GAUGE}{line}\n")), BTreeMap::new(), "{line}");
        }
        for (value, read) in [("NaN", 0), ("-1", 0), ("1e300", u32::MAX), ("+Inf", u32::MAX), ("2.5", 3)] {
            assert_eq!(pending(&format!("{GAUGE}{{model=\"a\"}} {value}\n"))["a"], read);
        }
    }
}
