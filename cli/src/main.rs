//! `manifold`, the command line: it serves applications with httpd and mod_manifold, and finds out what is
//! wrong with a server. It links neither Python nor httpd; what it has to know of either, it asks their
//! programs.

mod app;
mod check;
mod compatibility;
mod conf;
mod doctor;
mod explain;
mod failure;
mod home;
mod httpd;
mod install;
mod installation;
mod options;
mod serve;
mod server_root;
mod terminal;
mod user;

use clap::{CommandFactory as _, Parser, Subcommand};
use std::process::ExitCode;

/// WSGI applications on Apache httpd, by mod_manifold.
#[derive(Parser)]
#[command(name = "manifold", version, about, max_term_width = 110)]
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
    };
    done.unwrap_or_else(|failure| {
        terminal::complain(&failure);
        ExitCode::FAILURE
    })
}
