//! What a request costs with real Python and without httpd, and what an interpreter costs. Takes the Python
//! that the library is built with, or MANIFOLD_PYTHON_HOME.
//!
//!     cargo bench --bench interpreters

use criterion::{BatchSize, Criterion, criterion_group};
use manifold::{
    Conversation, Event, GroupName, Job, Outcome, Patience, Peer, Reply, Runtime, Script, Settings,
    Task,
};
use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/apps/app.py");
/// How many requests wait at once, so that no thread ever sleeps.
const AHEAD: usize = 64;
/// Interpreters that are made: where they cannot be ended each one stays.
const INTERPRETERS: usize = 1024;

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = conversation, environ, creation
}

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // As httpd's children leave: no destructor runs under a thread of an interpreter.
    // SAFETY: it ends the process without a look at anything in it.
    unsafe { libc::_exit(0) };
}

/// A request and its whole response: there, through Python, and back, with both wake-ups.
fn conversation(criterion: &mut Criterion) {
    let site = Site::new();
    criterion.bench_function("conversation through Python", |bencher| {
        bencher.iter(|| finish(&site.request("one", hello_variables)));
    });
}

/// The same without wake-ups, since the next requests wait already: what an interpreter's thread takes for
/// each, which is the environ above all. By the shape of the environ.
fn environ(criterion: &mut Criterion) {
    let site = Site::new();
    let mut group = criterion.benchmark_group("a request of many, by its environ");
    let shapes = [
        ("4 variables", few_variables as fn(&mut Job)),
        ("30 variables", hello_variables),
        ("60 variables", many_variables),
    ];
    for (title, fill) in shapes {
        group.bench_function(title, |bencher| {
            bencher.iter_custom(|count| {
                let mut waiting = VecDeque::with_capacity(AHEAD);
                let began = Instant::now();
                for _ in 0..count {
                    if waiting.len() == AHEAD {
                        finish(&waiting.pop_front().expect("it is full"));
                    }
                    waiting.push_back(site.request("many", fill));
                }
                waiting.iter().for_each(finish);
                began.elapsed()
            });
        });
    }
}

/// A new interpreter, until it has loaded a script.
fn creation(criterion: &mut Criterion) {
    let site = Site::new();
    let mut number = 0;
    let mut group = criterion.benchmark_group("interpreter");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    group.measurement_time(Duration::from_secs(2));
    group.bench_function("create and load a script", |bencher| {
        let name = || {
            number += 1;
            format!("new-{number}")
        };
        let load = |name: String| {
            finish(&site.request(&name, |job| job.task = Task::Load));
        };
        bencher.iter_batched(name, load, BatchSize::PerIteration);
    });
}

struct Site {
    runtime: &'static Runtime,
    script: Arc<Script>,
}

impl Site {
    /// CPython starts once in a process.
    fn new() -> Self {
        static SITE: OnceLock<(Runtime, Arc<Script>)> = OnceLock::new();
        let (runtime, script) = SITE.get_or_init(|| {
            let script = Script::new(SCRIPT.as_bytes(), b"application").expect("no NUL");
            let settings = Settings {
                python_home: std::env::var_os("MANIFOLD_PYTHON_HOME").map(Into::into),
                request_threads: AHEAD,
                interpreter_limit: INTERPRETERS,
                queue_limit: Settings::queue_limit_for(AHEAD),
                ..Settings::default()
            };
            (Runtime::start(settings), Arc::new(script))
        });
        Self { runtime, script: Arc::clone(script) }
    }

    fn request(&self, group: &str, fill: impl FnOnce(&mut Job)) -> Conversation {
        let group = GroupName::new(group.as_bytes());
        let conversation = self.runtime.dispatch(&group, Patience::Endless, |job| {
            fill(job);
            job.script = Some(Arc::clone(&self.script));
        });
        conversation.unwrap_or_else(|refusal| panic!("{refusal}"))
    }
}

fn finish(conversation: &Conversation) {
    match conversation.next() {
        Event::Reply(Reply::Response(part)) if part.end == Some(Outcome::Complete) => {}
        other => panic!("the application has not answered: {other:?}"),
    }
}

fn few_variables(job: &mut Job) {
    job.variables.push(b"REQUEST_METHOD", b"GET");
    job.variables.push(b"SCRIPT_NAME", b"");
    job.variables.push(b"PATH_INFO", b"/hello");
    job.variables.push(b"QUERY_STRING", b"");
}

/// As many as httpd makes of a small request.
fn hello_variables(job: &mut Job) {
    few_variables(job);
    variables(job, 26);
}

fn many_variables(job: &mut Job) {
    few_variables(job);
    variables(job, 56);
}

fn variables(job: &mut Job, count: usize) {
    static NAMES: OnceLock<Vec<String>> = OnceLock::new();
    let names =
        NAMES.get_or_init(|| (0..60).map(|number| format!("HTTP_X_HEADER_{number}")).collect());
    for name in &names[..count] {
        job.variables.push(name.as_bytes(), b"a value of some length");
    }
}
