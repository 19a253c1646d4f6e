//! Whose each line of an image's history is: its base's, or its own.
//!
//! Lines and layers match by rule only: images in the wild have more lines than layers, or fewer.

use oci::{History, ImageConfig};

/// How many of the image's lines are its base's, which has `layers` layers.
pub(super) fn own_from(image: &ImageConfig, base: Option<&ImageConfig>, layers: usize) -> usize {
    if let Some(base) =
        base.filter(|base| !base.history.is_empty() && image.history.starts_with(&base.history))
    {
        return base.history.len();
    }
    if layers == 0 {
        return 0;
    }
    let with_layer = image.history.iter().enumerate().filter(|(_, line)| !line.empty_layer);
    with_layer.map(|(place, _)| place + 1).nth(layers - 1).unwrap_or(image.history.len())
}

/// The time of the last line, or else that of the whole image.
pub(super) fn last_time(image: &ImageConfig) -> Option<String> {
    image.history.iter().rev().find_map(|line| line.created.clone()).or_else(|| image.created.clone())
}

/// The same line without its layer.
pub(super) fn without_layer(line: &History) -> History {
    History { empty_layer: true, ..line.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> ImageConfig {
        let line = |letter: char| History {
            created_by: Some(letter.to_string()),
            empty_layer: letter.is_lowercase(),
            ..History::default()
        };
        ImageConfig { history: text.chars().map(line).collect(), ..ImageConfig::default() }
    }

    #[test]
    fn lines_belong_to_whoever_wrote_them() {
        for (image, base, layers, expected) in [
            ("AbCd", Some("Ab"), 1, 2),
            ("AbCd", Some("A"), 1, 1),
            // The base's lines are others by now.
            ("AbCd", Some("X"), 1, 1),
            ("AbCd", None, 2, 3),
            ("AbCd", None, 0, 0),
            ("aBc", None, 0, 0),
            // Fewer lines than layers.
            ("A", None, 3, 1),
            ("", Some(""), 1, 0),
        ] {
            let base = base.map(lines);
            assert_eq!(own_from(&lines(image), base.as_ref(), layers), expected, "{image} {layers}");
        }
    }
}
