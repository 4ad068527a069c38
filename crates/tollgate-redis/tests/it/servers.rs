//! Servers as they are met: with passwords, sockets, certificates and databases, and what a store leaves in them.

use std::{fs, net::TcpStream, time::Duration};

use tempfile::TempDir;
use testbed::{Cluster, Options, Sentinels, Server, Tls};
use tollgate::{
    algorithm::Verdict,
    key::Key,
    quota::Algorithm,
    store::{Charge, Store},
};
use tollgate_redis::RedisStore;

use crate::rig::{PATIENCE, Subject, at, back, keys, only, patient, settings, store, subject, why_refused};

/// Asks until the quota is empty, and once more.
async fn check_counts(store: &RedisStore) {
    let subject = subject("r", "5/hour", Algorithm::FixedWindow);
    assert_eq!(subject.admitted(store, 7).await, 5);
}

#[tokio::test]
async fn a_user_with_a_password_and_a_database_of_his_own() {
    let server = Server::start(Options { password: Some("admin".to_owned()), ..Options::redis() });
    let rights = ["ACL", "SETUSER", "app", "on", ">p@ss/w:rd", "~shop:*", "+@all"];
    assert_eq!(server.command(&rights).text(), "OK");
    let url = |prefix: &str| format!("redis://app:p%40ss%2Fw%3Ard@{}/3?prefix={prefix}", server.addr());
    check_counts(&patient(url("shop"))).await;
    let mut connection = server.connect().expect("it runs");
    assert_eq!(connection.command(&["DBSIZE"]).expect("it answers").integer(), 0);
    connection.command(&["SELECT", "3"]).expect("it answers");
    let keys = connection.command(&["KEYS", "*"]).expect("it answers");
    assert_eq!(keys.array()[0].text(), "shop:{client}:r:fixed-window/1h");
    // What is not his he may not touch, and is told so.
    let store = patient(url("other"));
    let error = subject("r", "5/hour", Algorithm::FixedWindow).take(&store).await.expect_err("it is not his");
    assert!(error.to_string().contains("NOPERM") || error.to_string().contains("permission"), "{error}");
}

#[tokio::test]
async fn a_socket_of_this_machine() {
    let password = Some("s3cret".to_owned());
    let server = Server::start(Options { unix_socket: true, password, ..Options::redis() });
    let socket = server.unix_socket().expect("it was asked for");
    check_counts(&patient(format!("redis+unix://{}?password=s3cret&db=2", socket.display()))).await;
    let mut connection = server.connect().expect("it runs");
    connection.command(&["SELECT", "2"]).expect("it answers");
    assert_eq!(connection.command(&["DBSIZE"]).expect("it answers").integer(), 1);
}

/// What a server shows of itself, for this machine's names, and the certificate.
fn tls(folder: &TempDir) -> (Options, String) {
    let tls = Tls { certificate: folder.path().join("certificate.pem"), key: folder.path().join("key.pem") };
    let ours = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let ours = ours.expect("they are good names");
    fs::write(&tls.certificate, ours.cert.pem()).expect("the folder is ours");
    fs::write(&tls.key, ours.signing_key.serialize_pem()).expect("the folder is ours");
    (Options { tls: Some(tls), ..Options::redis() }, ours.cert.pem())
}

fn with_tls(folder: &TempDir) -> (Server, String) {
    let (options, certificate) = tls(folder);
    (Server::start(options), certificate)
}

/// Counts by this URL if the certificate is believed, and not if it is not.
async fn check_tls(url: &str, certificate: String) {
    let store = RedisStore::connect(settings(format!("{url}?denials=ask")).timeout(PATIENCE).ca(certificate));
    // To agree on secrets can take longer than a decision waits.
    store.probe().await.expect("it is known");
    check_counts(&store).await;
    let error = why_refused(&RedisStore::connect(settings(url))).await;
    assert!(error.contains("certificate"), "{error}");
}

#[tokio::test]
async fn sentinels_and_their_master_that_speak_tls() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let (options, certificate) = tls(&folder);
    let set = Sentinels::start(options);
    let sentinel = set.sentinels()[0].tls_addr().expect("it was asked for");
    check_tls(&format!("rediss+sentinel://{sentinel}/{}", Sentinels::SERVICE), certificate.clone()).await;
    // After a failover the new one is found the same way.
    let url = format!("rediss+sentinel://localhost:{}/{}", sentinel.port(), Sentinels::SERVICE);
    let store = RedisStore::connect(settings(url).timeout(PATIENCE).ca(certificate));
    let subject = subject("failover", "100/hour", Algorithm::FixedWindow);
    assert_eq!(subject.admitted(&store, 3).await, 3);
    set.kill_master();
    set.await_settled();
    let (after, _) = back(&subject, &store).await;
    println!("Sentinel with TLS: back after {after:?}");
}

#[tokio::test]
async fn a_cluster_that_speaks_tls() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let (options, certificate) = tls(&folder);
    let cluster = Cluster::start(options);
    let node = cluster.nodes()[0].tls_addr().expect("it was asked for");
    check_tls(&format!("rediss+cluster://{node}"), certificate.clone()).await;
    let url = format!("rediss+cluster://localhost:{}", node.port());
    let store = RedisStore::connect(settings(url).timeout(PATIENCE).ca(certificate));
    // Some on each master, to whom the others lead.
    let all = subject("all", "5/hour", Algorithm::FixedWindow);
    for client in 0..20 {
        assert_eq!(all.of(&client.to_string()).admitted(&store, 1).await, 1, "{client}");
    }
    let masters = &cluster.nodes()[..3];
    assert!(masters.iter().all(|master| !keys(master).is_empty()), "all are on one");
}

#[tokio::test]
async fn a_server_whose_certificate_is_known() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let (server, certificate) = with_tls(&folder);
    let addr = server.tls_addr().expect("it was asked for");
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("rediss://{host}:{}?prefix={host}&denials=ask", addr.port());
        let store = RedisStore::connect(settings(url).timeout(PATIENCE).ca(certificate.clone()));
        // To agree on secrets can take longer than a decision waits.
        store.probe().await.expect("it is known");
        check_counts(&store).await;
    }
}

#[tokio::test]
async fn a_server_whose_certificate_is_unknown_is_refused_and_why() {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let (server, _) = with_tls(&folder);
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("it is a good name");
    let url = format!("rediss://{}", server.tls_addr().expect("it was asked for"));
    let subject = subject("r", "5/hour", Algorithm::FixedWindow);
    for settings in [settings(&url), settings(&url).ca(other.cert.pem())] {
        let store = RedisStore::connect(settings);
        let error = why_refused(&store).await;
        assert!(error.contains("certificate"), "{error}");
        assert!(subject.take(&store).await.is_err());
    }
    assert!(keys(&server).is_empty());
    // Whoever speaks no TLS to it, or TLS to one that does not, is told so in time.
    for url in
        [format!("redis://{}", server.tls_addr().expect("it was asked for")), format!("rediss://{}", server.addr())]
    {
        assert!(subject.take(&store(url)).await.is_err());
    }
}

#[tokio::test]
async fn an_address_of_ipv6_where_there_is_one() {
    let server = Server::start(Options::redis().with(&["--bind", "127.0.0.1", "-::1"]));
    if TcpStream::connect(("::1", server.port())).is_err() {
        return;
    }
    check_counts(&patient(format!("redis://[::1]:{}", server.port()))).await;
}

#[tokio::test]
async fn valkey_where_there_is_one() {
    let Some(server) = Server::valkey() else { return };
    check_counts(&patient(format!("valkey://{}", server.addr()))).await;
}

#[test]
fn a_store_on_a_thread_of_its_own_serves_several_runtimes() {
    let server = Server::redis();
    let store = RedisStore::on_thread(settings(format!("{}?denials=ask", at(&server))).timeout(PATIENCE))
        .expect("there is a thread");
    let mut admitted = 0;
    for _ in 0..3 {
        let store = store.clone();
        let of_runtime = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async { subject("r", "20/hour", Algorithm::FixedWindow).admitted(&store, 9).await })
        });
        admitted += of_runtime.join().expect("it does not panic");
    }
    assert_eq!(admitted, 20);
    store.probe_now().expect("it answers");
}

fn of_address() -> Key {
    Key::of_client([203, 0, 113, 7].into())
}

#[tokio::test]
async fn keys_are_such_that_a_person_can_read_them() {
    let server = Server::redis();
    let store = patient(at(&server));
    let cases = [
        ("1000/minute", Algorithm::FixedWindow, "tollgate:{203.0.113.7}:api:fixed-window/1m"),
        ("5/900500ms", Algorithm::TokenBucket, "tollgate:{203.0.113.7}:api:token-bucket/900500ms"),
        ("5/90 seconds", Algorithm::SlidingWindow, "tollgate:{203.0.113.7}:api:sliding-window/90s"),
        ("5/day", Algorithm::SlidingLog, "tollgate:{203.0.113.7}:api:sliding-log/1d"),
        ("5/month", Algorithm::CalendarWindow, "tollgate:{203.0.113.7}:api:calendar-window/1month"),
    ];
    for (limits, algorithm, expected) in cases {
        let subject = Subject { key: of_address(), ..subject("api", limits, algorithm) };
        assert!(subject.take(&store).await.is_ok());
        assert_eq!(keys(&server), [expected], "{limits}");
        server.command(&["FLUSHALL"]);
    }
    let two = Subject { key: of_address(), ..subject("api", "5/minute; 7/60 seconds; 9/hour", Algorithm::FixedWindow) };
    assert!(store.take(&[two.charge(1)]).await.is_ok());
    let rest = ["/1h", "/1m", "/1m/2"].map(|window| format!("tollgate:{{203.0.113.7}}:api:fixed-window{window}"));
    assert_eq!(keys(&server), rest);
    server.command(&["FLUSHALL"]);
    let strange = Subject { key: Key::of(["a b", "{c}"]), ..subject("api", "5/minute", Algorithm::FixedWindow) };
    assert!(strange.take(&store).await.is_ok());
    assert_eq!(keys(&server), ["tollgate:{a%20b|%7Bc%7D}:api:fixed-window/1m"]);
}

#[tokio::test]
async fn no_key_stays_longer_than_it_counts_and_a_second() {
    let server = Server::redis();
    let slack = Duration::from_secs(3_600);
    for (clock, slack) in [("server", Duration::ZERO), ("client", slack)] {
        let store = patient(format!("{}?prefix={clock}&clock={clock}", at(&server)));
        for algorithm in Algorithm::ALL {
            for limits in ["5/second", "5/hour", "3/100ms"] {
                server.command(&["FLUSHALL"]);
                let subject = subject("r", limits, algorithm);
                for cost in [1, 2, 9, 0] {
                    let taken = store.take(&[subject.charge(cost)]).await.expect("it answers");
                    let counts = only(&taken).status.reset_after;
                    let Some(key) = keys(&server).pop() else { continue };
                    let left = server.command(&["PTTL", &key]).integer();
                    assert!(left != -1, "{algorithm} {limits}: for ever");
                    let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
                    let longest = counts + slack + Duration::from_secs(1);
                    assert!(left <= longest, "{algorithm} {limits}: {left:?} and counts for {counts:?}");
                }
            }
        }
    }
}

/// How often something was written.
fn writes(server: &Server) -> u64 {
    let info = server.command(&["INFO", "persistence"]);
    let line = info.text().lines().find_map(|line| line.strip_prefix("rdb_changes_since_last_save:"));
    line.expect("it is told").trim().parse().expect("a number")
}

#[tokio::test]
async fn a_denied_request_writes_nothing() {
    let server = Server::redis();
    let store = patient(at(&server));
    for algorithm in Algorithm::ALL {
        let (full, other) = (subject("full", "3/hour", algorithm), subject("other", "30/hour", algorithm));
        let shadow = subject("shadow", "30/hour", algorithm).in_shadow();
        assert_eq!(full.admitted(&store, 3).await, 3);
        let before = writes(&server);
        let several: [Charge<'_>; 3] = [other.charge(1), full.charge(1), shadow.charge(1)];
        for charges in [&several[1..2], &several[..]] {
            for _ in 0..5 {
                let taken = store.take(charges).await.expect("it answers");
                assert!(taken.outcomes.iter().any(|outcome| outcome.verdict == Verdict::Deny));
            }
        }
        assert!(store.look(&several).await.is_ok());
        assert_eq!(writes(&server), before, "{algorithm}");
    }
}

#[tokio::test]
async fn memory_that_a_counter_takes() {
    let bytes = |server: &Server| {
        let info = server.command(&["INFO", "memory"]);
        let used = info.text().lines().find_map(|line| line.strip_prefix("used_memory:"));
        used.expect("it is told").trim().parse::<u64>().expect("a number")
    };
    for (algorithm, times, clients) in [
        (Algorithm::FixedWindow, 1, 1_000),
        (Algorithm::CalendarWindow, 1, 1_000),
        (Algorithm::SlidingWindow, 1, 1_000),
        (Algorithm::TokenBucket, 1, 1_000),
        (Algorithm::SlidingLog, 1, 1_000),
        (Algorithm::SlidingLog, 10, 100),
        (Algorithm::SlidingLog, 200, 10),
    ] {
        let server = Server::redis();
        let store = patient(at(&server));
        let all = subject("api", "10000/year", algorithm);
        // Once, so that scripts and buffers are not counted.
        assert!(all.of("somebody").take(&store).await.is_ok());
        let before = bytes(&server);
        for _ in 0..times {
            let subjects: Vec<_> = (0..clients).map(|client| all.of(&format!("203.0.{client}"))).collect();
            futures_util::future::join_all(subjects.iter().map(|subject| subject.take(&store))).await;
        }
        let each = bytes(&server).saturating_sub(before) / clients;
        let key = keys(&server).into_iter().find(|key| key.contains("203.0.")).expect("it is there");
        let alone = server.command(&["MEMORY", "USAGE", &key, "SAMPLES", "0"]).integer();
        println!("{algorithm}, charged {times} times: {each} bytes a key in all, {alone} by MEMORY USAGE");
        // All in all there is more, such as the tables that find keys and those that expire, and what else a server does meanwhile.
        assert!(u64::try_from(alone).expect("there is one") <= 200 + 25 * times, "{algorithm}: {alone}");
    }
}
