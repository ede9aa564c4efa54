//! Clients that do no good, and what they may cost.

mod talk;

use std::time::Duration;

use plimsoll_redis::{Options, Server};
use talk::{ask, command, connect, talk, words};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

fn with(change: impl FnOnce(&mut Options)) -> Server {
    let mut options = Options::default();
    change(&mut options);
    Server::new(&options, None)
}

/// The number behind `name` in CLIENT LIST or INFO.
async fn number(server: &Server, line: &str, name: &str) -> usize {
    let text = ask(server, &[line]).await;
    let rest = text.split_once(name).unwrap_or_else(|| panic!("no {name} in {text}")).1;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

async fn is_closed(client: &mut DuplexStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), client.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn a_long_pipeline_is_served_to_who_reads_late() {
    // Story: a library writes ten thousand commands before it reads the first reply. Were requests left unread while
    // replies wait, both sides would wait for each other for ever.
    let server = with(|_| {});
    let mut client = connect(&server);
    let count = 10_000;
    let said: Vec<u8> = (0..count).flat_map(|number| words(&format!("ECHO {number:0100}"))).collect();
    client.write_all(&said).await.expect("it is read all the while");
    let expected: Vec<u8> = (0..count).flat_map(|number| format!("$100\r\n{number:0100}\r\n").into_bytes()).collect();
    let mut heard = vec![0; expected.len()];
    client.read_exact(&mut heard).await.expect("all of them");
    assert!(heard == expected);
}

#[tokio::test]
async fn who_does_not_read_costs_a_reply_and_gets_all_of_them_at_last() {
    // Story: a client asks a thousand times for a megabyte and does not read: that is a gigabyte, were it all answered.
    let server = with(|_| {});
    assert_eq!(talk(&server, [command(&[b"SET", b"a", &vec![b'x'; 1 << 20]]).as_slice()]).await, b"+OK\r\n");
    let mut client = connect(&server);
    client.write_all(&words("GET a").repeat(1000)).await.expect("short requests");
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    let held = number(&server, "CLIENT LIST ID 2", " obl=").await;
    assert!((1..2 << 20).contains(&held), "{held}");
    let reply = format!("$1048576\r\n{}\r\n", "x".repeat(1 << 20)).into_bytes();
    let mut heard = vec![0; reply.len()];
    for _ in 0..1000 {
        client.read_exact(&mut heard).await.expect("the next");
        assert!(heard == reply);
    }
}

#[tokio::test]
async fn a_reply_beyond_the_bound_ends_the_connection() {
    // Story: KEYS * over millions of keys for a client that never meant it.
    let server = with(|options| options.reply_bytes = 1 << 20);
    let big = command(&[b"SET", b"a", &vec![b'x'; 1 << 20]]);
    let said = [big, words("STRLEN a"), words("GET a"), words("PING")].concat();
    assert_eq!(talk(&server, [said.as_slice()]).await, b"");
    assert_eq!(number(&server, "INFO stats", "clients_cut_off:").await, 1);
}

#[tokio::test]
async fn a_request_beyond_the_bound_ends_the_connection() {
    // Story: half a gigabyte is announced and comes; and a transaction that is never executed grows for ever.
    let server = with(|options| options.request_bytes = 1 << 20);
    let value = vec![b'x'; 2 << 20];
    assert_eq!(talk(&server, command(&[b"SET", b"a", &value]).chunks(10_000)).await, b"");
    let mut client = connect(&server);
    let queued = command(&[b"SET", b"a", &value[..100_000]]);
    client.write_all(&words("MULTI")).await.expect("open");
    let mut sent = 0;
    while sent < 100 && client.write_all(&queued).await.is_ok() {
        sent += 1;
    }
    assert!(is_closed(&mut client).await && sent < 20, "{sent}");
    assert_eq!(number(&server, "INFO stats", "clients_cut_off:").await, 2);
}

#[tokio::test]
async fn all_together_hold_no_more_than_they_may() {
    // Story: each of many clients keeps within its own bound, and all of them together would take the machine.
    let server = with(|options| options.connection_bytes = 8 << 20);
    let whole = command(&[b"SET", b"a", &vec![b'x'; 2 << 20]]);
    let half = &whole[..1 << 20];
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = connect(&server);
        let took = client.write_all(half).await.is_ok();
        clients.push((client, took));
        tokio::task::yield_now().await;
    }
    let held = clients.iter().filter(|(_, took)| *took).count();
    // Two megabytes of room for the one that is there, as room doubles.
    assert!((2..=8).contains(&held), "{held}");
    // Small requests are served all the same.
    assert_eq!(ask(&server, &["PING"]).await, "+PONG\r\n");
    drop(clients);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(talk(&server, [whole.as_slice()]).await, b"+OK\r\n");
}

#[tokio::test]
async fn two_thousand_idle_connections_cost_little_and_hinder_nobody() {
    // Story: a fleet's pools stand open all day. Each said something once.
    let server = with(|_| {});
    let keeper = server.clone();
    tokio::spawn(async move { keeper.housekeeping().await });
    let mut idle = Vec::new();
    for _ in 0..2000 {
        let mut client = connect(&server);
        client.write_all(&words("PING")).await.expect("open");
        client.read_exact(&mut [0; 7]).await.expect("a reply");
        idle.push(client);
    }
    assert_eq!(number(&server, "INFO clients", "connected_clients:").await, 2001);
    tokio::time::sleep(Duration::from_millis(2600)).await;
    let list = ask(&server, &["CLIENT LIST"]).await;
    let resting = list.lines().filter(|line| line.contains("qbuf-free=0 ") && line.contains(" tot-mem=0 ")).count();
    assert!(resting >= 2000, "{resting}");
    tokio::time::timeout(Duration::from_secs(10), ask(&server, &["SET a 1", "GET a"])).await.expect("an answer");
    // And they are not gone.
    let last = idle.last_mut().expect("one");
    last.write_all(&words("PING")).await.expect("open");
    last.read_exact(&mut [0; 7]).await.expect("a reply");
}

#[tokio::test]
async fn who_says_nothing_for_too_long_is_closed() {
    // Story: `timeout` is set because a firewall forgets connections without a word.
    let server = with(|options| options.idle = Duration::from_secs(1));
    let keeper = server.clone();
    tokio::spawn(async move { keeper.housekeeping().await });
    let (mut idle, mut waiting) = (connect(&server), connect(&server));
    waiting.write_all(&words("BZPOPMIN none 0")).await.expect("open");
    assert!(is_closed(&mut idle).await);
    // Who waits for an element is not idle.
    ask(&server, &["ZADD none 1 x"]).await;
    let mut heard = [0; 99];
    assert_eq!(waiting.read(&mut heard).await.expect("open"), "*3\r\n$4\r\nnone\r\n$1\r\nx\r\n$1\r\n1\r\n".len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_without_end_is_ended_by_a_newcomer() {
    // Story: somebody's script loops. An operator connects, is told BUSY, and ends it; nobody has to restart the node.
    let server = with(|_| {});
    ask(&server, &["CONFIG SET lua-time-limit 10"]).await;
    let mut looping = connect(&server);
    looping.write_all(&command(&[b"EVAL", b"while true do end", b"0"])).await.expect("open");
    tokio::time::sleep(Duration::from_millis(200)).await;
    let said = ["PING", "MULTI", "GET a", "SCRIPT KILL"];
    let busy = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n";
    assert_eq!(ask(&server, &said).await, format!("{busy}+OK\r\n{busy}+OK\r\n"));
    let mut text = [0; 64];
    looping.read_exact(&mut text).await.expect("it is told");
    assert!(text.starts_with(b"-ERR Script killed by user"));
    assert_eq!(ask(&server, &["PING"]).await, "+PONG\r\n");
}

#[tokio::test]
async fn what_a_waiter_sends_meanwhile_is_answered_afterwards_and_its_end_is_noticed() {
    // Story: a worker waits in BZPOPMIN with the next commands already sent; another one dies while it waits, and must not be
    // given the element that comes then.
    let server = with(|_| {});
    let (mut dead, mut waiting) = (connect(&server), connect(&server));
    dead.write_all(&words("BZPOPMIN jobs 0")).await.expect("open");
    tokio::task::yield_now().await;
    drop(dead);
    let said = [words("BZPOPMIN jobs 0"), words("ECHO then")].concat();
    waiting.write_all(&said).await.expect("open");
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&server, &["ZADD jobs 1 one"]).await, ":1\r\n");
    let expected = "*3\r\n$4\r\njobs\r\n$3\r\none\r\n$1\r\n1\r\n$4\r\nthen\r\n";
    let mut heard = vec![0; expected.len()];
    waiting.read_exact(&mut heard).await.expect("both replies");
    assert_eq!(String::from_utf8_lossy(&heard), expected);
}
