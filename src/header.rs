//! What a status and a header may look like (PEP 3333, RFC 9110). httpd would answer 500 to what
//! is refused here, without saying which application said what.
//!
//! PEP 3333 keeps all headers about the connection from applications. Yet `Connection: close` is
//! meant and httpd does it, and what a proxy in WSGI copies does no harm mostly. So what passes is
//! everything that leaves the exchange whole, and what breaks it is refused.
#![forbid(unsafe_code)]

use std::fmt;

/// What is wrong with a status or a header that an application gave to `start_response`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// The status does not begin with three digits, followed by a space or nothing.
    Status,
    /// The status is below 200: an interim response, which WSGI cannot send.
    InterimStatus,
    /// The status's reason holds a control character.
    Reason,
    /// The name is empty or holds something other than letters, digits and ``!#$%&'*+-.^_`|~``.
    Name,
    /// The value holds a control character other than a tab; CR and LF would begin a new header.
    Value,
    /// The header frames the message on the connection, which is the server's to do.
    HopByHop,
    /// Connection names the header that says where the response ends, and proxies would remove it.
    ConnectionNames,
    /// The header is about a connection, and over HTTP/2 makes clients refuse the response.
    OverHttp2,
    /// Content-Length is not a number.
    ContentLength,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => {
                "status must be three digits, and a reason after a space, as in '200 OK'"
            }
            Self::InterimStatus => "status must be 200 or above, as in '200 OK'",
            Self::Reason => "status must not contain control characters",
            Self::Name => "header name must be letters, digits and !#$%&'*+-.^_`|~, and not empty",
            Self::Value => "header value must not contain control characters such as CR and LF",
            Self::HopByHop => "Transfer-Encoding is the server's to set (PEP 3333, hop-by-hop)",
            Self::ConnectionNames => {
                "Connection must not name Content-Length: a proxy drops what it names, and the \
                 response would have no end"
            }
            Self::OverHttp2 => {
                "over HTTP/2 clients refuse a response with a header about the connection (RFC 9113)"
            }
            Self::ContentLength => "Content-Length must be a number of bytes, zero or more",
        })
    }
}

impl std::error::Error for HeaderError {}

/// The code of a status such as `404 Not Found`; the reason may be left out.
///
/// # Errors
///
/// It is not of that form, or below 200.
pub fn status_code(status: &[u8]) -> Result<u16, HeaderError> {
    let (digits, rest) = status.split_at_checked(3).ok_or(HeaderError::Status)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(rest.first(), None | Some(b' ')) {
        return Err(HeaderError::Status);
    }
    if rest.iter().any(u8::is_ascii_control) {
        return Err(HeaderError::Reason);
    }
    match digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0')) {
        code if code < 200 => Err(HeaderError::InterimStatus),
        code => Ok(code),
    }
}

/// Whether a header may be sent.
///
/// # Errors
///
/// The name is no token, the value could end the header early, or the header is the server's.
pub fn check_header(name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err(HeaderError::Name);
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(HeaderError::Value);
    }
    if name.eq_ignore_ascii_case(b"Transfer-Encoding") {
        return Err(HeaderError::HopByHop);
    }
    if name.eq_ignore_ascii_case(b"Connection") && names(value, b"Content-Length") {
        return Err(HeaderError::ConnectionNames);
    }
    Ok(())
}

/// Whether a header may be sent over HTTP/2 (RFC 9113, 8.2.2). The others that may not, httpd
/// takes out itself.
///
/// # Errors
///
/// Clients would take the response for malformed.
pub fn check_over_http2(name: &[u8], value: &[u8]) -> Result<(), HeaderError> {
    let te = || name.eq_ignore_ascii_case(b"TE") && !value.eq_ignore_ascii_case(b"trailers");
    if name.eq_ignore_ascii_case(b"Proxy-Connection") || te() {
        return Err(HeaderError::OverHttp2);
    }
    Ok(())
}

/// Whether a list with commas has an item.
fn names(list: &[u8], item: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(item))
}

/// The number of bytes that a Content-Length header announces.
///
/// # Errors
///
/// The value is not a number that fits.
pub fn content_length(value: &[u8]) -> Result<u64, HeaderError> {
    let digits = value.trim_ascii();
    std::str::from_utf8(digits)
        .ok()
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .ok_or(HeaderError::ContentLength)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn statuses_of_the_specification() {
        assert_eq!(status_code(b"200 OK"), Ok(200));
        assert_eq!(status_code(b"200"), Ok(200));
        assert_eq!(status_code(b"404 "), Ok(404));
        assert_eq!(status_code(b"20 OK"), Err(HeaderError::Status));
        assert_eq!(status_code(b"2000 OK"), Err(HeaderError::Status));
        assert_eq!(status_code(b""), Err(HeaderError::Status));
        assert_eq!(status_code(b"100 Continue"), Err(HeaderError::InterimStatus));
        assert_eq!(status_code(b"200 O\rK"), Err(HeaderError::Reason));
    }

    #[test]
    fn headers_of_the_specification() {
        assert_eq!(check_header(b"X-Latin", b"caf\xe9"), Ok(()));
        assert_eq!(check_header(b"", b""), Err(HeaderError::Name));
        assert_eq!(check_header(b"X Y", b""), Err(HeaderError::Name));
        assert_eq!(check_header(b"X:Y", b""), Err(HeaderError::Name));
        assert_eq!(check_header(b"X", b"a\r\nSet-Cookie: b"), Err(HeaderError::Value));
        assert_eq!(check_header(b"transfer-encoding", b"chunked"), Err(HeaderError::HopByHop));
        assert_eq!(check_header(b"Connection", b"close, X-Lengthy"), Ok(()));
        let named = check_header(b"connection", b"close,\tcontent-length");
        assert_eq!(named, Err(HeaderError::ConnectionNames));
        assert_eq!(content_length(b"0"), Ok(0));
        assert_eq!(content_length(b" 10\t"), Ok(10));
        assert_eq!(content_length("\u{a0}10".as_bytes()), Err(HeaderError::ContentLength));
        assert_eq!(content_length(b"zz"), Err(HeaderError::ContentLength));
        assert_eq!(content_length(b"-1"), Err(HeaderError::ContentLength));
        assert_eq!(content_length(b""), Err(HeaderError::ContentLength));
    }

    #[test]
    fn what_http2_clients_refuse() {
        assert_eq!(check_over_http2(b"TE", b"Trailers"), Ok(()));
        assert_eq!(check_over_http2(b"te", b"gzip"), Err(HeaderError::OverHttp2));
        assert_eq!(check_over_http2(b"proxy-connection", b""), Err(HeaderError::OverHttp2));
        assert_eq!(check_over_http2(b"Connection", b"close"), Ok(()));
    }

    proptest! {
        #[test]
        fn an_accepted_header_is_one_line_with_one_colon_after_its_name(
            name in any::<Vec<u8>>(), value in any::<Vec<u8>>()
        ) {
            if check_header(&name, &value).is_ok() {
                let line = [&name[..], b": ", &value[..]].concat();
                prop_assert!(!line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
                prop_assert_eq!(line.iter().position(|byte| *byte == b':'), Some(name.len()));
            }
        }

        #[test]
        fn an_accepted_status_is_its_own_first_three_bytes(status in any::<Vec<u8>>()) {
            if let Ok(code) = status_code(&status) {
                let digits = code.to_string();
                prop_assert_eq!(digits.as_bytes(), &status[..3]);
            }
        }
    }
}
