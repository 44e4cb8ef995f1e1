//! Pages of the documentation, done as they are written.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should panic")]

mod fixture;

use fixture::Workplace;

/// Files (blocks with a name behind the language) and commands of a page, in order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(info) = line.strip_prefix("```") {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let name = info.split_once(' ').map(|(_, name)| name.to_owned());
            steps.extend(name.map(|name| Step::File(name, body.join("\n") + "\n")));
        } else if let Some(command) = line.strip_prefix("    monopass ") {
            steps.push(Step::Command(command.split_whitespace().map(str::to_owned).collect()));
        }
    }
    steps
}

enum Step {
    File(String, String),
    Command(Vec<String>),
}

/// Does a page's steps in a place with a tiny model in place of SmolLM2; how many files it had and commands.
fn follow(page: &str) -> (Workplace, usize, usize) {
    let place = Workplace::new(4096);
    let page = page.replace("models/SmolLM2-135M-Instruct", "model");
    let (mut files, mut commands) = (0, 0);
    for step in steps(&page) {
        match step {
            Step::File(name, text) => {
                place.write(&name, &text);
                files += 1;
            }
            Step::Command(arguments) => {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                place.run(&arguments).expect_code(0);
                commands += 1;
            }
        }
    }
    (place, files, commands)
}

#[test]
fn the_first_steps_work_as_they_are_written() {
    let (place, files, commands) = follow(include_str!("../../docs/first-steps.md"));
    assert_eq!((files, commands), (4, 6), "the page has other steps than it had");
    assert_eq!(place.read("run.txt").lines().count(), 2);
}

#[test]
fn a_corpus_of_ones_own_is_read_as_its_page_says() {
    let (place, files, commands) = follow(include_str!("../../docs/own-data.md"));
    assert_eq!((files, commands), (4, 3), "the page has other steps than it had");
    let results = place.read("runs/own-data/tables/results.md");
    assert!(results.contains("| mine | base | single_token |"), "{results}");
}

#[test]
fn a_model_of_ones_own_is_read_as_its_page_says() {
    let (place, files, commands) = follow(include_str!("../../docs/own-model.md"));
    assert_eq!((files, commands), (0, 3), "the page has other steps than it had");
    assert!(place.path("exported/model.safetensors").is_file());
}
