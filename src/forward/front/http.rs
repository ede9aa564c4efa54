//! The HTTP face of the front: KServe's REST protocol, with Triton's extensions.
//!
//! A request goes on as it came, and so does its response: paths that nobody here knows too, for the pod to judge. What is
//! taken out are the headers that concern one connection alone.

use http::header::{self, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use tonic::Status;

use super::super::body::RequestBody;
use super::super::call::{Call, Face, Kind};
use super::super::deadline::Deadline;
use super::super::fleet::yes_or_no;
use super::super::peek::{Peek, number, peek_json};
use super::super::pin::POD;
use super::super::refusal::refusal;
use super::Front;
use super::answer::Answer;

/// Headers that are about the connection they come on, beside those that `Connection` names (RFC 9110, 7.6.1). `Expect` is
/// among them because the front has answered it when a body comes.
const OF_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];

/// What a path asks for, as far as that decides about the request's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target<'a> {
    kind: Kind,
    /// As it stands in the path; empty where it names none.
    model: &'a str,
}

impl<'a> Target<'a> {
    fn of(method: &Method, path: &'a str) -> Target<'a> {
        let Some(rest) = path.strip_prefix("/v2/models/") else { return Target { kind: Kind::Other, model: "" } };
        let (model, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let verb = match rest.strip_prefix("versions/") {
            Some(versioned) => versioned.split_once('/').map_or("", |(_, verb)| verb),
            None => rest,
        };
        match verb {
            "infer" | "generate" | "generate_stream" if method == Method::POST => Target { kind: Kind::Infer, model },
            _ => Target { kind: Kind::AboutModel, model },
        }
    }
}

impl Front {
    pub(super) async fn answer_http(&self, request: Request<Incoming>) -> Response<Answer> {
        let is_http1 = request.version() < Version::HTTP_2;
        let mut response = match self.route_http(request).await {
            Ok(response) => return response,
            Err(status) => refusal(&status).map(Answer::Whole),
        };
        // What is left of the body is not read, so that the connection ends: clients that keep connections shall know.
        if is_http1 && matches!(response.status(), StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE) {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn route_http(&self, request: Request<Incoming>) -> Result<Response<Answer>, Status> {
        let (mut head, body) = request.into_parts();
        if head.method == Method::CONNECT {
            return Err(Status::unimplemented("no tunnels here: CONNECT is for proxies"));
        }
        leave_connection(&mut head.headers);
        let path = head.uri.path();
        if head.method == Method::GET && !head.headers.contains_key(POD) {
            match path {
                "/v2/health/live" => return Ok(yes_or_no(true).map(Answer::Whole)),
                "/v2/health/ready" if self.is_leaving() => return Ok(yes_or_no(false).map(Answer::Whole)),
                _ => {}
            }
        }
        let mut response = match self.fleet.rest(&head.method, path, &head.headers) {
            Some(asked) => {
                let answer = Box::pin(self.fleet.answer_rest(asked, head, self.source(body))).await?;
                answer.map(Answer::Whole)
            }
            None => self.forward_http(head, body).await?,
        };
        leave_connection(response.headers_mut());
        Ok(response)
    }

    async fn forward_http(&self, parts: Parts, body: Incoming) -> Result<Response<Answer>, Status> {
        let announced = number(&parts.headers, header::CONTENT_LENGTH.as_str());
        let mut body = RequestBody::plain(self.source(body), announced, self.options.forward.max_message_bytes)?;
        let target = Target::of(&parts.method, parts.uri.path());
        let peeked = match target.kind {
            Kind::Infer => peek_json(&mut body, target.model, &parts.headers).await?,
            _ => Peek { name: target.model.as_bytes().into(), ..Peek::default() },
        };
        let call = Call::new(Face::Http, target.kind, peeked);
        let request = Request::from_parts(parts, body);
        Ok(self.forwarder.forward(call, request, Deadline::none()).await?.map(Answer::Pod))
    }
}

/// Takes out what concerns the connection that `headers` came on.
fn leave_connection(headers: &mut HeaderMap) {
    if let Some(named) = headers.get(header::CONNECTION).and_then(|named| named.to_str().ok()) {
        let named: Vec<HeaderName> = named.split(',').filter_map(|name| name.trim().parse().ok()).collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &OF_CONNECTION {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Target<'_> {
        Target::of(&Method::POST, path)
    }

    /// A request that is taken for no inference would cost nobody anything, and pile up on one pod.
    #[test]
    fn inferences_are_told_by_their_paths() {
        for verb in ["infer", "generate", "generate_stream"] {
            assert_eq!(target(&format!("/v2/models/m/{verb}")), Target { kind: Kind::Infer, model: "m" });
            assert_eq!(target(&format!("/v2/models/m/versions/7/{verb}")), Target { kind: Kind::Infer, model: "m" });
        }
        for path in ["/v2/models/m", "/v2/models/m/versions/7", "/v2/models/m/config", "/v2/models/m/versions/7/ready"]
        {
            assert_eq!(target(path), Target { kind: Kind::AboutModel, model: "m" });
        }
        for path in ["/", "", "/v2", "/v2/health/live", "/v1/models/m/infer", "/v2/models", "*"] {
            assert_eq!(target(path), Target { kind: Kind::Other, model: "" });
        }
        assert_eq!(Target::of(&Method::GET, "/v2/models/m/infer").kind, Kind::AboutModel);
    }

    /// What a proxy passes on of them breaks the next connection: a length beside chunks, a close that nobody asked for.
    #[test]
    fn headers_of_the_connection_stay_with_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "keep-alive, X-Mine"),
            ("keep-alive", "timeout=5"),
            ("x-mine", "1"),
            ("x-theirs", "1"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        leave_connection(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-theirs"]);
    }
}
