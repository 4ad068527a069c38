//! Measurements, each beside a peer in the same minute. Lines that a script can read come last: `NAME VALUE`.
//!
//! ```text
//! cargo run --release -p benches -- decisions [--quick]        # the store beside governor and throttlecrab
//! cargo run --release -p benches -- decisions --part str24_1m  # one part of that
//! cargo run --release -p benches -- instructions               # instructions a decision, beside governor; needs valgrind
//! cargo run --release -p benches -- middleware                 # an axum route beside tower_governor and axum-governor
//! cargo run --release -p benches -- proxy                      # beside nginx with limit_req; needs nginx and wrk
//! cargo run --release -p benches -- redis [--part CASE]        # decisions in Redis beside one EVALSHA for each; needs redis-server
//! cargo run --release -p benches -- tcp                        # TCP beside HAProxy and bare copying; needs haproxy
//! cargo run --release -p benches -- replay                     # requests a second of `tollgate replay`
//! ```

mod allocations;
mod decisions;
mod middleware;
mod proxy;
mod redis;
mod replay;
mod tcp;

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, bail, ensure};

use self::decisions::{Extent, instructions};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["decisions"] => decisions::run(Extent::Full),
        ["decisions", "--quick"] => decisions::run(Extent::Quick),
        ["decisions", "--part", part] => decisions::run_part(part, Extent::Full),
        ["decisions", "--part", part, "--quick"] => decisions::run_part(part, Extent::Quick),
        ["instructions"] => instructions::run(),
        ["instructions", "--part", contestant, case, rounds] => instructions::run_part(contestant, case, rounds),
        ["middleware"] => middleware::run(),
        ["proxy"] => proxy::run(),
        ["redis"] => redis::run(None),
        ["redis", "--part", case] => redis::run(Some(case)),
        ["replay"] => replay::run(),
        ["tcp"] => tcp::run(),
        ["tcp", "--bare", port, upstream] => tcp::run_bare(port, upstream),
        _ => bail!(
            "expected one of: decisions [--part PART] [--quick], instructions, middleware, proxy, redis [--part CASE], replay, tcp"
        ),
    }
}

/// Builds the release binary, and says where it is.
fn tollgate() -> anyhow::Result<PathBuf> {
    let build = Command::new(env!("CARGO")).args(["build", "--release", "-p", "tollgate-cli"]).status()?;
    ensure!(build.success(), "the release build failed");
    let here = std::env::current_exe()?;
    Ok(here.parent().context("a program lies in a folder")?.join("tollgate"))
}

/// The middle one of an odd number of figures.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    figures[figures.len() / 2]
}
