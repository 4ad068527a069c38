//! `tollgate serve` in front of TCP, beside HAProxy in TCP mode and beside nothing but `copy_bidirectional`: the same
//! upstream, the same load, in turns. HAProxy splices large streams as we do, by `option splice-auto`, and a denial of its
//! is a reset, where ours is an end.
//!
//! Load, upstream and proxy share the machine, so the figure to trust is the proxy's own CPU time.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tollgate::clock::Clock;

use crate::{
    median,
    proxy::{Running, cpu_seconds, free_ports, wait_for},
    tollgate,
};

const ROUNDS: usize = 5;
const CONNECTING_FOR: Duration = Duration::from_secs(2);
const CLIENTS: usize = 8;
const STREAMS: usize = 4;
const STREAMED_BYTES: u64 = 256 << 20;

pub(crate) fn run() -> anyhow::Result<()> {
    let tollgate = tollgate()?;
    let folder = tempfile::tempdir()?;
    let upstream = upstream()?;
    let ports = free_ports(5)?;
    let [haproxy_allows, haproxy_denies, bare, ours_allows, ours_denies] = ports[..] else { bail!("five ports") };

    let config = folder.path().join("haproxy.cfg");
    fs::write(&config, haproxy_config(upstream, haproxy_allows, haproxy_denies))?;
    let haproxy = Command::new("haproxy").arg("-f").arg(&config).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let haproxy = Running(haproxy.context("haproxy: not found, install it first (Debian: apt-get install haproxy)")?);
    let policy = folder.path().join("policy.yaml");
    fs::write(&policy, policy_text(upstream, ours_allows, ours_denies))?;
    let ours = Running(Command::new(&tollgate).arg("serve").arg(&policy).stderr(Stdio::null()).spawn()?);
    let this = std::env::current_exe()?;
    let bare_proxy = Command::new(this).args(["tcp", "--bare", &bare.to_string(), &upstream.to_string()]).spawn()?;
    let bare_proxy = Running(bare_proxy);
    for port in &ports {
        wait_for(*port)?;
    }

    let mut rows = [
        Row::new("HAProxy", haproxy_allows, haproxy.0.id()),
        Row::new("bare copy_bidirectional", bare, bare_proxy.0.id()),
        Row::new("tollgate", ours_allows, ours.0.id()),
    ];
    let mut denying = [
        Row::new("HAProxy, denied", haproxy_denies, haproxy.0.id()),
        Row::new("tollgate, denied", ours_denies, ours.0.id()),
    ];
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for row in &mut rows {
            row.stream().with_context(|| format!("streaming through {}", row.name))?;
            row.connect(true).with_context(|| format!("connecting through {}", row.name))?;
        }
        for row in &mut denying {
            row.connect(false).with_context(|| format!("connecting to {}", row.name))?;
        }
    }

    println!("{:<24} {:>8} {:>14} {:>16} {:>20}", "", "MB/s", "CPU ms a GB", "connections/s", "CPU µs a connection");
    for row in &rows {
        let [rate, cpu, connections, connection_cpu] = row.medians();
        println!("{:<24} {rate:>8.0} {cpu:>14.0} {connections:>16.0} {connection_cpu:>20.1}", row.name);
    }
    for row in &denying {
        let [_, _, connections, connection_cpu] = row.medians();
        println!("{:<24} {:>8} {:>14} {connections:>16.0} {connection_cpu:>20.1}", row.name, "", "");
    }
    println!();
    let [haproxy, bare, ours] = rows.map(|row| row.medians());
    println!("tcp_stream_rate_over_haproxy {:.2}", ours[0] / haproxy[0]);
    println!("tcp_stream_cpu_over_haproxy {:.2}", ours[1] / haproxy[1]);
    println!("tcp_stream_rate_over_bare {:.2}", ours[0] / bare[0]);
    println!("tcp_stream_cpu_over_bare {:.2}", ours[1] / bare[1]);
    println!("tcp_connection_rate_over_haproxy {:.2}", ours[2] / haproxy[2]);
    println!("tcp_connection_cpu_over_haproxy {:.2}", ours[3] / haproxy[3]);
    println!("tcp_connection_cpu_over_bare {:.2}", ours[3] / bare[3]);
    let [haproxy, ours] = denying.map(|row| row.medians());
    println!("tcp_denied_rate_over_haproxy {:.2}", ours[2] / haproxy[2]);
    println!("tcp_denied_cpu_over_haproxy {:.2}", ours[3] / haproxy[3]);
    Ok(())
}

/// Nothing but the copying, as one would write it in a minute.
pub(crate) fn run_bare(port: &str, upstream: &str) -> anyhow::Result<()> {
    let (port, upstream): (u16, u16) = (port.parse()?, upstream.parse()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
        loop {
            let (mut client, _) = listener.accept().await?;
            tokio::spawn(async move {
                let mut upstream = tokio::net::TcpStream::connect(("127.0.0.1", upstream)).await?;
                tokio::io::copy_bidirectional(&mut client, &mut upstream).await
            });
        }
    })
}

/// One line of the table.
struct Row {
    name: &'static str,
    port: u16,
    pid: u32,
    /// Megabytes a second and milliseconds a gigabyte, connections a second and microseconds a connection.
    rounds: [Vec<f64>; 4],
}

impl Row {
    fn new(name: &'static str, port: u16, pid: u32) -> Self {
        Self { name, port, pid, rounds: Default::default() }
    }

    /// Reads some long answers at once.
    fn stream(&mut self) -> anyhow::Result<()> {
        let clock = Clock::system();
        let (cpu, start) = (cpu_seconds(self.pid)?, clock.now());
        let reading = (0..STREAMS).map(|_| {
            let port = self.port;
            thread::spawn(move || -> anyhow::Result<()> {
                let mut stream = TcpStream::connect(("127.0.0.1", port))?;
                stream.write_all(b"s")?;
                let (mut left, mut buffer) = (STREAMED_BYTES, vec![0; 256 << 10]);
                while left > 0 {
                    let count = stream.read(&mut buffer)?;
                    anyhow::ensure!(count > 0, "the stream ended early");
                    left = left.saturating_sub(count as u64);
                }
                Ok(())
            })
        });
        for reader in reading.collect::<Vec<_>>() {
            reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
        }
        let gigabytes = (STREAMS as u64 * STREAMED_BYTES) as f64 / 1e9;
        self.rounds[0].push(gigabytes * 1e3 / clock.now().since(start).as_secs_f64());
        self.rounds[1].push((cpu_seconds(self.pid)? - cpu) * 1e3 / gigabytes);
        Ok(())
    }

    /// Connects again and again: a byte there, a byte back if it is allowed, and the end.
    fn connect(&mut self, is_allowed: bool) -> anyhow::Result<()> {
        let (clock, connections) = (Clock::system(), AtomicU64::new(0));
        let (cpu, start) = (cpu_seconds(self.pid)?, clock.now());
        thread::scope(|scope| {
            let connecting = (0..CLIENTS).map(|_| {
                scope.spawn(|| -> anyhow::Result<()> {
                    while clock.now().since(start) < CONNECTING_FOR {
                        // Whoever is denied may be told so by a reset, and at any moment.
                        let mut heard = Vec::new();
                        let told = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
                            stream.write_all(b"e")?;
                            stream.read_to_end(&mut heard)
                        });
                        anyhow::ensure!((heard == b"e" && told.is_ok()) == is_allowed, "{heard:?}, {told:?}");
                        connections.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            });
            for client in connecting.collect::<Vec<_>>() {
                client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
            }
            anyhow::Ok(())
        })?;
        let connections = connections.into_inner() as f64;
        self.rounds[2].push(connections / clock.now().since(start).as_secs_f64());
        self.rounds[3].push((cpu_seconds(self.pid)? - cpu) * 1e6 / connections);
        Ok(())
    }

    fn medians(&self) -> [f64; 4] {
        self.rounds.clone().map(|figures| if figures.is_empty() { f64::NAN } else { median(figures) })
    }
}

/// To `e` a server answers with the same and the end, to `s` with a stream.
fn upstream() -> anyhow::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut asked = [0];
            // A client that hangs up ends only its own connection.
            match stream.read(&mut asked) {
                Ok(1) if asked == *b"e" => _ = stream.write_all(&asked),
                Ok(1) => {
                    thread::spawn(move || {
                        let buffer = vec![0; 256 << 10];
                        while stream.write_all(&buffer).is_ok() {}
                    });
                }
                _ => {}
            }
        }
    });
    Ok(port)
}

fn haproxy_config(upstream: u16, allows: u16, denies: u16) -> String {
    let frontend = |port, limit: &str| {
        format!(
            "frontend f{port}
             bind 127.0.0.1:{port} backlog 4096
             stick-table type ip size 1m expire 1h store conn_rate(1h)
             tcp-request connection track-sc0 src
             tcp-request connection reject if {{ sc0_conn_rate gt {limit} }}
             default_backend up\n"
        )
    };
    let (allowing, denying) = (frontend(allows, "1000000000"), frontend(denies, "1"));
    format!(
        "global
             nbthread 2
             maxconn 4000
         defaults
             mode tcp
             option splice-auto
             timeout connect 5s
             timeout client 60s
             timeout server 60s
         {allowing}{denying}backend up
             server s 127.0.0.1:{upstream}\n"
    )
}

fn policy_text(upstream: u16, allows: u16, denies: u16) -> String {
    format!(
        "listen:
  - {{ name: allows, address: '127.0.0.1:{allows}', protocol: tcp, upstream: '127.0.0.1:{upstream}' }}
  - {{ name: denies, address: '127.0.0.1:{denies}', protocol: tcp, upstream: '127.0.0.1:{upstream}' }}
rules:
  - {{ name: wide, match: {{ listener: allows }}, limit: 1000000000/hour }}
  - {{ name: narrow, match: {{ listener: denies }}, limit: 1/hour }}
"
    )
}
