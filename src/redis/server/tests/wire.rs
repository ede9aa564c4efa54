//! Stories of single connections: what is said, and what is answered to the byte.

mod talk;

use std::time::Duration;

use plimsoll_redis::{Options, Server};
use talk::{ask, command, connect, talk, words};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn server() -> Server {
    Server::new(&Options::default(), None)
}

fn with(change: impl FnOnce(&mut Options)) -> Server {
    let mut options = Options::default();
    change(&mut options);
    Server::new(&options, None)
}

#[tokio::test]
async fn both_protocols_say_nothing_each_in_its_own_way() {
    // Story: a client that chose RESP3 cannot read RESP2's two kinds of nothing, and the other way round.
    let server = server();
    assert_eq!(ask(&server, &["GET a", "EXEC"]).await, "$-1\r\n-ERR EXEC without MULTI\r\n");
    let three = ask(&server, &["HELLO 3", "GET a", "CONFIG GET timeout"]).await;
    assert!(three.starts_with("%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n"), "{three}");
    assert!(three.ends_with("_\r\n%1\r\n$7\r\ntimeout\r\n$1\r\n0\r\n"), "{three}");
}

#[tokio::test]
async fn after_quit_nothing_is_run() {
    // Story: a pipeline ends with QUIT and garbage of the client's own follows; it must not be taken for commands.
    let server = server();
    assert_eq!(ask(&server, &["SET a 1", "QUIT", "SET a 2"]).await, "+OK\r\n+OK\r\n");
    assert_eq!(ask(&server, &["GET a"]).await, "$1\r\n1\r\n");
}

#[tokio::test]
async fn who_has_not_said_the_password_can_do_nothing_else() {
    // Story: a node listens beyond loopback with a password. Strangers may greet and authenticate; what they queue or watch
    // before does not happen, and their requests are short.
    let server = with(|options| options.password = Some("secret".into()));
    let denied = "-NOAUTH Authentication required.\r\n";
    assert_eq!(
        ask(&server, &["GET a", "AUTH wrong", "PING"]).await,
        format!("{denied}-WRONGPASS invalid username-password pair or user is disabled.\r\n{denied}")
    );
    assert_eq!(ask(&server, &["AUTH secret", "PING"]).await, "+OK\r\n+PONG\r\n");
    assert_eq!(
        ask(&server, &["AUTH default secret", "PING", "RESET", "PING"]).await,
        format!("+OK\r\n+PONG\r\n+RESET\r\n{denied}")
    );
    assert!(ask(&server, &["HELLO 3"]).await.starts_with("-NOAUTH HELLO must be called"));
    assert!(ask(&server, &["HELLO 2 AUTH default secret"]).await.starts_with("*14\r\n"));
    let long = command(&[b"SET", b"a", &[b'x'; 20_000]]);
    assert_eq!(talk(&server, [long.as_slice()]).await, b"-ERR Protocol error: unauthenticated bulk length\r\n");
    // The same connection after AUTH may send it, in the same packet.
    let both = [words("AUTH secret"), long].concat();
    assert_eq!(talk(&server, [both.as_slice()]).await, b"+OK\r\n+OK\r\n");
}

#[tokio::test]
async fn a_transaction_happens_as_a_whole_or_not_at_all() {
    // Story: a caller reads the least loaded pod, and charges it in a transaction that must not happen if anything changed.
    let server = server();
    let queued = ["MULTI", "INCR a", "LPUSH a x", "INCR a", "EXEC"];
    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    let ran = format!("+OK\r\n{}*3\r\n:1\r\n{wrong_type}:2\r\n", "+QUEUED\r\n".repeat(3));
    assert_eq!(ask(&server, &queued).await, ran, "what fails inside does not stop the rest");

    let spoiled = ask(&server, &["MULTI", "INCR a", "NOSUCH", "EXEC", "GET a"]).await;
    assert!(
        spoiled.ends_with("-EXECABORT Transaction discarded because of previous errors.\r\n$1\r\n2\r\n"),
        "{spoiled}"
    );

    let (mut one, mut other) = (connect(&server), connect(&server));
    exchange(&mut one, &["WATCH a", "MULTI", "INCR a"], "+OK\r\n+OK\r\n+QUEUED\r\n").await;
    exchange(&mut other, &["SET a 5"], "+OK\r\n").await;
    exchange(&mut one, &["EXEC", "GET a"], "*-1\r\n$1\r\n5\r\n").await;
    // The watch is over with the transaction.
    exchange(&mut one, &["MULTI", "INCR a", "EXEC"], "+OK\r\n+QUEUED\r\n*1\r\n:6\r\n").await;
}

#[tokio::test(start_paused = false)]
async fn what_expires_was_changed_for_who_watches_it() {
    // Story: a lock with an expiry is watched; the transaction that relies on it comes after its end.
    let server = server();
    let mut client = connect(&server);
    exchange(
        &mut client,
        &["SET lock me PX 20", "WATCH lock", "MULTI", "SET done 1"],
        "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n",
    )
    .await;
    tokio::time::sleep(Duration::from_millis(40)).await;
    exchange(&mut client, &["EXEC"], "*-1\r\n").await;
    // One that is gone already when it is watched does not go again.
    exchange(&mut client, &["SET lock me PX 1"], "+OK\r\n").await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    exchange(
        &mut client,
        &["WATCH lock", "EXISTS lock", "MULTI", "PING", "EXEC"],
        "+OK\r\n:0\r\n+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n",
    )
    .await;
}

#[tokio::test]
async fn databases_that_change_places_are_a_change_where_a_key_is() {
    // Story: SWAPDB puts another database under a watch.
    let server = server();
    let mut client = connect(&server);
    exchange(&mut client, &["SELECT 1", "SET a 1", "SELECT 0", "WATCH a", "SWAPDB 0 1"], &"+OK\r\n".repeat(5)).await;
    exchange(&mut client, &["MULTI", "PING", "EXEC", "GET a"], "+OK\r\n+QUEUED\r\n*-1\r\n$1\r\n1\r\n").await;
    exchange(
        &mut client,
        &["WATCH none", "FLUSHALL", "MULTI", "PING", "EXEC"],
        "+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n*1\r\n+PONG\r\n",
    )
    .await;
}

#[tokio::test]
async fn over_its_memory_it_takes_nothing_more_but_gives() {
    // Story: keys fill the bound. Reads and removals must go on, or nobody could make room.
    let server = with(|options| options.memory_bytes = 1 << 20);
    let mut client = connect(&server);
    let value = "x".repeat(1 << 20);
    exchange(&mut client, &[&format!("SET a {value}")], "+OK\r\n").await;
    let oom = "-OOM command not allowed when used memory > 'maxmemory'.\r\n";
    exchange(
        &mut client,
        &["SET b 1", "STRLEN a", "MULTI", "PING", "DISCARD"],
        &format!("{oom}:1048576\r\n+OK\r\n{oom}+OK\r\n"),
    )
    .await;
    exchange(&mut client, &["DEL a", "SET b 1"], ":1\r\n+OK\r\n").await;
}

#[tokio::test]
async fn replies_that_nobody_wants_are_not_sent() {
    // Story: a loader switches replies off; one reply too many or too few shifts all that follow.
    let server = server();
    let lines = [
        "CLIENT REPLY SKIP",
        "PING",
        "ECHO a",
        "CLIENT REPLY OFF",
        "PING",
        "CLIENT REPLY SKIP",
        "CLIENT REPLY ON",
        "ECHO b",
    ];
    assert_eq!(ask(&server, &lines).await, "$1\r\na\r\n+OK\r\n$1\r\nb\r\n");
}

#[tokio::test]
async fn a_client_can_be_found_named_and_ended_by_another() {
    // Story: an operator lists who is connected and ends the one that misbehaves; what it held must go with it.
    let server = server();
    let (mut one, mut other) = (connect(&server), connect(&server));
    exchange(&mut one, &["CLIENT SETNAME bad", "CLIENT GETNAME", "CLIENT ID"], "+OK\r\n$3\r\nbad\r\n:1\r\n").await;
    other.write_all(&words("CLIENT LIST ID 1")).await.expect("open");
    let mut list = vec![0; 4096];
    let count = other.read(&mut list).await.expect("open");
    let list = String::from_utf8_lossy(&list[..count]).into_owned();
    assert!(list.contains("id=1 addr=127.0.0.1:1 laddr=127.0.0.1:6379"), "{list}");
    assert!(list.contains("name=bad") && list.contains("cmd=client|id"), "{list}");
    exchange(&mut other, &["CLIENT KILL ID 1", "CLIENT KILL ID 1"], ":1\r\n:0\r\n").await;
    assert_eq!(one.read(&mut [0]).await.expect("open"), 0);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    // Story: a pool that leaks reaches the bound. Those that are in go on, the next is refused with Redis's own words, and
    // when one leaves there is room again.
    let server = with(|options| options.max_clients = 2);
    let (mut one, two) = (connect(&server), connect(&server));
    exchange(&mut one, &["PING"], "+PONG\r\n").await;
    let mut three = connect(&server);
    let mut refused = String::new();
    three.read_to_string(&mut refused).await.expect("text");
    assert_eq!(refused, "-ERR max number of clients reached\r\n");
    drop(two);
    tokio::task::yield_now().await;
    assert_eq!(ask(&server, &["PING"]).await, "+PONG\r\n");
}

#[tokio::test]
async fn settings_are_all_set_or_none() {
    // Story: CONFIG SET with three parameters, the last of which is wrong, must leave the first two as they were.
    let server = server();
    let replies = ask(&server, &["CONFIG SET timeout 5 maxmemory 1x", "CONFIG GET timeout maxmemory"]).await;
    let failed =
        "-ERR CONFIG SET failed (possibly related to argument 'maxmemory') - argument must be a memory value\r\n";
    let unchanged = "*4\r\n$9\r\nmaxmemory\r\n$1\r\n0\r\n$7\r\ntimeout\r\n$1\r\n0\r\n";
    assert_eq!(replies, format!("{failed}{unchanged}"));
}

#[tokio::test]
async fn a_bound_holds_from_the_command_on_that_sets_it() {
    // Story: the limit is raised and used in one packet, as the suite does.
    let server = with(|options| options.string_bytes = 1 << 20);
    let value = vec![b'x'; (1 << 20) + 1];
    let said = [words("CONFIG SET proto-max-bulk-len 2mb"), command(&[b"SET", b"a", &value])].concat();
    assert_eq!(talk(&server, [said.as_slice()]).await, b"+OK\r\n+OK\r\n");
}

#[tokio::test]
async fn every_command_says_what_it_does() {
    // Story: redis-cli shows the summaries; a command without one shows "(null)".
    let docs = ask(&server(), &["COMMAND DOCS"]).await;
    assert!(docs.contains("$3\r\nget\r\n*4\r\n$7\r\nsummary\r\n$8\r\nA string\r\n$5\r\ngroup\r\n$6\r\nstring\r\n"));
    assert!(!docs.contains("summary\r\n$0"), "one has none");
}

/// Says `lines` and hears exactly `expected`.
async fn exchange(client: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin), lines: &[&str], expected: &str) {
    for line in lines {
        client.write_all(&words(line)).await.expect("open");
    }
    let mut heard = vec![0; expected.len()];
    client.read_exact(&mut heard).await.expect("as many bytes");
    assert_eq!(String::from_utf8_lossy(&heard), expected, "{lines:.100?}");
}
