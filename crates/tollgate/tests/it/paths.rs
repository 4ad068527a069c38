//! No spelling of a path escapes a rule for it, none sneaks into an exception, and different paths stay different.

use proptest::prelude::*;
use tollgate::policy::PathPattern;

use crate::rig::{Rig, get, rig};

/// Whether a rule for `pattern` concerns the path.
fn check(pattern: &str, path: &str, fits: bool) {
    let rig = rig(&format!("rules: [{{ name: r, match: {{ path: '{pattern}' }}, limit: 0/hour }}]"));
    assert_eq!(!rig.allows(&get(path)), fits, "{pattern} and {path}");
}

#[test]
fn a_path_is_matched_as_a_whole() {
    check("/login", "/login", true);
    check("/login", "/login?next=/", true);
    check("/login", "/login2", false);
    check("/login", "/logi", false);
    check("/login", "/a/login", false);
    check("/login", "/login/a", false);
    check("/login", "/Login", false);
    check("/", "/", true);
    check("/", "/a", false);
}

#[test]
fn a_star_is_the_inside_of_a_segment_and_two_are_anything() {
    check("/v1/*", "/v1/users", true);
    check("/v1/*", "/v1/users/7", false);
    check("/v1/*/posts", "/v1/7/posts", true);
    check("/v1/*/posts", "/v1/7/8/posts", false);
    check("/v1/u*", "/v1/users", true);
    check("/v1/u*s", "/v1/us", true);
    check("/*.php", "/index.php", true);
    check("/*.php", "/a/index.php", false);
    check("/**.php", "/a/b/index.php", true);
    check("/api/**", "/api", true);
    check("/api/**", "/api/", true);
    check("/api/**", "/api/a/b", true);
    check("/api/**", "/apis", false);
    check("/*/admin/**", "/en/admin", true);
    check("/*/admin/**", "/en/admin/x/y", true);
    check("/**", "/", true);
    check("/**", "/a/b", true);
    check("**", "/a/b", true);
    check("/a/**/z", "/a/b/c/z", true);
    check("/a.b", "/axb", false);
}

#[test]
fn a_regular_expression_fits_the_whole_path() {
    check("~/v[0-9]+/.*", "/v12/users", true);
    check("~/v[0-9]+", "/v12/users", false);
    check("~/a|/b", "/b", true);
    check("~/a|/b", "/b/c", false);
    check("~(?i)/login", "/LOGIN", true);
    check("~/login", "/%6cogin", true);
}

#[test]
fn no_alternative_slips_out_of_the_anchors() {
    assert!(PathPattern::new("~/a)|(/b").is_err());
    assert!(PathPattern::new("~(a{1000}){1000}").is_err());
    assert!(PathPattern::new("login").is_err());
}

#[test]
fn routers_spellings_of_one_path_are_one_path() {
    let spellings = [
        "/api/login",
        "//api/login",
        "/api//login",
        "/api/login/",
        "/api/login//",
        "/api/./login",
        "/./api/login/.",
        "/x/../api/login",
        "/api/x/../login",
        "/../api/login",
        "/%61pi/login",
        "/api/%6Cogin",
        "/api/%6cogin",
        "/api%2Flogin",
        "/api%2flogin",
        "/api\\login",
        "/api%5Clogin",
        "\\api\\login",
        "/api/%2e/login",
        "/x/%2E%2e/api/login",
        "/x/.%2e/api/login",
        "/api/login;jsessionid=1",
        "/api;v=1/login",
        "/api/;/login",
        "/x/..;a/api/login",
        "/api/login;",
        "/api/login?x",
        "/api/login#x",
        "/api/login/x/..",
        "/x%2f..%2fapi%2flogin",
    ];
    for spelling in spellings {
        for pattern in ["/api/login", "/api/*", "/api/**", "~/api/l[a-z]+", "/%61pi//login/", "*/login"] {
            // A star at the start has no slash in it, so it fits no path that begins with one.
            check(pattern, spelling, pattern != "*/login");
        }
    }
    for other in ["/api/login%252F", "/api/login%20", "/api/logi%256E", "/api/..login", "/api/%2e%2e/login", "/login"] {
        check("/api/login", other, false);
    }
}

// A decoded byte that is no character, or a line feed, is nothing that a regular expression's dot fits; so a path that
// came with one, and with one letter encoded, fitted neither as it came nor decoded, and escaped its rule.
#[test]
fn no_odd_byte_escapes_a_regular_expression() {
    for odd in ["%0A", "%0a", "%FF", "%ff%fe", "%C3%A9", "%00", "%3F", "%23", "@%0A"] {
        check("~/api/.*", &format!("/api/{odd}"), true);
        check("~/api/.*", &format!("/%61pi/{odd}"), true);
        check("~/api/[^?]*", &format!("/x/../api//{odd}"), true);
        check("/api/*", &format!("/%61pi/{odd}"), true);
        check("/api/**", &format!("/%61pi/{odd}"), true);
    }
}

#[test]
fn an_exception_must_fit_the_path_as_it_came_and_normalised() {
    let spared = |path: &str| {
        let source = "rules: [{ name: r, except: [{ path: [/public/**, '~/open/.*'] }], limit: 0/hour }]";
        rig(source).allows(&get(path))
    };
    assert!(spared("/public"));
    assert!(spared("/public/a/b.css?v=1"));
    assert!(spared("/open/caf%C3%A9"));
    let spelled = "rules: [{ name: r, except: [{ path: [/café/**, '/my files/**', '/q%2Fr/*'] }], limit: 0/hour }]";
    for path in ["/caf%C3%A9/x", "/caf%c3%a9/x", "/my%20files/x", "/q%2Fr/x", "/q%2fr/x"] {
        assert!(rig(spelled).allows(&get(path)), "{path}");
    }
    assert!(!rig(spelled).allows(&get("/my%20files/../x")));
    for sneaky in [
        "/public/../admin",
        "/public/..%2fadmin",
        "/public/%2e%2e/admin",
        "/public\\..\\admin",
        "/public/..;/admin",
        "/admin/../public",
        "/%70ublic/a",
        "/admin%2f..%2fpublic",
        "/open/../admin",
        "/open/..%2Fadmin",
        "/open/%2e%2E/admin",
    ] {
        assert!(!spared(sneaky), "{sneaky}");
    }
}

// An attacker reached limited places of nginx, Flask and Python's own server by spellings of which they undo only a part:
// what was read with everything undone was another place, and what came was no place at all.
#[test]
fn no_router_that_undoes_a_part_is_fooled() {
    let limited = |pattern: &str, path: &str| check(pattern, path, true);
    limited("/login", "/x%5cy/../login"); // nginx takes a backslash for a letter
    limited("/login", "/x\\y/../login");
    limited("/login", "/x%2fy/../login");
    limited("/api/**", "//api/..;/../users"); // nginx takes `..;` for a name
    limited("/api/**", "/%61pi/..;/../users");
    limited("/api/**", "/%61pi/../x"); // Flask leaves dots alone
    limited("/api/**", "/%61pi/%2e%2e");
    limited("/search/*", "/s%65arch/..;q");
    limited("/search/*", "/s%65arch/q%5c..%5c..");
    limited("/files/*", "//files/a%2Fb");
    limited("/api/**", "/%2e/api//../zz/.."); // nginx with merge_slashes off climbs out of an empty segment
    limited("/api/**", "/cheap/../api//../cheap/x");
    limited("/api/login", "/api%2flogin;a%2fb"); // Tomcat drops parameters before it decodes slashes
    limited("/v1/*/**", "//v1/x/%0A"); // a line feed is nothing that a plain dot fits
    limited("/v1/*/**", "/%761/x/%FF");
    limited("/v1/*", "//v1/");
    limited("/v1/*", "/%761/");
    check("/files/%2A", "/files/x", false);
    check("/files/%2A", "/files/%2A", true);

    let source = "rules: [{ name: r, except: [{ path: /cheap/** }], limit: 0/hour }]";
    for sneaky in
        ["/cheap/../api//../cheap/x", "/cheap/a\\b/../../login", "/cheap/../api/..;/cheap/x", "/cheap/%2e%2e;/login"]
    {
        assert!(!rig(source).allows(&get(sneaky)), "{sneaky}");
    }
    let source = "rules: [{ name: r, limit: 0/hour, overrides: [{ path: /fast/**, limit: 9/hour }] }]";
    assert!(rig(source).allows(&get("/fast//x/")));
    for sneaky in ["/api/..;/fast/x", "/api/x\\..\\..\\fast/x", "/fast/../api/..;/fast/x"] {
        assert!(!rig(source).allows(&get(sneaky)), "{sneaky}");
    }
}

#[test]
fn a_path_that_could_be_several_places_is_counted_by_its_client() {
    let rig = by_path();
    for (i, path) in ["/a\\b/../login", "/c%2fd/../login", "/e/..;/login"].into_iter().enumerate() {
        assert_eq!(rig.allows(&get(path)), i == 0, "{path}");
    }
    assert!(rig.allows(&get("/a/../login")), "a plain climb leads to one place");
    assert!(!rig.allows(&get("/login")));
}

/// A path of plain segments, written in some spelling that routers take for the same.
fn spelled(segments: &[&str]) -> impl Strategy<Value = String> + use<> {
    let separator = prop::sample::select(vec![
        "/",
        "/",
        "/",
        "//",
        "/./",
        "/x/../",
        "/%2e/",
        "/y/%2E%2e/",
        "/z/.%2e/",
        "%2F",
        "%2f",
        "\\",
        "/;/",
        "/a;b/..;c/",
        "/../../",
    ]);
    let ending = prop::sample::select(vec!["", "", "/", "//", "/.", ";", ";a=b", "/;x", "/%2e", "/x/..", "\\", "%2F"]);
    let parameters = prop::sample::select(vec!["", "", "", ";v=1", ";"]);
    let segments: Vec<_> = segments
        .iter()
        .enumerate()
        .map(|(place, segment)| {
            let bytes: Vec<_> = segment.bytes().map(|byte| (Just(byte), 0..6_u8)).collect();
            let separator = separator.clone().prop_map(move |separator| {
                // What climbs would leave the segments before it, and the first must begin like a path.
                let climbs = separator == "/../../";
                if (climbs && place > 0) || (place == 0 && !separator.starts_with('/')) { "/" } else { separator }
            });
            (separator, bytes, parameters.clone())
        })
        .collect();
    (segments, ending).prop_map(|(segments, ending)| {
        let mut path = String::new();
        for (separator, bytes, parameters) in segments {
            path.push_str(separator);
            for (byte, how) in bytes {
                match how {
                    0 => path.push_str(&format!("%{byte:02X}")),
                    1 => path.push_str(&format!("%{byte:02x}")),
                    _ => path.push(char::from(byte)),
                }
            }
            path.push_str(parameters);
        }
        path + ending
    })
}

fn segment() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_~-]{1,3}(\\.[a-z]{1,2})?|caf%C3%A9|a%20b|%25"
}

/// Routers climb out of different segments of such a path.
fn could_be_several_places(path: &str) -> bool {
    let path = path.to_lowercase().replace("%2e", ".");
    path.contains("..") && [";", "\\", "%2f", "%5c"].iter().any(|differs| path.contains(differs))
}

/// One request an hour for each path.
fn by_path() -> Rig {
    rig("rules: [{ name: r, by: path, limit: 1/hour }]")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_spelling_escapes(path in spelled(&["api", "v1.0", "login"])) {
        for pattern in ["/api/v1.0/login", "/api/*/login", "/api/**", "~/api/v.*/login"] {
            let rig = rig(&format!("rules: [{{ name: r, match: {{ path: '{pattern}' }}, limit: 0/hour }}]"));
            prop_assert!(!rig.allows(&get(&path)), "{} escapes {}", path, pattern);
        }
    }

    #[test]
    fn every_spelling_is_one_path_to_count_by(one in spelled(&["api", "login"]), other in spelled(&["api", "login"])) {
        if !could_be_several_places(&one) && !could_be_several_places(&other) {
            let rig = by_path();
            prop_assert!(rig.allows(&get(&one)));
            prop_assert!(!rig.allows(&get(&other)), "{} and {}", one, other);
        }
    }

    #[test]
    fn no_spelling_of_a_limited_path_sneaks_into_an_exception(path in spelled(&["admin", "users"])) {
        let except = "[{ path: [/public/**, '~/x/.*', /y/*, '/**/z', /a;b] }]";
        let source = &format!("rules: [{{ name: r, except: {except}, limit: 0/hour }}]");
        for path in [path.clone(), format!("/public/..{path}"), format!("/public/%2e%2e{path}")] {
            prop_assert!(!rig(source).allows(&get(&path)), "{} sneaks in", path);
        }
    }

    #[test]
    fn different_paths_are_counted_apart(
        one in prop::collection::vec(segment(), 0..4),
        other in prop::collection::vec(segment(), 0..4),
        longer in segment(),
    ) {
        let other = if one == other { [other, vec![longer]].concat() } else { other };
        let rig = by_path();
        let (one, other) = (format!("/{}", one.join("/")), format!("/{}", other.join("/")));
        prop_assert!(rig.allows(&get(&one)));
        prop_assert!(rig.allows(&get(&other)), "{} and {}", one, other);
    }

    #[test]
    fn any_bytes_are_some_path(path in "/[ -~é%./;\\\\]{0,30}") {
        let rig = rig("rules: [{ name: r, match: { path: ['/a/**', '~/b.*'] }, by: [path, route], limit: 1/hour }]");
        rig.check(&get(&path));
    }
}
