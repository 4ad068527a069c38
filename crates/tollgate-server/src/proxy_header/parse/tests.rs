use proptest::prelude::*;
use tollgate::config::ProxyVersion;

use super::*;
use crate::proxy_header::write::write;

fn ends(source: &str, destination: &str) -> Ends {
    Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

/// A header that is whole says this, and is waited for until its last byte, whatever follows it.
#[track_caller]
fn check(header: &[u8], expected: Option<Ends>) {
    for end in 0..header.len() {
        assert_eq!(parse(&header[..end]), Ok(None), "{end} bytes of {header:x?}");
    }
    let expected = Ok(Some(Header { ends: expected, length: header.len() }));
    assert_eq!(parse(header), expected, "{header:x?}");
    assert_eq!(parse(&[header, b"\r\nPROXY EHLO"].concat()), expected, "{header:x?}");
}

#[track_caller]
fn check_malformed(header: &[u8]) {
    assert_eq!(parse(header), Err(Wrong::Malformed), "{header:x?}");
}

/// A header of version 2 with this command, family and payload.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, payload].concat()
}

const PAYLOAD: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x9C, 0x40, 0, 25];

#[test]
fn a_line_says_who_is_connected_to_what() {
    check(b"PROXY TCP4 192.0.2.1 198.51.100.2 40000 25\r\n", Some(ends("192.0.2.1:40000", "198.51.100.2:25")));
    check(b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n", Some(ends("[2001:db8::1]:0", "[::1]:65535")));
    check(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", Some(ends("192.0.2.1:1", "[::1]:2")));
    check(b"PROXY UNKNOWN\r\n", None);
    check(b"PROXY UNKNOWN ffff:f...f:ffff 1 2 anything\r\n", None);
    let longest = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_AT_MOST - 16));
    check(longest.as_bytes(), None);
}

#[test]
fn a_line_that_is_none_is_malformed() {
    for line in [
        "PROXY TCP4 192.0.2.1 198.51.100.2 40000\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 40000 25 \r\n",
        "PROXY TCP4  192.0.2.1 198.51.100.2 40000 25\r\n",
        "PROXY TCP4 192.0.2.01 198.51.100.2 40000 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 040000 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 65536 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 +1 25\r\n",
        "PROXY TCP4 192.0.2.1 198.51.100.2 -1 25\r\n",
        "PROXY TCP4 2001:db8::1 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP4 localhost 198.51.100.2 1 2\r\n",
        "PROXY TCP5 192.0.2.1 198.51.100.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
    ] {
        check_malformed(line.as_bytes());
    }
    check_malformed(b"PROXY UNKNOWN \xff\r\n");
    let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_AT_MOST - 15));
    assert_eq!(parse(too_long.as_bytes()), Err(Wrong::TooLong));
    let endless = format!("PROXY TCP4 {}", "1".repeat(LINE_BYTES_AT_MOST));
    assert_eq!(parse(endless.as_bytes()), Err(Wrong::TooLong));
}

#[test]
fn what_begins_like_no_header_is_something_else() {
    for bytes in ["proxy TCP4 192.0.2.1 198.51.100.2 1 2\r\n", "GET / HTTP/1.1\r\n", "\r\n\r\n\0\r\nQUIT ", "\0"] {
        assert_eq!(parse(bytes.as_bytes()), Err(Wrong::Other), "{bytes:?}");
    }
}

#[test]
fn a_binary_header_says_who_is_connected_to_what() {
    let v4 = Some(ends("192.0.2.1:40000", "198.51.100.2:25"));
    check(&v2(0x21, 0x11, &PAYLOAD), v4);
    check(&v2(0x21, 0x12, &PAYLOAD), v4);
    let addresses =
        |source: Ipv6Addr, destination: Ipv6Addr| [&source.octets()[..], &destination.octets(), &[0, 1, 0, 2]].concat();
    let v6 = addresses("2001:db8::1".parse().unwrap(), Ipv6Addr::LOCALHOST);
    check(&v2(0x21, 0x21, &v6), Some(ends("[2001:db8::1]:1", "[::1]:2")));
    let mapped = addresses("::ffff:192.0.2.1".parse().unwrap(), "::ffff:198.51.100.2".parse().unwrap());
    check(&v2(0x21, 0x21, &mapped), Some(ends("192.0.2.1:1", "198.51.100.2:2")));
}

#[test]
fn a_proxy_that_speaks_for_itself_or_for_no_address_names_nobody() {
    check(&v2(0x20, 0x00, b""), None);
    check(&v2(0x20, 0x11, &PAYLOAD), None);
    check(&v2(0x20, 0xFF, b"whatever"), None);
    check(&v2(0x21, 0x00, b"whatever"), None);
    check(&v2(0x21, 0x31, &[0; UNIX_BYTES]), None);
    check(&v2(0x21, 0x31, &[b'/'; UNIX_BYTES]), None);
}

#[test]
fn a_binary_header_that_is_none_is_malformed() {
    for command in (0..=u8::MAX).filter(|command| !matches!(command, 0x20 | 0x21)) {
        check_malformed(&v2(command, 0x11, &PAYLOAD));
    }
    for family in (0..=u8::MAX).filter(|family| !matches!(family, 0x00 | 0x11 | 0x12 | 0x21 | 0x22 | 0x31 | 0x32)) {
        check_malformed(&v2(0x21, family, &PAYLOAD));
    }
    for length in 0..PAYLOAD.len() {
        check_malformed(&v2(0x21, 0x11, &PAYLOAD[..length]));
    }
    check_malformed(&v2(0x21, 0x21, &PAYLOAD));
    check_malformed(&v2(0x21, 0x31, &[0; UNIX_BYTES - 1]));
}

#[test]
fn a_binary_header_is_bounded_before_it_is_waited_for() {
    let with_values = |value_bytes: usize| {
        let value_bytes = u16::try_from(value_bytes).unwrap();
        let value = vec![0; usize::from(value_bytes)];
        v2(0x21, 0x11, &[&PAYLOAD[..], &[0x04], &value_bytes.to_be_bytes(), &value].concat())
    };
    let most = PAYLOAD_BYTES_AT_MOST - PAYLOAD.len() - 3;
    check(&with_values(most), Some(ends("192.0.2.1:40000", "198.51.100.2:25")));
    assert_eq!(parse(&with_values(most + 1)[..FIXED_BYTES]), Err(Wrong::TooLong));
}

#[test]
fn values_must_be_whole() {
    let with = |values: &[u8]| v2(0x21, 0x11, &[&PAYLOAD[..], values].concat());
    let v4 = Some(ends("192.0.2.1:40000", "198.51.100.2:25"));
    check(&with(&[0x02, 0, 1, b'a', 0xEE, 0, 0]), v4);
    check_malformed(&with(&[0x02]));
    check_malformed(&with(&[0x02, 0]));
    check_malformed(&with(&[0x02, 0, 2, b'a']));
}

#[test]
fn a_checksum_must_be_right() {
    let with = |crc: [u8; 4]| v2(0x21, 0x11, &[&PAYLOAD[..], &[0x03, 0, 4], &crc].concat());
    let crc = crc32c(with([0; 4]).iter());
    check(&with(crc.to_be_bytes()), Some(ends("192.0.2.1:40000", "198.51.100.2:25")));
    check_malformed(&with((crc ^ 1).to_be_bytes()));
    // The check value of the algorithm.
    assert_eq!(crc32c(b"123456789".iter()), 0xE306_9283);
}

/// HAProxy 2.6.12 with `proxy-v2-options crc32c,unique-id`.
#[test]
fn what_haproxy_sends_is_read() {
    let unique_id = b"79ac73bf-b770-4f2b-8060-c58590fab02e";
    let addresses = [127, 0, 0, 1, 127, 0, 0, 1, 0xE2, 0xF1, 0x4A, 0xA0];
    let values = [&[0x03, 0, 4, 0x76, 0xD9, 0x64, 0x67, 0x05, 0, 36][..], unique_id].concat();
    check(&v2(0x21, 0x11, &[&addresses[..], &values].concat()), Some(ends("127.0.0.1:58097", "127.0.0.1:19104")));
    check(b"PROXY TCP4 127.0.0.1 127.0.0.1 60844 19480\r\n", Some(ends("127.0.0.1:60844", "127.0.0.1:19480")));
}

fn any_end() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(address, port)| SocketAddr::new(address.to_canonical(), port))
}

proptest! {
    #[test]
    fn what_we_write_is_read_again(source in any_end(), destination in any_end()) {
        let ends = Ends::new(source, destination);
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            check(&write(version, ends), Some(ends));
        }
    }

    #[test]
    fn nothing_that_is_sent_makes_it_stumble_or_wait_for_ever(
        start in prop::sample::select(vec![&b""[..], LINE_START, b"PROXY TCP4 ", b"PROXY TCP6 ", &SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11"]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let bytes = [start, &rest].concat();
        match parse(&bytes) {
            Ok(Some(header)) => prop_assert!(header.length <= bytes.len()),
            Ok(None) => prop_assert!(bytes.len() < FIXED_BYTES + PAYLOAD_BYTES_AT_MOST),
            Err(_) => {
                // What is malformed stays so, whatever follows.
                let more = [&bytes[..], b"\r\n"].concat();
                prop_assert!(parse(&more).is_err());
            }
        }
    }

    #[test]
    fn one_changed_bit_is_never_a_panic_and_never_a_longer_wait(at in 0..28usize, bit in 0..8u8) {
        let mut header = v2(0x21, 0x11, &PAYLOAD);
        header[at] ^= 1 << bit;
        if let Ok(Some(Header { length, .. })) = parse(&header) {
            prop_assert!(length <= header.len());
        }
    }
}
