//! The first steps of the documentation, done as they are written.

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

#[test]
fn the_first_steps_work_as_they_are_written() {
    let place = Workplace::new(4096);
    let page = include_str!("../../docs/first-steps.md").replace("models/SmolLM2-135M-Instruct", "model");
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
    assert_eq!((files, commands), (4, 6), "the page has other steps than it had");
    assert_eq!(place.read("run.txt").lines().count(), 2);
}
