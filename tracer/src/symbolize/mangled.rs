//! C++ names that the demangler does not know: newer compilers mangle what it has no rule for.
//!
//! Takes a mangled name, returns the path of the function with its template arguments folded, as far as it can be read
//! without knowing every rule: `std::vector<…>::push_back`. Pure.

/// Template arguments that are not shown.
const FOLDED: &str = "<…>";

/// The path of the function; `None` if not even its first part can be read.
pub(super) fn readable(mangled: &str) -> Option<String> {
    let mut rest = Rest(mangled.strip_prefix("_Z")?.as_bytes());
    let mut path = Vec::new();
    let is_nested = rest.skip(b"N");
    if is_nested {
        while rest.first().is_some_and(|byte| b"rVKRO".contains(&byte)) {
            rest.take(1);
        }
    }
    while let Some(part) = rest.part(&path) {
        match part {
            Part::Name(name) => path.push(name),
            Part::Folded => {
                if let Some(last) = path.last_mut() {
                    last.push_str(FOLDED);
                }
            }
            Part::Skipped => {}
        }
        // Outside of a nested name, what follows are parameters: only `std::` and template arguments go on.
        let goes_on = path.last().is_some_and(|last| last == "std") || rest.first() == Some(b'I');
        if !is_nested && !goes_on {
            break;
        }
    }
    (!path.is_empty()).then(|| path.join("::"))
}

/// A part of a path.
enum Part {
    Name(String),
    /// Template arguments.
    Folded,
    /// Nothing to show.
    Skipped,
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn first(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn take(&mut self, bytes: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, start: &[u8]) -> bool {
        let rest = self.0.strip_prefix(start);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    fn number(&mut self) -> Option<usize> {
        let digits = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        str::from_utf8(self.take(digits)?).ok()?.parse().ok()
    }

    /// A name with its length before it.
    fn name(&mut self) -> Option<String> {
        let length = self.number()?;
        let name = str::from_utf8(self.take(length)?).ok()?;
        Some(if name.starts_with("_GLOBAL__N") {
            "(anonymous)".to_owned()
        } else {
            name.to_owned()
        })
    }

    /// The next part; `None` at the end, and at what is not known.
    fn part(&mut self, before: &[String]) -> Option<Part> {
        for (code, name) in [
            (&b"St"[..], "std"),
            (b"Sa", "std::allocator"),
            (b"Ss", "std::string"),
            (b"cl", "operator()"),
            (b"nw", "operator new"),
            (b"na", "operator new[]"),
            (b"aS", "operator="),
            (b"ix", "operator[]"),
            (b"ls", "operator<<"),
            (b"rs", "operator>>"),
        ] {
            if self.skip(code) {
                return Some(Part::Name(name.to_owned()));
            }
        }
        let class = || {
            let last = before.last().map_or("", String::as_str);
            last.strip_suffix(FOLDED).unwrap_or(last).to_owned()
        };
        match self.first()? {
            b'0'..=b'9' => self.name().map(Part::Name),
            b'I' => self.skip_arguments().then_some(Part::Folded),
            b'L' => self.take(1).map(|_| Part::Skipped),
            // A tag of the binary interface.
            b'B' => {
                self.take(1)?;
                self.name().map(|_| Part::Skipped)
            }
            b'C' => self.take(2).map(|_| Part::Name(class())),
            b'D' => self.take(2).map(|_| Part::Name(format!("~{}", class()))),
            b'S' => {
                // An earlier part again, which would have to be counted.
                let end = self.0.iter().position(|byte| *byte == b'_')?;
                self.take(end + 1)?;
                Some(if before.is_empty() { Part::Name("…".to_owned()) } else { Part::Skipped })
            }
            _ => None,
        }
    }

    /// Skips template arguments with all that is in them. If they cannot be read, nothing is left.
    fn skip_arguments(&mut self) -> bool {
        let mut depth = 0_usize;
        while let Some(byte) = self.first() {
            match byte {
                b'0'..=b'9' => {
                    if self.name().is_none() {
                        break;
                    }
                    continue;
                }
                // A literal: its digits are no length.
                b'L' if self.0.get(1).is_some_and(u8::is_ascii_lowercase) => {
                    let Some(end) = self.0.iter().position(|byte| *byte == b'E') else { break };
                    self.take(end + 1);
                    continue;
                }
                b'S' if !self.0.get(1).is_some_and(u8::is_ascii_lowercase) => {
                    let Some(end) = self.0.iter().position(|byte| *byte == b'_') else { break };
                    self.take(end + 1);
                    continue;
                }
                // What a template parameter must be.
                b'T' if self.0.get(1).is_some_and(|byte| b"knpty".contains(byte)) => {
                    self.take(2);
                    continue;
                }
                b'T' => {
                    let Some(end) = self.0.iter().position(|byte| *byte == b'_') else { break };
                    self.take(end + 1);
                    continue;
                }
                b'I' | b'N' | b'X' | b'L' | b'J' | b'F' => depth += 1,
                b'E' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.take(1);
            if depth == 0 {
                return true;
            }
        }
        self.0 = &[];
        true
    }
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn paths_are_read_and_arguments_folded() {
        for (mangled, path) in [
            ("_ZSt11make_sharedI7SessionJEESt10shared_ptr", "std::make_shared<…>"),
            ("_ZN3app6Server7on_openEi", "app::Server::on_open"),
            ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector<…>::push_back"),
            ("_ZN3app4PoolIN4core4NodeELi16EE3getEv", "app::Pool<…>::get"),
            ("_ZN3app4PoolI4NodeEC2Ev", "app::Pool<…>::Pool"),
            ("_ZN3app4PoolI4NodeED1Ev", "app::Pool<…>::~Pool"),
            ("_ZN12_GLOBAL__N_15localEv", "(anonymous)::local"),
            ("_ZNKSt8functionIFvvEEclEv", "std::function<…>::operator()"),
            ("_Z6handleI7SessionEvT_", "handle<…>"),
            ("_Z4openi", "open"),
            ("_ZN3app6handleITkNS_7SessionE4RealEEvT0_", "app::handle<…>"),
        ] {
            assert_eq!(readable(mangled).as_deref(), Some(path), "{mangled}");
        }
    }

    #[test]
    fn what_is_no_path_is_not_read() {
        for text in ["main", "_Z", "_ZTV7Session", "_Z9x", "_ZN"] {
            assert_eq!(readable(text), None, "{text}");
        }
    }
}
