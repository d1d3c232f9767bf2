//! Addresses and offsets: numbers that reports write in hexadecimal.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// An address in a target's memory; written as `0x7f1280004a10`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

/// An offset in a file; written as `0x99ac0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

/// Parses `0x…`, in upper or lower case.
fn parse(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    // `from_str_radix` accepts a sign; a report must not have one.
    let digits =
        Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    u64::from_str_radix(digits, 16).ok()
}

/// Written and read as text in hexadecimal.
macro_rules! hexadecimal {
    ($number:ident, $expected:literal) => {
        impl fmt::Display for $number {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl Serialize for $number {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $number {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                parse(&text).map(Self).ok_or_else(|| {
                    D::Error::invalid_value(serde::de::Unexpected::Str(&text), &$expected)
                })
            }
        }
    };
}

hexadecimal!(Address, "an address as `0x…`");
hexadecimal!(Offset, "an offset as `0x…`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_text_in_hexadecimal() {
        for number in [0, 0x7f12_8000_4a10, u64::MAX] {
            let text = serde_json::to_string(&Address(number)).unwrap();
            assert_eq!(text, format!("\"{number:#x}\""));
            assert_eq!(serde_json::from_str::<Address>(&text).unwrap(), Address(number));
        }
        for text in ["\"7f\"", "\"0x\"", "\"0x+1\"", "\"0x1ffffffffffffffff\"", "17"] {
            assert!(serde_json::from_str::<Offset>(text).is_err(), "{text}");
        }
    }
}
