//! Bars beside their names, as an SVG file of its own.

use std::fmt::Write;

use super::plot::escape;

const WIDTH: f64 = 720.0;
/// Where bars begin, and how much room their values have after the longest.
const LEFT: f64 = 110.0;
const RIGHT: f64 = 110.0;
/// Of a title, and of a bar with its gap.
const TITLE: f64 = 34.0;
const STEP: f64 = 22.0;

/// Bars that are compared with one another.
pub(super) struct Panel {
    /// What they show.
    pub(super) title: String,
    /// Name, value and what is written beside it.
    pub(super) bars: Vec<(String, f64, String)>,
}

/// All panels, one below the other; those without bars are left out.
pub(super) fn svg(panels: &[Panel]) -> String {
    let (mut body, mut at) = (String::new(), 0.0);
    for Panel { title, bars } in panels.iter().filter(|panel| !panel.bars.is_empty()) {
        let _ = write!(body, r#"<text x="0" y="{}" font-weight="bold">{}</text>"#, at + 22.0, escape(title));
        at += TITLE;
        let most = bars.iter().map(|(_, value, _)| *value).fold(f64::MIN_POSITIVE, f64::max);
        for (name, value, text) in bars {
            let length = (value.max(0.0) / most * (WIDTH - LEFT - RIGHT)).max(1.0);
            let colour = match name.as_str() {
                "Fanway" => "#d55e00",
                "floor" => "#999999",
                _ => "#0072b2",
            };
            let (line, beside) = (at + 13.0, LEFT + length + 6.0);
            let _ = write!(
                body,
                r#"<text x="{}" y="{line}" text-anchor="end">{}</text><rect x="{LEFT}" y="{at}" width="{length:.1}" height="17" fill="{colour}"/><text x="{beside:.1}" y="{line}">{}</text>"#,
                LEFT - 8.0,
                escape(name),
                escape(text)
            );
            at += STEP;
        }
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {at}" font-family="system-ui, sans-serif" font-size="13" role="img"><rect width="{WIDTH}" height="{at}" fill="#ffffff"/>{body}</svg>"##
    ) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_values_and_fit() {
        let bar = |name: &str, value: f64| (name.to_owned(), value, format!("{value}"));
        let svg = svg(&[
            Panel { title: "a < b".into(), bars: vec![bar("x", 2.0), bar("y", 1.0), bar("z", -1.0)] },
            Panel { title: "empty".into(), bars: Vec::new() },
        ]);
        for part in ["a &lt; b", r#"width="500.0""#, r#"width="250.0""#, r#"width="1.0""#, r#"viewBox="0 0 720 100""#] {
            assert!(svg.contains(part), "{part} in {svg}");
        }
        assert!(!svg.contains("empty"));
    }
}
