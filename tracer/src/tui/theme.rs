//! The style of each role: the only place with colors.
//!
//! Takes a role, returns a style. Colors come from the terminal's own sixteen, so they fit its background; and no
//! color has a meaning that the text does not also express.

use ratatui::style::{Color, Modifier, Style};

use super::text::Role;

/// With or without colors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// The terminal's own colors.
    Colored,
    /// Only bold, reverse and plain.
    Plain,
}

impl Theme {
    /// Follows `NO_COLOR`: any value but the empty one turns colors off.
    pub fn chosen(no_color: Option<&std::ffi::OsStr>) -> Self {
        match no_color {
            Some(value) if !value.is_empty() => Self::Plain,
            _ => Self::Colored,
        }
    }

    /// The style of a role.
    pub fn style(self, role: Role) -> Style {
        let plain = Style::new();
        let weight = match role {
            Role::Strong | Role::Title | Role::Sorted | Role::Bad => plain.bold(),
            Role::Loud => plain.bold().reversed(),
            Role::Notice => plain.reversed(),
            _ => plain,
        };
        if self == Self::Plain {
            return weight;
        }
        match role {
            Role::Text | Role::Strong | Role::Notice => weight,
            Role::Muted | Role::Rule => weight.add_modifier(Modifier::DIM),
            Role::Title => plain.add_modifier(Modifier::DIM),
            Role::Sorted | Role::Accent => weight.fg(Color::Cyan),
            Role::Rising | Role::Doubtful => weight.fg(Color::Yellow),
            Role::Falling | Role::Good => weight.fg(Color::Green),
            Role::Bad | Role::Loud => weight.fg(Color::Red),
        }
    }

    /// The line with the cursor.
    pub fn selected(self) -> Style {
        Style::new().reversed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLES: [Role; 14] = [
        Role::Text,
        Role::Strong,
        Role::Muted,
        Role::Accent,
        Role::Title,
        Role::Sorted,
        Role::Rising,
        Role::Falling,
        Role::Bad,
        Role::Doubtful,
        Role::Good,
        Role::Loud,
        Role::Notice,
        Role::Rule,
    ];

    #[test]
    fn without_colors_there_are_only_bold_and_reverse() {
        let allowed = Modifier::BOLD | Modifier::REVERSED;
        for role in ROLES {
            let style = Theme::Plain.style(role);
            assert_eq!((style.fg, style.bg), (None, None), "{role:?}");
            assert!(allowed.contains(style.add_modifier), "{role:?}");
        }
        assert_eq!(Theme::Plain.selected(), Style::new().reversed());
    }

    #[test]
    fn no_color_counts_unless_empty() {
        for (value, theme) in
            [(None, Theme::Colored), (Some(""), Theme::Colored), (Some("0"), Theme::Plain)]
        {
            assert_eq!(Theme::chosen(value.map(std::ffi::OsStr::new)), theme);
        }
    }
}
