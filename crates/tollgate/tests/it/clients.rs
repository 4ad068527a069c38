//! Who the client is: every vector, and the attacks that the rules of trust are there for.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use serde_json::Value;
use tollgate::{
    algorithm::Verdict,
    client::{Proxies, Subnet, Subnets, TrustedProxy},
    limiter::Limiter,
    policy::Rule,
    request::Request,
};

use crate::rig::{Call, Fields, get, policy, rig};

/// The address of whoever asks, as a policy with these trusted proxies sees it.
fn client(trusted: &str, request: &Call) -> String {
    let policy = policy(&format!("trusted_proxies: {trusted}\nrules: []"));
    let address = policy.proxies().identify(&request.shown()).address();
    address.map(|address| address.to_string()).unwrap_or_default()
}

fn check_vectors(policy_file: &str, requests: &str, expected: &str) {
    let policy = policy(policy_file);
    assert_eq!(requests.lines().count(), expected.lines().count());
    for (request, expected) in requests.lines().zip(expected.lines()) {
        let (request, expected): (Value, Value) =
            (serde_json::from_str(request).unwrap(), serde_json::from_str(expected).unwrap());
        let mut call = get(request["path"].as_str().unwrap()).peer(request["peer"].as_str().unwrap());
        for (name, values) in request["headers"].as_object().unwrap() {
            let values = values.as_array().cloned().unwrap_or_else(|| vec![values.clone()]);
            call = values.iter().fold(call, |call, value| call.header(name, value.as_str().unwrap()));
        }
        let client = policy.proxies().identify(&call.shown());
        assert_eq!(client.address().unwrap().to_string(), expected["client"], "{request}");
    }
}

macro_rules! vectors {
    ($($test:ident: $name:literal),*) => {$(
        #[test]
        fn $test() {
            check_vectors(
                include_str!(concat!("../../../../vectors/clients/", $name, "/policy.yaml")),
                include_str!(concat!("../../../../vectors/clients/", $name, "/requests.jsonl")),
                include_str!(concat!("../../../../vectors/clients/", $name, "/expected.jsonl")),
            );
        }
    )*};
}

vectors! {
    reads_the_vectors_of_a_single_address_header: "cf",
    reads_the_vectors_of_forwarded: "fwd",
    reads_the_vectors_of_a_local_network: "lan",
    reads_the_vectors_without_proxies: "none"
}

const LAN: &str = "[{ from: [10.0.0.0/8, 'fd00::/8'], header: X-Forwarded-For }]";
const FORWARDED: &str = "[{ from: 10.0.0.0/8, header: Forwarded }]";

#[test]
fn reads_addresses_as_proxies_write_them() {
    let check = |written: &str, expected: &str| {
        assert_eq!(client(LAN, &get("/").peer("10.0.0.5").header("X-Forwarded-For", written)), expected, "{written:?}");
    };
    check("1.2.3.4", "1.2.3.4");
    check("1.2.3.4:567", "1.2.3.4");
    check("2001:db8::1", "2001:db8::1");
    check("[2001:db8::1]", "2001:db8::1");
    check("[2001:db8::1]:443", "2001:db8::1");
    check("::ffff:1.2.3.4", "1.2.3.4");
    check("[::ffff:10.1.1.1]:80", "10.1.1.1");
    check(" \t1.2.3.4 ", "1.2.3.4");
    check("6.6.6.6, 1.2.3.4 ,10.9.9.9", "1.2.3.4");
    for rejected in [
        "",
        " ",
        "unknown",
        "_hidden",
        "localhost",
        "01.2.3.4",
        "1.2.3",
        "1.2.3.4:",
        "1.2.3.4:99999",
        "1.2.3.4:x",
        "fe80::1%eth0",
        "[fe80::1%1]",
        "[2001:db8::1",
        "2001:db8::1]",
        "[2001:db8::1]443",
        "[1.2.3.4]",
        "1.2.3.4/24",
        "\"1.2.3.4\"",
        "0x1.2.3.4",
        "1.2.3.4 5.6.7.8",
        ":443",
        "[]",
        "for=1.2.3.4",
    ] {
        check(rejected, "10.0.0.5");
        check(&format!("6.6.6.6, {rejected}, 10.1.1.1"), "10.1.1.1");
    }
}

#[test]
fn reads_forwarded_as_its_rfc_writes_it() {
    let check = |written: &str, expected: &str| {
        assert_eq!(client(FORWARDED, &get("/").peer("10.0.0.5").header("Forwarded", written)), expected, "{written:?}");
    };
    check("for=1.2.3.4", "1.2.3.4");
    check("For=1.2.3.4;proto=https;by=10.0.0.5", "1.2.3.4");
    check("proto=https; FOR=\"1.2.3.4:567\"", "1.2.3.4");
    check("for=\"[2001:db8::1]:443\"", "2001:db8::1");
    check("for=\"1.2.3.\\4\"", "1.2.3.4");
    check("for=6.6.6.6, for=1.2.3.4, for=10.1.1.1", "1.2.3.4");
    check("for=6.6.6.6, for=1.2.3.4;host=\"a,b;for=7.7.7.7\"", "1.2.3.4");
    check("for=1.2.3.4, by=10.0.0.1", "10.0.0.5");
    check("for=1.2.3.4;for=6.6.6.6", "10.0.0.5");
    check("for=_secret", "10.0.0.5");
    check("for=unknown, for=10.1.1.1", "10.1.1.1");
    check("for=\"1.2.3.4", "10.0.0.5");
    check("for=\"1.2.3.4\"x", "10.0.0.5");
    check("for", "10.0.0.5");
    check("for=", "10.0.0.5");
    check(",", "10.0.0.5");
}

#[test]
fn joins_all_field_lines_in_order() {
    let call =
        get("/").peer("10.0.0.5").header("x-forwarded-for", "6.6.6.6").header("X-Forwarded-For", "1.2.3.4, 10.1.1.1");
    assert_eq!(client(LAN, &call), "1.2.3.4");
}

#[test]
fn the_first_entry_that_contains_the_peer_says_which_header_counts() {
    let trusted = "[{ from: 10.0.0.1, header: CF-Connecting-IP }, { from: 10.0.0.0/8, header: X-Forwarded-For }]";
    let call = get("/").header("CF-Connecting-IP", "1.1.1.1").header("X-Forwarded-For", "2.2.2.2");
    assert_eq!(client(trusted, &call.clone().peer("10.0.0.1")), "1.1.1.1");
    assert_eq!(client(trusted, &call.clone().peer("10.0.0.2")), "2.2.2.2");
    assert_eq!(client(trusted, &call.clone().peer("::ffff:10.0.0.2")), "2.2.2.2");
    assert_eq!(client(trusted, &call.peer("192.0.2.1")), "192.0.2.1");
}

#[test]
fn at_most_64_entries_are_read_and_then_the_leftmost_of_them_it_is() {
    let chain = |hops: usize| {
        let hops: Vec<String> = (0..hops).map(|i| format!("10.1.{}.{}", i / 256, i % 256)).collect();
        get("/").peer("10.0.0.5").header("X-Forwarded-For", hops.join(","))
    };
    assert_eq!(client(LAN, &chain(5)), "10.1.0.0");
    assert_eq!(client(LAN, &chain(64)), "10.1.0.0");
    assert_eq!(client(LAN, &chain(100)), "10.1.0.36");
}

#[test]
fn without_a_peer_everybody_is_one_client() {
    let rig = rig("rules: [{ name: r, limit: 2/hour }]");
    assert_eq!(rig.admitted(5, &get("/").nobody().header("X-Forwarded-For", "1.1.1.1")), 2);
    assert!(!rig.allows(&get("/other").nobody().header("X-Forwarded-For", "2.2.2.2")));
    assert!(rig.allows(&get("/")));
}

#[test]
fn ipv6_clients_are_counted_by_their_64_unless_the_rule_says_otherwise() {
    let check = |by: &str, one: &str, other: &str, together: bool| {
        let rig = rig(&format!("rules: [{{ name: r, by: {by}, limit: 1/hour }}]"));
        assert!(rig.allows(&get("/").peer(one)));
        assert_eq!(!rig.allows(&get("/").peer(other)), together, "{one} and {other} by {by}");
    };
    check("client", "2001:db8::1", "2001:db8::ffff:2", true);
    check("client", "2001:db8::1", "2001:db8:0:1::1", false);
    check("client", "192.0.2.1", "192.0.2.2", false);
    check("client", "192.0.2.1", "::ffff:192.0.2.1", true);
    check("client/24/48", "192.0.2.1", "192.0.2.200", true);
    check("client/24/48", "192.0.2.1", "192.0.3.1", false);
    check("client/24/48", "2001:db8::1", "2001:db8:0:ffff::1", true);
    check("client/32/128", "2001:db8::1", "2001:db8::2", false);
    check("client/0/0", "192.0.2.1", "198.51.100.1", true);
    check("peer", "2001:db8::1", "2001:db8::2", false);
}

#[test]
fn what_only_a_proxy_may_say_is_believed_from_it_alone() {
    let rig = rig("
trusted_proxies: [{ from: 10.0.0.0/8, header: X-Forwarded-For, vouches: [X-Plan] }]
rules: [{ name: r, match: { header: { X-Plan: free } }, limit: 0/hour }]");
    assert!(!rig.allows(&get("/").peer("10.0.0.5").header("X-Plan", "free")));
    assert!(rig.allows(&get("/").peer("192.0.2.1").header("X-Plan", "free")));
    let removed = |peer: &str| {
        let call = get("/").peer(peer);
        let client = rig.limiter.policy().proxies().identify(&call.shown());
        let removed: Vec<String> = rig.limiter.policy().proxies().removed_headers(&client).map(str::to_owned).collect();
        removed
    };
    assert_eq!(removed("192.0.2.1"), ["forwarded", "x-real-ip", "x-forwarded-for", "x-plan"]);
    assert_eq!(removed("10.0.0.5"), [""; 0]);
}

/// Anything in any header that somebody has ever taken for the client's address.
fn forwarding_headers() -> impl Strategy<Value = Fields> {
    let name = prop::sample::select(vec![
        "X-Forwarded-For",
        "Forwarded",
        "X-Real-IP",
        "CF-Connecting-IP",
        "True-Client-IP",
        "Client-IP",
        "X-Client-IP",
        "X-Forwarded",
        "Forwarded-For",
        "X-Cluster-Client-IP",
        "X-Original-Forwarded-For",
        "Via",
        "x-forwarded-FOR",
    ]);
    let address = prop_oneof![
        any::<[u8; 4]>().prop_map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
        any::<u128>().prop_map(|bits| std::net::Ipv6Addr::from(bits).to_string()),
        Just("10.0.0.1".to_owned()),
        Just("127.0.0.1".to_owned()),
    ];
    let value = prop_oneof![
        prop::collection::vec(address.clone(), 1..4).prop_map(|all| all.join(", ").into_bytes()),
        prop::collection::vec(address, 1..4).prop_map(|all| format!("for=\"{}\"", all.join("\", for=\"")).into_bytes()),
        prop::collection::vec(any::<u8>(), 0..40),
        "[for=\"\\\\,;:\\[\\] 0-9a-f.]{0,60}".prop_map(String::into_bytes),
    ];
    prop::collection::vec((name.prop_map(str::to_owned), value), 0..5).prop_map(Fields)
}

const TRUSTED: &str = "[{ from: 10.0.0.0/8, header: X-Forwarded-For }, { from: 172.16.0.0/12, header: Forwarded }, \
                       { from: 192.0.2.1, header: CF-Connecting-IP }]";

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_an_untrusted_peer_writes_changes_its_client(
        headers in forwarding_headers(),
        peer in any::<[u8; 4]>(),
    ) {
        let peer = std::net::Ipv4Addr::from(peer);
        prop_assume!(peer.octets()[0] != 10 && peer.octets()[0] != 172 && peer.to_string() != "192.0.2.1");
        let call = get("/").peer(&peer.to_string());
        let call = headers.0.iter().fold(call, |call, (name, value)| call.header(name, value));
        prop_assert_eq!(client(TRUSTED, &call), peer.to_string());
    }

    #[test]
    fn nothing_that_stands_left_of_the_client_changes_it(forged in "[ -~]{0,60}", hops in 0..4_usize) {
        // What a proxy appends cannot be taken back by what came before it.
        let appended = format!("{forged}, 198.51.100.7{}", ", 10.3.3.3".repeat(hops));
        let call = get("/").peer("10.0.0.5").header("X-Forwarded-For", appended);
        prop_assert_eq!(client(TRUSTED, &call), "198.51.100.7");
    }

    #[test]
    fn of_any_number_of_subnets_the_one_with_the_longest_prefix_holds_an_address(
        nets in prop::collection::vec((0..4_u32, 0..=32_u8), 0..20),
        address in 0..8_u32,
    ) {
        // Few different bits, high and low ones, so that they often hold one another.
        let spread = |bits: u32| (bits & 3) << 30 | bits >> 1;
        let subnet = |bits, len: u8| -> Subnet {
            format!("{}/{len}", Ipv4Addr::from(spread(bits))).parse().expect("a subnet")
        };
        let holds = |(bits, len): &&(u32, u8)| (spread(*bits) ^ spread(address)).checked_shr(32 - u32::from(*len)).unwrap_or(0) == 0;
        let longest = nets.iter().filter(holds).max_by_key(|(_, len)| *len).map(|(bits, len)| subnet(*bits, *len));
        let subnets: Subnets = nets.iter().map(|(bits, len)| subnet(*bits, *len)).collect();
        prop_assert_eq!(subnets.longest(Ipv4Addr::from(spread(address)).into()), longest);
    }

    #[test]
    fn whatever_a_trusted_proxy_passes_on_there_is_a_client(headers in forwarding_headers(), peer in 0..3_usize) {
        let peer = ["10.0.0.5", "172.16.0.5", "192.0.2.1"][peer];
        let call = headers.0.iter().fold(get("/").peer(peer), |call, (name, value)| call.header(name, value));
        prop_assert!(!client(TRUSTED, &call).is_empty());
    }
}

#[test]
fn what_a_proxy_made_in_code_vouches_for_is_believed_from_nobody_else_however_it_is_spelt() {
    let balancers = TrustedProxy {
        from: ["10.0.0.0/8".parse().expect("a subnet")].into_iter().collect(),
        header: "X-Forwarded-For".to_owned(),
        vouches: vec!["X-Plan".to_owned()],
    };
    let by_plan = Rule::of("api", "1/minute").expect("a limit").by(["header:X-Plan"]).expect("words");
    let limiter = Limiter::of([by_plan]).expect("a policy").trusting(Proxies::new(vec![balancers]));
    let allows = |peer: [u8; 4], plan| {
        let headers = [("X-Plan", plan), ("X-Forwarded-For", "203.0.113.7")];
        let request = Request { peer: Some(peer.into()), headers: &headers, ..Request::default() };
        limiter.check_now(&request).verdict() == Verdict::Allow
    };
    assert!(allows([192, 0, 2, 1], "pro") && !allows([192, 0, 2, 1], "free"), "counted by client, whatever he says");
    assert!(allows([10, 0, 0, 5], "pro") && allows([10, 0, 0, 5], "free") && !allows([10, 0, 0, 6], "free"));
}
