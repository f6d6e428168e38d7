//! Images, sounds, films and files of a call, told by the names of their fields, without reading it.

use std::sync::LazyLock;

use memchr::memmem::Finder;

/// What stands for an image, a sound, a film, a file. Inside a JSON string a quote is escaped, so these are names or types.
const MEDIA: [&str; 14] = [
    "\"image_url\"",
    "\"input_image\"",
    "\"image\"",
    "\"inlineData\"",
    "\"inline_data\"",
    "\"fileData\"",
    "\"file_data\"",
    "\"video_url\"",
    "\"video\"",
    "\"input_audio\"",
    "\"document\"",
    "\"input_file\"",
    "\"file\"",
    "\"file_id\"",
];

/// How many there are, never fewer than that.
pub(super) fn count(said: &[u8]) -> usize {
    static FINDERS: LazyLock<[Finder<'static>; MEDIA.len()]> = LazyLock::new(|| MEDIA.map(Finder::new));
    FINDERS.iter().map(|finder| finder.find_iter(said).count()).sum()
}

/// Inside a JSON string a quote is escaped, so these words with their quotes are names or types.
pub(super) fn is_any(text: &str) -> bool {
    const MARKS: [&str; 8] = [
        "\"image_url\"",
        "\"input_image\"",
        "\"image\"",
        "\"inlineData\"",
        "\"inline_data\"",
        "\"fileData\"",
        "\"file_data\"",
        "\"video_url\"",
    ];
    MARKS.iter().any(|mark| text.contains(mark))
}
