//! Frames as benchmarks see them; for nobody else. Each function is the one that a connection uses.

use super::wire;
use crate::{GroupName, Head, Job, Outcome};
use std::collections::VecDeque;

/// Writes the frame of a request behind what is in `to`.
pub fn encode_request(to: &mut Vec<u8>, group: &GroupName, job: &Job) {
    wire::request(to, group, job).expect("it is short");
}

/// Reads the frame of a request into `job`, which is empty.
pub fn decode_request(frame: &[u8], job: &mut Job) {
    let (kind, content) = split(frame);
    wire::from_server(kind, content, job).expect("it was encoded");
}

/// Writes the frame of a whole response.
pub fn encode_response(to: &mut Vec<u8>, head: &Head, body: &[u8]) {
    wire::part(to, Some(head), [body], None, Some(Outcome::Complete)).expect("it is short");
}

/// Reads the frame of a response, and drops what it says.
pub fn decode_response(frame: &[u8]) {
    let (kind, content) = split(frame);
    wire::from_worker(kind, content, &mut VecDeque::new()).expect("it was encoded");
}

fn split(frame: &[u8]) -> (u8, &[u8]) {
    let (header, content) = frame.split_first_chunk().expect("a frame has a header");
    let (length, kind) = wire::header(*header, wire::LONGEST).expect("it was encoded");
    assert_eq!(length, content.len(), "one frame at a time");
    (kind, content)
}
