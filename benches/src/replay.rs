//! How fast `tollgate replay` goes through a million requests with a policy of three rules.

use std::{
    io::{BufWriter, Write as _},
    process::Command,
};

use anyhow::Context as _;

use crate::{median, tollgate};

const POLICY: &str = "rules:
  - name: all
    limit: 100/minute
  - name: login
    match: { path: /login, method: POST }
    limit: 5/hour
  - name: api
    match: { path: /api/** }
    by: header:X-Key
    limit: 100/minute burst 20
";
const REQUESTS: u64 = 1_000_000;
const ROUNDS: usize = 5;

pub(crate) fn run() -> anyhow::Result<()> {
    let tollgate = tollgate()?;
    let folder = tempfile::tempdir()?;
    let (policy, requests) = (folder.path().join("policy.yaml"), folder.path().join("requests.jsonl"));
    std::fs::write(&policy, POLICY)?;
    let mut file = BufWriter::new(std::fs::File::create(&requests)?);
    for i in 0..REQUESTS {
        // Multiples of a large odd number: spread evenly, and the same in every run.
        let mix = i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let (method, path) =
            [("GET", "/a"), ("POST", "/login"), ("GET", "/api/v1/orders?page=2"), ("GET", "/b/1")][(mix & 3) as usize];
        let (net, host, key) = (mix >> 2 & 31, mix >> 7 & 255, mix >> 5 & 1023);
        writeln!(
            file,
            r#"{{"time": {}.{:03}, "peer": "10.0.{net}.{host}", "method": "{method}", "path": "{path}", "headers": {{"X-Key": "k{key}", "User-Agent": "bench/1"}}, "status": 200}}"#,
            1_739_363_532 + i / 2_000,
            i / 2 % 1_000,
        )?;
    }
    file.flush()?;
    let mut rates = Vec::new();
    for round in 1..=ROUNDS {
        let report = Command::new(&tollgate).arg("replay").arg(&policy).arg(&requests).output()?;
        let report = String::from_utf8(report.stdout)?;
        let last = report.lines().last().context("a replay ends with a report")?;
        println!("round {round}: {last}");
        let rate =
            last.split(", ").nth(1).and_then(|rate| rate.split(' ').next()).context("the report ends with a rate")?;
        rates.push(rate.parse()?);
    }
    println!("replay_requests_per_second {:.0}", median(rates));
    Ok(())
}
