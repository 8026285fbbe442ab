//! What a request thread says to the interpreter thread.
#![forbid(unsafe_code)]

/// What a request thread answers to [`Ask`](crate::Reply::Ask) and [`AskVariable`](crate::Reply::AskVariable).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Bytes of the body; fewer than were asked for only when `last`.
    Body {
        /// The bytes.
        bytes: Vec<u8>,
        /// Whether the body ends here.
        last: bool,
    },
    /// The body cannot be read: the client has gone, was too slow, or broke the protocol.
    Failed,
    /// The value of the variable that was asked for, if it has one.
    Variable(Option<Vec<u8>>),
}
