//! `mod_wsgi.start_recording_metrics()` and what it records.

use crate::harness::{Conf, Request, Response, Server, at_once, eventually};

fn serve() -> Server {
    Server::serving("metrics.wsgi")
}

/// A value without its type.
fn number(shown: &Response, key: &str) -> f64 {
    let fact = shown.fact(key);
    fact.split_once(' ')
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or_else(|| panic!("{key}: {fact}"))
}

/// The window of all requests up to the one that asks, once so many have ended: a client is not kept
/// waiting for its request to be recorded.
fn window_of(server: &Server, requests: f64) -> Response {
    // Those that look are counted too, but for the one that is looking.
    let mut wanted = requests;
    eventually("every request is recorded", || {
        let process = server.get("/process");
        let all = number(&process, "request_count") >= wanted;
        wanted += 1.0;
        all.then_some(())
    });
    server.get("/request")
}

#[test]
fn nothing_is_recorded_before_a_program_asks_for_it() {
    let server = serve();
    for path in ["/request", "/process", "/request"] {
        assert_eq!(server.get(path).fact("nothing"), "NoneType None");
    }
    server.get("/start").expect(200, "");
    assert!(server.get("/request").fact("request_count").starts_with("int "));
}

#[test]
fn a_window_has_the_requests_that_ended_in_it() {
    let server = serve();
    server.get("/start").expect(200, "");
    server.get("/request");
    for _ in 0..3 {
        server.send(&Request::post("/echo", b"12345678")).expect(200, "12345678");
    }
    assert_eq!(server.get("/missing").status, 404);
    assert_eq!(server.get("/raise").status, 500);
    // Those five, the one that took the first window, and those that looked, as far as they are recorded.
    let window = window_of(&server, 6.0);
    let count = number(&window, "request_count");
    assert!(count >= 6.0, "{count}");
    assert_eq!(window.fact("status_classes.4xx"), "int 1");
    assert_eq!(window.fact("status_classes.5xx"), "int 1");
    assert_eq!(number(&window, "status_classes.2xx"), count - 2.0);
    assert_eq!(window.fact("status_classes.3xx"), "int 0");
    assert_eq!(window.fact("input_length"), "int 24");
    assert!(number(&window, "input_reads") >= 3.0);
    assert!(number(&window, "output_length") >= 24.0);
    assert!(number(&window, "output_writes") >= 3.0);
    assert!(number(&window, "gil_wait_count") >= 3.0, "reading a body lets the GIL go");
    let period = number(&window, "stop_time") - number(&window, "start_time");
    assert_eq!(number(&window, "sample_period"), period);
    let threads = window.fact("threads");
    assert!(threads.contains("'thread_id': ") && threads.contains("'cpu_time': "), "{threads}");
    // The next has only the one that took the last.
    let next = eventually("the next window", || {
        let next = server.get("/request");
        (number(&next, "request_count") == 1.0).then_some(next)
    });
    assert_eq!(next.fact("status_classes.5xx"), "int 0");
    assert_eq!(next.fact("input_length"), "int 0");
}

#[test]
fn times_have_a_mean_the_ends_and_a_histogram() {
    let server = serve();
    server.get("/start").expect(200, "");
    for _ in 0..5 {
        server.get("/echo").expect(200, "");
    }
    let window = window_of(&server, 5.0);
    let count = number(&window, "request_count");
    for phase in [
        "server_time",
        "application_time",
        "input_time",
        "output_time",
        "gil_wait_time",
        "cpu_time",
    ] {
        let of = |key: &str| number(&window, &format!("{phase}.{key}"));
        assert_eq!(of("count"), count, "{phase}");
        assert!(0.0 <= of("min") && of("min") <= of("mean") && of("mean") <= of("max"), "{phase}");
        let buckets = window.fact(&format!("{phase}.buckets"));
        let buckets = buckets.strip_prefix("list [").and_then(|list| list.strip_suffix(']'));
        let buckets: Vec<f64> = buckets
            .expect("a list")
            .split(", ")
            .map(|bucket| bucket.parse().expect("a number"))
            .collect();
        assert_eq!(buckets.len(), 65, "{phase}");
        assert_eq!(buckets.iter().sum::<f64>(), count, "{phase}");
        // The greatest time is in the last bucket that has one.
        let last = buckets.iter().rposition(|bucket| *bucket > 0.0).expect("one has");
        let microseconds = (of("max") * 1e6).floor();
        assert!(microseconds < 2_f64.powi(last as i32), "{phase}: {microseconds} in bucket {last}");
    }
}

#[test]
fn a_window_without_requests_has_no_mean() {
    let server = serve();
    server.get("/start").expect(200, "");
    // Nothing that has ended was recorded: recording began within the only request before this one.
    let window = server.get("/request");
    assert_eq!(window.fact("request_count"), "int 0");
    for key in ["mean", "min", "max"] {
        assert_eq!(window.fact(&format!("application_time.{key}")), "NoneType None");
    }
}

#[test]
fn the_process_is_shown_with_what_it_used() {
    let server = serve();
    server.get("/start").expect(200, "");
    for answer in at_once(4, |_| server.get("/echo")) {
        answer.expect(200, "");
    }
    let process = eventually("all four are recorded", || {
        let process = server.get("/process");
        (number(&process, "request_count") >= 4.0).then_some(process)
    });
    assert_eq!(process.fact("pid"), format!("int {}", server.only_child()));
    for key in ["cpu_user_time", "cpu_system_time", "request_busy_time", "running_time"] {
        assert!(process.fact(key).starts_with("float ") && number(&process, key) >= 0.0, "{key}");
    }
    let memory = number(&process, "memory_rss");
    assert!(number(&process, "memory_max_rss") >= memory);
    let pages = server.get("/pages").text();
    let kilobytes: f64 =
        pages.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("VmRSS");
    let (low, high) = (kilobytes * 1024.0 / 2.0, kilobytes * 1024.0 * 2.0);
    assert!((low..high).contains(&memory), "{memory} bytes, and the kernel says {pages}");
    assert!(process.fact("threads").contains("'request_count': "));
}

#[test]
fn a_request_that_still_runs_is_active_and_not_yet_counted() {
    let server = serve();
    server.get("/start").expect(200, "");
    let mut waiting = server.client();
    waiting.send_head(&Request::get("/wait"));
    eventually("it runs", || {
        (server.get("/process").fact("active_requests") == "int 2").then_some(())
    });
    server.get("/release").expect(200, "");
    assert_eq!(waiting.read("GET").status, 200);
    eventually("it has ended", || {
        (server.get("/process").fact("active_requests") == "int 1").then_some(())
    });
}

#[test]
fn an_interpreter_records_only_its_own_requests() {
    let conf = Conf::new(
        "WSGIHandlerScript one ${APPS}/metrics.wsgi application-group=one\n\
         WSGIHandlerScript two ${APPS}/metrics.wsgi application-group=two\n\
         <Location />\nSetHandler one\n</Location>\n\
         <Location /echo>\nSetHandler two\n</Location>",
    );
    let server = Server::start(conf);
    server.get("/start").expect(200, "");
    for _ in 0..5 {
        server.get("/echo").expect(200, "");
    }
    let window = server.get("/request");
    assert_eq!(window.fact("request_count"), "int 0");
}
