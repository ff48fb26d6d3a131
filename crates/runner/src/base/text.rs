//! Text for people: numbers, times, sizes.

/// A number, or "-" where there is none.
pub fn number(value: Option<f64>, places: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.places$}"))
}

/// "2:03:04": hours, minutes and seconds.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// "12.5 MB" or "1.25 GB", in powers of ten.
pub fn bytes(count: u64) -> String {
    let count = count as f64;
    if count < 1e9 { format!("{:.1} MB", count / 1e6) } else { format!("{:.2} GB", count / 1e9) }
}

/// A text as one word of a shell's command.
pub fn shell_word(text: &str) -> String {
    let plain = |letter: char| letter.is_alphanumeric() || "-_./=,:".contains(letter);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_string(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}
