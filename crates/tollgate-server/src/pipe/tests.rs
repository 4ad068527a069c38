//! Connections relayed between sockets of this machine, all ends on one thread, whose pipes can be counted.

use std::{future::poll_fn, rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    runtime,
    task::{self, JoinHandle, LocalSet},
    time::{sleep, timeout},
};
use tollgate::config::Timeouts;

use super::*;
use crate::{
    activity::Activity,
    client_stream::ClientStream,
    open_connections::OpenConnections,
    relay::{Side, relay},
};

/// The far ends of a connection that is relayed, and the relaying.
struct Relayed {
    client: TcpStream,
    upstream: TcpStream,
    relaying: JoinHandle<io::Result<()>>,
}

impl Relayed {
    async fn start(first_bytes: Vec<u8>, told_first: Vec<u8>) -> Self {
        let ((client, near_client), (upstream, mut near_upstream)) = (connected().await, connected().await);
        let relaying = task::spawn_local(async move {
            let place = Arc::new(OpenConnections::new(1)).enter().expect("a place");
            let activity = Rc::new(Activity::new(Timeouts::default(), place.idleness()));
            activity.begin_relaying();
            let mut near_client = ClientStream::new(near_client, Bytes::from(first_bytes), Rc::clone(&activity));
            let client = Side { stream: &mut near_client, told_first: Vec::new() };
            let upstream = Side { stream: &mut near_upstream, told_first };
            relay(client, upstream, &activity, PATIENCE).await
        });
        Self { client, upstream, relaying }
    }

    async fn end(self) {
        let Self { client, upstream, relaying } = self;
        drop((client, upstream));
        relaying.await.unwrap().unwrap();
    }
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (far.unwrap(), near.unwrap().0)
}

/// Runs what uses no other thread's pipes, and does not hang.
fn run(test: impl Future<Output = ()>) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(PATIENCE, test).await.expect("an end in time") });
}

const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of which no two stretches are alike.
fn noise(count: usize) -> Vec<u8> {
    (0..count as u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1]).collect()
}

/// Says all of it in pieces of these sizes, again and again, and that this is all.
async fn say(mut to: impl AsyncWrite + Unpin, mut said: &[u8], pieces: &[usize]) {
    for piece in pieces.iter().cycle() {
        let (now, later) = said.split_at(said.len().min(*piece));
        to.write_all(now).await.unwrap();
        said = later;
        if said.is_empty() {
            break;
        }
        task::yield_now().await;
    }
    to.shutdown().await.unwrap();
}

/// Hears in pieces of these sizes, to the end.
async fn hear(mut from: impl AsyncRead + Unpin, pieces: &[usize]) -> Vec<u8> {
    let mut heard = Vec::new();
    for piece in pieces.iter().cycle() {
        let mut from = (&mut from).take(*piece as u64);
        if from.read_to_end(&mut heard).await.unwrap() == 0 {
            break;
        }
        task::yield_now().await;
    }
    heard
}

/// Whether all that is said on both sides is heard on the other.
async fn passes_both_ways(said: &[u8], pieces: [&[usize]; 4]) -> bool {
    let (first_bytes, told_first) = (noise(100_000), b"PROXY ".to_vec());
    let mut relayed = Relayed::start(first_bytes.clone(), told_first.clone()).await;
    let (from_client, to_client) = relayed.client.split();
    let (from_upstream, to_upstream) = relayed.upstream.split();
    let (_, _, at_client, at_upstream) = tokio::join!(
        say(to_client, said, pieces[0]),
        say(to_upstream, said, pieces[1]),
        hear(from_client, pieces[2]),
        hear(from_upstream, pieces[3]),
    );
    relayed.end().await;
    at_client == said && at_upstream == [&told_first, &first_bytes, said].concat()
}

/// How many pipes there are, when nobody has one.
fn open_all_idle() -> usize {
    assert_eq!(IDLE.with_borrow(Vec::len), OPEN.get(), "somebody has a pipe");
    OPEN.get()
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![100..2_000usize, 1_000..300_000usize, 1_000_000..2_000_000usize], 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_passes_is_what_was_said_in_whatever_pieces(
        pieces in [sizes(), sizes(), sizes(), sizes()],
        count in 0..4_000_000usize,
    ) {
        let said = noise(count);
        let [a, b, c, d] = &pieces;
        run(async { assert!(passes_both_ways(&said, [a, b, c, d]).await) });
        prop_assert!(open_all_idle() <= 2);
    }
}

#[test]
fn much_goes_through_pipes() {
    run(async {
        assert!(passes_both_ways(&noise(16 << 20), [&[1 << 20]; 4]).await);
        assert!(open_all_idle() > 0);
    });
}

#[test]
fn little_is_copied() {
    run(async {
        let mut relayed = Relayed::start(Vec::new(), Vec::new()).await;
        for _ in 0..1_000 {
            relayed.client.write_all(b"PING").await.unwrap();
            let mut heard = [0; 4];
            relayed.upstream.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, *b"PING");
        }
        assert_eq!(open_all_idle(), 0);
        relayed.end().await;
    });
}

#[test]
fn where_there_is_no_pipe_to_be_had_much_is_copied() {
    run(async {
        let pipes: Vec<_> = std::iter::from_fn(Pipe::take).collect();
        assert_eq!(pipes.len(), OPEN_AT_MOST);
        assert!(passes_both_ways(&noise(16 << 20), [&[1 << 20]; 4]).await);
        pipes.into_iter().for_each(Pipe::put_back);
        assert_eq!(open_all_idle(), OPEN_AT_MOST);
    });
}

#[test]
fn whoever_says_nothing_more_holds_no_pipe() {
    run(async {
        let mut relayed = Relayed::start(Vec::new(), Vec::new()).await;
        let (said, mut heard) = (noise(16 << 20), vec![0; 16 << 20]);
        let (written, read) = tokio::join!(relayed.upstream.write_all(&said), relayed.client.read_exact(&mut heard));
        written.and(read).unwrap();
        // The last of it is heard before the pipe is put back.
        while IDLE.with_borrow(Vec::is_empty) {
            sleep(Duration::from_millis(1)).await;
        }
        assert!(open_all_idle() > 0);
        relayed.end().await;
    });
}

#[test]
fn a_pipe_with_bytes_that_nobody_wants_is_closed() {
    run(async {
        let ((mut far, near), mut pipe) = (connected().await, Pipe::take().unwrap());
        far.write_all(b"half of").await.unwrap();
        near.readable().await.unwrap();
        assert_eq!(poll_fn(|cx| near.poll_fill(cx, &mut pipe)).await.unwrap(), 7);
        drop(pipe);
        assert_eq!(open_all_idle(), 0);
    });
}

/// `splice` stops before an urgent byte as if nothing more had come.
#[test]
fn urgent_bytes_do_not_stop_a_stream() {
    run(async {
        let mut relayed = Relayed::start(Vec::new(), Vec::new()).await;
        for _ in 0..20 {
            let said = noise(300_000);
            relayed.client.write_all(&said).await.unwrap();
            while SockRef::from(&relayed.client).send_out_of_band(b"!").is_err() {
                task::yield_now().await;
            }
            let mut heard = vec![0; said.len()];
            relayed.upstream.read_exact(&mut heard).await.unwrap();
            assert!(heard == said);
            relayed.client.write_all(b"and on").await.unwrap();
            let mut heard = [0; 6];
            relayed.upstream.read_exact(&mut heard).await.unwrap();
            assert_eq!(heard, *b"and on");
        }
        assert!(open_all_idle() > 0);
        relayed.end().await;
    });
}
