//! `manifold doctor`: looks at everything that has to be right, in the order in which it is needed, and says
//! what is not, with the cure.

mod application;
mod extensions;
mod python;
mod server;
mod system;

use crate::failure::Outcome;
use crate::home::Home;
use crate::httpd::Httpd;
use crate::installation::{Installation, Version};
use crate::options::Doctor;
use crate::terminal::{BAD, BOLD, DIM, DOUBTFUL, GOOD};
use crate::user::User;
use serde::Serialize;
use std::process::ExitCode;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Ok,
    Warning,
    Problem,
    /// What it is about is not known, or not there.
    Skipped,
}

/// What one check has found.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    check: &'static str,
    state: State,
    found: String,
    cure: Option<String>,
}

/// All findings so far, and what later checks build on.
#[derive(Default)]
pub(crate) struct Patient {
    findings: Vec<Finding>,
    extensions: Vec<extensions::Extension>,
    httpd: Option<Httpd>,
    installation: Option<Installation>,
    /// The Python of module and worker, where they agree.
    linked: Option<Version>,
    home: Option<Home>,
    user: Option<User>,
}

impl Patient {
    fn add(&mut self, check: &'static str, state: State, found: String, cure: Option<String>) {
        self.findings.push(Finding { check, state, found, cure });
    }

    fn ok(&mut self, check: &'static str, found: impl Into<String>) {
        self.add(check, State::Ok, found.into(), None);
    }

    fn skipped(&mut self, check: &'static str, why: impl Into<String>) {
        self.add(check, State::Skipped, why.into(), None);
    }

    fn warning(&mut self, check: &'static str, found: impl Into<String>, cure: impl Into<String>) {
        self.add(check, State::Warning, found.into(), Some(cure.into()));
    }

    fn problem(&mut self, check: &'static str, found: impl Into<String>, cure: impl Into<String>) {
        self.add(check, State::Problem, found.into(), Some(cure.into()));
    }

    fn has_problems(&self) -> bool {
        self.findings.iter().any(|finding| finding.state == State::Problem)
    }
}

/// `manifold doctor`: 0 where nothing is wrong but for warnings, 1 where something is.
pub(crate) fn run(options: &Doctor) -> Outcome<ExitCode> {
    let identity = &options.identity;
    let user = User::choose(identity.user.as_deref(), identity.group.as_deref())?;
    let mut patient = Patient { user, ..Patient::default() };
    server::look(&mut patient, options)?;
    python::look(&mut patient, options)?;
    application::look(&mut patient, options)?;
    system::look(&mut patient, options)?;
    if options.json {
        print_json(&patient);
    } else {
        print(&patient);
    }
    Ok(if patient.has_problems() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print_json(patient: &Patient) {
    let report = serde_json::json!({
        "ok": !patient.has_problems(),
        "findings": patient.findings,
        "extensions": patient.extensions,
    });
    println!("{report:#}");
}

fn print(patient: &Patient) {
    for finding in &patient.findings {
        let (style, sign) = match finding.state {
            State::Ok => (GOOD, "ok"),
            State::Warning => (DOUBTFUL, "warning"),
            State::Problem => (BAD, "problem"),
            State::Skipped => (DIM, "skipped"),
        };
        let found = finding.found.replace('\n', "\n                              ");
        anstream::println!("{style}{sign:<8}{style:#} {BOLD}{:<20}{BOLD:#} {found}", finding.check);
        if let Some(cure) = &finding.cure {
            let cure = cure.replace('\n', "\n                              ");
            anstream::println!("{:29} {DIM}cure:{DIM:#} {cure}", "");
        }
        if finding.check == "extensions" {
            for extension in &patient.extensions {
                anstream::println!("{:29} {:<44} {}", "", extension.name, extension.verdict());
            }
        }
    }
    let count = |state| patient.findings.iter().filter(|finding| finding.state == state).count();
    let (problems, warnings) = (count(State::Problem), count(State::Warning));
    let many =
        |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    println!("\n{}, {}", many(problems, "problem"), many(warnings, "warning"));
}
