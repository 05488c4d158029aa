//! Names of emoji in other chat servers, and ours: an emoji itself, or the `:shortcode:` of a picture of a server.

use emojis::{Emoji, SkinTone};

/// Characters of a shortcode.
const SHORTCODE_CHARS_MAX: usize = 32;
/// Names of Slack and Mattermost that the tables of GitHub do not have.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("simple_smile", "🙂"),
    ("thumbsup_all", "👍"),
    ("face_with_rolling_eyes", "🙄"),
    ("hugging_face", "🤗"),
    ("thinking_face", "🤔"),
    ("zany_face", "🤪"),
    ("partying_face", "🥳"),
    ("smiling_face_with_3_hearts", "🥰"),
    ("rolling_on_the_floor_laughing", "🤣"),
    ("heavy_check_mark", "✔️"),
    ("white_check_mark", "✅"),
    ("face_with_hand_over_mouth", "🤭"),
    ("exploding_head", "🤯"),
    ("saluting_face", "🫡"),
    ("face_palm", "🤦"),
    ("shrug", "🤷"),
    ("woman_shrugging", "🤷‍♀️"),
    ("man_shrugging", "🤷‍♂️"),
    ("the_horns", "🤘"),
    ("sign_of_the_horns", "🤘"),
    ("slightly_smiling_face", "🙂"),
    ("hand_with_index_finger_and_thumb_crossed", "🫰"),
    ("heart_hands", "🫶"),
];
const TONES: [(&[&str], SkinTone); 5] = [
    (&["::skin-tone-2", "_light_skin_tone"], SkinTone::Light),
    (&["::skin-tone-3", "_medium_light_skin_tone"], SkinTone::MediumLight),
    (&["::skin-tone-4", "_medium_skin_tone"], SkinTone::Medium),
    (&["::skin-tone-5", "_medium_dark_skin_tone"], SkinTone::MediumDark),
    (&["::skin-tone-6", "_dark_skin_tone"], SkinTone::Dark),
];

/// Our form of a name; `None` if there is none.
pub(super) fn of_name(given: &str) -> Option<String> {
    let name = given.trim().trim_matches(':').to_lowercase();
    if let Some(found) = emojis::get(given.trim()).or_else(|| plain(&name)) {
        return Some(found.as_str().to_owned());
    }
    // The longest ending first: `_light_skin_tone` ends `_medium_light_skin_tone` too.
    let endings = TONES.iter().flat_map(|(endings, tone)| endings.iter().map(move |ending| (*ending, *tone)));
    let toned = endings.filter_map(|(ending, tone)| Some((name.strip_suffix(ending)?, tone)));
    if let Some((base, tone)) = toned.min_by_key(|(base, _)| base.len())
        && let Some(found) = plain(base)
    {
        return Some(found.with_skin_tone(tone).unwrap_or(found).as_str().to_owned());
    }
    let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'+' | b'-');
    let is_shortcode = (1..=SHORTCODE_CHARS_MAX).contains(&name.len()) && name.bytes().all(is_allowed);
    is_shortcode.then(|| format!(":{name}:"))
}

fn plain(name: &str) -> Option<&'static Emoji> {
    let underscored = name.replace('-', "_");
    let flag = name.strip_prefix("flag-");
    emojis::get_by_shortcode(name)
        .or_else(|| emojis::get_by_shortcode(&underscored))
        .or_else(|| flag.and_then(emojis::get_by_shortcode))
        .or_else(|| {
            OTHER_NAMES.iter().find(|(other, _)| *other == underscored).and_then(|(_, found)| emojis::get(found))
        })
}

/// The name that Mattermost has for one of our reactions; `None` if there is none.
pub fn name_of(ours: &str) -> Option<String> {
    if let Some(name) = ours.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')) {
        return Some(name.to_owned());
    }
    let toned = emojis::get(ours)?;
    let tone = toned.skin_tone().filter(|tone| *tone != SkinTone::Default);
    let found = toned.with_skin_tone(SkinTone::Default).unwrap_or(toned);
    if let Some(name) = found.shortcode() {
        let ending = TONES.iter().find(|(_, known)| Some(*known) == tone).map_or("", |(endings, _)| endings[1]);
        return Some(format!("{name}{ending}"));
    }
    OTHER_NAMES.iter().find(|(_, other)| emojis::get(other) == Some(found)).map(|(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_slack_and_mattermost_become_emoji() {
        for (name, emoji) in [
            ("+1", "👍"),
            ("thumbsup", "👍"),
            (":tada:", "🎉"),
            ("+1::skin-tone-3", "👍🏼"),
            ("thumbsup_medium_light_skin_tone", "👍🏼"),
            ("thumbsup_light_skin_tone", "👍🏻"),
            ("woman-shrugging", "🤷‍♀️"),
            ("flag-de", "🇩🇪"),
            ("simple_smile", "🙂"),
            ("👍", "👍"),
            ("Party_Parrot", ":party_parrot:"),
        ] {
            assert_eq!(of_name(name).as_deref(), Some(emoji), "{name}");
        }
        for wrong in ["", "::", "größe", &"x".repeat(40)] {
            assert_eq!(of_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn names_lead_back_to_the_same_emoji() {
        for ours in ["👍", "👍🏼", "🎉", "🇩🇪", ":party_parrot:", "❤️", "🤷‍♀️"] {
            let name = name_of(ours).unwrap_or_else(|| panic!("{ours}"));
            assert_eq!(of_name(&name).as_deref(), Some(ours), "{name}");
        }
    }
}
