//! Progress of long work on standard error: bars on a terminal, plain lines elsewhere, nothing when quiet.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use carrack_engine::{Event, Phase};
use carrack_oci::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::context;
use crate::output::visible;

/// A step that takes less has nothing to say about its time.
const WORTH_TELLING: Duration = Duration::from_millis(100);

/// Shows the events of one operation; used from several threads.
pub struct Progress {
    display: Display,
}

enum Display {
    Quiet,
    Lines,
    Bars { screen: MultiProgress, bars: Mutex<HashMap<Digest, ProgressBar>> },
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        let display = match (quiet, context::is_interactive()) {
            (true, _) => Display::Quiet,
            (false, false) => Display::Lines,
            (false, true) => Display::Bars { screen: MultiProgress::new(), bars: Mutex::default() },
        };
        Self { display }
    }

    /// Takes one event.
    pub fn observe(&self, event: Event<'_>) {
        if matches!(self.display, Display::Quiet) && !matches!(event, Event::Warning(_)) {
            return;
        }
        match event {
            Event::Status(text) => self.line(text),
            Event::Warning(text) => self.line(&format!("warning: {text}")),
            Event::Blob { digest, phase } => self.blob(digest, phase),
            Event::Step { number, total, instruction } => {
                self.line(&format!("STEP {number}/{total}: {instruction}"));
            }
            Event::StepCached => self.line("--> cached"),
            Event::StepDone { duration } if duration >= WORTH_TELLING => {
                self.line(&format!("--> {}", seconds(duration)))
            }
            Event::StepDone { .. } => {}
            Event::Output(bytes) => self.output(bytes),
        }
    }

    /// Leaves the bars as they are and lets other output follow.
    pub fn finish(&self) {
        if let Display::Bars { bars, .. } = &self.display {
            for bar in bars.lock().expect("no thread panics with the lock").values() {
                bar.abandon();
            }
        }
    }

    fn line(&self, text: &str) {
        let text = if std::io::stderr().is_terminal() { visible(text) } else { text.into() };
        self.output(format!("{text}\n").as_bytes());
    }

    fn output(&self, bytes: &[u8]) {
        let write = || {
            let _ = std::io::stderr().write_all(bytes);
        };
        match &self.display {
            Display::Bars { screen, .. } => screen.suspend(write),
            _ => write(),
        }
    }

    fn blob(&self, digest: &Digest, phase: Phase) {
        match &self.display {
            Display::Quiet => {}
            Display::Lines => {
                if let Some(text) = milestone(phase) {
                    self.line(&format!("{}: {text}", digest.short()));
                }
            }
            Display::Bars { screen, bars } => {
                let mut bars = bars.lock().expect("no thread panics with the lock");
                let bar = bars.entry(digest.clone()).or_insert_with(|| screen.add(new_bar(digest)));
                move_bar(bar, phase);
            }
        }
    }
}

/// What a log without a terminal says of a blob: its ends, not its way.
fn milestone(phase: Phase) -> Option<&'static str> {
    match phase {
        Phase::Exists => Some("Already exists"),
        Phase::Mounted => Some("Mounted from another repository"),
        Phase::Pushed => Some("Pushed"),
        Phase::Complete => Some("Complete"),
        Phase::Compressing => Some("Compressing"),
        Phase::Waiting | Phase::Transferring { .. } | Phase::Unpacking => None,
    }
}

fn new_bar(digest: &Digest) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{prefix}: {msg:12} {wide_bar:.cyan/dim} {bytes:>10}/{total_bytes:<10}")
            .expect("the template is a constant")
            .progress_chars("━╸─");
    ProgressBar::new(0).with_style(style).with_prefix(digest.short().to_owned())
}

fn move_bar(bar: &ProgressBar, phase: Phase) {
    match phase {
        Phase::Waiting => bar.set_message("Waiting"),
        Phase::Transferring { done, total } => {
            bar.set_length(total);
            bar.set_position(done);
            bar.set_message("Transferring");
        }
        Phase::Unpacking => bar.set_message("Unpacking"),
        Phase::Compressing => bar.set_message("Compressing"),
        Phase::Exists => bar.abandon_with_message("Exists"),
        Phase::Mounted => bar.abandon_with_message("Mounted"),
        Phase::Pushed => bar.abandon_with_message("Pushed"),
        Phase::Complete => bar.abandon_with_message("Complete"),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}
