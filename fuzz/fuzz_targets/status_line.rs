//! What an application gives as the status of a response.
#![no_main]

#[path = "../../src/header.rs"]
#[allow(dead_code, reason = "another target is about the rest")]
mod header;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|status: &[u8]| {
    let Ok(code) = header::status_code(status) else { return };
    assert!((200..=999).contains(&code));
    let (digits, reason) = status.split_at(3);
    assert_eq!(digits, code.to_string().as_bytes());
    assert!(matches!(reason.first(), None | Some(b' ')));
    assert!(!reason.iter().any(u8::is_ascii_control));
});
