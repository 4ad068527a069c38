//! The whole check of a policy with three rules, as a contestant whose keys are clients.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::anyhow;
use tollgate::{
    algorithm::Verdict,
    clock::Clock,
    config::{Surroundings, read},
    limiter::Limiter,
    request::Request,
    store::memory::MemoryStore,
};

use super::{contestants::Contestant, keys::Numbered};

/// All three fit every request, and never deny.
const POLICY: &str = "
trusted_proxies: [{ from: 192.0.2.1, header: X-Forwarded-For }]
rules:
  - name: all
    limit: 1/minute burst 10000000
  - name: orders
    match: { path: /api/**, method: POST }
    by: [client, route]
    limit: 1/minute burst 10000000
  - name: account
    by: header:X-Account
    limit: 1/minute burst 10000000
";
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// A client's address, as the proxy in front of us writes it.
#[derive(Clone)]
pub(crate) struct Address(String);

impl Numbered for Address {
    fn numbered(number: u64) -> Self {
        // Odd, so that the low four bytes differ for every number below 2³².
        let [a, b, c, d, ..] = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
        Self(Ipv4Addr::new(a, b, c, d).to_string())
    }
}

/// A limiter with the policy above.
pub(crate) struct Checked(Limiter);

impl Checked {
    pub(crate) fn open(counters: u64) -> anyhow::Result<Self> {
        let (config, _) = read(POLICY, &Surroundings::none()).map_err(|mistakes| anyhow!("{mistakes:?}"))?;
        let store = MemoryStore::new(usize::try_from(counters)?, Clock::system());
        Ok(Self(Limiter::new(config.policy, store)))
    }
}

/// Measured: who the client is (believing the proxy), which rules fit, their keys, the clock, the decision, and the headers
/// of the answer, as the middlewares take them. The request is only a view of what a server has parsed.
impl Contestant<Address> for Checked {
    fn allowed(&self, clients: &[Address]) -> usize {
        let allows = |Address(client): &&Address| {
            let headers = [
                ("host", "api.example.com"),
                ("user-agent", "curl/8.5.0"),
                ("accept", "*/*"),
                ("x-forwarded-for", client.as_str()),
                ("x-account", client.as_str()),
            ];
            let request = Request {
                peer: Some(PROXY),
                method: "POST",
                host: Some("api.example.com"),
                target: "/api/v1/orders?page=2",
                headers: &headers,
                ..Request::default()
            };
            let decision = self.0.check_now(&request);
            decision.tell(&(), |name, value, replaces| _ = black_box((name, value, replaces)));
            decision.verdict() == Verdict::Allow
        };
        clients.iter().filter(allows).count()
    }
}
