//! Blocks for Python and for a shell.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::harness::{Serving, curl, eventually, is_root, run, variable};
use crate::pages::{Block, blocks, pages, top};
use crate::port::Port;
use crate::scratch::{Scratch, program, user};

/// Why a block is not run.
const NOT_RUN: [(&str, &str); 4] = [
    ("clone", "it builds the repository: .ci/run does"),
    ("network", "it installs packages: scripts/test does"),
    ("system", "it changes the system: scripts/package-test deb or system does"),
    ("minutes", "it takes minutes: .ci/run does, in short"),
];

fn all() -> Vec<Block> {
    [pages(), vec!["CONTRIBUTING.md".to_owned()]]
        .concat()
        .iter()
        .flat_map(|page| blocks(page))
        .collect()
}

#[test]
fn every_block_says_for_whom_it_is() {
    for block in all() {
        let known: &[&str] = match &block.language[..] {
            "apache" => &["directory"],
            "sh" => &["clone", "network", "system", "minutes", "serves", "starts"],
            "python" | "text" | "ini" | "apparmor" => &[],
            other => panic!("{}: {other:?} is no language of a block here", block.place()),
        };
        for word in &block.words {
            let fine =
                known.contains(&&word[..]) || word.starts_with("id=") || word.starts_with("file=");
            assert!(fine, "{}: the word {word:?} means nothing", block.place());
        }
    }
}

/// A block that is not for these tests, or one that says the same, is followed by a script: by its page and name.
#[test]
fn every_block_that_changes_the_system_or_takes_minutes_is_run_by_a_script() {
    let read = |file: &&str| std::fs::read_to_string(top().join(file)).expect("it is there");
    let packages =
        ["build_packages", "test_deb", "in_system"].map(|name| format!("scripts/lib/{name}.sh"));
    let packages: String = packages.iter().map(|file| read(&&file[..])).collect();
    let files = |block: &Block| ["ini", "apparmor"].contains(&&block.language[..]);
    each_is_run(|block| block.has("system"), "follow", &packages);
    each_is_run(files, "block", &packages);
    each_is_run(|block| block.has("minutes"), "follow", &read(&".ci/run"));
}

/// Each of these blocks, or one that says the same, stands behind the word in a script.
fn each_is_run(which: impl Fn(&Block) -> bool, word: &str, script: &str) {
    let words: Vec<_> = script.split_whitespace().collect();
    let stands = |block: &Block| {
        let id = block.value("id").unwrap_or_default();
        words.windows(3).any(|said| said == [word, &block.page[..], id])
    };
    let of: Vec<_> = all().into_iter().filter(which).collect();
    assert!(!of.is_empty(), "there is no block to {word}");
    for block in &of {
        let run = of.iter().any(|other| other.text == block.text && stands(other));
        assert!(run, "no script runs {}", block.place());
    }
}

#[test]
fn python_compiles_every_block_of_its() {
    let code = "import sys\ncompile(sys.stdin.read(), sys.argv[1], 'exec')\n";
    let mut count = 0;
    for block in all().iter().filter(|block| block.language == "python") {
        count += 1;
        let mut command = Command::new(variable("MANIFOLD_PYTHON"));
        command.args(["-I", "-W", "error", "-c", code, &block.place()]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("Python runs");
        let mut stdin = child.stdin.take().expect("its input");
        stdin.write_all(block.text.as_bytes()).expect("it reads");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(count > 15, "only {count} blocks were found");
}

#[test]
fn the_commands_of_every_page_work() {
    let all = all();
    let mut pages: Vec<_> =
        all.iter().filter(|block| block.language == "sh").map(|block| &block.page).collect();
    pages.dedup();
    let of = &|page: &String| all.iter().filter(|block| block.page == *page).collect::<Vec<_>>();
    let counts: Vec<usize> = std::thread::scope(|scope| {
        let start = |page| {
            std::thread::Builder::new()
                .name(String::clone(page))
                .spawn_scoped(scope, move || follow(&of(page)))
        };
        let following: Vec<_> = pages.iter().map(|&page| start(page).expect("a thread")).collect();
        following.into_iter().map(|page| page.join().expect("a page does what it says")).collect()
    });
    let count: usize = counts.iter().sum();
    assert!(count > 10, "only {count} blocks were run");
    for (word, why) in NOT_RUN {
        let places: Vec<_> = all.iter().filter(|block| block.has(word)).map(Block::place).collect();
        eprintln!("not run, since {why}: {}", places.join(", "));
    }
}

/// Runs the blocks of a page one after the other; returns how many.
fn follow(blocks: &[&Block]) -> usize {
    let page = &blocks[0].page;
    let extensions = page.ends_with("/fastapi.md");
    let venv = if extensions { "MANIFOLD_EXTENSIONS_VENV" } else { "MANIFOLD_TEST_VENV" };
    if extensions && lacks(&["fastapi", "pydantic_core", "a2wsgi"]) {
        eprintln!("left out, {page}: there are no wheels of its packages for this Python");
        return 0;
    }
    let scratch = Scratch::new(&variable(venv));
    let mut count = 0;
    for block in blocks {
        scratch.save(block);
        if block.language != "sh" || NOT_RUN.iter().any(|(word, _)| block.has(word)) {
            continue;
        }
        count += 1;
        match &block.words[..] {
            [word] if word == "serves" => serve(block, &scratch),
            [word] if word == "starts" => start(block, &scratch),
            _ => shell(block, &scratch),
        }
    }
    count
}

/// Whether the virtual environment of extensions has no wheel of one of these.
fn lacks(packages: &[&str]) -> bool {
    let file = variable("MANIFOLD_EXTENSIONS_VENV").join("unavailable");
    let unavailable = std::fs::read_to_string(file).expect("scripts/test writes it");
    packages.iter().any(|package| unavailable.lines().any(|line| line.starts_with(package)))
}

fn in_shell(text: &str, scratch: &Scratch) -> Command {
    let folder = program().parent().expect("a folder").to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", text]).current_dir(scratch.path()).stdin(Stdio::null());
    command
        .env("PATH", format!("{}:{path}", folder.display()))
        .env("VIRTUAL_ENV", scratch.path().join("srv/venv"));
    command
}

/// Runs a block to its end.
fn shell(block: &Block, scratch: &Scratch) {
    let said = run(&mut in_shell(&scratch.here(&block.text), scratch));
    assert!(said.ok, "{}\n{}\n{}\n{}", block.place(), block.text, said.out, said.err);
}

/// Starts each command of a block, on any port, and asks it for its first page.
fn serve(block: &Block, scratch: &Scratch) {
    for line in scratch.here(&block.text).lines() {
        let (command, _) = line.split_once(" #").unwrap_or((line, ""));
        let serving =
            Serving::spawn(in_shell(&format!("exec {} --port 0", without_port(command)), scratch));
        let answer = serving.curl("/", &[]);
        assert_eq!(
            answer.status,
            200,
            "{}: {line}\n{}\n{}",
            block.place(),
            answer.body,
            serving.log()
        );
    }
}

/// Runs a block that leaves a server behind, asks that, and stops it.
fn start(block: &Block, scratch: &Scratch) {
    if !is_root() {
        eprintln!("left out, {}: only root's httpd becomes another user", block.place());
        return;
    }
    let held = Port::hold("127.0.0.1:0").expect("a port");
    let port = held.number();
    let text = scratch.here(&block.text).replace("--port 80", &format!("--port {port}"));
    let stop = Stop { apachectl: scratch.path().join("srv/server/apachectl") };
    let said =
        run(&mut in_shell(&text.replace("--user shop", &format!("--user {}", user())), scratch));
    assert!(said.ok, "{}\n{}\n{}", block.place(), said.out, said.err);
    let answer = eventually("it answers", || {
        let up = std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        up.then(|| curl(&format!("http://127.0.0.1:{port}/"), &[]))
    });
    assert_eq!(answer.status, 200, "{}: {}", block.place(), answer.body);
    drop(stop);
    eventually("it has stopped", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err().then_some(())
    });
}

/// A server that has to be stopped, whatever happens.
struct Stop {
    apachectl: PathBuf,
}

impl Drop for Stop {
    fn drop(&mut self) {
        // Where it was not even set up, nothing runs.
        let _ = Command::new(&self.apachectl).arg("stop").output();
    }
}

/// A port that a page names may be taken here, and on a machine of many the address `0.0.0.0` is everybody's.
fn without_port(command: &str) -> String {
    let mut words = command.split_whitespace().peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word {
            "--port" | "--host" => {
                words.next();
            }
            _ => kept.push(word),
        }
    }
    kept.join(" ")
}
