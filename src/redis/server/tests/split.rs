//! However the network parts what a client says, it is answered the same.

mod talk;

use plimsoll_redis::{Options, Server};
use proptest::collection::vec;
use proptest::prelude::*;
use talk::{command, talk};
use tokio::runtime::Builder;

fn answer(pieces: &[&[u8]]) -> Vec<u8> {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut options = Options::default();
    options.password = Some("pw".into());
    let server = Server::new(&options, None);
    runtime.block_on(talk(&server, pieces.iter().copied()))
}

/// A request, or something that is none.
fn request() -> impl Strategy<Value = Vec<u8>> {
    // Nothing that waits: whether its time or the end of what is said comes first is not the split's doing.
    let word = prop_oneof![
        4 => prop::sample::select(vec![
            &b"AUTH"[..], b"pw", b"SET", b"GET", b"INCR", b"a", b"b", b"1", b"MULTI", b"EXEC", b"DISCARD", b"WATCH", b"ECHO",
            b"PING", b"HELLO", b"3", b"SELECT", b"CLIENT", b"REPLY", b"SKIP", b"ON", b"LPUSH", b"LRANGE", b"0", b"-1",
            b"CONFIG", b"proto-max-bulk-len", b"1048576", b"QUIT", b"RESET", b"DEL", b"EVAL", b"return 1",
        ]).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..40),
    ];
    let array = vec(word.clone(), 1..5).prop_map(|args| command(&args.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    let known = prop::sample::select(vec![
        "AUTH pw\r\n",
        "PING\r\n",
        "\r\n",
        "*0\r\n",
        "*-1\r\n",
        "GET \"a\\x41\"\r\n",
        "SET a 'b c'\n",
        "*1\r\n$4\r\nPING\r\n",
        "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
        "MULTI\r\n",
        "EXEC\r\n",
        "*1\r\n$-1\r\n",
        "*1000000000\r\n",
        "$5\r\n",
        "GET \"\r\n",
    ]);
    let inline = vec(word, 0..4).prop_map(|words| [words.join(&b' '), b"\r\n".to_vec()].concat());
    prop_oneof![
        6 => array,
        4 => known.prop_map(|text| text.as_bytes().to_vec()),
        1 => inline,
        1 => vec(any::<u8>(), 0..60),
    ]
}

/// What a client says, and where it is parted.
fn parted() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let said = (any::<bool>(), vec(request(), 1..20)).prop_map(|(has_password, requests)| {
        let password = if has_password { command(&[b"AUTH", b"pw"]) } else { Vec::new() };
        [password, requests.concat()].concat()
    });
    said.prop_flat_map(|said| {
        let cuts = vec(0..=said.len(), 0..12);
        (Just(said), cuts)
    })
}

/// `bytes` parted at `cuts`.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts = cuts.to_vec();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Story: a packet ends in the middle of a number, an escape, a "\r\n"; or all comes at once. Replies must not tell.
    #[test]
    fn any_split_gives_the_same_replies((said, cuts) in parted()) {
        let whole = answer(&[&said]);
        prop_assert_eq!(answer(&pieces(&said, &cuts)), whole.clone());
        let bytes: Vec<&[u8]> = said.chunks(1).collect();
        prop_assert_eq!(answer(&bytes), whole);
    }

    /// Story: whatever comes, also nothing of a protocol, is survived.
    #[test]
    fn any_bytes_are_survived(said in vec(any::<u8>(), 0..2000), prefix in prop::sample::select(vec!["", "*2\r\n$3\r\n", "*1\r\n", "GET \"", "*"])) {
        let said = [prefix.as_bytes(), &said].concat();
        let whole = answer(&[&said]);
        prop_assert_eq!(answer(&said.chunks(7).collect::<Vec<_>>()), whole);
    }
}
