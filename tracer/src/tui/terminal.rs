//! The terminal: taken over on entry, restored on leaving, on an error and after a panic.
//!
//! Returns a drawing surface; does not depend on the content.

use std::{
    io::{self, Stdout},
    mem::ManuallyDrop,
    panic,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crossterm::{
    cursor, execute,
    terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
};
use ratatui::{Terminal, backend::CrosstermBackend};

type Hook = dyn Fn(&panic::PanicHookInfo<'_>) + Send + Sync;

/// The terminal while the screen is shown; dropping it restores the terminal.
pub struct Guard {
    /// Where to draw. Never dropped: ratatui would then print to stderr that it cannot show the cursor, and printing
    /// panics when stderr is the terminal that is gone. The guard's own drop does the same work.
    pub terminal: ManuallyDrop<Terminal<CrosstermBackend<Stdout>>>,
    /// Set when any thread has panicked: the terminal is already restored.
    panicked: Arc<AtomicBool>,
    /// The previous panic hook.
    hook: Arc<Hook>,
}

impl Guard {
    /// Raw mode, alternate screen, no cursor; and a panic hook that undoes them before the message.
    pub fn enter() -> io::Result<Self> {
        let panicked = Arc::new(AtomicBool::new(false));
        let hook: Arc<Hook> = Arc::from(panic::take_hook());
        let (flag, before) = (Arc::clone(&panicked), Arc::clone(&hook));
        panic::set_hook(Box::new(move |info| {
            // A message in the alternate screen would vanish with it.
            give_back();
            flag.store(true, Ordering::SeqCst);
            before(info);
        }));
        let screen = enable_raw_mode()
            .and_then(|()| execute!(io::stdout(), EnterAlternateScreen, cursor::Hide))
            .and_then(|()| Terminal::new(CrosstermBackend::new(io::stdout())));
        match screen {
            Ok(terminal) => Ok(Self { terminal: ManuallyDrop::new(terminal), panicked, hook }),
            Err(error) => {
                give_back();
                panic::set_hook(Box::new(move |info| hook(info)));
                Err(error)
            }
        }
    }

    /// Whether a panic, in whichever thread, has taken the screen down.
    pub fn is_down(&self) -> bool {
        self.panicked.load(Ordering::SeqCst)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The hook cannot be changed while panicking; it has already restored the terminal.
        if !std::thread::panicking() {
            let hook = Arc::clone(&self.hook);
            panic::set_hook(Box::new(move |info| hook(info)));
        }
        if !self.is_down() {
            give_back();
        }
    }
}

/// Best effort: errors cannot be shown when the terminal is gone.
fn give_back() {
    drop(execute!(io::stdout(), LeaveAlternateScreen, cursor::Show));
    drop(disable_raw_mode());
}
