//! Messages that are none. The node needs only a model's name of them: what it cannot read, a pod shall judge; so they must
//! arrive there as they came, and cost nothing but a place.

use bytes::Bytes;
use tonic::Code;

use crate::beside;
use crate::fake::rest::both;
use crate::fake::world::world;
use crate::fake::{framed, grpc_request, post, whole};

/// A message for model `m`.
fn message() -> Bytes {
    framed(&plimsoll_proto::inference::ModelInferRequest { model_name: "m".into(), ..Default::default() })
}

fn bodies() -> Vec<(&'static str, Bytes)> {
    let changed = |at: usize, to: u8| {
        let mut bytes = message().to_vec();
        bytes[at] = to;
        Bytes::from(bytes)
    };
    vec![
        ("nothing at all", Bytes::new()),
        ("less than a prefix", Bytes::from_static(&[0, 0, 0])),
        ("an empty message", Bytes::from_static(&[0; 5])),
        ("an unknown flag", changed(0, 2)),
        ("another", changed(0, 255)),
        ("compressed, it says", changed(0, 1)),
        ("shorter than it says", changed(4, 200)),
        ("longer than it says", changed(4, 1)),
        ("two", [message(), message()].concat().into()),
        ("one and a half", [&message()[..], &message()[..6]].concat().into()),
        ("no protobuf", Bytes::from_static(b"\0\0\0\0\x08\xff\xff\xff\xff\xff\xff\xff\xff")),
        ("a name without end", Bytes::from_static(b"\0\0\0\0\x03\x0a\xff\x7f")),
        ("a name that is no text", Bytes::from_static(b"\0\0\0\0\x04\x0a\x02\xff\xfe")),
        ("groups", [&b"\0\0\0\x04\0"[..], &[0x0b; 1024]].concat().into()),
    ]
}

/// Each goes to a pod, which says what it likes; and the one after it is served.
#[tokio::test]
async fn what_is_no_message_passes_to_the_pod_as_it_is() {
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |options| options.forward.limits.in_flight_per_pod = std::num::NonZeroU32::new(2)).await;
    let good = beside(&world);
    for (what, body) in bodies() {
        let answer = post(world.addr.clone(), grpc_request("ModelInfer", "echo", whole(body.clone()))).await;
        assert_eq!((answer.status_code(), answer.body), ("0".into(), body), "{what}");
    }
    good.was_served(&world).await;
    assert_eq!(world.outcomes()[1..], [0, 0, 0]);
}

/// A stream is cut into its requests: one that has no end is said to have none.
#[tokio::test]
async fn a_stream_of_nonsense_ends() {
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |options| options.forward.limits.in_flight_per_pod = std::num::NonZeroU32::new(2)).await;
    let good = beside(&world);
    for (what, body) in bodies() {
        let answer = post(world.addr.clone(), grpc_request("ModelStreamInfer", "echo", whole(body))).await;
        let (code, text) = answer.status();
        match what {
            "less than a prefix" | "shorter than it says" | "longer than it says" | "one and a half" => {
                assert!(
                    code == Code::InvalidArgument && text.starts_with("the stream ended in the middle"),
                    "{what}: {text}"
                );
            }
            _ => assert_eq!((code, &*text), (Code::Ok, ""), "{what}"),
        }
    }
    good.was_served(&world).await;
    assert!(world.node.picker().pods().iter().all(|pod| !pod.is_ejected()));
}

/// Of questions that the node answers for all, a pod is asked what is wrong with them, or the node says so itself.
#[tokio::test]
async fn questions_that_make_no_sense_are_answered() {
    let (pod, _rest) = both("a").await;
    let world = world(&[&pod], |_| {}).await;
    let good = beside(&world);
    pod.server().models.insert("m".into(), "READY".into());
    // What pods make of nonsense is their business; these are not sent on before they are whole.
    let broken = [&[][..], &[0, 0, 0], &[0, 0, 0, 0, 9, 1], &[0, 0, 0, 0, 0, 1]];
    for method in
        ["ModelStatistics", "RepositoryIndex", "SystemSharedMemoryStatus", "TraceSetting", "RepositoryModelLoad"]
    {
        for body in broken {
            let answer = post(world.addr.clone(), grpc_request(method, "", whole(Bytes::copy_from_slice(body)))).await;
            let (code, text) = answer.status();
            assert!(
                code != Code::Ok && code != Code::Unavailable && !text.is_empty(),
                "{method} {body:?}: {code:?} {text}"
            );
        }
    }
    // A length beyond the limit is refused with the prefix, whatever follows.
    let long = [&[0][..], &u32::MAX.to_be_bytes(), b"x"].concat();
    for method in ["ModelInfer", "ModelStreamInfer", "ModelStatistics", "ModelConfig"] {
        let answer = post(world.addr.clone(), grpc_request(method, "", whole(Bytes::from(long.clone())))).await;
        let (code, text) = answer.status();
        assert_eq!(code, Code::ResourceExhausted, "{method}");
        assert!(text.starts_with("a message of 4294967295 bytes is over the limit of "), "{method}: {text}");
    }
    good.was_served(&world).await;
}
