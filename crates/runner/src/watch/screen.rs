//! The view on the terminal: drawing when runs change, and handling keys.

use super::runs::Runs;
use super::view::{self, Regions, View};
use crate::base::failure::{Failure, Outcome};
use crate::base::stop::Stop;
use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::layout::Rect;
use report::Place;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, IsTerminal, stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// Time between two updates of the runs.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two checks for a stop.
const TICK: Duration = Duration::from_millis(100);

/// Shows the runs until the user quits.
///
/// # Errors
/// The terminal can't be used.
pub fn show(runs: Runs) -> Outcome<()> {
    let fail = |error: io::Error| Failure::Failed(format!("can't use the terminal: {error}"));
    let stop = Stop::on_signals().map_err(fail)?;
    // The library restores the terminal before a panic is reported, except for the cursor.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = execute!(stdout(), Show);
        report(panic);
    }));
    let shown = ratatui::try_init().and_then(|terminal| Screen::new(runs, terminal).run(&stop));
    // If the terminal could not be set up, there is nothing to restore.
    let _ = ratatui::try_restore();
    shown.map_err(fail)
}

/// Where keys come from, as the library chooses it.
fn input() -> io::Result<OwnedFd> {
    match stdin().is_terminal() {
        true => stdin().as_fd().try_clone_to_owned(),
        false => Ok(File::open("/dev/tty")?.into()),
    }
}

/// Waits for input, at most for some time. Returns whether the terminal is gone instead: the library's
/// own wait would then never end.
fn hung_up(input: &OwnedFd, time: Duration) -> io::Result<bool> {
    let mut polled = [PollFd::new(input, PollFlags::IN)];
    let time = Timespec::try_from(time).expect("a tick is short");
    match poll(&mut polled, Some(&time)) {
        // A signal, such as that of a window that was resized.
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(polled[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)),
    }
}

struct Screen {
    runs: Runs,
    terminal: DefaultTerminal,
    /// The selected run; if none, the first.
    selected: Option<Place>,
    /// Whether its curve fills the window.
    curve: bool,
    colours: bool,
}

impl Screen {
    fn new(runs: Runs, terminal: DefaultTerminal) -> Self {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { runs, terminal, selected: None, curve: false, colours }
    }

    fn run(mut self, stop: &Stop) -> io::Result<()> {
        let input = input()?;
        let shown = self.follow(stop, &input);
        if hung_up(&input, Duration::ZERO).unwrap_or(true) {
            // The library's end of it would print to the terminal that is gone, and panic.
            std::mem::forget(self.terminal);
        }
        shown
    }

    fn follow(&mut self, stop: &Stop, input: &OwnedFd) -> io::Result<()> {
        let mut updated = Instant::now();
        self.draw()?;
        while !stop.asked() {
            let mut changed = false;
            if hung_up(input, TICK)? {
                return Ok(());
            }
            while event::poll(Duration::ZERO)? {
                match event::read()? {
                    Event::Key(key) if key.is_press() => {
                        if self.handle(key)? {
                            return Ok(());
                        }
                        changed = true;
                    }
                    Event::Resize(..) => changed = true,
                    _ => {}
                }
            }
            if updated.elapsed() >= UPDATE_INTERVAL {
                changed |= self.runs.update();
                updated = Instant::now();
            }
            if changed {
                self.draw()?;
            }
        }
        Ok(())
    }

    fn draw(&mut self) -> io::Result<()> {
        let folder = self.runs.folder.display().to_string();
        let view = View {
            folder: &folder,
            runs: self.runs.all(),
            selected: self.index(),
            curve: self.curve,
            colours: self.colours,
            problem: self.runs.problem(),
        };
        self.terminal.draw(|frame| view::draw(frame, &view))?;
        Ok(())
    }

    /// The current index of the selected run.
    fn index(&self) -> usize {
        let selected = self.selected.as_ref();
        let at = |place: &Place| self.runs.all().iter().position(|run| run.place == *place);
        selected.and_then(at).unwrap_or(0)
    }

    /// Handles a key. Returns whether it quits.
    fn handle(&mut self, key: KeyEvent) -> io::Result<bool> {
        let (area, runs) =
            (Rect::from((Default::default(), self.terminal.size()?)), self.runs.all());
        let page = usize::from(Regions::of(area, runs.len(), false).table.height).max(3) - 2;
        let (index, last) = (self.index(), runs.len().saturating_sub(1));
        let index = match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(true),
            KeyCode::Char('q') => return Ok(true),
            KeyCode::Esc if !self.curve => return Ok(true),
            KeyCode::Esc => {
                self.curve = false;
                return Ok(false);
            }
            KeyCode::Enter => {
                self.curve = !self.curve;
                return Ok(false);
            }
            KeyCode::Up | KeyCode::Char('k') => index.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => index + 1,
            KeyCode::PageUp => index.saturating_sub(page),
            KeyCode::PageDown => index + page,
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => return Ok(false),
        };
        self.selected = runs.get(index.min(last)).map(|run| run.place.clone());
        Ok(false)
    }
}
