//! Another policy while `serve` runs: on SIGHUP, and with `--watch` when the file has changed.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::json;
use testbed::wait_for;
use tollgate::clock::Clock;

use crate::{
    answering::{Answering, ok, status},
    command::{File, run, tollgate},
    serving::{PATIENCE, Serving, connect},
};

/// A listener at any port and one rule for everybody together, with this limit.
fn policy(limit: &str) -> String {
    format!("listen: [{{ address: 127.0.0.1:0 }}]\nrules: [{{ name: api, by: [], limit: {limit} }}]\n")
}

/// A connection on which one request follows another.
struct Asking {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Asking {
    fn at(address: SocketAddr) -> Self {
        let stream = connect(address);
        let answers = BufReader::new(stream.try_clone().expect("a second handle"));
        Self { stream, answers }
    }

    /// The status code, and how much is left by the `RateLimit` header; none if there is no answer.
    fn get(&mut self) -> Option<(u16, Option<u64>)> {
        self.stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").ok()?;
        let (mut head, mut line) = (String::new(), String::new());
        while line != "\r\n" {
            line.clear();
            if self.answers.read_line(&mut line).ok()? == 0 {
                return None;
            }
            head.push_str(&line);
        }
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let mut body = vec![0; header("content-length")?.parse().ok()?];
        self.answers.read_exact(&mut body).ok()?;
        let left = header("ratelimit").and_then(|said| said.split(";r=").nth(1)?.split(';').next()?.parse().ok());
        Some((head.split(' ').nth(1)?.parse().ok()?, left))
    }

    #[track_caller]
    fn code(&mut self) -> u16 {
        self.get().expect("an answer").0
    }
}

#[test]
fn a_hang_up_brings_the_new_limit_and_keeps_what_was_used() {
    let file = File::new("policy.yaml", &policy("3/hour"));
    let server = Serving::start(&[file.path()]);
    let mut client = Asking::at(server.address);
    assert_eq!([(); 4].map(|()| client.code()), [200, 200, 200, 429]);

    fs::write(file.path(), policy("5/hour")).expect("it can be written");
    server.signal("HUP");
    // What the old policy had counted is told before it goes.
    server.says("api 4 seen, 1 denied, most everybody: 1");
    server.says("reloaded: api 3/hour → 5/hour keeps its counters");
    assert_eq!([(); 3].map(|()| client.code()), [200, 200, 429]);

    server.signal("HUP");
    server.says("reloaded: nothing changed");
    assert_eq!(client.code(), 429);

    fs::write(file.path(), policy("5/minute")).expect("it can be written");
    server.signal("HUP");
    server.says("reloaded: api 5/hour → 5/minute begins anew unless it counted so before");
    assert_eq!(client.code(), 200);

    // As it had before.
    fs::write(file.path(), policy("5/hour")).expect("it can be written");
    server.signal("HUP");
    server.says("reloaded: api 5/minute → 5/hour begins anew unless it counted so before");
    assert_eq!(client.code(), 429);
}

#[test]
fn a_wrong_file_changes_nothing_and_is_told_with_line_and_column() {
    let file = File::new("policy.yaml", &policy("1/hour"));
    let server = Serving::start(&[file.path()]);
    let mut client = Asking::at(server.address);
    assert_eq!(client.code(), 200);
    for (text, why) in [
        (policy("9/fortnight"), "policy.yaml:2:39"),
        ("rules: []".to_owned(), "it says nowhere to listen"),
        (String::new(), "policy.yaml:1:1"),
    ] {
        fs::write(file.path(), text).expect("it can be written");
        server.signal("HUP");
        let said = server.says("not reloaded, everything stays as it was: ");
        assert!(said.contains(why), "{why} in {said}");
        assert_eq!(client.code(), 429);
    }
    fs::remove_file(file.path()).expect("it is there");
    server.signal("HUP");
    assert!(server.says("not reloaded").contains("policy.yaml: no such file"));
    assert_eq!(client.code(), 429);
}

/// A pipe in the policy's place once hung the thread that reloads, for ever and without a word.
#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_and_ends_no_reloading() {
    let file = File::new("policy.yaml", &policy("1/hour"));
    let server = Serving::start(&[file.path(), "--watch"]);
    fs::remove_file(file.path()).expect("it is there");
    let made = Command::new("mkfifo").arg(file.path()).status();
    assert!(made.expect("mkfifo is there").success());
    server.signal("HUP");
    let why = "was: FILE: a pipe, a socket or a device, not a regular file: put a file in its place";
    server.says(&why.replace("FILE", file.path()));

    fs::remove_file(file.path()).expect("it is there");
    fs::create_dir(file.path()).expect("there is nothing");
    server.signal("HUP");
    server.says(&format!("was: {}: a directory, not a regular file", file.path()));

    fs::remove_dir(file.path()).expect("it is there");
    fs::write(file.path(), policy("2/hour")).expect("it can be written");
    server.signal("HUP");
    server.says("reloaded: api 1/hour → 2/hour keeps its counters");
}

#[test]
fn a_watched_file_that_is_replaced_is_read_at_once() {
    let file = File::new("policy.yaml", &policy("1/hour"));
    let server = Serving::start(&[file.path(), "--watch"]);
    let other = file.folder().join("policy.yaml.new");
    fs::write(&other, policy("2/hour")).expect("it can be written");
    fs::rename(&other, file.path()).expect("it can be renamed");
    server.says("reloaded: api 1/hour → 2/hour keeps its counters");

    fs::write(&other, policy("2/forever")).expect("it can be written");
    fs::rename(&other, file.path()).expect("it can be renamed");
    assert!(server.says("not reloaded").contains("policy.yaml:2:39"));
}

/// Kubernetes mounts `policy.yaml → ..data/policy.yaml` and `..data → ..2026_01`, and changes where `..data` leads.
#[cfg(unix)]
#[test]
fn a_watched_link_that_leads_elsewhere_is_followed() {
    use std::os::unix::fs::symlink;
    let mount = File::new("..2026_01", "");
    let folder = mount.folder();
    let version = |name: &str, limit: &str| {
        fs::create_dir(folder.join(name)).expect("it is not there yet");
        fs::write(folder.join(name).join("policy.yaml"), policy(limit)).expect("it can be written");
    };
    version("..1", "1/hour");
    symlink("..1", folder.join("..data")).expect("a link");
    symlink("..data/policy.yaml", folder.join("policy.yaml")).expect("a link");
    let path = folder.join("policy.yaml");
    let server = Serving::start(&[path.to_str().expect("a plain name"), "--watch"]);

    version("..2", "2/hour");
    symlink("..2", folder.join("..data_tmp")).expect("a link");
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("it can be renamed");
    fs::remove_dir_all(folder.join("..1")).expect("it is there");
    server.says("reloaded: api 1/hour → 2/hour keeps its counters");
}

#[test]
fn a_watched_file_written_in_place_is_read_when_it_has_been_quiet_for_a_second() {
    const QUIET: Duration = Duration::from_millis(900);
    let clock = Clock::system();
    let file = File::new("policy.yaml", &policy("1/hour"));
    let server = Serving::start(&[file.path(), "--watch"]);
    // Half of it is valid as well.
    let (first, rest) = (
        "listen: [{ address: 127.0.0.1:0 }]\nrules:\n- { name: api, by: [], limit: 2/hour }\n",
        "- { name: more, limit: 3/hour }\n",
    );
    let began = clock.now();
    let mut written = fs::File::create(file.path()).expect("it can be written");
    written.write_all(first.as_bytes()).expect("it can be written");
    thread::sleep(Duration::from_millis(500));
    let again = clock.now();
    written.write_all(rest.as_bytes()).expect("it can be written");
    let paused = clock.now().since(began);
    let said = server.hears("rule more added");
    assert!(clock.now().since(again) >= QUIET);
    // On a machine that held the writer up, half of it has been quiet for as long.
    assert!(said.is_empty() || paused >= QUIET, "{said:#?}");
}

/// A list to which a line was added every 0.4 seconds once kept every change from being read.
#[test]
fn a_file_that_never_rests_holds_up_no_other_and_not_itself_for_ever() {
    let text = |limit: &str| {
        format!(
            "listen: [{{ address: 127.0.0.1:0 }}]
rules: [{{ name: bans, match: {{ client: {{ file: bans.txt }} }}, limit: {limit} }}]
"
        )
    };
    let file = File::new("policy.yaml", &text("1/hour")).and("bans.txt", "10.0.0.0/8\n").and("new", &text("2/hour"));
    let server = Serving::start(&[file.path(), "--watch"]);
    let (is_over, added) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clock = Clock::system();
    let began = clock.now();
    let adding = {
        let (path, is_over, added) = (file.folder().join("bans.txt"), Arc::clone(&is_over), Arc::clone(&added));
        thread::spawn(move || {
            let mut bans = fs::File::options().append(true).open(path).expect("it is there");
            let (clock, mut last, mut longest_pause) = (Clock::system(), None, Duration::ZERO);
            while !is_over.load(Ordering::Relaxed) {
                let before = clock.now();
                let n = added.fetch_add(1, Ordering::Relaxed);
                writeln!(bans, "192.0.2.{}", n % 256).expect("it can be written");
                let pause = last.map_or(Duration::ZERO, |last| clock.now().since(last));
                (last, longest_pause) = (Some(before), longest_pause.max(pause));
                thread::sleep(Duration::from_millis(400));
            }
            longest_pause
        })
    };
    server.says("reloaded: bans match changed keeps its counters");
    let never_rested_for = clock.now().since(began);

    // In lines, which are not added either while the machine does nothing: by themselves they are read after twelve.
    let before = added.load(Ordering::Relaxed);
    fs::rename(file.folder().join("new"), file.path()).expect("it can be renamed");
    server.says("reloaded: bans 1/hour → 2/hour");
    let meanwhile = added.load(Ordering::Relaxed) - before;
    assert!(meanwhile < 11, "{meanwhile}");
    is_over.store(true, Ordering::Relaxed);
    let longest_pause = adding.join().expect("it could be written");
    // On a machine that held up the thread that adds, the list has rested.
    let has_rested = longest_pause >= Duration::from_millis(900);
    assert!(has_rested || never_rested_for >= Duration::from_secs(4), "{never_rested_for:?}");
}

/// What stood in the way of reading a file need not have changed the file.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_could_not_be_read_is_tried_again_and_told_once() {
    let file = File::new("policy.yaml", &policy("1/hour"));
    let server = Serving::start(&[file.path(), "--watch"]);
    let allow = |files: &str| {
        let limit = format!("--nofile={files}:");
        Command::new("prlimit").args(["--pid", &server.id().to_string(), &limit]).status()
    };
    let Ok(allowed) = allow("3") else {
        return; // There is no prlimit to try it with.
    };
    assert!(allowed.success());
    server.signal("HUP");
    server.says("policy.yaml: Too many open files");
    // It is tried after one second and after three.
    thread::sleep(Duration::from_secs(4));
    assert!(allow("1024").expect("it is there").success());
    let said = server.hears("reloaded: nothing changed");
    assert!(said.is_empty(), "{said:#?}");
}

#[cfg(unix)]
#[test]
fn another_permission_is_a_change() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = File::new("policy.yaml", &policy("1/hour"));
    let server = Serving::start(&[file.path(), "--watch"]);
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).expect("it is ours");
    server.says("reloaded: nothing changed");
}

#[test]
fn a_watched_file_that_stays_away_is_missed_once_and_its_return_is_told() {
    let file = File::new("policy.yaml", &policy("1/hour"));
    let server = Serving::start(&[file.path(), "--watch"]);
    let away = file.folder().join("away.yaml");
    fs::rename(file.path(), &away).expect("it can be renamed");
    let why = "policy.yaml: no such file; what was read from it stays in force until it is back";
    assert!(server.says(why).contains("WARN"));
    thread::sleep(Duration::from_secs(1));
    fs::rename(&away, file.path()).expect("it can be renamed");
    let said = server.hears("policy.yaml is back");
    assert!(said.is_empty(), "{said:#?}");
}

#[test]
fn a_file_that_the_policy_names_is_watched_too() {
    let text = "\
listen: [{ address: 127.0.0.1:0 }]
rules: [{ name: office, match: { client: { file: office.txt } }, limit: 0/hour }]
";
    let file = File::new("policy.yaml", text).and("office.txt", "10.0.0.0/8\n").and("new.txt", "127.0.0.1\n");
    let server = Serving::start(&[file.path(), "--watch"]);
    assert_eq!(Asking::at(server.address).code(), 200);
    fs::rename(file.folder().join("new.txt"), file.folder().join("office.txt")).expect("it can be renamed");
    server.says("reloaded: office match changed keeps its counters");
    assert_eq!(Asking::at(server.address).code(), 429);
}

/// Listeners of any port are told apart by their order.
#[test]
fn listeners_come_and_go_and_those_that_stay_keep_their_connections() {
    let (one, two) = (Answering::start(|_| status(201, "")), Answering::start(|_| ok()));
    let listener = |to: SocketAddr| format!("{{ address: 127.0.0.1:0, upstream: 'http://{to}' }}");
    let policy = |listeners: &[String]| format!("listen: [{}]\nrules: []\n", listeners.join(", "));
    let file = File::new("policy.yaml", &policy(&[listener(one.address)]));
    let server = Serving::start(&[file.path()]);
    let mut kept = Asking::at(server.address);
    assert_eq!(kept.code(), 201);

    fs::write(file.path(), policy(&[listener(two.address), listener(one.address)])).expect("it can be written");
    server.signal("HUP");
    let added = server.listens();
    server.says(&format!(
        "listener 127.0.0.1:0 http://{} → http://{}, listener 127.0.0.1:0 added",
        one.address, two.address
    ));
    assert_eq!(kept.code(), 200, "from its next request on, the new upstream answers");
    let mut of_added = Asking::at(added);
    assert_eq!(of_added.code(), 201);

    fs::write(file.path(), policy(&[listener(two.address)])).expect("it can be written");
    server.signal("HUP");
    server.says("reloaded: listener 127.0.0.1:0 removed");
    assert_eq!(kept.code(), 200);
    assert_eq!(of_added.get(), None, "what is idle there is closed");
    // A worker lets go of its socket a moment after it has been told to.
    wait_for("nobody to listen there any more", PATIENCE, || TcpStream::connect(added).is_err().then_some(()));
    let (status, _) = server.end("TERM");
    assert_eq!(status.code(), Some(0));
}

/// A request is settled by the policy that decided it, and its listener is waited for.
#[test]
fn what_is_in_flight_is_finished_as_it_began() {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let to = format!("upstream: 'http://{}'", upstream.local_addr().expect("it is bound"));
    let policy = |listeners: usize, count: &str| {
        let listeners = vec![format!("{{ address: 127.0.0.1:0, {to} }}"); listeners].join(", ");
        format!("listen: [{listeners}]\nrules: [{{ name: api, by: [], limit: 1/hour{count} }}]\n")
    };
    let file = File::new("policy.yaml", &policy(2, ", count: { status: [401] }"));
    let server = Serving::start(&[file.path()]);
    let removed = server.listens();
    let answers = thread::spawn(move || {
        let mut client = Asking::at(removed);
        (client.code(), client.get())
    });
    let (mut asked, _) = upstream.accept().expect("it is asked");
    let mut head = [0; 16];
    asked.read_exact(&mut head).expect("a request");

    fs::write(file.path(), policy(1, "")).expect("it can be written");
    server.signal("HUP");
    server.says("reloaded: api count changed keeps its counters, listener 127.0.0.1:0 removed");
    asked.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("it can be answered");
    assert_eq!(answers.join().expect("no panic"), (200, None), "the last answer, and then the end");

    // The first policy gave back what was not answered with 401, and the second gives nothing back.
    let answering = thread::spawn(move || {
        let (mut asked, _) = upstream.accept().expect("it is asked");
        asked.read_exact(&mut head).expect("a request");
        asked.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("it can be answered");
        asked
    });
    let mut client = Asking::at(server.address);
    assert_eq!([client.code(), client.code()], [200, 429]);
    drop(answering.join().expect("no panic"));
}

#[test]
fn a_relayed_connection_outlives_its_policy_and_its_listener() {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let listener = format!(
        "{{ address: 127.0.0.1:0, protocol: tcp, upstream: '{}' }}",
        upstream.local_addr().expect("it is bound")
    );
    let policy = |listeners: &[&str], limit: &str| {
        format!("listen: [{}]\nrules: [{{ name: tcp, limit: {limit} }}]\n", listeners.join(", "))
    };
    let file = File::new("policy.yaml", &policy(&[&listener, "{ address: 127.0.0.1:0 }"], "2/hour"));
    let server = Serving::start(&[file.path()]);
    let mut client = connect(server.address);
    let (mut behind, _) = upstream.accept().expect("it is connected");
    let mut passes = |said: &[u8; 4]| {
        client.write_all(said).expect("it can be written");
        let mut heard = [0; 4];
        behind.read_exact(&mut heard).expect("it arrives");
        assert_eq!(&heard, said);
    };
    passes(b"one.");
    fs::write(file.path(), policy(&[&listener, "{ address: 127.0.0.1:0 }"], "1/hour")).expect("it can be written");
    server.signal("HUP");
    server.says("reloaded: tcp 2/hour → 1/hour keeps its counters");
    passes(b"two.");
    let denied = connect(server.address).read(&mut [0; 1]);
    assert_eq!(denied.expect("an end"), 0, "one is used, and one is the limit now");

    // Its port now speaks HTTP, and the other port, known by its order, is gone.
    fs::write(file.path(), policy(&["{ address: 127.0.0.1:0 }"], "1/hour")).expect("it can be written");
    server.signal("HUP");
    server.says("listener 127.0.0.1:0 removed");
    passes(b"six.");
}

#[test]
fn a_listener_that_changes_its_protocol_keeps_its_port() {
    let upstream = Answering::start(|_| ok());
    let listener = |more: &str| format!("listen: [{{ address: 127.0.0.1:0, {more} }}]\nrules: []\n");
    let file = File::new("policy.yaml", &listener(&format!("upstream: 'http://{}'", upstream.address)));
    let server = Serving::start(&[file.path()]);
    let mut before = Asking::at(server.address);
    assert_eq!(before.code(), 200);

    let tcp = format!("protocol: tcp, upstream: '{}'", upstream.address);
    fs::write(file.path(), listener(&tcp)).expect("it can be written");
    server.signal("HUP");
    server.says("reloaded: listener 127.0.0.1:0 http://");
    // What it asks before it is taken leave of may still be answered.
    wait_for("who came by HTTP to have to come again", PATIENCE, || before.get().is_none().then_some(()));
    // Through TCP the upstream's answer comes as it is, in its own spelling.
    let mut stream = connect(server.address);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").expect("it can be asked");
    let mut answer = [0; 30];
    stream.read_exact(&mut answer).expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\nContent-Leng"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_port_that_is_taken_refuses_the_whole_reload() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().map(|address| (taken, address)).expect("it is bound");
    let file = File::new("policy.yaml", &policy("1/hour"));
    let server = Serving::start(&[file.path()]);
    let text = format!(
        "listen: [{{ address: 127.0.0.1:0 }}, {{ address: 127.0.0.1:0 }}, {{ address: '{}' }}]\nrules: []\n",
        taken.1
    );
    fs::write(file.path(), text).expect("it can be written");
    server.signal("HUP");
    let why = format!("not reloaded, everything stays as it was: cannot listen on {}: the port is in use", taken.1);
    server.says(&why);
    let mut client = Asking::at(server.address);
    assert_eq!([client.code(), client.code()], [200, 429]);
}

/// Signals that came before the start was finished once killed the server without a word.
#[cfg(unix)]
#[test]
fn signals_are_heard_before_the_start_is_finished() {
    let starting = |file: &File| {
        let path = file.folder().join("pipe");
        assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo is there").success());
        let server = Serving::begin(tollgate().arg("serve").arg(&path));
        // Whoever opens a pipe waits until somebody else does, and whoever reads it until everything is written.
        let (opened, opening) = mpsc::channel();
        thread::spawn(move || opened.send(fs::File::options().write(true).open(path)));
        let pipe = opening.recv_timeout(PATIENCE).expect("it is being read").expect("it can be written");
        (server, pipe)
    };
    for signal in ["TERM", "INT"] {
        let file = File::new("policy.yaml", "");
        let (server, _pipe) = starting(&file);
        let (status, log) = server.end(signal);
        assert_eq!(status.code(), Some(0), "{signal}: {log}");
        assert!(log.contains("stopped"), "{signal}: {log}");
    }

    let file = File::new("policy.yaml", "");
    let (server, mut pipe) = starting(&file);
    server.signal("HUP");
    pipe.write_all(policy("1/hour").as_bytes()).expect("somebody reads it");
    drop(pipe);
    server.listens();
    server.says("not reloaded, everything stays as it was: ");
    assert_eq!(server.end("TERM").0.code(), Some(0));
}

/// As in `tollgate serve <(…)`.
#[cfg(unix)]
#[test]
fn a_policy_can_come_from_a_pipe_at_the_start_and_not_again() {
    let (read, mut written) = std::io::pipe().expect("a pipe");
    written.write_all(policy("1/hour").as_bytes()).expect("it can be written");
    drop(written);
    let server = Serving::spawn(tollgate().args(["serve", "/dev/stdin"]).stdin(Stdio::from(read)));
    assert_eq!(Asking::at(server.address).code(), 200);
    server.signal("HUP");
    server.says("not reloaded, everything stays as it was: /dev/stdin: a pipe");
}

#[test]
fn another_store_takes_a_restart_and_the_rest_of_the_file_holds() {
    let file = File::new("policy.yaml", &policy("1/hour"));
    let server = Serving::start(&[file.path()]);
    let text = format!("store: {{ memory: {{ counters: 5 }} }}\n{}", policy("2/hour"));
    fs::write(file.path(), text).expect("it can be written");
    server.signal("HUP");
    server.says("reloaded: api 1/hour → 2/hour keeps its counters, store changed, which takes a restart");
    let mut client = Asking::at(server.address);
    assert_eq!([(); 3].map(|()| client.code()), [200, 200, 429]);
    server.signal("HUP");
    server.says("reloaded: store changed, which takes a restart");
}

/// Must hold for every request of every connection: it has an answer, and is counted once, whatever is reloaded meanwhile.
#[test]
fn two_hundred_reloads_under_load_fail_no_request_and_refill_no_counter() {
    const AMOUNTS: [u64; 2] = [10_000_000, 9_000_000];
    let file = File::new("policy.yaml", &policy(&format!("{}/day", AMOUNTS[0])));
    let server = Serving::start(&[file.path()]);
    let (address, is_over) = (server.address, Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                let mut client = Asking::at(address);
                let mut allowed = 0_u64;
                while !is_over.load(Ordering::Relaxed) {
                    assert_eq!(client.code(), 200);
                    allowed += 1;
                }
                allowed
            })
        })
        .collect();
    for n in 1..=200 {
        let other = file.folder().join("new.yaml");
        fs::write(&other, policy(&format!("{}/day", AMOUNTS[n % 2]))).expect("it can be written");
        fs::rename(&other, file.path()).expect("it can be renamed");
        server.signal("HUP");
        server.says("reloaded: api ");
    }
    is_over.store(true, Ordering::Relaxed);
    let allowed: u64 = clients.into_iter().map(|client| client.join().expect("no request failed")).sum();
    assert!(allowed > 200, "{allowed}");
    let (code, left) = Asking::at(address).get().expect("an answer");
    assert_eq!((code, left), (200, Some(AMOUNTS[0] - allowed - 1)), "as much is left as was not used");
}

#[test]
fn what_would_change_can_be_asked_beforehand() {
    let old = "rules: [{ name: login, limit: 3/minute }, { name: api, limit: 5/hour }]\n";
    let new = "rules: [{ name: api, limit: 10/hour }]\n";
    let file = File::new("old.yaml", old).and("new.yaml", new).and("wrong.yaml", "rules: [{ name: a, limit: 5/x }]\n");
    let named = |name: &str| file.folder().join(name).to_str().expect("a plain name").to_owned();
    let (old, new, wrong) = (named("old.yaml"), named("new.yaml"), named("wrong.yaml"));

    let ran = run(&["check", "--against", &old, &new]).exits(0);
    assert_eq!(ran.stdout, "rule login removed\napi 5/hour → 10/hour keeps its counters\n");
    let ran = run(&["check", "--against", &new, &new]).exits(0);
    assert_eq!(ran.stdout, "nothing changed\n");
    let changes = run(&["check", "--against", &old, &new, "--output", "json"]).exits(0).json();
    assert_eq!(
        changes,
        json!({
            "changes": [
                { "what": "rule", "name": "login", "change": "removed", "says": "rule login removed" },
                {
                    "what": "rule", "name": "api", "change": "changed",
                    "differences": [{ "key": "limit", "old": "5/hour", "new": "10/hour" }],
                    "counters": "kept", "says": "api 5/hour → 10/hour keeps its counters",
                },
            ],
            "warnings": [],
        })
    );
    let listening = file.folder().join("listening.yaml");
    fs::write(&listening, policy("5/hour")).expect("it can be written");
    let listening = listening.to_str().expect("a plain name");
    run(&["check", "--against", listening, &old]).exits(0).says("old.yaml:1:1: warning: it says nowhere to listen");
    run(&["check", "--against", &wrong, &new]).exits(2).says("wrong.yaml:1:29");
    run(&["check", "--against", &old, &wrong]).exits(2).says("wrong.yaml:1:29");
    run(&["check", "--against", &old, &wrong, "--output", "json"]).exits(2).says("\"column\":29");
}

#[test]
fn at_the_end_it_waits_as_long_as_it_is_told_to() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let upstream = format!("http://{}", silent.local_addr().expect("it is bound"));
    let arguments = ["--limit", "9/hour", "--listen", "127.0.0.1:0", "--upstream", &upstream, "--drain", "200ms"];
    let server = Serving::start(&arguments);
    let mut client = connect(server.address);
    client.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").expect("it can be asked");
    let _asked = silent.accept().expect("it is asked");
    let (status, log) = server.end("TERM");
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("closing 1 connection that had not finished"), "{log}");

    run(&["serve", "--limit", "9/hour", "--drain", "soon"]).exits(2).says("--drain").says("expected a duration");
    run(&["serve", "--limit", "9/hour", "--watch"]).exits(2).says("cannot be used with");
    run(&["serve", "-", "--watch"]).exits(2).says("standard input cannot be watched");
}
