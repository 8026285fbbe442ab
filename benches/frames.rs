//! What it costs to write and to read the frames between httpd and a worker process.
//!
//!     cargo bench --bench frames

use criterion::{Criterion, criterion_group, criterion_main};
use manifold::daemon::bench::{decode_request, decode_response, encode_request, encode_response};
use manifold::{Fields, GroupName, Head, Job, Script};
use std::hint::black_box;
use std::sync::Arc;

criterion_group!(benches, request, response);
criterion_main!(benches);

/// A request with its environ, of 40 variables.
fn request(criterion: &mut Criterion) {
    let group = GroupName::new(b"www.example.org|/shop");
    let script = Arc::new(Script::new(b"/srv/shop/app.wsgi", b"application").expect("no NUL"));
    let mut job = Job::default();
    job.script = Some(script);
    for number in 0..40 {
        job.variables.push(format!("HTTP_X_HEADER_{number}").as_bytes(), b"a value of some length");
    }
    let mut frame = Vec::new();
    encode_request(&mut frame, &group, &job);
    let mut bench = criterion.benchmark_group("request frame, 40 variables");
    bench.bench_function("encode", |bencher| {
        bencher.iter(|| {
            frame.clear();
            encode_request(&mut frame, &group, black_box(&job));
        });
    });
    bench.bench_function("decode", |bencher| {
        let mut read = Job::default();
        bencher.iter(|| {
            read.variables.clear();
            decode_request(black_box(&frame), &mut read);
        });
        assert_eq!(read.variables, job.variables);
    });
}

/// A whole response in one frame, with little and with much in it.
fn response(criterion: &mut Criterion) {
    let mut headers = Fields::default();
    headers.push(b"Content-Type", b"text/html; charset=utf-8");
    headers.push(b"Content-Length", b"13");
    let status_line = b"200 OK".to_vec();
    let head = Head { status: 200, status_line, headers, content_length: Some(13) };
    for length in [13, 10_240] {
        let body = vec![b'x'; length];
        let mut frame = Vec::new();
        encode_response(&mut frame, &head, &body);
        let mut bench = criterion.benchmark_group(format!("response frame, {length} bytes"));
        bench.bench_function("encode", |bencher| {
            bencher.iter(|| {
                frame.clear();
                encode_response(&mut frame, &head, black_box(&body));
            });
        });
        bench.bench_function("decode", |bencher| {
            bencher.iter(|| decode_response(black_box(&frame)))
        });
    }
}
