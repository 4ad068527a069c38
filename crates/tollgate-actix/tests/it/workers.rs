//! A real server with several workers, on loopback.

use std::{
    collections::HashSet,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread::{self, ThreadId},
    time::Duration,
};

use actix_web::{App, HttpServer, rt, web};
use tollgate_actix::RateLimit;

use crate::rig::{limiter, rule};

const CLIENTS: usize = 8;
const REQUESTS_OF_EACH: usize = 25;
/// Far more than a request on loopback takes; a server that hangs must not hang the test.
const TIMEOUT: Duration = Duration::from_secs(60);

#[actix_web::test]
async fn workers_share_one_limit() {
    let limit = RateLimit::from(limiter(vec![rule("api", "50/hour")]));
    let workers = Arc::new(Mutex::new(HashSet::<ThreadId>::new()));
    let seen = workers.clone();
    let server = HttpServer::new(move || {
        let seen = seen.clone();
        let handler = move || {
            seen.lock().expect("no test panics here").insert(thread::current().id());
            async { "hello" }
        };
        App::new().route("/", web::get().to(handler)).wrap(limit.clone())
    });
    let server = server.workers(2).disable_signals().bind(("127.0.0.1", 0)).expect("loopback has a free port");
    let address = server.addrs()[0];
    let server = server.run();
    let handle = server.handle();
    rt::spawn(server);

    let codes = rt::task::spawn_blocking(move || hammer(address)).await.expect("no client panics");
    handle.stop(false).await;
    assert_eq!(codes.iter().filter(|code| *code == "200").count(), 50);
    assert_eq!(codes.iter().filter(|code| *code == "429").count(), CLIENTS * REQUESTS_OF_EACH - 50);
    assert_eq!(workers.lock().expect("no test panics here").len(), 2, "both workers let requests pass");
}

/// The status codes of all requests, which come at one time as far as threads can do it.
fn hammer(address: SocketAddr) -> Vec<String> {
    let client = move || (0..REQUESTS_OF_EACH).map(|_| code(address)).collect::<Vec<_>>();
    let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(client)).collect();
    clients.into_iter().flat_map(|client| client.join().expect("no client panics")).collect()
}

/// A connection of its own for each request, so that the requests go to the workers in turn.
fn code(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT).expect("the server listens");
    stream.set_read_timeout(Some(TIMEOUT)).expect("not zero");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("a short request");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a whole response");
    response.split(' ').nth(1).expect("a status line").to_owned()
}
