//! Replies as bytes, in RESP2 or RESP3.

use crate::args::shown;
use crate::reply::Reply;

/// Appends `reply` to `out` in RESP `protocol` (2 or 3).
pub(crate) fn encode(reply: &Reply, protocol: u8, out: &mut Vec<u8>) {
    let is_three = protocol >= 3;
    match reply {
        Reply::Status(text) => line(b'+', text, out),
        Reply::Error(text) => line(b'-', text, out),
        Reply::Int(number) => header(b':', *number, out),
        Reply::Bulk(bytes) => bulk(bytes, out),
        Reply::Null | Reply::NullArray if is_three => out.extend_from_slice(b"_\r\n"),
        Reply::Null => out.extend_from_slice(b"$-1\r\n"),
        Reply::NullArray => out.extend_from_slice(b"*-1\r\n"),
        Reply::Array(replies) => many(b'*', replies, protocol, out),
        Reply::Set(replies) => many(if is_three { b'~' } else { b'*' }, replies, protocol, out),
        Reply::Map(pairs) => {
            let (kind, count) = if is_three { (b'%', pairs.len()) } else { (b'*', pairs.len() * 2) };
            header(kind, count as i64, out);
            for (key, value) in pairs {
                encode(key, protocol, out);
                encode(value, protocol, out);
            }
        }
        Reply::Double(number) if is_three => line(b',', &shown(*number), out),
        Reply::Double(number) => bulk(shown(*number).as_bytes(), out),
        Reply::BigNumber(digits) if is_three => {
            out.push(b'(');
            out.extend_from_slice(digits);
            out.extend_from_slice(b"\r\n");
        }
        Reply::BigNumber(digits) => bulk(digits, out),
        Reply::Bool(truth) if is_three => out.extend_from_slice(if *truth { b"#t\r\n" } else { b"#f\r\n" }),
        Reply::Bool(truth) => header(b':', i64::from(*truth), out),
        Reply::Verbatim(format, bytes) if is_three => {
            header(b'=', (bytes.len() + 4) as i64, out);
            out.extend_from_slice(format.as_bytes());
            out.push(b':');
            out.extend_from_slice(bytes);
            out.extend_from_slice(b"\r\n");
        }
        Reply::Verbatim(_, bytes) => bulk(bytes, out),
        Reply::Silent => {}
    }
}

fn many(kind: u8, replies: &[Reply], protocol: u8, out: &mut Vec<u8>) {
    header(kind, replies.len() as i64, out);
    replies.iter().for_each(|reply| encode(reply, protocol, out));
}

fn header(kind: u8, number: i64, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn bulk(bytes: &[u8], out: &mut Vec<u8>) {
    out.reserve(bytes.len() + 16);
    header(b'$', bytes.len() as i64, out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// A line must stay one, whatever its text was made of.
fn line(kind: u8, text: &str, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend(text.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.extend_from_slice(b"\r\n");
}
