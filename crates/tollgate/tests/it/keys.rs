//! What rules count by: joined so that nobody can borrow another's key, and without secrets.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use tollgate::key::Key;

use crate::rig::{Call, get, rig};

/// The key that a rule by `by` counts the request by.
fn key(by: &str, request: &Call) -> String {
    let matcher = if by == "subnet" { "match: { client: [203.0.113.0/24, all] }, " } else { "" };
    let rig = rig(&format!("user: cookie:sid\nrules: [{{ name: r, {matcher}by: {by}, limit: 5/hour }}]"));
    let decision = rig.check(request);
    let key = decision.rules().map(|(_, _, key, _)| key.to_string()).next();
    key.unwrap_or_else(|| panic!("{by} concerns {request:?}"))
}

// One session of gunicorn was as many clients as its cookie has spellings, and one token as many as white space.
#[test]
fn no_spelling_of_a_value_is_another_client() {
    let same = |by: &str, name: &str, spellings: &[&str]| {
        let keys: Vec<String> = spellings.iter().map(|value| key(by, &get("/").header(name, value))).collect();
        assert!(keys.iter().all(|key| *key == keys[0]), "{by}: {spellings:?} are {keys:?}");
    };
    let session = ["sid=abc", "sid=\"abc\"", "a=1;sid=abc ", "sid=\"\\141bc\"", "sid=\"\\a\\b\\c\"", "sid=%61bc"];
    same("cookie:sid", "cookie", &session);
    same("user", "cookie", &session);
    let token = ["Bearer tok", "bearer tok", "BEARER  tok", " Bearer\ttok "];
    same("header:Authorization", "authorization", &token);
    same("header:Authorization", "authorization", &["Basic YTpi", "Basic YTpi=", "basic  YTpi=="]);
    assert_ne!(key("user", &get("/").header("cookie", "sid=abc")), key("user", &get("/").header("cookie", "sid=abd")));
}

#[test]
fn a_key_is_text_that_a_person_can_read() {
    let check = |by: &str, request: Call, expected: &str| assert_eq!(key(by, &request), expected);
    check("client", get("/"), "203.0.113.7");
    check("client", get("/").peer("2001:db8::7"), "2001:db8::/64");
    check("client/24/48", get("/"), "203.0.113.0/24");
    check("peer", get("/").peer("2001:db8::7"), "2001:db8::7");
    check("subnet", get("/"), "203.0.113.0/24");
    check("subnet", get("/").peer("192.0.2.1"), "all");
    check("[]", get("/"), "everybody");
    check("[method, host]", get("/").method("PUT").host("Example.COM.:8080"), "PUT|example.com");
    check("path", get("//a/%62;x/?q"), "/a/b");
    check("[header:X-Name, query:n]", get("/?n=a%20b%7C+c").header("x-name", "v|%"), "v%7C%25|a%20b%7C%20c");
    check("listener", get("/").listener("web"), "web");
}

#[test]
fn a_client_is_counted_by_its_address_as_it_is_written() {
    for octet in 0..=255_u8 {
        let address = Ipv4Addr::new(octet, 255 - octet, 0, octet);
        assert_eq!(Key::of_client(address.into()).to_string(), address.to_string());
    }
    let call = get("/").peer("198.51.100.100");
    assert_eq!(key("[client, peer, client]", &call), "198.51.100.100|198.51.100.100|198.51.100.100");
}

#[test]
fn a_missing_part_is_replaced_by_the_client_counted_apart() {
    let check = |by: &str, request: Call, expected: &str| assert_eq!(key(by, &request), expected);
    check("header:X-Name", get("/"), "!203.0.113.7");
    check("header:X-Name", get("/").header("X-Name", "203.0.113.7"), "203.0.113.7");
    check("header:X-Name", get("/").header("X-Name", "!203.0.113.7"), "%21203.0.113.7");
    check("header:X-Name", get("/").header("X-Name", "a").header("X-Name", "b"), "!203.0.113.7");
    check("query:n", get("/?n=a&n=b"), "!203.0.113.7");
    check("query:n", get("/?nn=a"), "!203.0.113.7");
    check("[query:n, method]", get("/?n"), "|GET");
    check("host", get("/").peer("2001:db8::7"), "!2001:db8::/64");
    check("user", get("/"), "!203.0.113.7");
    check("[header:X-Name, method]", get("/").nobody().method("PUT"), "!|PUT");
}

#[test]
fn secrets_are_counted_by_their_hash_and_never_shown() {
    let secret = "s3cr3t-value";
    for name in
        ["X-API-Key", "Authorization", "X-Access-TOKEN", "client-secret", "X-Session-Id", "Signature", "X-Password"]
    {
        let key = key(&format!("header:{name}"), &get("/").header(name, secret));
        assert!(key.starts_with('#') && key.len() == 33 && !key.contains(secret), "{name}: {key}");
    }
    for by in ["query:api_key", "cookie:sid", "user", "cookie:theme"] {
        let call = get("/?api_key=s3cr3t-value").header("Cookie", "sid=s3cr3t-value; theme=s3cr3t-value");
        let key = key(by, &call);
        assert!(key.starts_with('#') && !key.contains(secret), "{by}: {key}");
    }
    assert_eq!(key("header:X-Name", &get("/").header("X-Name", secret)), secret);
}

#[test]
fn a_decision_shows_no_secret_in_its_answer() {
    let rig = rig("rules: [{ name: r, by: header:X-Api-Key, limit: 0/hour }]");
    let call = get("/<script>?q=<b>").header("X-Api-Key", "s3cr3t-value");
    let decision = rig.check(&call);
    assert!(!format!("{decision:?}").contains("s3cr3t-value"));
    assert!(!format!("{:?}", call.shown()).contains("s3cr3t-value"));
    let answer = format!("{:?}", decision.answer(call.headers()).unwrap());
    assert!(!answer.contains("s3cr3t") && !answer.contains("script") && !answer.contains("<b>"), "{answer}");
}

#[test]
fn parts_longer_than_256_bytes_are_hashed() {
    let of = |bytes: usize| key("header:X-Name", &get("/").header("X-Name", "a".repeat(bytes)));
    assert_eq!(of(256), "a".repeat(256));
    assert!(of(257).starts_with('#') && of(257).len() == 33);
    assert_ne!(of(257), of(258));
    let hash = of(257);
    assert_ne!(key("header:X-Name", &get("/").header("X-Name", &hash)), hash);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn different_parts_make_different_keys(
        one in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab |%#!\0".to_vec()), 0..4), 1..4),
        other in prop::collection::vec(prop::collection::vec(prop::sample::select(b"ab |%#!\0".to_vec()), 0..4), 1..4),
    ) {
        prop_assert_eq!(one == other, Key::of(&one) == Key::of(&other));
    }

    #[test]
    fn a_key_is_printable_ascii(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..4)) {
        prop_assert!(Key::of(&parts).as_bytes().iter().all(u8::is_ascii_graphic));
    }
}
