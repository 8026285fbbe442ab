//! A load generator for the benchmarks in this folder: a fixed number of keep-alive connections, each
//! of which sends its next request when it has the answer, to paths chosen by weight.
//!
//!     load ADDRESS CONNECTIONS SECONDS PATH[=WEIGHT]...
//!
//! Prints a line of JSON for each path: how many answers, and their latency in microseconds (median,
//! 90th and 99th percentile, most). Every answer has to be 200 with a body of the length that it says;
//! anything else ends the run. wrk is better at high rates; it says nothing about each path.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [address, connections, seconds, paths @ ..] = &arguments[..] else {
        println!("load ADDRESS CONNECTIONS SECONDS PATH[=WEIGHT]...: nothing to do");
        return;
    };
    let connections: u64 = connections.parse().expect("a number of connections");
    let seconds = Duration::from_secs_f64(seconds.parse().expect("a number of seconds"));
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.split_once('=').unwrap_or((path, "1")))
        .map(|(path, weight)| (path, weight.parse::<u64>().expect("a whole weight")))
        .collect();
    let end = Instant::now() + seconds;
    let mut latencies: Vec<Vec<u32>> = vec![Vec::new(); paths.len()];
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..connections)
            .map(|seed| {
                scope.spawn({
                    let paths = &paths;
                    move || client(address, paths, seed, end)
                })
            })
            .collect();
        for client in clients {
            let found = client.join().expect("a client has failed");
            latencies.iter_mut().zip(found).for_each(|(all, some)| all.extend(some));
        }
    });
    for ((path, _), mut latencies) in paths.iter().zip(latencies) {
        latencies.sort_unstable();
        let at = |part: f64| {
            let place = (latencies.len() as f64 * part) as usize;
            latencies.get(place.min(latencies.len().saturating_sub(1))).copied().unwrap_or(0)
        };
        println!(
            "{{\"path\": \"{path}\", \"answers\": {}, \"p50\": {}, \"p90\": {}, \"p99\": {}, \"max\": {}}}",
            latencies.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
    }
}

/// One connection, until the end; returns the latencies of each path.
fn client(address: &str, paths: &[(&str, u64)], seed: u64, end: Instant) -> Vec<Vec<u32>> {
    let total: u64 = paths.iter().map(|(_, weight)| weight).sum();
    let mut latencies = vec![Vec::new(); paths.len()];
    let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    let mut reader = BufReader::new(stream);
    while Instant::now() < end {
        // xorshift64: any sequence will do, as long as it is the same in each run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut place = (random >> 16) % total;
        let which = paths
            .iter()
            .position(|(_, weight)| match place.checked_sub(*weight) {
                Some(rest) => {
                    place = rest;
                    false
                }
                None => true,
            })
            .expect("a place within all weights");
        let path = paths[which].0;
        let begun = Instant::now();
        write!(reader.get_mut(), "GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n").expect("room");
        read_answer(&mut reader, path);
        latencies[which].push(begun.elapsed().as_micros() as u32);
    }
    latencies
}

fn read_answer(reader: &mut BufReader<TcpStream>, path: &str) {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a status line");
    assert!(line.starts_with("HTTP/1.1 200 "), "{path}: {line}");
    let (mut length, mut chunked) = (None, false);
    loop {
        line.clear();
        reader.read_line(&mut line).expect("a header");
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = Some(value.trim().parse::<u64>().expect("a length"));
        }
        chunked |= name.eq_ignore_ascii_case("transfer-encoding");
    }
    assert!(length.is_some() || chunked, "{path}: the body has no end");
    let mut skip = |length: u64| {
        let copied = std::io::copy(&mut reader.take(length), &mut std::io::sink());
        assert_eq!(copied.expect("a body"), length, "{path}: the body is short");
    };
    match length {
        Some(length) => skip(length),
        None => loop {
            let mut size = String::new();
            reader.read_line(&mut size).expect("a chunk");
            let size = u64::from_str_radix(size.trim(), 16).expect("its size");
            std::io::copy(&mut reader.take(size + 2), &mut std::io::sink()).expect("a chunk");
            if size == 0 {
                break;
            }
        },
    }
}
