//! `tollgate serve` beside nginx with `limit_req`: the same upstream, the same load, in turns.
//!
//! Load, upstream and proxy share the machine, so the figure to trust is the proxy's own CPU time for each request.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};

use crate::{median, tollgate};

const ROUNDS: usize = 5;
const SECONDS: &str = "4";
const CONNECTIONS: &str = "64";

pub(crate) fn run() -> anyhow::Result<()> {
    let tollgate = tollgate()?;
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let ports = free_ports(5)?;
    let [upstream, nginx_allows, nginx_denies, ours_allows, ours_denies] = ports[..] else { bail!("five ports") };

    let _upstream = nginx(folder, "upstream", &upstream_config(upstream))?;
    let nginx_proxy = nginx(folder, "proxy", &nginx_config(upstream, nginx_allows, nginx_denies))?;
    let policy = folder.join("policy.yaml");
    fs::write(&policy, policy_text(upstream, ours_allows, ours_denies))?;
    let serve = Command::new(&tollgate).arg("serve").arg(&policy).stderr(Stdio::null()).spawn()?;
    let serve = Running(serve);
    for port in &ports {
        wait_for(*port)?;
    }

    let mut rows = [
        Row::new("nginx limit_req, allowed", nginx_allows, nginx_proxy.0.id()),
        Row::new("tollgate, allowed", ours_allows, serve.0.id()),
        Row::new("nginx limit_req, denied", nginx_denies, nginx_proxy.0.id()),
        Row::new("tollgate, denied", ours_denies, serve.0.id()),
    ];
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for row in &mut rows {
            row.measure()?;
        }
    }

    println!("{:<26} {:>12} {:>18} {:>8}", "", "requests/s", "CPU µs a request", "p99 ms");
    let medians: Vec<Figures> = rows.iter().map(Row::median).collect();
    for (row, Figures { rate, cpu_us, p99_ms }) in rows.iter().zip(&medians) {
        println!("{:<26} {rate:>12.0} {cpu_us:>18.2} {p99_ms:>8.2}", row.name);
    }
    println!();
    println!("proxy_allowed_cpu_over_nginx {:.2}", medians[1].cpu_us / medians[0].cpu_us);
    println!("proxy_allowed_rate_over_nginx {:.2}", medians[1].rate / medians[0].rate);
    println!("proxy_denied_cpu_over_nginx {:.2}", medians[3].cpu_us / medians[2].cpu_us);
    println!("proxy_denied_rate_over_nginx {:.2}", medians[3].rate / medians[2].rate);
    Ok(())
}

/// One line of the table.
struct Row {
    name: &'static str,
    port: u16,
    pid: u32,
    rounds: Vec<Figures>,
}

#[derive(Clone, Copy)]
struct Figures {
    rate: f64,
    cpu_us: f64,
    p99_ms: f64,
}

impl Row {
    fn new(name: &'static str, port: u16, pid: u32) -> Self {
        Self { name, port, pid, rounds: Vec::new() }
    }

    fn measure(&mut self) -> anyhow::Result<()> {
        let before = cpu_seconds(self.pid)?;
        let url = format!("http://127.0.0.1:{}/", self.port);
        let wrk = Command::new("wrk")
            .args(["-t1", "--latency", "-c", CONNECTIONS, "-d", SECONDS, &url])
            .output()
            .context("wrk: not found, install it first (Debian: apt-get install wrk)")?;
        let cpu = cpu_seconds(self.pid)? - before;
        let text = String::from_utf8(wrk.stdout)?;
        let requests = number_before(&text, " requests in").context("wrk counts requests")?;
        let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).context("wrk gives a rate")?;
        let p99 = text.lines().find_map(|line| line.trim().strip_prefix("99%")).context("wrk gives latencies")?;
        self.rounds.push(Figures {
            rate: rate.trim().parse()?,
            cpu_us: cpu * 1e6 / requests,
            p99_ms: milliseconds(p99.trim()).context("a latency has a unit")?,
        });
        Ok(())
    }

    fn median(&self) -> Figures {
        let of = |figure: fn(&Figures) -> f64| median(self.rounds.iter().map(figure).collect());
        Figures { rate: of(|f| f.rate), cpu_us: of(|f| f.cpu_us), p99_ms: of(|f| f.p99_ms) }
    }
}

fn number_before(text: &str, mark: &str) -> Option<f64> {
    text.split(mark).next()?.rsplit([' ', '\n']).next()?.parse().ok()
}

fn milliseconds(text: &str) -> Option<f64> {
    let units = [("us", 1e-3), ("ms", 1.0), ("s", 1e3)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<f64>().ok()? * factor))
}

/// User and system time of a process and its children, from /proc.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    /// What Linux has always counted these in.
    const TICKS_A_SECOND: f64 = 100.0;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let mut ticks = 0.0;
    for pid in children.split_whitespace().map(str::to_owned).chain([pid.to_string()]) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("/proc is needed")?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        for field in [11, 12] {
            ticks += fields.get(field).context("a short /proc stat")?.parse::<f64>()?;
        }
    }
    Ok(ticks / TICKS_A_SECOND)
}

/// A process that ends with its owner.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It can have ended by itself, and then there is nothing to do. SIGTERM, so that nginx ends its workers too.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

fn nginx(folder: &Path, name: &str, config: &str) -> anyhow::Result<Running> {
    let file = folder.join(format!("{name}.conf"));
    fs::write(&file, config.replace("FOLDER", &format!("{}/{name}", folder.display())))?;
    fs::create_dir_all(folder.join(name))?;
    let child = Command::new("nginx").arg("-p").arg(folder).arg("-c").arg(&file).stderr(Stdio::null()).spawn();
    Ok(Running(child.context("nginx: not found, install it first (Debian: apt-get install nginx-light)")?))
}

fn frame(workers: u8, http: &str) -> String {
    format!(
        "daemon off; worker_processes {workers}; pid FOLDER/pid; error_log FOLDER/error.log crit;
         events {{ worker_connections 4096; }}
         http {{ access_log off; client_body_temp_path FOLDER/a; proxy_temp_path FOLDER/b; fastcgi_temp_path FOLDER/c;
                 uwsgi_temp_path FOLDER/d; scgi_temp_path FOLDER/e; keepalive_requests 100000000; {http} }}"
    )
}

fn upstream_config(port: u16) -> String {
    frame(1, &format!("server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"ok\"; }} }}"))
}

fn nginx_config(upstream: u16, allows: u16, denies: u16) -> String {
    let server = |port, zone: &str| {
        format!(
            "server {{ listen 127.0.0.1:{port}; location / {{ limit_req zone={zone} nodelay; limit_req_status 429;
             proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\";
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}"
        )
    };
    let zones = "limit_req_zone $binary_remote_addr zone=wide:10m rate=100000r/s;
                 limit_req_zone $binary_remote_addr zone=narrow:10m rate=1r/m;";
    let upstream = format!("upstream up {{ server 127.0.0.1:{upstream}; keepalive 64; }}");
    let allowing = server(allows, "wide burst=100000");
    let denying = server(denies, "narrow");
    frame(2, &format!("{zones} {upstream} {allowing} {denying}"))
}

fn policy_text(upstream: u16, allows: u16, denies: u16) -> String {
    format!(
        "listen:
  - {{ name: allows, address: '127.0.0.1:{allows}', upstream: 'http://127.0.0.1:{upstream}' }}
  - {{ name: denies, address: '127.0.0.1:{denies}', upstream: 'http://127.0.0.1:{upstream}' }}
rules:
  - {{ name: wide, match: {{ listener: allows }}, limit: 100000/second burst 100000 }}
  - {{ name: narrow, match: {{ listener: denies }}, limit: 1/hour }}
"
    )
}

pub(crate) fn free_ports(n: usize) -> anyhow::Result<Vec<u16>> {
    // All are held until all are found, so that no two are the same.
    let sockets = (0..n).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<Vec<_>, _>>()?;
    sockets.iter().map(|socket| Ok(socket.local_addr()?.port())).collect()
}

pub(crate) fn wait_for(port: u16) -> anyhow::Result<()> {
    for _ in 0..100 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("nothing listens on port {port} after 5 s")
}
