//! The command line of `manifold-worker`, which the module starts by itself.

use std::process::ExitCode;

const HELP: &str = "\
usage: manifold-worker --serve | --probe | --version | --help

  --serve    serve requests of a process group, for the httpd that has started this and has handed down
             what it is to do
  --probe    load one extension module in interpreters of this throw-away process and say how that
             went; the question comes on standard input, the answer goes to standard output

mod_manifold starts this program by itself; there is nothing to be done with it by hand.
";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments.is_empty() && std::env::var_os(manifold::daemon::SERVE).is_some() {
        return manifold::daemon::serve();
    }
    let [argument] = &*arguments else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    match argument.to_str() {
        Some("--serve") => manifold::daemon::serve(),
        Some("--probe") => manifold::answer_probe(),
        Some("--version") => {
            let version = env!("CARGO_PKG_VERSION");
            println!("manifold-worker {version}, Python {}", manifold::PYTHON_VERSION);
            ExitCode::SUCCESS
        }
        Some("-h" | "--help") => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("manifold-worker: there is no argument {}", argument.display());
            eprint!("{HELP}");
            ExitCode::from(2)
        }
    }
}
