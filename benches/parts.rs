//! What the parts of a request cost that need neither httpd nor Python: a slot, a conversation between
//! two threads, the headers of a response.
//!
//!     cargo bench --bench parts

use criterion::{Criterion, criterion_group, criterion_main};
use manifold::exchange::{Exchanges, Next};
use manifold::header::{check_header, content_length, status_code};
use manifold::{Fields, Outcome, Part, Reply};
use std::hint::black_box;
use std::sync::mpsc;

criterion_group!(benches, slab, conversation, headers);
criterion_main!(benches);

/// A slot is taken and given back, alone and beside those of 100 other requests.
fn slab(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("slab");
    for others in [0, 100] {
        let exchanges = Exchanges::new(others + 1);
        let held: Vec<_> = (0..others).map(|_| exchanges.open(|_| {})).collect();
        assert!(held.iter().all(Option::is_some));
        group.bench_function(format!("open and close beside {others}"), |bencher| {
            bencher.iter(|| drop(black_box(exchanges.open(|_| {}).expect("a slot"))));
        });
    }
}

/// A job goes to another thread, and its whole response comes back: two wake-ups. Then the same where the
/// other thread is this one, so that nobody wakes anybody.
fn conversation(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conversation");
    let exchanges = Exchanges::new(1);
    group.bench_function("on one thread", |bencher| {
        bencher.iter(|| {
            let (request, application) = exchanges.open(|_| {}).expect("a slot");
            application.start();
            application.link().respond(hello()).expect("it listens");
            drop(application);
            assert!(matches!(request.next(None), Next::Reply(Reply::Response(_))));
        });
    });
    let (jobs, taken) = mpsc::channel::<manifold::exchange::ApplicationEnd>();
    let serving = std::thread::spawn(move || {
        for application in taken {
            application.start();
            application.link().respond(hello()).expect("it listens");
        }
    });
    // The other thread may still hold the last slot when its response is here.
    let exchanges = Exchanges::new(2);
    group.bench_function("between two threads", |bencher| {
        bencher.iter(|| {
            let (request, application) = exchanges.open(|_| {}).expect("a slot");
            jobs.send(application).expect("it serves");
            assert!(matches!(request.next(None), Next::Reply(Reply::Response(_))));
        });
    });
    drop(jobs);
    serving.join().expect("it has served");
}

fn hello() -> Part {
    Part { body: b"Hello, World!".to_vec(), end: Some(Outcome::Complete), ..Part::default() }
}

/// The headers of a response are checked and packed.
fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("headers");
    for (title, extra) in [("2 of hello", 0), ("12 of a page", 10)] {
        let names: Vec<_> = (0..extra).map(|number| format!("X-Header-{number}")).collect();
        let mut packed = Fields::default();
        group.bench_function(title, |bencher| {
            bencher.iter(|| {
                packed.clear();
                status_code(black_box(b"200 OK")).expect("a status");
                let usual: [(&[u8], &[u8]); 2] =
                    [(b"Content-Type", b"text/plain; charset=utf-8"), (b"Content-Length", b"13")];
                let others = names.iter().map(|name| (name.as_bytes(), b"some value".as_slice()));
                for (name, value) in usual.into_iter().chain(others) {
                    check_header(black_box(name), black_box(value)).expect("a header");
                    packed.push(name, value);
                }
                content_length(packed.get(b"Content-Length").expect("it is there"))
            });
        });
    }
}
