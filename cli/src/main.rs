//! `manifold`, the command line: it serves applications with httpd and mod_manifold, and finds out what is
//! wrong with a server. It links neither Python nor httpd; what it has to know of either, it asks their
//! programs.

mod app;
mod check;
mod compatibility;
mod conf;
mod django;
mod doctor;
mod explain;
mod failure;
mod home;
mod httpd;
mod install;
mod installation;
mod options;
mod port;
mod serve;
mod server_root;
mod terminal;
mod user;
mod wheel;

use clap::{CommandFactory as _, Parser, Subcommand};
use failure::{During as _, Outcome};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// WSGI applications on Apache httpd, by mod_manifold.
#[derive(Parser)]
#[command(name = "manifold", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve an application with httpd in the foreground; Ctrl-C stops it
    Serve(options::Serve),
    /// Write the configuration that `serve` uses to a folder, with an apachectl, and keep it
    Setup(options::Setup),
    /// Have httpd look at a configuration; explains what is wrong, and lists what differs from mod_wsgi
    Check(options::Check),
    /// Find out what keeps an application, or this machine, from being served well, and print the cure
    Doctor(options::Doctor),
    /// Print the lines by which httpd loads the module
    ModuleConfig(options::ModuleConfig),
    /// Copy module and worker to where this httpd has its modules, and write what loads them
    Install(options::Install),
    /// Print the completions of a shell
    Completions {
        /// Whose
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command
    ManPages {
        /// Into this folder, as manifold.1, manifold-serve.1 and so on
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Serve(options) => serve::run(&options),
        Command::Setup(options) => server_root::set_up(&options),
        Command::Check(options) => check::run(&options),
        Command::Doctor(options) => doctor::run(&options),
        Command::ModuleConfig(options) => install::print_config(&options),
        Command::Install(options) => install::install(&options),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "manifold", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::ManPages { folder } => write_pages(&folder),
    };
    done.unwrap_or_else(|failure| {
        terminal::complain(&failure);
        ExitCode::FAILURE
    })
}

fn write_pages(folder: &Path) -> Outcome<ExitCode> {
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), folder))
        .during(|| format!("pages cannot be written to {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const PAGE: &str = include_str!("../../docs/command-line.md");

    #[test]
    fn the_page_about_the_command_line_has_every_command_and_option_and_no_other() {
        let program = Arguments::command();
        program.clone().debug_assert();
        let mut options = BTreeSet::from(["--help".to_owned(), "--version".to_owned()]);
        for command in program.get_subcommands() {
            let heading = format!("## manifold {}", command.get_name());
            assert!(PAGE.contains(&heading), "{heading} is missing in docs/command-line.md");
            let names = command.get_arguments().filter_map(clap::Arg::get_long);
            options.extend(names.map(|name| format!("--{name}")));
        }
        // Other programs' options do not stand between backticks there.
        let quoted = PAGE.split('`').skip(1).step_by(2).filter_map(|text| text.split(' ').next());
        let told: BTreeSet<_> =
            quoted.filter(|word| word.starts_with("--")).map(str::to_owned).collect();
        let missing: Vec<_> =
            options.difference(&told).filter(|name| *name != "--version").collect();
        assert!(missing.is_empty(), "missing in docs/command-line.md: {missing:?}");
        let invented: Vec<_> = told.difference(&options).collect();
        assert!(invented.is_empty(), "not there: {invented:?}");
    }
}
