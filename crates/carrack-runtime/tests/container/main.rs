//! Containers looked at from inside. Each starts in a process of one thread, the stage beside this folder.

mod fixture;

use fixture::Container;

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn hello() {
    let container = Container::new(&["echo", "hello"]);
    assert_eq!(container.stdout(), "hello");
}
