//! The policy file: every mistake has its place and its words, every warning too, and what is valid is understood.

use proptest::prelude::*;
use tollgate::{
    config::{Config, Mistake, ProxyVersion, Severity, Surroundings, read},
    policy::{OnStoreError, Place},
    request::Protocol,
};

/// Surroundings with one file and one variable.
fn surroundings() -> Surroundings<'static> {
    Surroundings {
        file: &|name| match name {
            "office.txt" => Ok("# the office\n10.10.0.0/24 # first floor\n\n::1\n".to_owned()),
            "prose.txt" => Ok("no\naddress\nin\nany\nof\nthese\nlines\n".to_owned()),
            "sloppy.txt" => Ok("192.0.2.7/24\n".to_owned()),
            "broken.txt" => Ok("10.0.0.0/8\nexample.org\n".to_owned()),
            "body.html" => Ok("<p>{retry_after}</p>".to_owned()),
            _ => Err("no such file".to_owned()),
        },
        variable: &|name| (name == "HOME_NET").then(|| "192.0.2.0/24".to_owned()),
        store_url: &|url| match url {
            "redis://shared" => Ok(()),
            _ => Err("expected redis://shared".to_owned()),
        },
    }
}

fn understood(source: &str) -> (Config, Vec<Mistake>) {
    read(source, &surroundings()).unwrap_or_else(|mistakes| {
        panic!("{}", mistakes.iter().map(|mistake| mistake.render("policy", source)).collect::<Vec<_>>().join("\n"))
    })
}

/// What `read` says of a source, as `line:column: message`, errors and warnings alike.
fn said(source: &str) -> Vec<String> {
    let mistakes = match read(source, &surroundings()) {
        Ok((_, warnings)) => warnings,
        Err(mistakes) => mistakes,
    };
    mistakes.iter().map(|Mistake { line, column, message, .. }| format!("{line}:{column}: {message}")).collect()
}

/// One mistake, at this place, that says this.
#[track_caller]
fn check(source: &str, place: &str, what: &str) {
    assert!(read(source, &surroundings()).is_err(), "{source} is no mistake");
    let said = said(source);
    let found = said
        .iter()
        .any(|said| said.strip_prefix(place).is_some_and(|rest| rest.starts_with(": ") && rest.contains(what)));
    assert!(found, "{place}: {what}\nis not among\n{}", said.join("\n"));
}

/// This mistake alone, in all its words.
#[track_caller]
fn check_only(source: &str, expected: &str) {
    assert_eq!(said(source), [expected], "{source}");
}

/// The help that goes with the only mistake.
#[track_caller]
fn check_help(source: &str, help: &str) {
    let mistakes = read(source, &surroundings()).expect_err(source);
    let [mistake] = mistakes.as_slice() else { panic!("{mistakes:#?}") };
    assert_eq!(mistake.help.as_deref(), Some(help), "{mistake:#?}");
}

/// The same for a rule of the shape `- { name: a, limit: 5/minute, … }`; columns count from the brace.
#[track_caller]
fn check_rule(more: &str, column: usize, what: &str) {
    let source = format!("user: cookie:sid\nrules:\n- {{ name: a, limit: 5/minute, {more} }}\n");
    let place = format!("3:{}", column + "- { name: a, limit: 5/minute, ".len());
    check(&source, &place, what);
}

#[test]
fn the_file_itself() {
    check("", "1:1", "");
    check("rules: 5\n", "1:8", "rules: expected a list, found 5");
    check("- a\n", "1:1", "expected a policy file as a map of keys and values, found a list");
    check("listen: []\n", "1:1", "a policy file needs the key \"rules\"");
    check("rules: []\nrulez: []\n", "2:1", "unknown key \"rulez\" in a policy file, did you mean \"rules\"?");
    check("rules: []\nrules: []\n", "2:1", "rules");
    check("rules: [\n", "1:8", "the [ that opens here is not closed before the end of the file");
    check("rules: []\nuser: session\n", "2:7", "expected header:NAME, cookie:NAME or query:NAME");
    check("rules: []\nstore: redis\n", "2:8", "expected memory or a URL such as redis://127.0.0.1:6379");
    check("rules: []\nstore: redis://localhost\n", "2:8", "store: expected redis://shared");
    check("rules: []\nstore: { url: redis://shared, timeout: 11s }\n", "2:40", "at most 10s");
    check("rules: []\nstore: { timeout: 1s }\n", "2:8", "a store needs the key \"url\"");
    check("rules: []\nstore: { url: redis://shared, ca: gone.pem }\n", "2:35", "no such file");
    check("rules: []\nstore: { url: redis://shared, ca: office.txt }\n", "2:35", "holds no certificate");
    check(
        "rules: []\nstore: { url: redis://shared, ca: office.txt }\n",
        "2:35",
        "the URL asks for no TLS, expected rediss://",
    );
    check("rules: []\nstore: { memory: {}, timeout: 1s }\n", "2:22", "unknown key \"timeout\"");
    check("rules: []\nstore: { memory: { counters: 0 } }\n", "2:30", "expected a whole number from 1");
    check("rules: []\nheaders: [ietf, x-ratelimits]\n", "2:17", "did you mean \"x-ratelimit\"?");
    check("rules: []\nheaders: [x-ratelimit, x-ratelimit-delta]\n", "2:10", "two meanings");
    check("rules: []\nexcept: [ {} ]\n", "2:11", "at least one condition");
}

/// The parser stumbles where it can go on no longer, which may be far below what was forgotten.
#[test]
fn what_is_not_closed_is_shown_where_it_opens() {
    let not_in_its_line = "the quote that opens here is not closed in its line";
    check("rules:\n- name: a\n  limit: \"5/hour\n  by: client\n", "3:10", not_in_its_line);
    check("rules:\n- name: a\n  limit: \"5/hour\n  by: \"client\"\n", "3:10", not_in_its_line);
    check("rules:\n- name: 'a\n  limit: 5/hour\n", "2:9", not_in_its_line);
    check("rules:\n- { name: 'a, limit: 1/s }\n- { name: 'b', limit: 1/s }\n", "2:11", "closed only in line 3");
    check("rules:\n  - { name: 'a, limit: 1/s }\n", "2:13", "the quote that opens here is never closed");
    let late = "rules:\n  - { name: \"a, limit: 1/s }\n  - { name: \"b\", limit: 1/s }\n";
    check(late, "2:13", "the quote that opens here is closed only in line 3, and text goes on after it");
    check("rules: [ { name: 'a'b, limit: 1/s } ]\n", "1:21", "text goes on after its closing quote");

    let rule = |text: &str| format!("rules:\n- name: a\n  {text}\n  limit: 1/s\n");
    check(&rule("match: { path: /a"), "3:10", "the { that opens here is not closed before line 4");
    check(&rule("match: { path: [/a, /b"), "3:18", "the [ that opens here is not closed before line 4");
    check(&rule("by: [client, path"), "3:7", "the [ that opens here is not closed before line 4");
    check(&rule("match: { path: [/a, /b }"), "3:18", "the [ that opens here is not closed before line 3, column 26");
    check(
        "rules:\n- { name: a,\n- { name: b, limit: 1/s }\n",
        "2:3",
        "the { that opens here is not closed before line 3",
    );
    check("rules: [ { name: a limit: 1/s } ]\n", "1:25", "expected a comma or }");
    check(
        "\u{feff}rules:\r\n- { name: a\r\n  by: client\r\n",
        "2:3",
        "the { that opens here is not closed before line 3",
    );
    check("rules: [ - a ]\n", "1:10", "a dash inside of brackets");
}

#[test]
fn tabs_cannot_indent() {
    let tab = "a tab in the indentation, where only spaces can stand";
    check("rules:\n\t- name: a\n", "2:1", tab);
    check("rules:\n  - name: a\n  \tlimit: 1/s\n", "3:3", tab);
    check("rules:\n- name: a\n  match: {}\n\tlimit: 1/s\n", "4:1", tab);
    check("rules:\n  - { name: a,\n\tlimit: 1/s }\n", "3:1", tab);
}

#[test]
fn a_misspelt_key_is_not_missing_as_well() {
    check_only("rules: [ { name: a, limt: 1/s } ]", "1:21: unknown key \"limt\" in a rule, did you mean \"limit\"?");
    let glued = "rules: [ { name: a, limit:1/s } ]";
    check_only(glued, "1:21: unknown key \"limit:1/s\" in a rule, expected a space after the colon");
    check_help(glued, "write \"limit: 1/s\"");
    check_help("rules: [ { name: a, limit: 1/s, match: {path:/a} } ]", "write \"path: /a\"");
    assert_eq!(said("rules: [ { name: a, limt: 1/s, lmit: 1/s } ]").len(), 2);
    assert_eq!(said("rules: [ { nonsense: 1/s } ]").len(), 3);
}

/// A condition with a mistake is one all the same: the rule does not fit everything, and no second mistake follows.
#[test]
fn no_mistake_follows_from_another() {
    let rule = |text: &str| format!("rules: [ {{ name: a, limit: 1/s, {text} }} ]");
    check_only(&rule("except: [ { client: { file: gone.txt } } ]"), "1:61: file \"gone.txt\": no such file");
    check_only(
        &rule("except: [ { cleint: 10.0.0.1 } ]"),
        "1:45: unknown key \"cleint\" in an exception, did you mean \"client\"?",
    );
    check_only(
        &rule("overrides: [ { client: { file: gone.txt }, limit: 2/s } ]"),
        "1:64: file \"gone.txt\": no such file",
    );
    check_only(&rule("by: subnet, match: { client: { file: gone.txt } }"), "1:70: file \"gone.txt\": no such file");
    assert_eq!(said("user: session\nrules: [ { name: a, limit: 1/s, by: user, match: { user: true } } ]").len(), 1);
    let earlier = "rules:\n- { name: a, limit: 1/s, match: { paths: /a } }\n";
    check_only(
        &format!("{earlier}- {{ name: b, limit: 1/s, match: {{ rest: true }} }}\n"),
        "2:35: unknown key \"paths\" in a match, did you mean \"path\"?",
    );
    check_only(
        "rules:\n- { name: a, limit: 1/s }\n- { name: A, limit: 1/s }\n",
        "3:11: name \"A\": the rule in line 2 has it too, expected unique names",
    );
}

#[test]
fn listeners() {
    check("rules: []\nlisten: [ { name: a } ]\n", "2:11", "a listener needs the key \"address\"");
    check(
        "rules: []\nlisten: [ { address: localhost:80, upstream: http://a } ]\n",
        "2:22",
        "expected ADDRESS:PORT, an IP address",
    );
    check("rules: []\nlisten: [ { address: 1.2.3.4:80800, upstream: http://a } ]\n", "2:22", "a port up to 65535");
    check("rules: []\nlisten: [ { address: 1.2.3.4:80, upstream: https://a } ]\n", "2:44", "expected http://HOST:PORT");
    check("rules: []\nlisten: [ { address: 1.2.3.4:80, upstream: http://a/b } ]\n", "2:44", "without a path");
    check(
        "rules: []\nlisten: [ { address: 1.2.3.4:80, upstream: https://a } ]\n",
        "2:44",
        "TLS towards the upstream is not supported yet",
    );
    check(
        "rules: []\nlisten: [ { address: 1.2.3.4:80, upstream: http://a:65536 } ]\n",
        "2:44",
        "the port is not one from 1 to 65535, expected http://HOST:PORT",
    );
    check(
        "rules: []\nlisten: [ { address: 1.2.3.4:80, upstream: http://a, timeouts: { idle: 5 } } ]\n",
        "2:72",
        "expected a duration such as 100ms",
    );
    let two = |a: &str, b: &str| {
        format!("rules: []\nlisten:\n- {{ {a}, upstream: http://a }}\n- {{ {b}, upstream: http://a }}\n")
    };
    check(&two("address: 1.2.3.4:80", "address: 1.2.3.4:80"), "4:3", "two listeners have the address 1.2.3.4:80");
    check(&two("address: 1.2.3.4:80, name: a", "address: 1.2.3.4:81, name: a"), "4:3", "two listeners are named \"a\"");

    let source = "rules: []
listen:
- { name: web, address: '[::]:8080', upstream: 'http://[::1]:5000', timeouts: { headers: 1s, idle: 5m }, limits: { headers: 10, header_bytes: 32KiB } }
";
    let (config, warnings) = understood(source);
    let listener = &config.listeners[0];
    assert_eq!(
        (listener.address.port(), listener.upstream.as_ref().map(ToString::to_string)),
        (8080, Some("http://[::1]:5000".into()))
    );
    assert_eq!(
        (listener.timeouts.headers.as_secs(), listener.timeouts.idle.as_secs(), listener.timeouts.connect.as_secs()),
        (1, 300, 5)
    );
    assert_eq!(
        (listener.limits.headers, listener.limits.header_bytes, listener.limits.connections),
        (10, 32 << 10, 10_000)
    );
    assert!(warnings.is_empty());
}

#[test]
fn listeners_for_tcp() {
    let tcp = |more: &str| format!("rules: []\nlisten:\n- {{ address: 1.2.3.4:25, protocol: tcp, {more} }}\n");
    let check_tcp = |more: &str, column: usize, what: &str| {
        check(&tcp(more), &format!("3:{}", column + "- { address: 1.2.3.4:25, protocol: tcp, ".len()), what);
    };
    check_only(&tcp("name: smtp"), "3:3: a TCP listener needs the key \"upstream\"");
    check_only(&tcp("upstraem: a:1"), "3:41: unknown key \"upstraem\" in a TCP listener, did you mean \"upstream\"?");
    for wrong in ["a", "http://a", "tcp://a:1", "a:1/b", "::1:25", "'[::1]'", "':25'", "a b:1"] {
        check_tcp(&format!("upstream: {wrong}"), 11, "expected HOST:PORT of a TCP listener's upstream");
    }
    check_tcp("upstream: 'a:0'", 11, "the port is not one from 1 to 65535, expected HOST:PORT");
    check_tcp(
        "upstream: a:1, timeouts: { headers: 1s }",
        28,
        "unknown key \"headers\" in the timeouts of a TCP listener",
    );
    check_tcp("upstream: a:1, timeouts: { first_byte: 1s }", 28, "expected connect or idle");
    check_tcp(
        "upstream: a:1, limits: { header_bytes: 64KiB }",
        26,
        "unknown key \"header_bytes\" in the limits of a TCP",
    );
    check_tcp("upstream: a:1, limits: { headers: 5 }", 26, "expected connections");
    check_tcp("upstream: a:1, proxy_protocol: yes", 32, "proxy_protocol: expected true or false");
    check_tcp("upstream: a:1, proxy_protocol: true", 32, "expected `trusted_proxies:` at the top of the file");
    check_tcp("upstream: a:1, send_proxy_protocol: v3", 37, "expected v1 or v2");
    let http = "rules: []\nlisten: [ { address: 1.2.3.4:80, upstream: http://a, send_proxy_protocol: v1 } ]\n";
    check(http, "2:75", "each named in X-Forwarded-For; expected `protocol: tcp` beside it");
    let udp =
        "rules: []\nlisten: [ { address: 1.2.3.4:80, protocol: udp, upstream: a:1, timeouts: { headers: 1s } } ]\n";
    check_only(udp, "2:44: protocol \"udp\": expected http or tcp");

    let source = "rules: []
trusted_proxies: [ { from: 10.0.0.0/8, header: X-Forwarded-For } ]
listen:
- { name: smtp, address: '[::]:25', protocol: tcp, upstream: '[::1]:2525', proxy_protocol: true, send_proxy_protocol: v2, timeouts: { headers: 3s, connect: 1s, idle: 5m }, limits: { connections: 10 } }
- { address: 1.2.3.4:80, upstream: http://a, proxy_protocol: true }
";
    let (config, warnings) = understood(source);
    let [smtp, web] = config.listeners.as_slice() else { panic!("{config:?}") };
    assert_eq!((smtp.protocol(), smtp.proxy_protocol), (Protocol::Tcp, true));
    assert_eq!(smtp.upstream.as_ref().map(ToString::to_string), Some("tcp://[::1]:2525".to_owned()));
    assert_eq!(smtp.send_proxy_protocol, Some(ProxyVersion::V2));
    assert_eq!((smtp.timeouts.headers.as_secs(), smtp.timeouts.idle.as_secs(), smtp.limits.connections), (3, 300, 10));
    assert_eq!((web.protocol(), web.proxy_protocol, web.send_proxy_protocol), (Protocol::Http, true, None));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn trusted_proxies() {
    let proxy = |text: &str| format!("rules: []\ntrusted_proxies:\n- {{ {text} }}\n");
    check(&proxy("from: 10.0.0.0/33, header: A"), "3:11", "expected an address");
    check(&proxy("from: [], header: A"), "3:11", "at least one address");
    check(&proxy("from: { file: gone.txt }, header: A"), "3:19", "no such file");
    check(
        &proxy("from: { file: broken.txt }, header: A"),
        "3:19",
        "file \"broken.txt\": expected an address, a subnet or all in every line, line 2 has \"example.org\"",
    );
    check(
        &proxy("from: { file: prose.txt }, header: A"),
        "3:19",
        "line 1 has \"no\", line 2 has \"address\", line 3 has \"in\", line 4 has \"any\", line 5 has \"of\", and 2 more",
    );
    check(&proxy("from: 10.0.0.0/8"), "3:3", "a trusted proxy needs the key \"header\"");
    check(&proxy("from: 10.0.0.0/8, header: 'X Y'"), "3:31", "expected the name of a header");
    understood(&proxy(
        "from: [10.0.0.0/8, { file: office.txt }, all, '${HOME_NET}'], header: X-Forwarded-For, vouches: X-User",
    ));
    check(&proxy("from: '${NO_NET}', header: A"), "3:11", "NO_NET");
}

#[test]
fn rules() {
    check("rules: [ { limit: 5/minute } ]", "1:10", "a rule needs the key \"name\"");
    check("rules: [ { name: a } ]", "1:10", "a rule needs the key \"limit\"");
    check("rules: [ { name: 1a, limit: 5/minute } ]", "1:18", "expected a letter");
    check("rules: [ { name: api.1, limit: 5/minute } ]", "1:18", "not ending in a dot and digits");
    check("rules:\n- { name: a, limit: 1/s }\n- { name: A, limit: 1/s }\n", "3:11", "the rule in line 2 has it too");
    check("rules: [ { name: a, limit: 5/fortnight } ]", "1:30", "expected a unit");
    check("rules: [ { name: a, limit: '5/fortnight' } ]", "1:31", "expected a unit");
    check("rules: [ { name: a, limit: [5/minute] } ]", "1:28", "limit: expected text, found a list");
    check_help("rules: [ { name: a, limit: [5/hour, 10/day] } ]", "write \"5/hour; 10/day\"");
    check(
        "rules: [ { name: a, limit: 5/minut } ]",
        "1:30",
        "at character 3, found \"minut\", did you mean \"minute\"?",
    );
    check_rule("algorithm: fixd-window", 12, "did you mean \"fixed-window\"?");
    check(
        "rules: [ { name: a, limit: 5/minute burst 2, algorithm: fixed-window } ]",
        "1:28",
        "fixed-window has no burst",
    );
    check("rules: [ { name: a, limit: 0/minute burst 2 } ]", "1:28", "amount 0 with a burst");
    check("rules: [ { name: a, limit: 10001/minute, algorithm: sliding-log } ]", "1:28", "at most 10000");
    check_rule("by: clients", 5, "by \"clients\": expected client");
    check_rule("by: client/33/64", 5, "expected client");
    check_rule("by: subnet", 5, "expected a match.client");
    check_rule("by: route", 5, "expected a match.path");
    check_rule("overrides: [ { limit: 6/minute } ]", 14, "at least one condition");
    check_rule("overrides: [ { client: 10.0.0.1 } ]", 14, "an override needs the key \"limit\"");
    check_rule("cost: 0", 7, "expected a whole number from 1");
    check_rule("cost: { header: X-Cost }", 7, "a cost needs the key \"default\"");
    check_rule("count: some", 8, "expected all");
    check_help("rules: [ { name: a, limit: 1/s, count: [401, 403] } ]", "write { status: [401, 403] }");
    check_help("rules: [ { name: a, limit: 1/s, count: 401 } ]", "write { status: [401] }");
    check_rule("count: { status: [600] }", 19, "expected a whole number from 100 to 599");
    check_rule("count: { status: 401 }, mode: shadow", 31, "cannot count by status");
    check_rule("mode: shadows", 7, "did you mean \"shadow\"?");
    check_rule("store: redis", 8, "expected memory");
    check_rule("on_store_error: fail", 17, "expected one of local, allow, deny");
    check_rule("lease: 0", 8, "expected a whole number from 1");
    check_rule("algorithm: token-bucket, lease: 100", 33, "lease: token-bucket has no windows to share out");
    check("rules: [ { name: a, limit: 1/s, by: user } ]", "1:37", "expected `user:`");
}

#[test]
fn conditions() {
    check_rule("match: { paths: /a }", 10, "did you mean \"path\"?");
    check_rule("match: { path: '~(' }", 16, "unclosed group");
    check_rule("match: { path: '~(a{1000}){1000}' }", 16, "too large once compiled");
    check_rule("match: { path: a/b }", 16, "expected it to start with");
    check_rule("match: { path: [] }", 16, "at least one value");
    check_rule("match: { path: '/a?b=c' }", 16, "a path has no query");
    check_rule("match: { path: '/a#b' }", 16, "no fragment");
    check_rule(
        "match: { content_type: 'text/html; charset=utf-8' }",
        24,
        "without parameters, such as application/json",
    );
    for host in ["example.com:8080", "http://example.com", "example.com/", "*:443", "::1", "[::1]:80"] {
        check_rule(&format!("match: {{ host: '{host}' }}"), 16, "expected the name alone");
    }
    understood("rules: [ { name: a, limit: 1/s, match: { path: '~/a(b)?', host: ['[::1]', '~(?:a|b)', '*.a'] } } ]");
    check_rule("match: { header: {} }", 18, "at least one name");
    check_rule("match: { method: 'G ET' }", 18, "expected a method");
    check_rule("match: { header: X-A }", 18, "a map of names and values");
    check_rule("match: { header: { 'X A': b } }", 20, "is not the name of a header");
    check_rule("match: { user: maybe }", 16, "true or false");
    check_rule("match: { client: everybody }", 18, "expected an address");
    check_rule("except: [ { rest: true } ]", 13, "unknown key \"rest\"");
    check("rules: [ { name: a, limit: 1/s, match: { user: true } } ]", "1:48", "nothing tells users from guests");
    let listen = "listen: [ { name: web, address: '1.2.3.4:80', upstream: http://a } ]\n";
    check(
        &format!("{listen}rules: [ {{ name: a, limit: 1/s, match: {{ listener: wep }} }} ]"),
        "2:52",
        "did you mean \"web\"?",
    );
    // Without `listen`, as for a replay, listeners are somebody else's matter.
    understood("rules: [ { name: a, limit: 1/s, match: { listener: web } } ]");
}

#[test]
fn answers() {
    check_rule("on_limit: { status: 99 }", 21, "expected a whole number from 200 to 599");
    check_rule("on_limit: { status: 204 }", 21, "an answer with a body");
    check_rule("on_limit: { default: jsn }", 22, "did you mean \"json\"?");
    check_rule("on_limit: { body: { xml: a } }", 21, "unknown key \"xml\"");
    check_rule("on_limit: { body: { html: { file: gone.html } } }", 35, "no such file");
    check_rule("on_limit: { body: { html: { } } }", 27, "a body needs the key \"inline\"");
    check_rule("on_limit: { headers: { Content-Length: 5 } }", 24, "the connection sets it");
    check_rule("on_limit: { headers: { X-A: \"a\\r\\nb\" } }", 29, "a header value in printable ASCII");
    understood(
        "on_limit: { status: 503, body: text }\nrules: [ { name: a, limit: 1/s, on_limit: { body: { html: { file: body.html } } } } ]",
    );
}

#[test]
fn what_looks_wrong_is_a_warning() {
    #[track_caller]
    fn warns(source: &str, place: &str, what: &str) {
        let (_, warnings) = understood(source);
        assert!(warnings.iter().all(|warning| warning.severity == Severity::Warning));
        let said = said(source);
        assert!(
            said.iter().any(|said| said.starts_with(&format!("{place}: ")) && said.contains(what)),
            "{what} in {said:?}"
        );
    }
    warns("rules: []\non_limit: { body: 'in {retry_afer} s' }", "2:19", "did you mean {retry_after}?");
    warns("rules: []\non_limit: { body: { json: { inline: '{Limit}' } } }", "2:37", "did you mean {limit}?");
    warns("rules: []\non_limit: { status: 200 }", "2:21", "take the denial for a success");
    warns("rules: []\non_limit: { headers: { retry-after: 5 } }", "2:24", "replaces what tollgate says");
    let text =
        r#"rules: []\non_limit: { body: 'p {color: red} {"a":{limit}} {who} {}', status: 400, headers: { X-A: b } }"#;
    assert_eq!(said(&text.replace("\\n", "\n")), [""; 0]);
    warns("listen: [ { address: '1.2.3.4:80' } ]\nrules: []", "1:11", "no upstream");
    warns("rules: [ { name: a, limit: 1/day } ]", "1:28", "a restart pardons");
    warns("rules: [ { name: a, limit: 1/month } ]", "1:28", "a month is 30 days");
    warns("rules: [ { name: a, limit: 5/minute, cost: 6 } ]", "1:28", "can never let anything pass");
    warns(
        "rules:\n- { name: a, limit: 1/s }\n- { name: b, limit: 1/s, match: { rest: true } }",
        "3:11",
        "can never fit",
    );
    let tcp = "listen: [ { name: smtp, address: '1.2.3.4:25', protocol: tcp, upstream: 'a:1' } ]\n";
    warns(&format!("{tcp}rules: [ {{ name: a, limit: 1/s, match: {{ path: /a }} }} ]"), "2:18", "can never fit");
    warns(&format!("{tcp}rules: [ {{ name: a, limit: 1/s, by: host }} ]"), "2:18", "its listeners speak TCP");
    let both = tcp.replace(" ]", ", { name: web, address: '1.2.3.4:80', upstream: http://a } ]");
    assert_eq!(said(&format!("{both}rules: [ {{ name: a, limit: 1/s, match: {{ path: /a }} }} ]")), [""; 0]);
    let for_tcp = "match: { path: /a, listener: smtp }";
    warns(&format!("{both}rules: [ {{ name: a, limit: 1/s, {for_tcp} }} ]"), "2:18", "its listeners speak TCP");
    warns("rules: [ { name: a, limit: 1/s, match: { client: 10.0.0.1/8 } } ]", "1:50", "means 10.0.0.0/8");
    warns("rules: [ { name: a, limit: 1/s, match: { client: { file: sloppy.txt } } } ]", "1:58", "means 192.0.2.0/24");
    let proxies = "trusted_proxies: [ { from: 10.0.0.0/8, header: X-Forwarded-For, vouches: X-Plan } ]\n";
    warns(&format!("{proxies}rules: [ {{ name: a, limit: 1/s, by: header:X-User }} ]"), "2:18", "X-User");
    let cost = "rules: [ { name: a, limit: 1/s, cost: { header: X-Cost, default: 1 } } ]";
    warns(cost, "1:18", "any client can say in X-Cost");
    let vouched = format!("{proxies}rules: [ {{ name: a, limit: 1/s, by: header:x-plan }} ]");
    assert!(said(&vouched).is_empty(), "{:?}", said(&vouched));
    assert!(
        said("rules: [ { name: a, limit: 1/month, algorithm: calendar-window } ]")
            .iter()
            .all(|said| !said.contains("30 days"))
    );
}

#[test]
fn the_example_of_the_documentation_is_understood() {
    let documented = include_str!("../../../../docs/policy.md");
    let example = documented.split("```yaml").nth(1).and_then(|rest| rest.split("```").next());
    let example = example
        .expect("docs/policy.md shows a policy")
        .replace("cloudflare.txt", "office.txt")
        .replace("limited.html", "body.html");
    let (config, _) = understood(&example);
    assert_eq!(config.policy.rules().len(), 1);
    assert_eq!(config.listeners.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is written, there is an answer, and every mistake points into the file.
    #[test]
    fn no_text_is_too_strange(words in proptest::collection::vec(
        prop_oneof![
            Just("rules:"), Just("\n"), Just("  "), Just("- "), Just("name: a"), Just("limit: 5/minute"), Just("match:"), Just("{ "),
            Just(" }"), Just("[ "), Just(" ]"), Just(", "), Just("path: /a"), Just("by: client"), Just("&a "), Just("*a"), Just("'"),
            Just("\""), Just("${HOME_NET}"), Just("${"), Just("listen:"), Just("address: 1.2.3.4:5"), Just("é"), Just("\t"), Just("# c"),
            Just("overrides:"), Just("except:"), Just("on_limit:"), Just("|"), Just("~("), Just("null"), Just("true"), Just("---\n"),
        ],
        0..40,
    )) {
        let source = words.concat();
        if let Err(mistakes) = read(&source, &surroundings()) {
            prop_assert!(!mistakes.is_empty());
            for mistake in mistakes {
                prop_assert!(mistake.line >= 1 && mistake.column >= 1);
                prop_assert!(mistake.line <= source.lines().count() + 1);
                mistake.render("policy", &source);
            }
        }
    }
}

#[test]
fn a_store_that_instances_share_is_understood() {
    let (config, warnings) = understood(
        "store: redis://shared\nrules:\n- { name: a, limit: 5/minute, lease: 100, on_store_error: deny }\n\
         - { name: b, limit: 5/minute, store: memory }\n",
    );
    assert_eq!(warnings, []);
    let shared = config.store.shared.expect("the file names one");
    assert_eq!((shared.url.as_str(), shared.timeout.as_millis(), shared.ca), ("redis://shared", 100, None));
    assert_eq!(config.store.counters, 100_000);
    let [a, b] = config.policy.rules() else { panic!("there are two rules") };
    assert_eq!((a.sharing.lease.map(u64::from), a.sharing.on_store_error), (Some(100), OnStoreError::Deny));
    assert_eq!((a.quotas.sharing(), b.sharing.place), (a.sharing, Place::Memory));

    let shared = "store: { url: redis://shared, timeout: 250ms }\nrules:\n- { name: a, limit: 5/day";
    let about = |rest: &str| said(&format!("{shared}{rest}}}\n"));
    assert!(about("")[0].contains("an outage of the store grants a fresh quota in each instance"), "{:?}", about(""));
    assert_eq!(about(", on_store_error: allow"), [""; 0]);
    assert!(about(", store: memory")[0].contains("counted in memory only"), "{:?}", about(", store: memory"));
    let lease = said("rules:\n- { name: a, limit: 5/minute, lease: 2 }\n");
    assert!(lease[0].contains("a lease says nothing without a store that instances share"), "{lease:?}");
}
