//! Which interpreter an application group gets where `WSGIPerInterpreterGIL` is Auto: one with a GIL
//! of its own, until the group's code turns out to need something that such an interpreter refuses.
#![forbid(unsafe_code)]

use crate::status::Mode;
use crate::{Gil, GroupName};
use std::fmt;

/// What an interpreter has refused, and what would have worked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// An extension module.
    Extension {
        module: String,
        /// What CPython said, or how a probe ended.
        why: String,
        /// It loads in several interpreters that share the main one's GIL.
        shared_works: bool,
    },
    /// `os.fork`, or a `preexec_fn`. Measured on 3.13 to 3.15: a process that is forked from the main
    /// interpreter dies as well (SIGABRT, SIGSEGV) as long as there is any other in the process.
    Fork,
}

/// The interpreter of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// One with a GIL of its own.
    #[default]
    Own,
    /// One that shares the main interpreter's GIL.
    Shared,
    /// The main interpreter.
    Main,
}

/// What becomes of a group by a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It goes there.
    Move(Place),
    /// It stays, for that reason; what to do is part of the text.
    Stay(String),
}

impl From<Gil> for Place {
    fn from(gil: Gil) -> Self {
        match gil {
            Gil::Own => Self::Own,
            Gil::Shared => Self::Shared,
        }
    }
}

impl From<Place> for Mode {
    fn from(place: Place) -> Self {
        match place {
            Place::Own => Self::Own,
            Place::Shared => Self::Shared,
            Place::Main => Self::Main,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Own => "an interpreter with a GIL of its own",
            Self::Shared => "an interpreter that shares the main one's GIL",
            Self::Main => "the main interpreter",
        })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extension { module, why, .. } => {
                write!(f, "extension module '{module}' does not load there ({why})")
            }
            Self::Fork => f.write_str("a process cannot be forked there (os.fork, preexec_fn)"),
        }
    }
}

/// Where a group goes that was refused something where it is. `pinned` says that the configuration
/// leaves no choice, `holder` which group has the main interpreter already.
pub(crate) fn decide(
    refused: &Refused,
    place: Place,
    pinned: bool,
    holder: Option<&GroupName>,
) -> Decision {
    let Refused::Extension { shared_works, .. } = *refused else {
        return Decision::Stay(
            "that works where the process has no interpreter but the main one: let all its \
             application groups be application-group=%{GLOBAL}, or give this one a process group of \
             its own (WSGIDaemonProcess) with that; subprocess without preexec_fn works here, and so \
             does multiprocessing with the method 'spawn'"
                .to_owned(),
        );
    };
    if pinned {
        return Decision::Stay(format!(
            "WSGIPerInterpreterGIL keeps it in {place}; it would work with {}\
             application-group=%{{GLOBAL}}, in a process group of its own (WSGIDaemonProcess) if another \
             application has that",
            if shared_works { "WSGIPerInterpreterGIL Auto or Off, or with " } else { "" }
        ));
    }
    if shared_works && place == Place::Own {
        return Decision::Move(Place::Shared);
    }
    match holder {
        None => Decision::Move(Place::Main),
        Some(holder) => Decision::Stay(format!(
            "it needs the main interpreter of a process, and application group '{holder}' has that \
             of this one; let both use application-group=%{{GLOBAL}}, where they share one \
             interpreter, or give one a process group of its own (WSGIDaemonProcess)"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(shared_works: bool) -> Refused {
        Refused::Extension { module: "speed".to_owned(), why: "no".to_owned(), shared_works }
    }

    fn holder() -> GroupName {
        GroupName::new(b"other")
    }

    #[test]
    fn a_module_that_loads_in_several_costs_only_the_gil() {
        let decided = decide(&extension(true), Place::Own, false, Some(&holder()));
        assert_eq!(decided, Decision::Move(Place::Shared));
    }

    #[test]
    fn a_module_that_loads_in_one_needs_the_main_interpreter() {
        for place in [Place::Own, Place::Shared] {
            let decided = decide(&extension(false), place, false, None);
            assert_eq!(decided, Decision::Move(Place::Main));
        }
        // It was tried for several, and is refused where there are several all the same.
        let decided = decide(&extension(true), Place::Shared, false, None);
        assert_eq!(decided, Decision::Move(Place::Main));
    }

    #[test]
    fn whoever_forks_is_not_moved_since_that_takes_a_process_without_other_interpreters() {
        for (place, pinned) in [(Place::Own, false), (Place::Shared, false), (Place::Own, true)] {
            let Decision::Stay(text) = decide(&Refused::Fork, place, pinned, None) else {
                panic!("it would not help");
            };
            for word in ["%{GLOBAL}", "process group", "spawn"] {
                assert!(text.contains(word), "{word} in {text}");
            }
        }
    }

    #[test]
    fn the_second_that_needs_the_main_interpreter_is_told_of_the_first_and_of_the_cures() {
        let decided = decide(&extension(false), Place::Own, false, Some(&holder()));
        let Decision::Stay(text) = decided else { panic!("there is no place for it") };
        for word in ["'other'", "%{GLOBAL}", "process group"] {
            assert!(text.contains(word), "{word} in {text}");
        }
    }

    #[test]
    fn a_group_that_is_pinned_stays_and_is_told_the_cures() {
        for refused in [extension(true), extension(false)] {
            let Decision::Stay(text) = decide(&refused, Place::Own, true, None) else {
                panic!("it is pinned");
            };
            for word in ["WSGIPerInterpreterGIL", "%{GLOBAL}", "process group"] {
                assert!(text.contains(word), "{word} in {text}");
            }
        }
    }
}
