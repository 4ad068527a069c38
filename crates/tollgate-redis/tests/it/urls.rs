//! URLs of stores: what they may say, and what is said of those that say something else.

use tollgate_redis::StoreUrl;

use crate::rig::Dice;

#[track_caller]
fn check(text: &str, shown: &str) {
    let url: StoreUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(url.to_string(), shown, "{text}");
    // What is shown means the same, but for who asks and how.
    assert_eq!(shown.parse::<StoreUrl>().expect("it was shown").to_string(), shown);
}

#[test]
fn urls_are_understood_and_shown_without_what_is_secret() {
    check("redis://localhost", "redis://localhost:6379");
    check("valkey://localhost/", "redis://localhost:6379");
    check("valkeys://10.0.0.1:7000/3", "rediss://10.0.0.1:7000/3");
    check("redis://user:p%40ss@localhost:1/0", "redis://localhost:1");
    check("redis://:s3cret@localhost", "redis://localhost:6379");
    check("redis://us@er:pa@ss@localhost", "redis://localhost:6379");
    check("redis://[::1]", "redis://[::1]:6379");
    check("redis://[fd00::7]:7000/1?prefix=shop", "redis://[fd00::7]:7000/1?prefix=shop");
    check("redis://localhost?prefix=&denials=ask&clock=client", "redis://localhost:6379");
    check("redis+unix:///run/redis.sock", "redis+unix:///run/redis.sock");
    check("valkey+unix:///run/a.sock?db=2&user=u&password=s3cret&prefix=p", "redis+unix:///run/a.sock?db=2&prefix=p");
    check("redis+sentinel://a,b:1,[::1]:2/main", "redis+sentinel://a:26379,b:1,[::1]:2/main");
    check("rediss+sentinel://u:p@a/main/4?sentinel_password=s3cret", "rediss+sentinel://a:26379/main/4");
    check("redis+cluster://a,b:7000", "redis+cluster://a:6379,b:7000");
    check("rediss+cluster://u:p@a/0", "rediss+cluster://a:6379");
}

#[test]
fn what_is_no_url_says_what_was_expected() {
    let cases = [
        ("", "expected a URL such as redis://127.0.0.1:6379"),
        ("localhost:6379", "expected a URL such as redis://127.0.0.1:6379"),
        ("http://a", "\"http\" is no store, expected redis, rediss, valkey or valkeys"),
        ("Redis://a", "\"Redis\" is no store, expected redis, rediss, valkey or valkeys"),
        ("redis+ring://a", "expected redis, redis+unix, redis+sentinel or redis+cluster"),
        ("rediss+unix:///a", "expected redis+unix"),
        ("redis://", "a server without a name, expected HOST:PORT"),
        ("redis://:6379", "a server without a name, expected HOST:PORT"),
        ("redis://a b", "a server without a name, expected HOST:PORT"),
        ("redis://a:0", "expected HOST:PORT with a port from 1 to 65535"),
        ("redis://a:65536", "expected HOST:PORT with a port from 1 to 65535"),
        ("redis://a:x", "expected HOST:PORT with a port from 1 to 65535"),
        ("redis://::1", "\"::1\": expected [::1]:PORT"),
        ("redis://[::1]7", "expected HOST:PORT with a port from 1 to 65535"),
        ("redis://a,b", "2 servers, expected one, or redis+cluster:// or redis+sentinel://"),
        ("redis://a/x", "database \"x\", expected a number such as 0"),
        ("redis://a/-1", "database \"-1\", expected a number such as 0"),
        ("redis://a/99999999999", "database \"99999999999\", expected a number such as 0"),
        ("redis://u:a/b@c", "an @ stands behind a / or ?, expected %2F or %3F"),
        ("redis://u:a?b@c", "an @ stands behind a / or ?, expected %2F or %3F"),
        ("redis://a#b", "a # stands in the URL, expected %23"),
        ("redis://u:%zz@a", "expected %25 for itself"),
        ("redis://u:%e4@a", "expected"),
        ("redis://a?prefx=b", "unknown parameter \"prefx\", expected one of prefix, denials, clock"),
        ("redis://a?db=1", "unknown parameter \"db\""),
        ("redis://a?prefix=a&prefix=b", "the parameter prefix stands there twice"),
        ("redis://a?prefix=a%7Bb", "expected 1 to 64 visible characters of ASCII"),
        ("redis://a?prefix=a:b", "expected 1 to 64 visible characters of ASCII"),
        ("redis://a?denials=yes", "denials: expected keep or ask"),
        ("redis://a?clock=sun", "clock: expected server or client"),
        ("redis+unix://run/redis.sock", "expected the whole path of a socket"),
        ("redis+sentinel://a", "expected the name of the service behind the Sentinels"),
        ("redis+sentinel://a/", "expected the name of the service behind the Sentinels"),
        ("redis+cluster://a/1", "a Cluster has only the database 0"),
    ];
    for (text, expected) in cases {
        let error = text.parse::<StoreUrl>().expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let many = format!("redis+cluster://{}", vec!["a"; 65].join(","));
    assert!(many.parse::<StoreUrl>().expect_err("too many").to_string().contains("expected at most 64"));
}

#[test]
fn no_error_and_nothing_shown_holds_a_password() {
    for text in [
        "redis://user:s3cret@localhost:x",
        "redis://user:s3cret@",
        "redis://user:s3cret@a,b",
        "redis://user:s3cret@localhost/x",
        "redis://user:s3cret@localhost?x=y",
        "redis://user:s3cret%@localhost",
        "rediss+sentinel://user:s3cret@a?sentinel_password=s3cret",
        "redis+unix://x?password=s3cret",
        "http://user:s3cret@localhost",
        "user:s3cret@localhost",
        "redis://user:s3cret/more@localhost",
        "redis://user:s3cret?more@localhost",
        "redis://user:s3cret#more@localhost",
        "redis://user:more@s3/s3cret@localhost",
    ] {
        match text.parse::<StoreUrl>() {
            Ok(url) => assert!(!format!("{url} {url:?}").contains("s3cret"), "{url}"),
            Err(error) => assert!(!format!("{error} {error:?}").contains("s3cret"), "{text}: {error}"),
        }
    }
    let url: StoreUrl = "redis+sentinel://u:s3cret@a/m?sentinel_password=s3cret".parse().expect("it is good");
    let settings = tollgate_redis::Settings::at(url);
    assert!(!format!("{settings:?}").contains("s3cret"), "{settings:?}");
}

#[test]
fn no_text_makes_it_panic() {
    let pieces = [
        "redis",
        "rediss",
        "valkey",
        "+unix",
        "+sentinel",
        "+cluster",
        "://",
        ":",
        "/",
        "//",
        "?",
        "&",
        "=",
        "@",
        ",",
        "[",
        "]",
        "::1",
        "localhost",
        "6379",
        "0",
        "70000",
        "%",
        "%4",
        "%40",
        "%ff",
        "#",
        "prefix",
        "db",
        "denials=ask",
        "ä",
        "😀",
        "\0",
        " ",
    ];
    let mut dice = Dice::new(3);
    let mut good = 0;
    for round in 0..50_000_u64 {
        let mut text = if round % 2 == 0 { "redis://".to_owned() } else { String::new() };
        (0..dice.below(9)).for_each(|_| text.push_str(dice.pick::<&str>(&pieces)));
        if let Ok(url) = text.parse::<StoreUrl>() {
            good += 1;
            let shown = url.to_string();
            let again: StoreUrl = shown.parse().unwrap_or_else(|error| panic!("{text} is shown as {shown}: {error}"));
            assert_eq!(again.to_string(), shown, "{text}");
        }
    }
    assert!(good > 100, "only {good} of them are URLs");
}
