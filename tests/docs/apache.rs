//! Blocks of configuration: httpd's own test accepts them.

use std::process::Command;

use crate::harness::{variable, write};
use crate::pages::{Block, blocks, pages};
use crate::scratch::Scratch;

/// What httpd says against a block, if anything.
fn complaint(block: &Block) -> Option<String> {
    let scratch = Scratch::new(&variable("MANIFOLD_TEST_VENV"));
    let own = format!("\"{}\"", variable("MANIFOLD_MODULE").display());
    let mut text = String::new();
    for line in scratch.here(&block.text).lines() {
        // The module is where the test has it, and loaded already.
        match line.strip_prefix("LoadModule wsgi_module ") {
            Some(_) => {
                text +=
                    &format!("<IfModule !wsgi_module>\nLoadModule wsgi_module {own}\n</IfModule>\n")
            }
            None => text += &format!("{line}\n"),
        }
    }
    if block.has("directory") {
        text = format!("<Directory {}/srv/www>\n{text}</Directory>\n", scratch.path().display());
    }
    let listen = if text.contains("Listen ") { "" } else { "Listen 127.0.0.1:1\n" };
    // What a block says of httpd itself comes first: limits are read in their order.
    let conf = format!("{}{listen}{text}", scratch.server());
    let file = write(scratch.path(), "httpd.conf", &conf);
    let output = Command::new(variable("MANIFOLD_HTTPD")).arg("-t").arg("-f").arg(file).output();
    let output = output.expect("httpd -t runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    (!output.status.success() || said.contains("AH00526"))
        .then(|| format!("{}\n{text}{said}", block.place()))
}

#[test]
fn httpd_accepts_every_block_of_configuration() {
    let all: Vec<_> = pages().iter().flat_map(|page| blocks(page)).collect();
    let configuration: Vec<_> = all.iter().filter(|block| block.language == "apache").collect();
    assert!(configuration.len() > 40, "only {} blocks were found", configuration.len());
    let wrong: Vec<_> = configuration.iter().filter_map(|block| complaint(block)).collect();
    assert!(wrong.is_empty(), "httpd refuses {} blocks:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_block_that_httpd_does_not_accept_is_found() {
    let wrong = |text: &str| {
        let block = Block {
            page: "a page".to_owned(),
            line: 1,
            language: "apache".to_owned(),
            words: Vec::new(),
            text: text.to_owned(),
        };
        complaint(&block).expect("httpd refuses it")
    };
    assert!(wrong("WSGIReplicas many\n").contains("WSGIReplicas"));
    assert!(wrong("<Directory /srv/shop>\n").contains("not closed"));
    assert!(wrong("WSGINoSuchDirective On\n").contains("Invalid command"));
}
