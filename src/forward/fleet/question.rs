//! A caller's request about the fleet, read as a whole so that many pods can be sent the same bytes.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use prost::Message;
use tonic::Status;

use super::super::ask::Question;
use super::super::body::{PREFIX, RequestBody, broken_off};
use super::super::peek::{Compression, inflate};

/// How much of a compressed request is inflated to be looked into: a thousand settings, and no bomb.
const INFLATED: usize = 1 << 20;

/// A request whose first field is a name, as most are.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Named {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

/// The one message in `body`, with its prefix, whose length was looked at already.
///
/// # Errors
/// CANCELLED where the caller broke off, INVALID_ARGUMENT where more follows.
pub(super) async fn read(body: RequestBody, length: u64) -> Result<Bytes, Status> {
    let length = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(PREFIX);
    let whole = Limited::new(body, length).collect().await.map_err(|error| match error.is::<LengthLimitError>() {
        true => Status::invalid_argument(format!("more follows the request's one message of {length} bytes")),
        false => broken_off(&error),
    })?;
    Ok(whole.to_bytes())
}

/// What a request says. None where it cannot be read: the pods shall say what is wrong with it.
pub(super) fn decode<M: Message + Default>(question: &Question) -> Option<M> {
    let (flag, message) = question.message.split_first_chunk::<PREFIX>()?;
    match flag[0] {
        0 => M::decode(message).ok(),
        _ => {
            let (plain, whole) = inflate(Compression::of(&question.metadata), message, INFLATED);
            M::decode(&*plain).ok().filter(|_| whole)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use flate2::Compression as Level;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use http::HeaderMap;

    use super::super::super::ask::framed;
    use super::*;

    fn question(encoding: &'static str, flag: u8, message: &[u8]) -> Question {
        let prefixed = [&[flag], &(message.len() as u32).to_be_bytes()[..], message].concat();
        let metadata = HeaderMap::from_iter([("grpc-encoding".parse().unwrap(), encoding.parse().unwrap())]);
        Question::grpc("/", metadata, prefixed.into(), Duration::ZERO)
    }

    fn name(question: &Question) -> Option<String> {
        decode::<Named>(question).map(|named| named.name)
    }

    /// Whether a request reads or writes depends on what is in it, and clients may compress any of them; what makes no sense
    /// (or is a bomb) must be left to the pods, not held here.
    #[test]
    fn a_request_is_read_compressed_or_not_and_garbage_is_not() {
        let plain = &framed(&Named { name: "input_data".into() })[PREFIX..];
        let mut gzip = GzEncoder::new(Vec::new(), Level::fast());
        gzip.write_all(plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut deflate = ZlibEncoder::new(Vec::new(), Level::fast());
        deflate.write_all(plain).unwrap();
        let deflate = deflate.finish().unwrap();
        let expected = Some("input_data".to_owned());
        assert_eq!(name(&question("identity", 0, plain)), expected);
        assert_eq!(name(&question("gzip", 0, plain)), expected);
        assert_eq!(name(&question("gzip", 1, &gzip)), expected);
        assert_eq!(name(&question("deflate", 1, &deflate)), expected);
        assert_eq!(name(&question("identity", 0, b"")), Some(String::new()));

        let mut bomb = GzEncoder::new(Vec::new(), Level::fast());
        bomb.write_all(&vec![0; 2 << 20]).unwrap();
        for nonsense in [
            question("snappy", 1, &gzip),
            question("gzip", 1, plain),
            question("gzip", 1, &gzip[..gzip.len() / 2]),
            question("identity", 0, b"\x0a\xff"),
            question("gzip", 1, &bomb.finish().unwrap()),
            Question { message: Bytes::from_static(b"\0\0"), ..question("gzip", 0, b"") },
        ] {
            assert_eq!(name(&nonsense), None, "{nonsense:?}");
        }
    }
}
