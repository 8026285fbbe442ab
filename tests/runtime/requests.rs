//! Conversations: what is said in them, and how they end.

use crate::harness::{Answered, App, Folder, in_its_own_process, request, settings};
use manifold::{Code, GroupName, Left, Limits, Outcome, Patience, Runtime, Settings};
use std::time::{Duration, Instant};

#[test]
fn a_script_answers_through_a_conversation() {
    let answered = App::in_group("conversation").request("/hello").finish(b"");
    let head = answered.head.as_ref().expect("a head");
    assert_eq!((head.status, &head.status_line[..]), (203, &b"203 As You Like It"[..]));
    let headers: Vec<_> = head.headers.iter().collect();
    let expected = [("Content-Type", "text/plain"), ("X-Twice", "one"), ("X-Twice", "two")];
    assert_eq!(headers, expected.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    assert_eq!(answered.text(), "hello");
}

#[test]
fn a_body_comes_through_whole_however_it_is_cut() {
    let app = App::in_group("bodies");
    let body: Vec<u8> = (0..700_000_u32).map(|at| (at % 251) as u8).collect();
    for piece in [1000, 100_000, usize::MAX] {
        let answered = app.request("/echo").finish_in_pieces(&body, piece);
        assert_eq!(answered.outcome, Some(Outcome::Complete));
        assert!(answered.body == body, "in pieces of {piece}");
    }
    let lines = app.request("/lines").finish_in_pieces(b"one\ntwo\nthree", 2);
    assert_eq!(lines.text(), "3");
}

#[test]
fn variables_are_text_with_a_character_for_each_byte() {
    let app = App::in_group("variables");
    assert_eq!(app.get("/environ/LATIN"), r"'caf\xe9'");
    assert_eq!(app.get("/environ/mod_wsgi.application_group"), "'variables'");
}

#[test]
fn lines_of_all_streams_come_with_the_request_they_are_about() {
    let answered = App::in_group("lines").request("/say/something").finish(b"");
    assert_eq!(answered.log, ["something\n"; 3]);
}

#[test]
fn what_an_application_raises_fails_the_request_and_is_logged_with_it() {
    let app = App::in_group("raising");
    let answered = app.request("/raise").finish(b"");
    assert_eq!(answered.code(), Code::ApplicationRaised);
    assert!(answered.log.concat().contains("LookupError: on purpose"), "{answered:?}");
    assert_eq!(app.get("/hello"), "hello");
}

#[test]
fn a_response_that_breaks_off_is_truncated_and_not_complete() {
    let app = App::in_group("breaking-off");
    let late = app.request("/raise-late").finish(b"");
    assert_eq!((late.outcome, &late.body[..]), (Some(Outcome::Truncated), &b"a block"[..]));
    assert!(late.log.concat().contains("too late for an error page"), "{late:?}");
    let short = app.request("/short").finish(b"");
    assert_eq!((short.outcome, &short.body[..]), (Some(Outcome::Truncated), &b"short"[..]));
    assert!(short.log.concat().contains("95 bytes short"), "{short:?}");
}

/// What a script of this text answers.
fn answer(folder: &Folder, text: &str) -> Answered {
    let name = format!("{}.wsgi", folder.path().read_dir().expect("a folder").count());
    App::of(folder.script(&name, text), "scripts").request("/").finish(b"")
}

#[test]
fn a_script_that_cannot_answer_gives_the_code_that_says_why() {
    let folder = Folder::new();
    let missing = crate::harness::script(&folder.path().join("missing.wsgi"));
    let answered = App::of(missing, "scripts").request("/").finish(b"");
    assert_eq!(answered.code(), Code::ScriptNotCompiled);
    assert!(answered.log.concat().contains("missing.wsgi"), "{answered:?}");
    for (text, code) in [
        ("def application(environ start_response): pass", Code::ScriptNotCompiled),
        ("raise SystemExit(3)", Code::ScriptNotExecuted),
        ("import no_such_module", Code::ScriptNotExecuted),
        ("aplication = None", Code::NoCallable),
        ("application = None", Code::NoCallable),
    ] {
        let answered = answer(&folder, text);
        assert_eq!(answered.code(), code, "{text}");
        assert!(answered.log.concat().contains(&code.to_string()), "{text}: {answered:?}");
    }
}

#[test]
fn a_script_that_was_mended_answers_the_next_request() {
    const RIGHT: &str = "
def application(environ, start_response):
    start_response('200 OK', [])
    return [b'mended']
";
    for broken in ["def application(:", "raise Exception", "other = None", "application = None"] {
        let folder = Folder::new();
        let app = App::of(folder.script("app.wsgi", broken), "mended");
        app.request("/").finish(b"").code();
        folder.script("app.wsgi", RIGHT);
        assert_eq!(app.get("/"), "mended", "{broken}");
    }
}

/// Yields objects of many sizes, the same each time, and says how often they are referred to.
const LENDER: &str = "
import sys

class Marked(bytes):
    deleted = 0
    def __del__(self):
        Marked.deleted += 1

SIZES = [3, 16384, 4095, 4096, 1, 70000, 20000, 262144, 300000, 5, 9000, 8192]
BLOCKS = [bytes([number]) * size for number, size in enumerate(SIZES)]

def blocks():
    yield from BLOCKS
    yield Marked(b'm' * 10000)
    with open('FOLDER/said', 'a') as note:
        note.write('all')

def application(environ, start_response):
    start_response('200 OK', [])
    if environ['PATH_INFO'] == '/references':
        counts = [sys.getrefcount(block) for block in BLOCKS if len(block) > 1]
        return [f'{sum(counts)} {Marked.deleted}'.encode()]
    return blocks()
";

/// What `blocks` yields.
fn blocks_of_the_lender() -> Vec<u8> {
    let sizes = [3, 16384, 4095, 4096, 1, 70000, 20000, 262_144, 300_000, 5, 9000, 8192];
    let numbered = (0..).zip(sizes).flat_map(|(number, size)| vec![number; size]);
    numbered.chain(vec![b'm'; 10000]).collect()
}

#[test]
fn objects_that_are_lent_arrive_in_their_order_and_come_back() {
    let folder = Folder::new();
    let app = App::of(folder.script("lender.wsgi", LENDER), "lender");
    // References to the objects, and how many of the subclass have been deleted.
    let ask = || {
        let said = app.get("/references");
        let (references, deleted) = said.split_once(' ').expect("two numbers");
        [references, deleted].map(|number| number.parse::<u64>().expect("a number"))
    };
    let [before, deleted] = ask();
    assert_eq!(deleted, 0);
    for round in 1..=5 {
        let request = app.request("/");
        // Where nobody listens, the application comes as far as there is room for what it says. One more
        // would be the one that is being sent.
        while ask()[0] < before + 4 {}
        let answered = request.finish(b"");
        assert_eq!(answered.outcome, Some(Outcome::Complete));
        assert!(answered.body == blocks_of_the_lender(), "{} bytes", answered.body.len());
        assert_eq!(ask(), [before, round]);
    }
}

#[test]
fn what_an_interpreter_has_lent_outlives_it() {
    in_its_own_process(|| {
        let folder = Folder::new();
        let script = folder.script("lender.wsgi", LENDER);
        let runtime = Runtime::start(Settings { interpreter_threads: 1, ..settings() });
        let group = GroupName::new(b"lender");
        let request = request(&runtime, &group, &script, "/", Patience::Endless).expect("taken");
        while folder.text("said").is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let end = Instant::now() + Duration::from_secs(60);
        assert_eq!(runtime.finish(Limits { requests: end, everything: end }), Left::Nothing);
        let answered = request.finish(b"");
        assert_eq!(answered.outcome, Some(Outcome::Complete));
        assert!(answered.body == blocks_of_the_lender(), "{} bytes", answered.body.len());
    });
}
