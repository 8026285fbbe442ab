//! What an application gives as a header of a response: the bytes up to the first NUL are the name.
#![no_main]

#[path = "../../src/header.rs"]
#[allow(dead_code, reason = "another target is about the rest")]
mod header;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let end = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (name, value) = (&input[..end], input.get(end + 1..).unwrap_or_default());

    let over_http2 = header::check_over_http2(name, value);
    if header::check_header(name, value).is_ok() {
        let line = [name, b": ", value].concat();
        assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
        assert_eq!(line.iter().position(|byte| *byte == b':'), Some(name.len()));
        assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic));
        assert!(!name.eq_ignore_ascii_case(b"Transfer-Encoding"));
        // What is about no connection is as good over HTTP/2.
        let about_one = [&b"TE"[..], b"Proxy-Connection"];
        let about_one = about_one.iter().any(|other| name.eq_ignore_ascii_case(other));
        assert!(over_http2.is_ok() || about_one);
    }
    if let Ok(length) = header::content_length(value) {
        let digits = value.trim_ascii();
        assert!(!digits.is_empty() && digits.iter().all(u8::is_ascii_digit));
        let first = digits.iter().position(|digit| *digit != b'0').unwrap_or(digits.len() - 1);
        assert_eq!(length.to_string().as_bytes(), &digits[first..]);
    }
});
