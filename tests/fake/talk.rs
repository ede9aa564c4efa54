//! A pod's side of a stream that answers each request in it as that request says, in its parameter `do`.

use std::sync::atomic::Ordering::SeqCst;

use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use plimsoll_proto::inference::infer_parameter::ParameterChoice;
use plimsoll_proto::inference::{InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use prost::Message;

use super::{Frames, Seen, framed};

/// Answers until its caller has said all.
pub(super) async fn answer_each(body: &mut Incoming, seen: &Seen, frames: &Frames) {
    let mut bytes = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend(frame.into_data().unwrap_or_default());
        while let Some(request) = next(&mut bytes) {
            answer(&request, seen, frames).await;
        }
    }
}

/// An answer that is not the last.
pub(super) fn first_of_many() -> Bytes {
    framed(&response(&ModelInferRequest::default(), "", Some(false)))
}

fn next(bytes: &mut BytesMut) -> Option<ModelInferRequest> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().unwrap()) as usize;
    if bytes.len() < 5 + length {
        return None;
    }
    bytes.advance(5);
    Some(ModelInferRequest::decode(bytes.split_to(length)).unwrap())
}

async fn answer(request: &ModelInferRequest, seen: &Seen, frames: &Frames) {
    let what = match request.parameters.get("do").and_then(|value| value.parameter_choice.as_ref()) {
        Some(ParameterChoice::StringParam(what)) => what.as_str(),
        _ => "once",
    };
    let say = |answer: &ModelStreamInferResponse| frames.send(Frame::data(framed(answer))).unwrap_or_default();
    let refuses = seen.refuses_talk.lock().unwrap().clone();
    if let Some(text) = refuses {
        seen.refused.fetch_add(1, SeqCst);
        return say(&failure(request, &text));
    }
    if request.parameters.contains_key("sequence_id")
        && let Err(text) = seen.take_sequence(request)
    {
        seen.refused.fetch_add(1, SeqCst);
        return say(&failure(request, &text));
    }
    seen.bytes.fetch_add(1, SeqCst);
    match what {
        "once" => say(&response(request, &seen.name, None)),
        "thrice" => (0..3).for_each(|_| say(&response(request, &seen.name, None))),
        "thrice-flagged" => {
            say(&response(request, &seen.name, Some(false)));
            seen.release.notified().await;
            say(&response(request, &seen.name, Some(false)));
            say(&response(request, &seen.name, Some(true)));
        }
        "fail" => say(&failure(request, "the model says no")),
        // In two pieces, with time for others between.
        "slowly" => {
            let whole = framed(&response(request, &seen.name, None));
            frames.send(Frame::data(whole.slice(..20))).unwrap_or_default();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            frames.send(Frame::data(whole.slice(20..))).unwrap_or_default();
        }
        "never" => {}
        other => panic!("unknown: {other}"),
    }
}

fn failure(request: &ModelInferRequest, text: &str) -> ModelStreamInferResponse {
    let response = ModelInferResponse { id: request.id.clone(), ..ModelInferResponse::default() };
    ModelStreamInferResponse { error_message: text.into(), infer_response: Some(response) }
}

/// An answer whose version names the pod that gave it.
fn response(request: &ModelInferRequest, pod: &str, is_final: Option<bool>) -> ModelStreamInferResponse {
    let flag = |flag| InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(flag)) };
    let response = ModelInferResponse {
        model_name: request.model_name.clone(),
        model_version: pod.into(),
        id: request.id.clone(),
        parameters: is_final.map(|is_final| ("triton_final_response".to_owned(), flag(is_final))).into_iter().collect(),
        raw_output_contents: vec![Bytes::from_static(&[1; 40])],
        ..ModelInferResponse::default()
    };
    ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) }
}
